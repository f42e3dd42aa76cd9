"""Where an equation holds: a grid, the cells of the fluid, and what surrounds them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from math import prod

import numpy as np
import torch
from torch import Tensor

from tensornet.kernels import embed_runs, restrict_runs
from tensornet.pde.boundary import Boundary, Side, Word, dirichlet, side, sides
from tensornet.pde.grid import Grid, device_of

AIR = dirichlet(0.0, at="center")


class Domain:
    """A grid with the cells where an equation holds, and what holds around them.

    Vectors of a domain have one number per active cell, in the order of the grid, last axis
    fastest. Between two active cells there is a face; elsewhere an active cell has a side: of the
    box, of a wall (any cell outside the mask), or of a free surface (cells called air).

    Args:
        grid: The grid.
        mask: True where the equation holds, ``(*shape)``. None means everywhere.
        boundary: What holds at the sides of the box: a word (``"dirichlet"``, ``"neumann"``,
            ``"periodic"``) or a side; or one per axis; or for an axis a pair, lower and upper.
        wall: What holds between active cells and others, ``"neumann"`` or ``"dirichlet"``.
        air: Cells outside the mask that are no wall, ``(*shape)``.
        surface: What holds between active cells and air.
        drop_isolated: Take cells that nothing is tied to out of the mask, instead of refusing.
        device: Where the domain is; that of the mask if None.

    Raises:
        TypeError: If masks are not of booleans.
        ValueError: If the mask has another shape, is empty or has isolated cells, air is inside
            the mask, or the boundary makes no sense.

    Examples:
        >>> mask = torch.ones(4, 4, dtype=torch.bool)
        >>> mask[1, 2] = False
        >>> domain = Domain(Grid((4, 4), spacing=0.25), mask=mask, boundary="neumann")
        >>> domain.n
        15
        >>> domain.embed(torch.ones(15))[1]
        tensor([1., 1., 0., 1.])
    """

    def __init__(
        self,
        grid: Grid,
        *,
        mask: Tensor | None = None,
        boundary: Boundary = "dirichlet",
        wall: Word = "neumann",
        air: Tensor | None = None,
        surface: Word = AIR,
        drop_isolated: bool = False,
        device: torch.device | str | None = None,
    ) -> None:
        if not isinstance(grid, Grid):
            raise TypeError(f"`Domain(grid=...)` must be a `Grid`. Got {type(grid).__name__}.")
        self.grid = grid
        self.sides = sides(grid, boundary, "Domain")
        self.wall, self.surface = side(wall, "Domain", "wall"), side(surface, "Domain", "surface")
        for name, word in (("wall", self.wall), ("surface", self.surface)):
            if word.kind == "periodic":
                raise ValueError(f"`Domain({name}=...)` must not be periodic.")
        for name, cells in (("mask", mask), ("air", air)):
            self._check_cells(name, cells)
        if device is None:
            device = torch.device("cpu") if mask is None else mask.device
        self.device = device_of(device)
        self.mask = None if mask is None or bool(mask.all()) else mask.to(self.device)
        self.air = None if air is None else air.to(self.device)
        if self.mask is not None and not bool(self.mask.any()):
            raise ValueError("`Domain(mask=...)` must be True somewhere. Got an empty mask.")
        if self.air is not None and bool((self.active & self.air).any()):
            n = int((self.active & self.air).sum())
            raise ValueError(f"`Domain(air=...)` must lie outside the mask. Got {n} cells inside.")
        if self.mask is not None:
            self._refuse_isolated(drop_isolated)

    def _check_cells(self, name: str, cells: Tensor | None) -> None:
        if cells is None:
            return
        if not isinstance(cells, Tensor) or cells.dtype != torch.bool:
            got = cells.dtype if isinstance(cells, Tensor) else type(cells).__name__
            raise TypeError(f"`Domain({name}=...)` must be a tensor of torch.bool. Got {got}.")
        if cells.shape != self.grid.shape:
            raise ValueError(
                f"`Domain({name}=...)` must have the shape {self.grid.shape} of the grid. "
                f"Got {tuple(cells.shape)}."
            )

    def _refuse_isolated(self, drop: bool) -> None:
        alone = self.active.clone()
        for axis in range(self.grid.dim):
            for step in (-1, 1):
                alone &= ~self.inner(axis, step) & (self.held(axis, step) == 0)
        count = int(alone.sum())
        if count == 0:
            return
        if not drop:
            first = tuple(alone.nonzero()[0].tolist())
            raise ValueError(
                "`Domain(mask=...)` must not have isolated cells, with no active neighbour and no "
                f"value held at a side. Got {count}, the first at {first}. (Pass "
                "drop_isolated=True to take them out.)"
            )
        self.mask = self.active & ~alone
        if not bool(self.mask.any()):
            raise ValueError("`Domain(mask=...)` must keep cells. Got isolated cells only.")

    @property
    def active(self) -> Tensor:  # (*shape) bool
        """True where the equation holds."""
        if self.mask is None:
            return torch.ones(self.grid.shape, dtype=torch.bool, device=self.device)
        return self.mask

    @cached_property
    def place(self) -> Tensor:  # (n,) int64
        """Where the active cells stand in the flattened grid."""
        return self.active.flatten().nonzero()[:, 0]

    @cached_property
    def runs(self) -> tuple[Tensor, Tensor, Tensor]:  # (r,), (r,), (r,) int64
        """Active cells that follow each other: first place, start in vectors, length."""
        breaks = (self.place.diff() != 1).nonzero()[:, 0] + 1
        start = torch.cat([breaks.new_zeros(1), breaks])
        return self.place[start], start, torch.cat([breaks, breaks.new_full((1,), self.n)]) - start

    @cached_property
    def n(self) -> int:
        """Number of active cells."""
        return self.grid.n_cells if self.mask is None else len(self.place)

    @cached_property
    def periodic(self) -> tuple[bool, ...]:
        """Per axis, whether its ends are neighbours."""
        return tuple(low.kind == "periodic" for low, _ in self.sides)

    def inner(self, axis: int, step: int) -> Tensor:  # (*shape) bool
        """True where an active cell has an active neighbour.

        Args:
            axis: Along which axis.
            step: 1 for the neighbour above, -1 for the one below.

        Returns:
            Booleans, ``(*shape)``.
        """
        return self.active & self._beside(self.active, axis, step)

    def outer(self, axis: int, step: int) -> Iterator[tuple[Side, Tensor, bool]]:
        """Give the sides of active cells, each with the cells that have it.

        Args:
            axis: Across which axis.
            step: 1 for the sides above, -1 for those below.

        Yields:
            The side, ``(*shape)`` booleans, and whether it is a side of the box.
        """
        active = self.active
        if not self.periodic[axis]:
            end = torch.zeros_like(active)
            end.select(axis, -1 if step > 0 else 0).fill_(True)
            yield self.sides[axis][step > 0], active & end, True
            active = active & ~end
        if self.mask is None:
            return
        other = active & ~self._beside(self.active, axis, step)
        air = torch.zeros_like(other)
        if self.air is not None:
            air = self._beside(self.air, axis, step) & other
            yield self.surface, air, False
        yield self.wall, other & ~air, False

    def held(self, axis: int, step: int) -> Tensor:  # (*shape)
        """What active cells are tied with to held values, in coefficients over spacing squared.

        Args:
            axis: Across which axis.
            step: 1 for the sides above, -1 for those below.

        Returns:
            Numbers in float64, ``(*shape)``; zero where nothing is held.
        """
        shape = self.grid.shape
        found = torch.zeros(shape, dtype=torch.float64, device=self.device)
        for kind, cells, _ in self.outer(axis, step):
            if kind.weight:
                found += kind.weight * cells
        return found

    def value(
        self, kind: Side, axis: int, step: int, box: bool, dtype: torch.dtype, where: str
    ) -> Tensor:  # broadcasts to (..., *shape)
        """What is held, or let in, at a side.

        Args:
            kind: One of the sides that `outer` gives.
            axis: Across which axis.
            step: 1 for the side above, -1 for the one below.
            box: Whether it is a side of the box.
            dtype: Of the numbers.
            where: Name of the public call, for messages.

        Returns:
            Numbers that broadcast to ``(..., *shape)``.

        Raises:
            TypeError: If the value is no number, tensor or function.
            ValueError: If a tensor has another shape, or numbers are NaN or infinite.
        """
        grid = self.grid
        points = list(grid.axes(dtype=dtype, device=self.device))
        if box:
            points[axis] = points[axis][-1:] if step > 0 else points[axis][:1]
        points[axis] = points[axis] + step * kind.distance * grid.spacing[axis]
        mesh = torch.meshgrid(*points, indexing="ij")
        found = grid.evaluated(kind.value, mesh, where, "boundary" if box else "wall")
        if not isinstance(kind.value, Tensor):
            return found
        want = list(grid.shape)
        if box:
            del want[axis]
        if list(found.shape[found.ndim - len(want) :]) != want:
            raise ValueError(
                f"`{where}(boundary=...)` must hold values of shape (..., "
                f"{', '.join(map(str, want))}) across axis {axis}. Got {tuple(found.shape)}."
            )
        if box:
            return found.unsqueeze(axis - grid.dim)
        return found.roll(-step, axis - grid.dim)

    def _beside(self, cells: Tensor, axis: int, step: int) -> Tensor:
        """For each cell what its neighbour is; nothing beyond the box."""
        beside = cells.roll(-step, axis)
        if not self.periodic[axis]:
            beside.select(axis, -1 if step > 0 else 0).fill_(False)
        return beside

    def embed(self, x: Tensor, fill: float = 0.0) -> Tensor:  # (..., n) -> (..., *shape)
        """Put a vector of the active cells on the grid.

        Args:
            x: One number per active cell, any batch in front.
            fill: What the other cells get.

        Returns:
            The field, ``(..., *shape)``.

        Derivatives:
            Any order.
        """
        self._check_last("embed", "x", x, (self.n,))
        shape = (*x.shape[:-1], *self.grid.shape)
        if self.mask is None:
            return x.reshape(shape)
        batch = prod(x.shape[:-1])
        rows = x.reshape(batch, self.n)
        field = embed_runs(rows, *self.runs, self.grid.n_cells).reshape(shape)
        return field if fill == 0 else field.masked_fill(~self.active, fill)

    def restrict(self, field: Tensor) -> Tensor:  # (..., *shape) -> (..., n)
        """Take the active cells out of a field on the grid.

        Args:
            field: A field, any batch in front.

        Returns:
            One number per active cell, (..., n).

        Derivatives:
            Any order.
        """
        self._check_last("restrict", "field", field, self.grid.shape)
        batch = field.shape[: field.ndim - self.grid.dim]
        if self.mask is None:
            return field.reshape(*batch, self.n)
        flat = field.reshape(prod(batch), self.grid.n_cells)
        return restrict_runs(flat, *self.runs, self.n).reshape(*batch, self.n)

    def _check_last(self, where: str, name: str, x: Tensor, want: tuple[int, ...]) -> None:
        if not isinstance(x, Tensor):
            raise TypeError(f"`{where}({name}=...)` must be a tensor. Got {type(x).__name__}.")
        if x.shape[max(x.ndim - len(want), 0) :] != want:
            raise ValueError(
                f"`{where}({name}=...)` must have shape (..., {', '.join(map(str, want))}). "
                f"Got {tuple(x.shape)}."
            )

    def to(self, device: torch.device | str) -> Domain:
        """Give the domain on another device.

        Args:
            device: Where to put it.

        Returns:
            A new domain; this one where it is there already.
        """
        if device_of(device) == self.device:
            return self
        return Domain(
            self.grid,
            mask=self.mask,
            boundary=self.sides,
            wall=self.wall,
            air=self.air,
            surface=self.surface,
            device=device,
        )

    @cached_property
    def parts(self) -> Tensor:  # (n,) int64
        """Number of the connected part of each active cell, from zero."""
        return connected(self.active, self.periodic).flatten()[self.place] - 1


def connected(cells: Tensor, periodic: tuple[bool, ...]) -> Tensor:  # (*shape) int64
    """Number the connected parts of some cells, from one; zero elsewhere.

    Args:
        cells: True where the cells are, ``(*shape)``.
        periodic: Per axis, whether its ends are neighbours.
    """
    from scipy.ndimage import label
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    labels, count = label(cells.cpu().numpy())
    ends = []
    for axis, around in enumerate(periodic):
        if around:
            pair = labels.take(0, axis).ravel(), labels.take(-1, axis).ravel()
            ends.append(np.stack([p[(pair[0] > 0) & (pair[1] > 0)] for p in pair]))
    if ends and count > 1:
        first, last = np.concatenate(ends, 1) - 1
        graph = coo_matrix((np.ones(len(first)), (first, last)), (count, count))
        merged = connected_components(graph, directed=False)[1]
        labels = np.append(merged, -1)[labels - 1] + 1
    return torch.from_numpy(labels.astype(np.int64)).to(cells.device)
