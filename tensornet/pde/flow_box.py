"""Inverses on staggered boxes, by eigenvectors of each axis."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tensornet.linalg.mode_product import mode_multiplied
from tensornet.pde.axis import line_operator
from tensornet.pde.boundary import Side, dirichlet, neumann

_HELD = {"wall", "inflow"}


def line_of_faces(n: int, low: str, high: str) -> Tensor:  # (n, n)
    """Negative second difference of a velocity along its own axis, spacing one, at upper faces.

    Args:
        n: Number of cells.
        low: Kind of the lower side.
        high: Kind of the upper side; where it holds the flow, the last face is left alone.
    """
    if low == "periodic":
        return line_operator(n, Side("periodic"), Side("periodic"))
    held = dirichlet(at="center")
    if high == "outflow":
        return line_operator(n, held, neumann())
    matrix = torch.zeros(n, n, dtype=torch.float64)
    matrix[:-1, :-1] = line_operator(n - 1, held, held)
    return matrix


def line_of_cells(n: int, low: str, high: str, *, pressure: bool) -> Tensor:  # (n, n)
    """Negative second difference at centres, spacing one, of a pressure or a velocity across.

    Args:
        n: Number of cells.
        low: Kind of the lower side.
        high: Kind of the upper side.
        pressure: Whether of the pressure, which outflow holds; walls and inflow hold velocities.
    """
    held = {"outflow"} if pressure else _HELD
    if low == "periodic":
        return line_operator(n, Side("periodic"), Side("periodic"))
    return line_operator(n, *(dirichlet() if kind in held else neumann() for kind in (low, high)))


class BoxInverse:
    """``(mass + stiffness K)^-1`` with K a sum of matrices of one axis each; pseudo if singular.

    Args:
        lines: One symmetric matrix per axis, for spacing one.
        spacing: One per axis.
        mass: At least zero.
        stiffness: At least zero.
        dtype: Of the numbers.
        device: Where they are.
    """

    def __init__(
        self,
        lines: Sequence[Tensor],
        spacing: Sequence[float],
        mass: float,
        stiffness: float,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        total = torch.full([len(m) for m in lines], mass, dtype=torch.float64)
        self._bases = []
        for axis, (matrix, h) in enumerate(zip(lines, spacing, strict=True)):
            values, vectors = torch.linalg.eigh(matrix)
            self._bases.append(vectors.to(device, dtype))
            along = [1] * len(lines)
            along[axis] = -1
            total = total + (stiffness / h**2) * values.reshape(along)
        floor = 1e-12 * float(total.max())
        inverse = torch.where(total > floor, 1 / total.clamp_min(floor), torch.zeros_like(total))
        self._inverse = inverse.to(device, dtype)

    def __call__(self, x: Tensor) -> Tensor:  # (b, *shape) -> (b, *shape)
        """Apply the inverse."""
        for axis, V in enumerate(self._bases, 1):
            x = mode_multiplied(x, V.mT, axis)
        x = x * self._inverse
        for axis, V in enumerate(self._bases, 1):
            x = mode_multiplied(x, V, axis)
        return x
