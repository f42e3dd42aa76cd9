"""What the kernels of the sparse product compute, and their derivatives.

With the coupling as a list of numbers ``values[t]`` at ``(i[t], j[t], k[t])`` of path ``p[t]``,
the form ``L = sum over n, t, c of values[t] x[n, i[t], c] y[n, j[t], c] w[n, p[t], c]
g[n, k[t], c]`` is linear in x, y, w and g. The products are its slope in g, and with other
arguments exchanged any other slope; the kernels named slopes give those in all arguments but g at
once, which shares most of the work. A derivative of a slope is a slope again, with an argument
replaced.
"""

from typing import Any

import torch
from torch import Tensor

from tensornet.kernels._registry import Kernel, kernel

Gradients = tuple[Tensor | None, ...]


@kernel("n i c, n j c, t<i, t<j, t<k, t, =k -> n k c")
def sparse_product(
    x: Tensor,  # (n, i, c)
    y: Tensor,  # (n, j, c)
    at_i: Tensor,  # (t,)
    at_j: Tensor,  # (t,)
    at_k: Tensor,  # (t,)
    values: Tensor,  # (t,)
    k: int,
) -> Tensor:  # (n, k, c)
    """Multiply two features channel by channel, by a sparse coupling.

    ``out[n, k, c] = sum over t with at_k[t] = k of values[t] x[n, at_i[t], c] y[n, at_j[t], c]``.
    The gradient in x is the same with k and i exchanged: ``sparse_product(g, y, at_k, at_j, at_i,
    values, i)``.

    Args:
        x: First input.
        y: Second input, of as many channels.
        at_i: Components of the first input, one per number of the coupling, in any order.
        at_j: Components of the second input.
        at_k: Components of the result.
        values: Numbers of the coupling; see `sparse_coupling`.
        k: Number of components of the result.

    Returns:
        The product, zero at components without a number.

    Raises:
        TypeError: If the dtypes differ, or indices are not of int64.
        ValueError: If the shapes or devices differ from what is said above.
        IndexError: If an index is out of range. On a GPU the numbers it concerns are NaN instead.

    Derivatives:
        Any order, in the inputs and values.

    Examples:
        >>> x, at, ones = torch.tensor([[[2.0], [3.0]]]), torch.tensor([0, 1]), torch.ones(2)
        >>> sparse_product(x, x, at, at, torch.tensor([0, 0]), ones, 1)  # a scalar product
        tensor([[[13.]]])
    """
    pairs = x.index_select(1, at_i) * y.index_select(1, at_j) * values[:, None]
    return pairs.new_zeros(x.shape[0], k, x.shape[2]).index_add(1, at_k, pairs)


@kernel("n i c, n j c, n k c, t<i, t<j, t<k, t -> n i c, n j c")
def sparse_slopes(
    x: Tensor,  # (n, i, c)
    y: Tensor,  # (n, j, c)
    g: Tensor,  # (n, k, c)
    at_i: Tensor,  # (t,)
    at_j: Tensor,  # (t,)
    at_k: Tensor,  # (t,)
    values: Tensor,  # (t,)
) -> tuple[Tensor, Tensor]:  # (n, i, c), (n, j, c)
    """Give both gradients of `sparse_product` in one pass.

    Args:
        x: First input.
        y: Second input.
        g: Gradient of the product.
        at_i: Components of the first input, one per number of the coupling.
        at_j: Components of the second input.
        at_k: Components of the product.
        values: Numbers of the coupling.

    Returns:
        The gradients of x and of y.

    Raises:
        TypeError: If the dtypes differ, or indices are not of int64.
        ValueError: If the shapes or devices differ from what is said above.
        IndexError: If an index is out of range. On a GPU the numbers it concerns are NaN instead.

    Derivatives:
        Any order, in x, y, g and values.

    Examples:
        >>> x, y, zero = torch.tensor([[[2.0]]]), torch.tensor([[[3.0]]]), torch.tensor([0])
        >>> gx, gy = sparse_slopes(x, y, torch.ones(1, 1, 1), zero, zero, zero, torch.ones(1))
        >>> float(gx), float(gy)
        (3.0, 2.0)
    """
    slope = g.index_select(1, at_k) * values[:, None]
    gx = slope * y.index_select(1, at_j)
    gy = slope * x.index_select(1, at_i)
    return (
        torch.zeros_like(x, memory_format=torch.contiguous_format).index_add(1, at_i, gx),
        torch.zeros_like(y, memory_format=torch.contiguous_format).index_add(1, at_j, gy),
    )


