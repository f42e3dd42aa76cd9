"""What the kernels of the core contraction compute, and their derivatives.

The form ``F = sum of core[a, b, c] u[a] v[b] w[c]`` is linear in each argument, so `tucker_slopes`,
its three slopes in one sweep over the core, gives every further derivative too.
"""

import torch
from torch import Tensor

from tensornet.kernels._registry import kernel

Gradients = tuple[Tensor | None, ...]


@kernel("a b c, n a, n b, n c -> n")
def tucker_points(
    core: Tensor,  # (a, b, c)
    u: Tensor,  # (n, a)
    v: Tensor,  # (n, b)
    w: Tensor,  # (n, c)
) -> Tensor:  # (n,)
    """Contract a core of order three with one vector per mode at each point.

    ``out[n] = sum over a, b, c of core[a, b, c] u[n, a] v[n, b] w[n, c]``. Use it for entries of a
    Tucker tensor, or values of a Chebyshev-Tucker function: the core is read from the cache for
    a block of points, and nothing of the size points times core is made.

    Args:
        core: Core.
        u: Vectors of the first mode.
        v: Vectors of the second mode.
        w: Vectors of the third mode.

    Returns:
        One number per point.

    Raises:
        TypeError: If the dtypes differ.
        ValueError: If the shapes or devices differ from what is said above.

    Derivatives:
        Any order, in every argument.

    Examples:
        >>> u = torch.tensor([[1.0, 2.0]])
        >>> tucker_points(torch.ones(2, 2, 1), u, u, torch.ones(1, 1))
        tensor([9.])
    """
    return torch.einsum("abc,na,nb,nc->n", core, u, v, w)


@kernel("a b c, n a, n b, n c -> n a+b+c")
def tucker_slopes(
    core: Tensor,  # (a, b, c)
    u: Tensor,  # (n, a)
    v: Tensor,  # (n, b)
    w: Tensor,  # (n, c)
) -> Tensor:  # (n, a + b + c)
    """Slopes of `tucker_points` in its three vectors, side by side.

    Args:
        core: Core.
        u: Vectors of the first mode.
        v: Vectors of the second mode.
        w: Vectors of the third mode.

    Returns:
        The slopes in u, in v and in w, one row per point.

    Raises:
        TypeError: If the dtypes differ.
        ValueError: If the shapes or devices differ from what is said above.

    Derivatives:
        Any order, in every argument.

    Examples:
        >>> u = torch.tensor([[1.0, 2.0]])
        >>> tucker_slopes(torch.ones(2, 2, 1), u, u, torch.ones(1, 1))
        tensor([[3., 3., 3., 3., 9.]])
    """
    in_u = torch.einsum("abc,nb,nc->na", core, v, w)
    in_v = torch.einsum("abc,na,nc->nb", core, u, w)
    in_w = torch.einsum("abc,na,nb->nc", core, u, v)
    return torch.cat([in_u, in_v, in_w], 1)


def _outer(u: Tensor, v: Tensor, w: Tensor) -> Tensor:  # (a, b, c)
    """Sum of the outer products at all points."""
    sides = (v[:, :, None] * w[:, None, :]).flatten(1)
    return (u.mT @ sides).reshape(u.shape[1], v.shape[1], w.shape[1])


@tucker_points.vjp
def _points_vjp(
    needs: tuple[bool, ...], g: Tensor, core: Tensor, u: Tensor, v: Tensor, w: Tensor
) -> Gradients:
    core, u, v, w = core.conj(), u.conj(), v.conj(), w.conj()
    g_core = _outer(g[:, None] * u, v, w) if needs[0] else None
    if not any(needs[1:]):
        return g_core, None, None, None
    slopes = g[:, None] * tucker_slopes(core, u, v, w)
    return g_core, *slopes.split(list(core.shape), 1)


@tucker_slopes.vjp
def _slopes_vjp(
    needs: tuple[bool, ...], g: Tensor, core: Tensor, u: Tensor, v: Tensor, w: Tensor
) -> Gradients:
    core, u, v, w = core.conj(), u.conj(), v.conj(), w.conj()
    sizes = list(core.shape)
    in_u, in_v, in_w = g.split(sizes, 1)
    g_core = None
    if needs[0]:
        g_core = _outer(in_u, v, w) + _outer(u, in_v, w) + _outer(u, v, in_w)
    if not any(needs[1:]):
        return g_core, None, None, None
    # F with one vector replaced by its gradient, three times; the sum's slopes are wanted
    _, v1, w1 = tucker_slopes(core, in_u, v, w).split(sizes, 1)
    u2, _, w2 = tucker_slopes(core, u, in_v, w).split(sizes, 1)
    u3, v3, _ = tucker_slopes(core, u, v, in_w).split(sizes, 1)
    return g_core, u2 + u3, v1 + v3, w1 + w2


for _kernel, _name in ((tucker_points, "points"), (tucker_slopes, "slopes")):
    _kernel.offer("numba_cpu", device="cpu", at=f"tensornet.kernels.tucker.cpu:{_name}")
    _kernel.offer("numba_cuda", device="cuda", at=f"tensornet.kernels.tucker.cuda:{_name}")
    _kernel.case("no points", n=0, a=2, b=3, c=4)
    _kernel.case("an empty mode", n=3, a=2, b=0, c=4)
    _kernel.case("one of each", n=1, a=1, b=1, c=1)
    _kernel.case("unequal sides", n=2, a=2, b=4, c=3)
    _kernel.case("a block and a rest", n=37, a=5, b=13, c=9)
    _kernel.case("a real size", n=128, a=24, b=24, c=24)
