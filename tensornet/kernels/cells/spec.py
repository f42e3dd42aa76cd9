"""What the kernels of points in cells compute, and their derivatives.

The form ``F = sum over n of core[cell[n], a, b, c] u[n, a] v[n, b] w[n, c]`` is linear in each
argument: `cell_moments` is its slope in the cores, `cell_slopes` those in the vectors, and all
further derivatives are made of the two.
"""

import torch
from torch import Tensor

from tensornet.kernels._registry import kernel

Gradients = tuple[Tensor | None, ...]


@kernel("n a, n b, n c, n<d, =d -> d a b c")
def cell_moments(
    u: Tensor,  # (n, a)
    v: Tensor,  # (n, b)
    w: Tensor,  # (n, c)
    cell: Tensor,  # (n,)
    n_cells: int,
) -> Tensor:  # (n_cells, a, b, c)
    """Sum the outer products of three vectors over the points of each cell.

    ``out[d, a, b, c] = sum over n in cell d of u[n, a] v[n, b] w[n, c]``. With values of
    polynomials on the cells these are the moments of charges at the points. The order of the
    points does not matter, but points of one cell that stand together are read faster.

    Args:
        u: Vectors of the first mode.
        v: Vectors of the second mode.
        w: Vectors of the third mode.
        cell: Cell of each point.
        n_cells: Number of cells.

    Returns:
        One array per cell.

    Raises:
        TypeError: If the dtypes differ, or cells are not of int64.
        ValueError: If the shapes or devices differ from what is said above.
        IndexError: If a cell is out of range; on a GPU the result is NaN instead.

    Derivatives:
        Any order, in the vectors.

    Examples:
        >>> u = torch.tensor([[1.0], [2.0]])
        >>> cell_moments(u, u, u, torch.tensor([1, 1]), 2).flatten()
        tensor([0., 9.])
    """
    products = torch.einsum("na,nb,nc->nabc", u, v, w)
    return products.new_zeros(n_cells, *products.shape[1:]).index_add(0, cell, products)


@kernel("d a b c, n a, n b, n c, n<d -> n a+b+c")
def cell_slopes(
    core: Tensor,  # (d, a, b, c)
    u: Tensor,  # (n, a)
    v: Tensor,  # (n, b)
    w: Tensor,  # (n, c)
    cell: Tensor,  # (n,)
) -> Tensor:  # (n, a + b + c)
    """Contract the core of each point's cell with two of its three vectors, in all three ways.

    ``F[n] = sum over a, b, c of core[cell[n], a, b, c] u[n, a] v[n, b] w[n, c]`` has the slopes
    that are given here; the slopes in u times u are F itself, and with the derivatives of the
    vectors they are its gradient.

    Args:
        core: One array per cell.
        u: Vectors of the first mode.
        v: Vectors of the second mode.
        w: Vectors of the third mode.
        cell: Cell of each point.

    Returns:
        The slopes in u, in v and in w, one row per point.

    Raises:
        TypeError: If the dtypes differ, or cells are not of int64.
        ValueError: If the shapes or devices differ from what is said above.
        IndexError: If a cell is out of range; on a GPU the result is NaN instead.

    Derivatives:
        Any order, in the cores and the vectors.

    Examples:
        >>> u = torch.tensor([[2.0]])
        >>> cell_slopes(torch.ones(1, 1, 1, 1), u, u, 3 * u, torch.tensor([0]))
        tensor([[12., 12.,  4.]])
    """
    own = core.index_select(0, cell)
    in_u = torch.einsum("nabc,nb,nc->na", own, v, w)
    in_v = torch.einsum("nabc,na,nc->nb", own, u, w)
    in_w = torch.einsum("nabc,na,nb->nc", own, u, v)
    return torch.cat([in_u, in_v, in_w], 1)


@cell_moments.vjp
def _moments_vjp(
    needs: tuple[bool, ...], g: Tensor, u: Tensor, v: Tensor, w: Tensor, cell: Tensor, n: int
) -> Gradients:
    slopes = cell_slopes(g, u.conj(), v.conj(), w.conj(), cell)
    return *slopes.split([u.shape[1], v.shape[1], w.shape[1]], 1), None, None


@cell_slopes.vjp
def _slopes_vjp(
    needs: tuple[bool, ...], g: Tensor, core: Tensor, u: Tensor, v: Tensor, w: Tensor, cell: Tensor
) -> Gradients:
    core, u, v, w = core.conj(), u.conj(), v.conj(), w.conj()
    sizes = list(core.shape[1:])
    in_u, in_v, in_w = g.split(sizes, 1)
    g_core = None
    if needs[0]:
        g_core = (
            cell_moments(in_u, v, w, cell, len(core))
            + cell_moments(u, in_v, w, cell, len(core))
            + cell_moments(u, v, in_w, cell, len(core))
        )
    if not any(needs[1:4]):
        return g_core, None, None, None, None
    # F with one vector replaced by its gradient, three times; the sum's slopes are wanted
    _, v1, w1 = cell_slopes(core, in_u, v, w, cell).split(sizes, 1)
    u2, _, w2 = cell_slopes(core, u, in_v, w, cell).split(sizes, 1)
    u3, v3, _ = cell_slopes(core, u, v, in_w, cell).split(sizes, 1)
    return g_core, u2 + u3, v1 + v3, w1 + w2, None


for _kernel, _name in ((cell_moments, "moments"), (cell_slopes, "slopes")):
    _kernel.offer("numba_cpu", device="cpu", at=f"tensornet.kernels.cells.cpu:{_name}")
    _kernel.offer("numba_cuda", device="cuda", at=f"tensornet.kernels.cells.cuda:{_name}")
    _kernel.case("no points", n=0, a=2, b=3, c=4, d=1)
    _kernel.case("an empty mode", n=2, a=2, b=0, c=3, d=1)
    _kernel.case("one of each", n=1, a=1, b=1, c=1, d=1)
    _kernel.case("unequal sides", n=3, a=2, b=3, c=2, d=2)
    _kernel.case("more points than cells", n=41, a=3, b=5, c=9, d=3)
    _kernel.case("a real size", n=300, a=16, b=16, c=16, d=27)