@kernel("n i c, n j c, s p c, t<i, t<j, t<k, t<p, t, =k -> n k c")
def weighted_product(
    x: Tensor,  # (n, i, c)
    y: Tensor,  # (n, j, c)
    w: Tensor,  # (n, p, c) or (1, p, c)
    at_i: Tensor,  # (t,)
    at_j: Tensor,  # (t,)
    at_k: Tensor,  # (t,)
    at_p: Tensor,  # (t,)
    values: Tensor,  # (t,)
    k: int,
) -> Tensor:  # (n, k, c)
    """Multiply two features channel by channel, by a sparse coupling with a weight per path.

    ``out[n, k, c] = sum over t with at_k[t] = k of values[t] x[n, at_i[t], c] y[n, at_j[t], c]
    w[n, at_p[t], c]``. Weights of a layer, ``(1, p, c)``, are the same for all n. Where every n has
    its own, w is an input like the others, and the gradient in w is ``weighted_product(x, y, g,
    at_i, at_j, at_p, at_k, values, p)``.

    Args:
        x: First input.
        y: Second input, of as many channels.
        w: Weights of the paths, one row for each n or one for all.
        at_i: Components of the first input, one per number of the coupling, in any order.
        at_j: Components of the second input.
        at_k: Components of the result.
        at_p: Paths.
        values: Numbers of the coupling; see `sparse_coupling`.
        k: Number of components of the result.

    Returns:
        The product, zero at components without a number.

    Raises:
        TypeError: If the dtypes differ, or indices are not of int64.
        ValueError: If the shapes or devices differ from what is said above.
        IndexError: If an index is out of range. On a GPU the numbers it concerns are NaN instead.

    Derivatives:
        Any order, in the inputs, weights and values.

    Examples:
        >>> x, one, zero = torch.tensor([[[2.0]], [[5.0]]]), torch.ones(1), torch.tensor([0])
        >>> weighted_product(x, x, 10 * x[:1], zero, zero, zero, zero, one, 1).flatten()
        tensor([ 80., 500.])
    """
    one_or_all("weighted_product", x, w)
    pairs = x.index_select(1, at_i) * y.index_select(1, at_j) * values[:, None]
    pairs = pairs * w.index_select(1, at_p)
    return pairs.new_zeros(x.shape[0], k, x.shape[2]).index_add(1, at_k, pairs)


@kernel("n i c, n j c, s p c, n k c, t<i, t<j, t<k, t<p, t -> n i c, n j c, s p c")
def weighted_slopes(
    x: Tensor,  # (n, i, c)
    y: Tensor,  # (n, j, c)
    w: Tensor,  # (n, p, c) or (1, p, c)
    g: Tensor,  # (n, k, c)
    at_i: Tensor,  # (t,)
    at_j: Tensor,  # (t,)
    at_k: Tensor,  # (t,)
    at_p: Tensor,  # (t,)
    values: Tensor,  # (t,)
) -> tuple[Tensor, Tensor, Tensor]:  # (n, i, c), (n, j, c), like w
    """Give all three gradients of `weighted_product` in one pass.

    The gradient of weights that all n share is summed over n, in an order that does not depend on
    the number of threads.

    Args:
        x: First input.
        y: Second input.
        w: Weights of the paths, one row for each n or one for all.
        g: Gradient of the product.
        at_i: Components of the first input, one per number of the coupling.
        at_j: Components of the second input.
        at_k: Components of the product.
        at_p: Paths.
        values: Numbers of the coupling.

    Returns:
        The gradients of x, y and w.

    Raises:
        TypeError: If the dtypes differ, or indices are not of int64.
        ValueError: If the shapes or devices differ from what is said above.
        IndexError: If an index is out of range. On a GPU the numbers it concerns are NaN instead.

    Derivatives:
        Any order, in x, y, w, g and values.

    Examples:
        >>> x, one, zero = torch.tensor([[[2.0]], [[5.0]]]), torch.ones(1), torch.tensor([0])
        >>> gx, gy, gw = weighted_slopes(x, x, 3 * x[:1], x / x, *[zero] * 4, one)
        >>> gx.flatten(), float(gw)
        (tensor([12., 30.]), 29.0)
    """
    one_or_all("weighted_slopes", x, w)
    left, right = x.index_select(1, at_i), y.index_select(1, at_j)
    slope, weight = g.index_select(1, at_k) * values[:, None], w.index_select(1, at_p)
    gx, gy, gw = slope * weight * right, slope * weight * left, left * right * slope
    if w.shape[0] != x.shape[0]:
        gw = gw.sum(0, keepdim=True)
    return (
        gx.new_zeros(x.shape).index_add(1, at_i, gx),
        gy.new_zeros(y.shape).index_add(1, at_j, gy),
        gw.new_zeros(w.shape).index_add(1, at_p, gw),
    )


