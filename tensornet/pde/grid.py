"""Grids of equal cells."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tensornet import _check

Field = float | Tensor | Callable[..., Tensor]
"""A number, a tensor on the grid, or a function of the coordinates ``f(x, y, ...)``."""


@dataclass(frozen=True, init=False)
class Grid:
    """A box of equal cells in one, two or three dimensions; unknowns are at the centres.

    The centre of cell p along an axis is at ``origin + (p + 1/2) spacing``, the walls of the box
    at ``origin`` and ``origin + n spacing``. Where a grid of nodes is wanted, with the values of a
    Dirichlet boundary at nodes of their own, see `dirichlet`.

    Args:
        shape: Number of cells along each axis.
        spacing: Width of a cell, one for all axes or one per axis.
        origin: Where the first walls are, one for all axes or one per axis.

    Raises:
        TypeError: If a size is no whole number, or a spacing no number.
        ValueError: If there are not one to three axes, a size is below two, or a spacing is not
            positive and finite.

    Examples:
        >>> grid = Grid((4, 8), spacing=(0.25, 0.125))
        >>> grid.lengths
        (1.0, 1.0)
        >>> grid.axes()[0]
        tensor([0.1250, 0.3750, 0.6250, 0.8750], dtype=torch.float64)
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]

    def __init__(
        self,
        shape: int | Sequence[int],
        *,
        spacing: float | Sequence[float],
        origin: float | Sequence[float] = 0.0,
    ) -> None:
        if not isinstance(shape, int | Sequence):
            raise TypeError(
                f"`Grid(shape=...)` must be a whole number, or one per axis. Got {shape!r}."
            )
        sizes = (shape,) if isinstance(shape, int) else tuple(shape)
        if not 1 <= len(sizes) <= 3:
            raise ValueError(f"`Grid(shape=...)` must have one to three axes. Got {sizes}.")
        for n in sizes:
            _check.at_least("Grid", 2, shape=n)
        object.__setattr__(self, "shape", sizes)
        object.__setattr__(self, "spacing", _per_axis("spacing", spacing, len(sizes)))
        object.__setattr__(self, "origin", _per_axis("origin", origin, len(sizes)))
        if not all(h > 0 for h in self.spacing):
            raise ValueError(f"`Grid(spacing=...)` must be positive. Got {self.spacing}.")

    @property
    def dim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return math.prod(self.shape)

    @property
    def lengths(self) -> tuple[float, ...]:
        """Lengths of the box."""
        return tuple(n * h for n, h in zip(self.shape, self.spacing, strict=True))

    def axes(
        self, *, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
    ) -> tuple[Tensor, ...]:  # each (d,)
        """Return the coordinates of the centres along each axis.

        Args:
            dtype: Of the coordinates.
            device: Where to put them.

        Returns:
            One tensor (d,) per axis.
        """
        made = []
        for n, h, start in zip(self.shape, self.spacing, self.origin, strict=True):
            p = torch.arange(n, dtype=torch.float64, device=device)
            made.append((start + (p + 0.5) * h).to(dtype))
        return tuple(made)

    def centers(
        self, *, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
    ) -> tuple[Tensor, ...]:  # each (*shape)
        """Return the coordinates of the centres as fields.

        Args:
            dtype: Of the coordinates.
            device: Where to put them.

        Returns:
            One tensor ``(*shape)`` per axis.

        Examples:
            >>> x, y = Grid((2, 3), spacing=1.0).centers()
            >>> y
            tensor([[0.5000, 1.5000, 2.5000],
                    [0.5000, 1.5000, 2.5000]], dtype=torch.float64)
        """
        return torch.meshgrid(*self.axes(dtype=dtype, device=device), indexing="ij")

    def field(
        self,
        value: Field,
        *,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
        where: str = "field",
        name: str = "value",
    ) -> Tensor:  # (..., *shape)
        """Make a field of a number, a tensor on the grid, or a function of the coordinates.

        Args:
            value: A number, a tensor ``(..., *shape)``, or a function that takes one field of
                coordinates per axis.
            dtype: Of the field.
            device: Where to put it.
            where: Name of the public call, for messages.
            name: Name of its argument, for messages.

        Returns:
            The field, ``(..., *shape)``.

        Raises:
            TypeError: If it is none of the three.
            ValueError: If the shape is another, or numbers are NaN or infinite.

        Derivatives:
            Any order, in a tensor and in what a function depends on.
        """
        found = self.evaluated(value, self.centers(dtype=dtype, device=device), where, name)
        if found.ndim and found.shape[-self.dim :] != self.shape:
            raise ValueError(
                f"`{where}({name}=...)` must have the shape (..., "
                f"{', '.join(str(n) for n in self.shape)}) of the grid. Got {tuple(found.shape)}."
            )
        return found if found.ndim else found.expand(self.shape)

    def evaluated(self, value: Field, points: tuple[Tensor, ...], where: str, name: str) -> Tensor:
        """Make a tensor of a number, a tensor, or a function of the coordinates of some points.

        Args:
            value: What is to be evaluated. The shape of a tensor is not checked.
            points: One field of coordinates per axis, of one shape.
            where: Name of the public call, for messages.
            name: Name of its argument, for messages.

        Returns:
            Finite numbers with the dtype and device of the points; no axes for a number.

        Raises:
            TypeError: If it is none of the three, or holds no real numbers.
            ValueError: If a function gives another shape, or numbers are NaN or infinite.
        """
        if isinstance(value, int | float) and not isinstance(value, bool):
            found = torch.tensor(float(value), dtype=torch.float64)
        elif isinstance(value, Tensor):
            found = value
        elif callable(value):
            made = value(*points)
            found = made if isinstance(made, Tensor) else torch.tensor(made, dtype=torch.float64)
            shape = points[0].shape
            if found.shape[-self.dim :] != shape:
                if found.ndim:
                    raise ValueError(
                        f"`{where}({name}=...)` must give a number or the shape {tuple(shape)} of "
                        f"the coordinates. Got {tuple(found.shape)}."
                    )
                found = found.expand(shape)
        else:
            raise TypeError(
                f"`{where}({name}=...)` must be a number, a tensor on the grid or a function of "
                f"the coordinates. Got {type(value).__name__}."
            )
        if not (found.is_floating_point() or found.dtype in (torch.int64, torch.int32)):
            raise TypeError(f"`{where}({name}=...)` must hold real numbers. Got {found.dtype}.")
        bad = int((~found.detach().isfinite()).sum())
        if bad:
            raise ValueError(
                f"`{where}({name}=...)` must be finite. Got {bad} NaN or infinite of "
                f"{found.numel()} numbers."
            )
        return found.to(points[0])


