"""What the kernels of products in CP format compute, and their derivatives.

The form ``F = sum over n, r, c of (u a)[n, r, c] (v b)[n, r, c] (w g)[n, r, c]`` is linear in a, b
and g, and does not mind their order. `cp_product` is its slope in g, and with the arguments
permuted that in a and in b. Where one factor is a number h[n, r] for all channels, `cp_scaled` is
the slope in g and `cp_traces` that in h.
"""

import torch
from torch import Tensor

from tensornet.kernels._registry import kernel

Gradients = tuple[Tensor | None, ...]


@kernel("n i c, n j c, r i, r j, r k -> n k c")
def cp_product(
    a: Tensor,  # (n, i, c)
    b: Tensor,  # (n, j, c)
    u: Tensor,  # (r, i)
    v: Tensor,  # (r, j)
    w: Tensor,  # (r, k)
) -> Tensor:  # (n, k, c)
    """Multiply two features channel by channel, by a bilinear map in CP format.

    ``out[n, k, c] = sum over r of w[r, k] (u a)[n, r, c] (v b)[n, r, c]``. The r numbers per item
    and channel stay in the cache.

    Args:
        a: First features.
        b: Second features.
        u: Factor of the first features.
        v: Factor of the second features.
        w: Factor of the result.

    Returns:
        The products.

    Raises:
        TypeError: If the dtypes differ.
        ValueError: If the shapes or devices differ from what is said above.

    Derivatives:
        Any order, in every argument.

    Examples:
        >>> a, one = torch.tensor([[[2.0], [3.0]]]), torch.ones(1, 2)
        >>> cp_product(a, a, one, one, torch.tensor([[1.0, 10.0]]))[0, :, 0]
        tensor([ 25., 250.])
    """
    return torch.einsum("rk,nrc->nkc", w, _terms(u, a) * _terms(v, b)).contiguous()


@kernel("n i c, n r, r i, r k -> n k c")
def cp_scaled(
    a: Tensor,  # (n, i, c)
    h: Tensor,  # (n, r)
    u: Tensor,  # (r, i)
    w: Tensor,  # (r, k)
) -> Tensor:  # (n, k, c)
    """Take features to terms, scale each term alike in all channels, and come back.

    ``out[n, k, c] = sum over r of w[r, k] h[n, r] (u a)[n, r, c]``: `cp_product` with a second
    feature of one channel, of which `h` are the terms.

    Args:
        a: Features.
        h: Scale of each term.
        u: Factor of the features.
        w: Factor of the result.

    Returns:
        The products.

    Raises:
        TypeError: If the dtypes differ.
        ValueError: If the shapes or devices differ from what is said above.

    Derivatives:
        Any order, in every argument.

    Examples:
        >>> a, one = torch.tensor([[[2.0], [3.0]]]), torch.ones(1, 2)
        >>> cp_scaled(a, torch.tensor([[4.0]]), one, one)[0, :, 0]
        tensor([20., 20.])
    """
    return torch.einsum("rk,nrc->nkc", w, _terms(u, a) * h[..., None]).contiguous()


@kernel("n i c, n j c, r i, r j -> n r")
def cp_traces(
    a: Tensor,  # (n, i, c)
    b: Tensor,  # (n, j, c)
    u: Tensor,  # (r, i)
    v: Tensor,  # (r, j)
) -> Tensor:  # (n, r)
    """Multiply two features term by term, and sum over channels.

    ``out[n, r] = sum over c of (u a)[n, r, c] (v b)[n, r, c]``, the slope of `cp_scaled` in its
    scales.

    Args:
        a: First features.
        b: Second features.
        u: Factor of the first features.
        v: Factor of the second features.

    Returns:
        One number per item and term.

    Raises:
        TypeError: If the dtypes differ.
        ValueError: If the shapes or devices differ from what is said above.

    Derivatives:
        Any order, in every argument.

    Examples:
        >>> a, one = torch.tensor([[[2.0], [3.0]]]), torch.ones(1, 2)
        >>> cp_traces(a, a, one, one)
        tensor([[25.]])
    """
    return (_terms(u, a) * _terms(v, b)).sum(-1)


def _terms(u: Tensor, a: Tensor) -> Tensor:  # (r, i), (n, i, c) -> (n, r, c)
    return torch.einsum("ri,nic->nrc", u, a)


def _factor(terms: Tensor, x: Tensor) -> Tensor:  # (n, r, c), (n, i, c) -> (r, i)
    """Slope of ``sum of terms * (u x)`` in u. Models keep factors fixed, so this is plain torch."""
    return torch.einsum("nrc,nic->ri", terms, x)


@cp_product.vjp
def _product_vjp(
    needs: tuple[bool, ...], g: Tensor, a: Tensor, b: Tensor, u: Tensor, v: Tensor, w: Tensor
) -> Gradients:
    a, b, u, v, w = (x.conj() for x in (a, b, u, v, w))
    ga = cp_product(g, b, w, v, u) if needs[0] else None
    gb = cp_product(a, g, u, w, v) if needs[1] else None
    gu = _factor(_terms(v, b) * _terms(w, g), a) if needs[2] else None
    gv = _factor(_terms(u, a) * _terms(w, g), b) if needs[3] else None
    gw = _factor(_terms(u, a) * _terms(v, b), g) if needs[4] else None
    return ga, gb, gu, gv, gw


@cp_scaled.vjp
def _scaled_vjp(
    needs: tuple[bool, ...], g: Tensor, a: Tensor, h: Tensor, u: Tensor, w: Tensor
) -> Gradients:
    a, h, u, w = (x.conj() for x in (a, h, u, w))
    ga = cp_scaled(g, h, w, u) if needs[0] else None
    gh = cp_traces(a, g, u, w) if needs[1] else None
    gu = _factor(_terms(w, g) * h[..., None], a) if needs[2] else None
    gw = _factor(_terms(u, a) * h[..., None], g) if needs[3] else None
    return ga, gh, gu, gw


@cp_traces.vjp
def _traces_vjp(
    needs: tuple[bool, ...], g: Tensor, a: Tensor, b: Tensor, u: Tensor, v: Tensor
) -> Gradients:
    a, b, u, v = (x.conj() for x in (a, b, u, v))
    ga = cp_scaled(b, g, v, u) if needs[0] else None
    gb = cp_scaled(a, g, u, v) if needs[1] else None
    gu = _factor(_terms(v, b) * g[..., None], a) if needs[2] else None
    gv = _factor(_terms(u, a) * g[..., None], b) if needs[3] else None
    return ga, gb, gu, gv


for _kernel, _name in ((cp_product, "product"), (cp_scaled, "scaled"), (cp_traces, "traces")):
    _kernel.offer("numba_cpu", device="cpu", at=f"tensornet.kernels.cp.cpu:{_name}")
    _kernel.offer("numba_cuda", device="cuda", at=f"tensornet.kernels.cp.cuda:{_name}")
    _kernel.case("no items", n=0, i=2, j=3, k=4, r=2, c=3)
    _kernel.case("no terms", n=2, i=2, j=3, k=4, r=0, c=3)
    _kernel.case("one of each", n=1, i=1, j=1, k=1, r=1, c=1)
    _kernel.case("unequal sides", n=2, i=3, j=2, k=4, r=3, c=2)
    _kernel.case("a block and a rest", n=9, i=5, j=4, k=3, r=13, c=7)
    _kernel.case("many channels", n=3, i=9, j=9, k=9, r=30, c=83)
    _kernel.case("many terms", n=5, i=16, j=16, k=16, r=90, c=19)