def one_or_all(name: str, x: Tensor, w: Tensor) -> None:
    """Refuse weights that have neither one row nor as many as x, with a ValueError."""
    if w.shape[0] != 1 and w.shape[0] != x.shape[0]:
        raise ValueError(
            f"`{name}(w=...)` must have 1 row or the {x.shape[0]} of `x`. Got {w.shape[0]}."
        )


@sparse_product.vjp
def _product_vjp(
    needs: tuple[bool, ...], h: Tensor, x: Tensor, y: Tensor,
    i: Tensor, j: Tensor, k: Tensor, values: Tensor, size: int,
) -> Gradients:  # fmt: skip
    x, y, c = x.conj(), y.conj(), values.conj()
    gx = gy = gc = None
    if needs[0] and needs[1]:
        gx, gy = sparse_slopes(x, y, h, i, j, k, c)
    elif needs[0]:
        gx = sparse_product(h, y, k, j, i, c, x.shape[1])
    elif needs[1]:
        gy = sparse_product(x, h, i, k, j, c, y.shape[1])
    if needs[5]:
        gc = _values_slope((x, i), (y, j), (h, k))
    return gx, gy, None, None, None, gc, None


@sparse_slopes.vjp
def _slopes_vjp(
    needs: tuple[bool, ...], h: tuple[Tensor | None, ...], x: Tensor, y: Tensor, g: Tensor,
    i: Tensor, j: Tensor, k: Tensor, values: Tensor,
) -> Gradients:  # fmt: skip
    x, y, g, c = x.conj(), y.conj(), g.conj(), values.conj()
    gx = gy = gg = gc = None
    hx, hy = h
    if hx is not None:
        gy, gg = sparse_slopes(y, g, hx, j, k, i, c)
        gc = _values_slope((hx, i), (y, j), (g, k)) if needs[6] else None
    if hy is not None:
        gx, more = sparse_slopes(x, g, hy, i, k, j, c)
        gg = _plus(gg, more)
        gc = _plus(gc, _values_slope((x, i), (hy, j), (g, k))) if needs[6] else None
    return gx, gy, gg, None, None, None, gc


@weighted_product.vjp
def _weighted_vjp(
    needs: tuple[bool, ...], h: Tensor, x: Tensor, y: Tensor, w: Tensor,
    i: Tensor, j: Tensor, k: Tensor, p: Tensor, values: Tensor, size: int,
) -> Gradients:  # fmt: skip
    x, y, w, c = x.conj(), y.conj(), w.conj(), values.conj()
    gx = gy = gw = gc = None
    if sum(needs[:3]) > 1 or (needs[2] and w.shape[0] != x.shape[0]):
        gx, gy, gw = weighted_slopes(x, y, w, h, i, j, k, p, c)
    elif needs[0]:
        gx = weighted_product(h, y, w, k, j, i, p, c, x.shape[1])
    elif needs[1]:
        gy = weighted_product(x, h, w, i, k, j, p, c, y.shape[1])
    elif needs[2]:
        gw = weighted_product(x, y, h, i, j, p, k, c, w.shape[1])
    if needs[7]:
        gc = _values_slope((x, i), (y, j), (w, p), (h, k))
    return gx, gy, gw, None, None, None, None, gc, None


