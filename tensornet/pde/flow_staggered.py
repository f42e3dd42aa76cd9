"""Velocities at faces: where they are held, and what stands around them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tensornet.pde.boundary import Side, dirichlet, neumann
from tensornet.pde.domain import Domain
from tensornet.pde.flow import Flow
from tensornet.pde.flow_case import FlowCase
from tensornet.pde.grid import Field, expanded

_FIXED = {"wall", "slip", "inflow"}  # what holds the velocity across


class StaggeredFlow(Flow):
    """What `VelocityFlow` makes its equations of: velocities at the upper faces of cells.

    Args:
        case: The grid, the sides, the viscosity and the steps.
        mask: True where there is fluid, ``(*shape)``; None means everywhere.
        force: Force per mass, one component per axis; None for no force.
        where: Name of the public call, for messages.

    Raises:
        TypeError: If mask or force is of another kind.
        ValueError: If shapes differ, the mask is empty or has isolated cells, or more flows in
            than out.
    """

    def __init__(
        self,
        case: FlowCase,
        *,
        mask: Tensor | None = None,
        force: Sequence[Field] | None = None,
        where: str = "navier_stokes_2d",
    ) -> None:
        super().__init__(case)
        grid, dtype, device = case.grid, case.dtype, case.device
        self.state_shape = (grid.dim + 1, *grid.shape)
        self._where = where
        self._kinds = [(low.kind, high.kind) for low, high in case.sides]
        self._domain = Domain(
            grid, mask=None if mask is None else mask.to(device), device=device,
            boundary=[(_pressure_side(low), _pressure_side(high)) for low, high in self._kinds],
        )  # fmt: skip
        self._masked = self._domain.mask is not None
        self.mask = self._domain.active
        self._fluid = self.mask.to(dtype)
        self.free = torch.stack([self._unknown(axis) for axis in range(grid.dim)])
        self._loose = self.free.to(dtype)
        self._given, self._lower = self._held()
        self._drag = [self._buried(axis) for axis in range(grid.dim)]
        self._force = self._forced(force)
        self._check_flux()

    def _unknown(self, axis: int) -> Tensor:  # (*shape) bool
        high = self.sides[axis][1].kind
        found = self.mask & self.mask.roll(-1, axis)
        if high != "periodic":
            last = self.mask.select(axis, -1)
            found.select(axis, -1).copy_(last if high == "outflow" else torch.zeros_like(last))
        return found

    def _buried(self, component: int) -> Tensor:  # (*shape)
        """What solid cells half a spacing aside add to the diagonal of diffusion."""
        solid = ~self.mask
        inside = solid & solid.roll(-1, component)  # faces between two solid cells
        if self.sides[component][1].kind != "periodic":
            inside.select(component, -1).copy_(solid.select(component, -1))
        found = torch.zeros(self.grid.shape, dtype=self.dtype, device=self.device)
        for axis, h in enumerate(self.grid.spacing):
            if axis == component:
                continue
            for step in (-1, 1):
                beside = inside.roll(-step, axis)
                if self.sides[axis][0].kind != "periodic":
                    beside.select(axis, -1 if step > 0 else 0).fill_(False)
                found += beside.to(self.dtype) / h**2
        return found

    def places(self, component: int) -> tuple[Tensor, ...]:  # each (*shape)
        """Coordinates of a component of the velocity, or of the pressure, as fields.

        Args:
            component: 0 to dim - 1 for the velocity, dim for the pressure.

        Returns:
            One tensor ``(*shape)`` per axis.
        """
        return torch.meshgrid(*self._axes(component), indexing="ij")

    def _axes(self, component: int) -> list[Tensor]:
        axes = list(self.grid.axes(dtype=self.dtype, device=self.device))
        if component < self.grid.dim:
            axes[component] = axes[component] + self.grid.spacing[component] / 2
        return axes

    def _value(self, component: int, axis: int, end: int) -> Tensor:
        """A component of the velocity held at a side, one place along its axis."""
        grid, side = self.grid, self.sides[axis][end]
        shape = list(grid.shape)
        shape[axis] = 1
        if not side.velocity:
            return torch.zeros(shape, dtype=self.dtype, device=self.device)
        axes = self._axes(component)
        wall = grid.origin[axis] + end * grid.lengths[axis]
        axes[axis] = torch.full((1,), wall, dtype=self.dtype, device=self.device)
        points = torch.meshgrid(*axes, indexing="ij")
        found = grid.evaluated(side.velocity[component], points, self._where, "boundary")
        return expanded(self._where, "boundary", found, shape)

    def _held(self) -> tuple[Tensor, list[Tensor]]:
        """Velocities at faces that are held, and across the lower sides of the box."""
        given = torch.zeros(self.grid.dim, *self.grid.shape, dtype=self.dtype, device=self.device)
        lower = []
        self._tangents: dict[tuple[int, int, int], Tensor] = {}
        for axis, pair in enumerate(self.sides):
            inside = self._fluid.narrow(axis, 0, 1)
            lower.append(self._value(axis, axis, 0) * inside)
            if pair[1].kind in _FIXED:
                last = self._fluid.select(axis, -1)
                given[axis].select(axis, -1).copy_(
                    self._value(axis, axis, 1).select(axis, 0) * last
                )
            for end, side in enumerate(pair):
                for component in range(self.grid.dim):
                    if component != axis and side.velocity:
                        held = self._value(component, axis, end)
                        self._tangents[component, axis, end] = 2 * held
        return given, lower

    def _forced(self, force: Sequence[Field] | None) -> Tensor | None:
        if force is None:
            return None
        where, grid = self._where, self.grid
        if not isinstance(force, Sequence | Tensor):
            raise TypeError(
                f"`{where}(force=...)` must be a sequence, one component per axis. Got "
                f"{type(force).__name__}."
            )
        if isinstance(force, str) or len(force) != grid.dim:
            raise ValueError(
                f"`{where}(force=...)` must hold one component per axis ({grid.dim}). Got "
                f"{len(force)}."
            )
        found = (
            grid.evaluated(value, self.places(axis), where, "force")
            for axis, value in enumerate(force)
        )
        return torch.stack([expanded(where, "force", f, grid.shape) for f in found])

    def _check_flux(self) -> None:
        if any(high == "outflow" for _, high in self._kinds):
            return
        net = gross = 0.0
        for axis, h in enumerate(self.grid.spacing):
            area = math.prod(self.grid.spacing) / h
            for flux, sign in ((self._lower[axis], 1), (self._given[axis].select(axis, -1), -1)):
                net += sign * area * float(flux.sum())
                gross += area * float(flux.abs().sum())
        if abs(net) > 1e3 * torch.finfo(self.dtype).eps * max(gross, 1e-300):
            raise ValueError(
                f"`{self._where}(boundary=...)` must let out what it lets in where there is no "
                f'"outflow". Got {net:.3g} more flowing in than out. (Make one side "outflow".)'
            )

    # What stands around fields, on (b, *shape); axes of space begin at 1.

    def _faces(self, u: Tensor, axis: int) -> Tensor:
        """A velocity along its own axis with the lower side of the box: n + 1 places."""
        k = axis + 1
        if self._kinds[axis][0] == "periodic":
            return torch.cat([u.narrow(k, u.shape[k] - 1, 1), u], k)
        lower = self._lower[axis].expand(len(u), *self._lower[axis].shape)
        return torch.cat([lower, u], k)

    def _beyond(self, faces: Tensor, axis: int) -> Tensor:
        """What `_faces` gives, with one place more at the upper end."""
        k = axis + 1
        periodic = self._kinds[axis][0] == "periodic"
        return torch.cat([faces, faces.narrow(k, 1 if periodic else faces.shape[k] - 1, 1)], k)

    def _ghost(self, u: Tensor, component: int, axis: int, end: int) -> Tensor:
        """What is beyond a side for a velocity along it: one place."""
        k, n, kind = axis + 1, self.grid.shape[axis], self._kinds[axis][end]
        if kind == "periodic":
            return u.narrow(k, 0 if end else n - 1, 1)
        edge = u.narrow(k, n - 1 if end else 0, 1)
        if kind in ("slip", "outflow"):
            return edge
        held = self._tangents.get((component, axis, end))
        return -edge if held is None else held - edge

    def _wide(self, u: Tensor, component: int, axis: int) -> Tensor:
        """A velocity across another axis, with what is beyond both sides: n + 2 places."""
        ends = [self._ghost(u, component, axis, end) for end in (0, 1)]
        return torch.cat([ends[0], u, ends[1]], axis + 1)

    def _imposed(self, x: Tensor) -> list[Tensor]:
        """Velocities of a state, with those that are held: one ``(b, *shape)`` per axis."""
        u = x[:, :-1] * self._loose + self._given
        return list(u.unbind(1))

    def _divergence(self, u: Sequence[Tensor]) -> Tensor:
        total = None
        for axis, h in enumerate(self.grid.spacing):
            part = self._faces(u[axis], axis).diff(dim=axis + 1) / h
            total = part if total is None else total + part
        assert total is not None
        return total * self._fluid

    def _gradient(self, p: Tensor, axis: int) -> Tensor:
        """At upper faces, half a spacing from the zero of an outflow; free faces only count."""
        k, h = axis + 1, self.grid.spacing[axis]
        if self._kinds[axis][1] == "outflow":
            last = -p.narrow(k, p.shape[k] - 1, 1)
        else:
            last = p.narrow(k, 0, 1)
        return (torch.cat([p.narrow(k, 1, p.shape[k] - 1), last], k) - p) / h

    def _transport(self, u: Sequence[Tensor], axis: int) -> Tensor:
        """Advection less diffusion and force of one component, at its faces."""
        k, h = axis + 1, self.grid.spacing[axis]
        nu = self.viscosity
        line = self._beyond(self._faces(u[axis], axis), axis)
        n = self.grid.shape[axis]
        slope = line.diff(dim=k)
        mean = line.narrow(k, 0, n + 1) + 0.5 * slope
        found = (mean.square().diff(dim=k) - (nu / h) * slope.diff(dim=k)) / h
        for other, g in enumerate(self.grid.spacing):
            if other == axis:
                continue
            j = other + 1
            wide = self._wide(u[axis], axis, other)
            slope = wide.diff(dim=j)
            mean = wide.narrow(j, 0, self.grid.shape[other] + 1) + 0.5 * slope
            across = self._faces(u[other], other)
            above = torch.cat([across.narrow(k, 1, n - 1), self._edge(across, axis)], k)
            found = (
                found
                + ((0.5 * mean * (across + above)).diff(dim=j) - (nu / g) * slope.diff(dim=j)) / g
            )
        if self._masked:
            found = found + (nu * self._drag[axis]) * u[axis]
        return found if self._force is None else found - self._force[axis]

    def _edge(self, across: Tensor, axis: int) -> Tensor:
        """Beyond the upper side of an axis, for a velocity across it."""
        k = axis + 1
        if self._kinds[axis][1] == "periodic":
            return across.narrow(k, 0, 1)
        return across.narrow(k, across.shape[k] - 1, 1)  # of use at outflow only


def _pressure_side(kind: str) -> Side:
    if kind == "periodic":
        return Side("periodic")
    return dirichlet() if kind == "outflow" else neumann()
