"""The exact inverse of an empty box as a preconditioner of what is inside it."""

from __future__ import annotations

import torch
from torch import Tensor

from tensornet.linalg.mode_product import mode_multiplied
from tensornet.pde.boundary import Side
from tensornet.pde.operator import LinearOperator, StencilOperator

MOST = 4096  # cells along an axis whose dense eigenbasis is made


class BoxPreconditioner(LinearOperator):
    """The inverse of an empty box, applied to the cells of a mask. See `box_preconditioner`."""

    symmetric = True

    def __init__(self, A: StencilOperator) -> None:
        self.domain, self.shape = A.domain, A.shape
        self.dtype, self.device = A.dtype, A.device
        grid, k = A.domain.grid, A.coefficient
        if isinstance(k, Tensor):
            k = float(A.domain.restrict(k.detach()).mean())
        total = torch.full(grid.shape, A.shift, dtype=torch.float64)
        bases = []
        for axis, (n, h) in enumerate(zip(grid.shape, grid.spacing, strict=True)):
            if n > MOST:
                raise ValueError(
                    f"`box_preconditioner(A=...)` must have at most {MOST} cells along an axis, "
                    f"for it uses dense eigenvectors. Got {n}."
                )
            values, vectors = torch.linalg.eigh(line_operator(n, *A.domain.sides[axis]))
            bases.append(vectors.to(self.device, self.dtype))
            along = [1] * grid.dim
            along[axis] = n
            total = total + (values * (k / h**2)).reshape(along)
        floor = 1e-12 * float(total.max())
        held = float(A.domain.restrict(A.anchor.detach()).mean())
        inverse = torch.where(total > floor, 1 / total.clamp_min(floor), 1 / held if held else 0.0)
        self._bases, self._inverse = bases, inverse.to(self.device, self.dtype)

    def _apply(self, x: Tensor) -> Tensor:
        field = self.domain.embed(x)
        for axis, V in enumerate(self._bases, 1):
            field = mode_multiplied(field, V.mT, axis)
        field = field * self._inverse
        for axis, V in enumerate(self._bases, 1):
            field = mode_multiplied(field, V, axis)
        return self.domain.restrict(field)


def box_preconditioner(A: StencilOperator) -> BoxPreconditioner:
    """Precondition an operator with a mask by the exact inverse of the box around it.

    The box has the boundary of `A`, no obstacles, and the mean of the coefficient; its inverse is
    diagonal in the products of eigenvectors of one axis each, so that applying it costs two small
    matrix products per axis and there is nothing to set up. Without a mask and with a constant
    coefficient it is the inverse itself. With solid obstacles the number of iterations of
    conjugate gradients hardly depends on the size; with free surfaces it grows with it, and with
    the contrast of the coefficient.

    Args:
        A: A symmetric operator of this room.

    Returns:
        A symmetric operator. Its `to_scipy` is the ``M`` of scipy's solvers.

    Raises:
        TypeError: If `A` is no operator of this room.
        ValueError: If it is not symmetric, or an axis has more than 4096 cells.

    Derivatives:
        Any order in the vectors, none in the operator.

    References:
        Lynch, Rice & Thomas, Numer. Math. 6, 185 (1964).

    Examples:
        >>> from tensornet.pde import Grid, poisson
        >>> A = poisson(Grid((4, 4), spacing=0.25)).operator
        >>> x = torch.ones(16, dtype=torch.float64)
        >>> bool(torch.allclose(box_preconditioner(A)(A(x)), x))
        True
    """
    if not isinstance(A, StencilOperator):
        raise TypeError(
            f"`box_preconditioner(A=...)` must be an operator of `pde`. Got {type(A).__name__}."
        )
    if not A.symmetric:
        raise ValueError("`box_preconditioner(A=...)` must be symmetric. Got one that is not.")
    return BoxPreconditioner(A)


def line_operator(n: int, low: Side, high: Side) -> Tensor:  # (n, n)
    """The operator of one axis, for spacing and coefficient one."""
    off = torch.full((n - 1,), -1.0, dtype=torch.float64)
    matrix = torch.diag(off, 1) + torch.diag(off, -1)
    matrix += torch.diag(torch.full((n,), 2.0, dtype=torch.float64))
    if low.kind == "periodic":
        matrix[0, -1] -= 1
        matrix[-1, 0] -= 1
        return matrix
    matrix[0, 0] += low.weight - 1
    matrix[-1, -1] += high.weight - 1
    return matrix