def device_of(device: torch.device | str) -> torch.device:
    """Give a device the name that its tensors say: ``"cuda:0"`` for ``"cuda"``.

    Args:
        device: What a user said.

    Returns:
        What the device of a tensor there is compared with.
    """
    return torch.empty(0, device=device).device


def expanded(where: str, name: str, x: Tensor, shape: Sequence[int]) -> Tensor:  # (*shape)
    """Expand a tensor to a shape, or say that it does not fit.

    Args:
        where: Name of the public call, for messages.
        name: Name of its argument, for messages.
        x: The tensor.
        shape: What is wanted.

    Returns:
        A view of the tensor.

    Raises:
        ValueError: If it cannot be expanded to the shape.
    """
    try:
        return x.expand(tuple(shape))
    except RuntimeError:
        raise ValueError(
            f"`{where}({name}=...)` must have shape ({', '.join(map(str, shape))}), or one that "
            f"can be expanded to it. Got {tuple(x.shape)}."
        ) from None


def _per_axis(name: str, value: float | Sequence[float], dim: int) -> tuple[float, ...]:
    if not isinstance(value, int | float | Sequence):
        raise TypeError(f"`Grid({name}=...)` must be numbers. Got {value!r}.")
    values = (value,) * dim if isinstance(value, int | float) else tuple(value)
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        raise TypeError(f"`Grid({name}=...)` must be numbers. Got {value!r}.")
    if len(values) != dim or not all(math.isfinite(v) for v in values):
        raise ValueError(
            f"`Grid({name}=...)` must be one finite number, or one per axis ({dim}). Got {value}."
        )
    return tuple(float(v) for v in values)
