"""The exact inverse of an empty box as a preconditioner of what is inside it."""

from __future__ import annotations

import torch
from torch import Tensor

from tensornet.pde.axis import box_axes, in_eigenvectors, outer_sum
from tensornet.pde.operator import LinearOperator, StencilOperator, check_symmetric


class BoxPreconditioner(LinearOperator):
    """The inverse of an empty box, applied to the cells of a mask. See `box_preconditioner`.

    Args:
        A: A symmetric operator of `pde`.
    """

    symmetric = True

    def __init__(self, A: StencilOperator) -> None:
        self.domain, self.shape = A.domain, A.shape
        self.dtype, self.device = A.dtype, A.device
        k = mean_coefficient(A)
        self._axes = box_axes("box_preconditioner(A=...)", A.domain)
        total = outer_sum([k * axis.values for axis in self._axes], A.shift)
        floor = 1e-12 * float(total.max())
        held = float(A.domain.restrict(A.anchor.detach()).mean())
        inverse = torch.where(total > floor, 1 / total.clamp_min(floor), 1 / held if held else 0.0)
        self._inverse = inverse.to(self.device, self.dtype)

    @property
    def n_bytes(self) -> int:
        """Memory of eigenvectors and eigenvalues."""
        return self._inverse.nbytes + sum(axis.n_bytes for axis in self._axes)

    def _apply(self, x: Tensor) -> Tensor:
        field = in_eigenvectors(self._axes, self.domain.embed(x), self._inverse)
        return self.domain.restrict(field)


def is_box(A: StencilOperator) -> bool:
    """Say whether an operator is a sum of operators of one axis each: a box, constant coefficient.

    Args:
        A: A symmetric operator.
    """
    return A.domain.mask is None and A.kind == "lines"


def mean_coefficient(A: StencilOperator) -> float:
    """Average the coefficient of an operator over the active cells.

    Args:
        A: The operator.
    """
    k = A.coefficient
    return float(A.domain.restrict(k.detach()).mean()) if isinstance(k, Tensor) else k


def box_preconditioner(A: StencilOperator) -> BoxPreconditioner:
    """Precondition an operator with a mask by the exact inverse of the box around it.

    The box has the boundary of `A`, no obstacles, and the mean of the coefficient; its inverse is
    diagonal in the products of eigenvectors of one axis each, so that applying it costs two small
    matrix products per axis, or fast sine and cosine transforms where axes are long, and there is
    hardly anything to set up. Without a mask and with a constant coefficient it is the inverse
    itself. With solid obstacles the number of iterations of conjugate gradients hardly depends on
    the size; with free surfaces it grows with it, and with the contrast of the coefficient.

    Args:
        A: A symmetric operator of `pde`.

    Returns:
        A symmetric operator. Its `to_scipy` is the ``M`` of scipy's solvers.

    Raises:
        TypeError: If `A` is no operator of `pde`.
        ValueError: If it is not symmetric, or an axis without a fast transform (periodic, or with
            the two kinds of Dirichlet sides mixed) has more than 4096 cells.

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
    check_symmetric("box_preconditioner", A)
    return BoxPreconditioner(A)