@weighted_slopes.vjp
def _weighted_slopes_vjp(
    needs: tuple[bool, ...], h: tuple[Tensor | None, ...],
    x: Tensor, y: Tensor, w: Tensor, g: Tensor,
    i: Tensor, j: Tensor, k: Tensor, p: Tensor, values: Tensor,
) -> Gradients:  # fmt: skip
    """Each result is a slope of the form; its derivatives are those of the form with h put in."""
    x, y, w, g, c = x.conj(), y.conj(), w.conj(), g.conj(), values.conj()
    gx = gy = gw = gg = gc = None
    hx, hy, hw = h
    if hx is not None:
        gy, gg, gw = weighted_slopes(y, g, w, hx, j, k, i, p, c)
        gc = _values_slope((hx, i), (y, j), (w, p), (g, k)) if needs[8] else None
    if hy is not None:
        gx, more, weights = weighted_slopes(x, g, w, hy, i, k, j, p, c)
        gg, gw = _plus(gg, more), _plus(gw, weights)
        gc = _plus(gc, _values_slope((x, i), (hy, j), (w, p), (g, k))) if needs[8] else None
    if hw is not None:
        left, right, _ = weighted_slopes(x, y, hw, g, i, j, k, p, c)
        gx, gy = _plus(gx, left), _plus(gy, right)
        gg = _plus(gg, weighted_product(x, y, hw, i, j, k, p, c, g.shape[1]))
        gc = _plus(gc, _values_slope((x, i), (y, j), (hw, p), (g, k))) if needs[8] else None
    return gx, gy, gw, gg, None, None, None, None, gc


def _plus(total: Tensor | None, more: Tensor) -> Tensor:
    return more if total is None else total + more


def _values_slope(*factors: tuple[Tensor, Tensor]) -> Tensor:  # (t,)
    """Slope of the form in the values. Models keep the coupling fixed, so this is plain torch."""
    (first, at), *others = factors
    product = first.index_select(1, at)
    for other, at_other in others:
        product = product * other.index_select(1, at_other)
    return product.sum((0, 2))


_OFFERS: dict[str, Kernel[..., Any]] = {
    "product": sparse_product,
    "slopes": sparse_slopes,
    "weighted": weighted_product,
    "weighted_slopes": weighted_slopes,
}
for _name, _kernel in _OFFERS.items():
    _kernel.offer("numba_cpu", device="cpu", at=f"tensornet.kernels.sparse.cpu:{_name}")
    _kernel.offer("numba_cuda", device="cuda", at=f"tensornet.kernels.sparse.cuda:{_name}")
for _kernel in (_OFFERS["product"], _OFFERS["slopes"]):
    _kernel.case("no rows", n=0, i=2, j=2, k=1, t=2, c=2)
    _kernel.case("no numbers", n=2, i=2, j=2, k=3, t=0, c=2)
    _kernel.case("one of each", n=1, i=1, j=1, k=1, t=1, c=1)
    _kernel.case("two rows", n=2, i=2, j=2, k=2, t=4, c=2)
    _kernel.case("more numbers than channels", n=2, i=3, j=2, k=2, t=7, c=3)
    _kernel.case("one channel, many rows", n=53, i=4, j=4, k=4, t=30, c=1)
    _kernel.case("a vector and a rest", n=5, i=4, j=5, k=9, t=60, c=19)
    _kernel.case("many channels", n=3, i=16, j=16, k=16, t=500, c=64)
for _kernel in (_OFFERS["weighted"], _OFFERS["weighted_slopes"]):
    _kernel.case("no rows", n=0, s=1, i=2, j=2, k=1, p=2, t=2, c=2)
    _kernel.case("no numbers", n=2, s=2, i=2, j=2, k=3, p=2, t=0, c=2)
    _kernel.case("one of each", n=1, s=1, i=1, j=1, k=1, p=1, t=1, c=1)
    _kernel.case("shared by two rows", n=2, s=1, i=2, j=2, k=2, p=2, t=4, c=2)
    _kernel.case("of each of two rows", n=2, s=2, i=2, j=3, k=2, p=2, t=5, c=2)
    _kernel.case("one channel, many rows", n=53, s=1, i=4, j=4, k=4, p=3, t=30, c=1)
    _kernel.case("three channels, many rows", n=29, s=29, i=4, j=4, k=4, p=3, t=30, c=3)
    _kernel.case("a vector and a rest", n=5, s=5, i=4, j=5, k=9, p=4, t=60, c=19)
    _kernel.case("many channels", n=3, s=1, i=16, j=16, k=16, p=9, t=500, c=64)
    _kernel.case("many channels, rows apart", n=3, s=3, i=9, j=9, k=9, p=9, t=200, c=64)
