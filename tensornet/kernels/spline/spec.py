"""What the kernels of splines compute, and their derivatives.

A spline is linear in its table: `spline` goes from the table to values, `spline_moments` from
numbers at the points back to the table, and `spline_slopes` is the form of both. With the order of
a derivative as an argument the three are closed under differentiation.
"""

import torch
from torch import Tensor

from tensornet.kernels._registry import kernel
from tensornet.kernels.spline.basis import basis, whole_knots

Gradients = tuple[Tensor | None, ...]


@kernel("e, k q, =d -> e q")
def spline(
    x: Tensor,  # (e,)
    table: Tensor,  # (k, q)
    order: int,
) -> Tensor:  # (e, q)
    """Evaluate splines of degree five, or a derivative of them, from values at whole numbers.

    Knots stand at 0, 1, 2, ...; rows 3 i to 3 i + 2 of the table hold the values, slopes and
    curvatures at knot i. Between knots a polynomial of degree five takes all six, so that splines
    are twice continuously differentiable: forces made with them are smooth, Hessians continuous.
    Outside the knots the first and the last polynomial continue.

    Args:
        x: Points, in units of the distance between knots.
        table: Three rows per knot, a spline per column.
        order: Of the derivative in the points; zero for values.

    Returns:
        One row per point.

    Raises:
        TypeError: If the dtypes differ, or `order` is no whole number.
        ValueError: If the table has not three rows per knot, or less than two knots, if `order` is
            negative, or if shapes or devices do not fit.

    Derivatives:
        Any order, in the points and in the table; those above the second jump at knots.

    References:
        de Boor, A Practical Guide to Splines, chapter IV (Hermite interpolation).

    Examples:
        >>> table = torch.tensor([0.0, 0.0, 2.0, 1.0, 2.0, 2.0])[:, None]  # x²
        >>> spline(torch.tensor([0.5, 2.0]), table, 0).T
        tensor([[0.2500, 4.0000]])
        >>> spline(torch.tensor([0.5, 2.0]), table, 1).T
        tensor([[1., 4.]])
    """
    whole_knots("spline", table=table.shape[0])
    rows, weights = _weights(x, table.shape[0], order)
    return (weights[:, :, None] * table[rows]).sum(1)


@kernel("e, k q, e q, =d -> e")
def spline_slopes(
    x: Tensor,  # (e,)
    table: Tensor,  # (k, q)
    g: Tensor,  # (e, q)
    order: int,
) -> Tensor:  # (e,)
    """Sum the splines of each point times numbers: the derivative in the points is of this kind.

    Args:
        x: Points.
        table: As in `spline`.
        g: One number per point and spline.
        order: Of the derivative in the points.

    Returns:
        ``(g * spline(x, table, order)).sum(1)``.

    Raises:
        TypeError: If the dtypes differ, or `order` is no whole number.
        ValueError: If the table has not three rows per knot, or less than two knots, if `order` is
            negative, or if shapes or devices do not fit.

    Derivatives:
        Any order, in all three.

    Examples:
        >>> table = torch.tensor([0.0, 0.0, 2.0, 1.0, 2.0, 2.0])[:, None]  # x²
        >>> spline_slopes(torch.tensor([0.5, 2.0]), table, torch.tensor([[1.0], [2.0]]), 1)
        tensor([1., 8.])
    """
    whole_knots("spline_slopes", table=table.shape[0])
    rows, weights = _weights(x, table.shape[0], order)
    return ((weights[:, :, None] * table[rows]).sum(1) * g).sum(1)


@kernel("e, e q, =k, =d -> k q")
def spline_moments(
    x: Tensor,  # (e,)
    g: Tensor,  # (e, q)
    k: int,
    order: int,
) -> Tensor:  # (k, q)
    """Sum numbers at points against the polynomials of a table, the adjoint of `spline`.

    Args:
        x: Points.
        g: One number per point and spline.
        k: Number of rows of the table, three per knot.
        order: Of the derivative in the points.

    Returns:
        One number per row and column of a table.

    Raises:
        TypeError: If the dtypes differ, or `k` or `order` is no whole number.
        ValueError: If `k` is not three per knot, or there are less than two knots, if `order` is
            negative, or if shapes or devices do not fit.

    Derivatives:
        Any order, in the points and the numbers.

    Examples:
        >>> spline_moments(torch.tensor([1.0]), torch.tensor([[2.0]]), 6, 0).T.abs()
        tensor([[0., 0., 0., 2., 0., 0.]])
    """
    whole_knots("spline_moments", k=k)
    rows, weights = _weights(x, k, order)
    products = (weights[:, :, None] * g[:, None]).flatten(0, 1)
    return g.new_zeros(k, g.shape[1]).index_add(0, rows.flatten(), products)


def _weights(x: Tensor, k: int, order: int) -> tuple[Tensor, Tensor]:  # (e, 6), (e, 6)
    """Rows of the table that a point takes, and the polynomials there."""
    first = x.detach().nan_to_num().floor().clamp(0, k // 3 - 2)
    powers = (x - first)[:, None] ** torch.arange(6, device=x.device)
    weights = powers @ torch.from_numpy(basis(order)).to(x).T
    rows = 3 * first.to(torch.int64)[:, None] + torch.arange(6, device=x.device)
    return rows, weights


@spline.vjp
def _spline_vjp(
    needs: tuple[bool, ...], g: Tensor, x: Tensor, table: Tensor, order: int
) -> Gradients:
    gx = spline_slopes(x, table, g, order + 1) if needs[0] else None
    gt = spline_moments(x, g, table.shape[0], order) if needs[1] else None
    return gx, gt, None


@spline_slopes.vjp
def _slopes_vjp(
    needs: tuple[bool, ...], h: Tensor, x: Tensor, table: Tensor, g: Tensor, order: int
) -> Gradients:
    gx = h * spline_slopes(x, table, g, order + 1) if needs[0] else None
    gt = spline_moments(x, h[:, None] * g, table.shape[0], order) if needs[1] else None
    gg = h[:, None] * spline(x, table, order) if needs[2] else None
    return gx, gt, gg, None


@spline_moments.vjp
def _moments_vjp(
    needs: tuple[bool, ...], h: Tensor, x: Tensor, g: Tensor, k: int, order: int
) -> Gradients:
    gx = spline_slopes(x, h, g, order + 1) if needs[0] else None
    gg = spline(x, h, order) if needs[1] else None
    return gx, gg, None, None


for _kernel, _name in (
    (spline, "values"),
    (spline_slopes, "slopes"),
    (spline_moments, "moments"),
):
    _kernel.offer("numba_cpu", device="cpu", at=f"tensornet.kernels.spline.cpu:{_name}")
    _kernel.offer("numba_cuda", device="cuda", at=f"tensornet.kernels.spline.cuda:{_name}")
    _kernel.case("no points", e=0, k=6, q=2, d=0)
    _kernel.case("no splines", e=3, k=6, q=0, d=1)
    _kernel.case("one of each", e=1, k=6, q=1, d=0)
    _kernel.case("slopes", e=3, k=6, q=2, d=1)
    _kernel.case("a vector and a rest", e=50, k=9, q=21, d=0)
    _kernel.case("whole vectors", e=30, k=12, q=32, d=2)
    _kernel.case("fifth derivatives", e=20, k=6, q=9, d=5)
    _kernel.case("sixth derivatives", e=20, k=6, q=9, d=6)
