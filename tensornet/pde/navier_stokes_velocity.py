"""Flow by velocity and pressure on a staggered grid, in two or three dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tensornet import _check
from tensornet.linalg import pcg
from tensornet.pde.box import box_preconditioner
from tensornet.pde.flow_box import BoxInverse, line_of_cells, line_of_faces
from tensornet.pde.flow_case import FlowCase
from tensornet.pde.flow_staggered import StaggeredFlow
from tensornet.pde.flow_states import random_field, window
from tensornet.pde.grid import Field
from tensornet.pde.poisson import diffusion


class VelocityFlow(StaggeredFlow):
    """Flow on the staggered grid of Harlow and Welch. See `navier_stokes_2d`.

    A state is ``(..., dim + 1, *shape)``: first the components of the velocity, component a at the
    upper face of each cell along axis a, last the pressure at the centres. Faces where the velocity
    is held (the last of an axis with walls, those of obstacles) have an entry too, which should be
    what is held; so have cells inside obstacles, with pressure zero.

    Args:
        case: The grid, the sides, the viscosity and the steps.
        mask: True where there is fluid, ``(*shape)``; None means everywhere.
        force: Force per mass, one component per axis; None for no force.
        where: Name of the public call, for messages.

    Attributes:
        mask: True where there is fluid, ``(*shape)``.
        free: Per axis where the velocity is unknown, ``(dim, *shape)`` booleans.
    """

    def __init__(
        self,
        case: FlowCase,
        *,
        mask: Tensor | None = None,
        force: Sequence[Field] | None = None,
        where: str = "navier_stokes_2d",
    ) -> None:
        super().__init__(case, mask=mask, force=force, where=where)
        grid, place = self.grid, (self.dtype, self.device)
        A = diffusion(self._where, self._domain, 1.0, self.dtype)[0]
        self._laplacian = A
        self._box = box_preconditioner(A) if self._masked else None
        lines = [
            line_of_cells(n, *kinds, pressure=True)
            for n, kinds in zip(grid.shape, self._kinds, strict=True)
        ]
        self._poisson = BoxInverse(lines, grid.spacing, 0.0, 1.0, *place)
        stiffness = self.theta * self.viscosity
        self._helmholtz = [
            BoxInverse(self._lines(axis), grid.spacing, 1 / self.dt, stiffness, *place)
            for axis in range(grid.dim)
        ]
        first = [int(self._domain.place[int(row.ne(0).nonzero()[0])]) for row in A.nullspace]
        self._pinned = [grid.dim * grid.n_cells + place for place in first]

    def _lines(self, component: int) -> list[Tensor]:
        found = []
        for axis, (n, kinds) in enumerate(zip(self.grid.shape, self._kinds, strict=True)):
            if axis == component:
                found.append(line_of_faces(n, *kinds))
            else:
                found.append(line_of_cells(n, *kinds, pressure=False))
        return found

    def _equation(self, change: Tensor | None, between: list[Tensor], after: Tensor) -> Tensor:
        """Rows of the residual: momentum at free faces, what is held, divergence, solid cells."""
        p = after[:, -1]
        rows = []
        for axis in range(self.grid.dim):
            row = self._transport(between, axis) + self._gradient(p, axis)
            if change is not None:
                row = row + change[:, axis] / self.dt
            loose = self._loose[axis]
            rows.append(row * loose + (after[:, axis] - self._given[axis]) * (1 - loose))
        rows.append(self._divergence(self._imposed(after)) + p * (1 - self._fluid))
        return torch.stack(rows, 1)

    def _residual(self, after: Tensor, before: Tensor) -> Tensor:
        between = after if self.theta == 1 else torch.lerp(before, after, self.theta)
        return self._equation(after - before, self._imposed(between), after)

    def _rest(self, x: Tensor) -> Tensor:
        return self._equation(None, self._imposed(x), x)

    def _mass(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, :-1] * self._loose, torch.zeros_like(x[:, -1:])], 1)

    def _pressure(self, source: Tensor) -> Tensor:  # (b, *shape) -> (b, *shape)
        """Solve ``-div grad p = source`` in the fluid."""
        if self._box is None:
            return self._poisson(source)
        A = self._laplacian
        right = A.project(A.domain.restrict(source))
        rtol = 1e-11 if self.dtype == torch.float64 else 1e-5
        solution = pcg(A, right, M=self._box, rtol=rtol, maxiter=500)
        return A.domain.embed(A.project(solution.value))

    def _precondition(self, residual: Tensor) -> Tensor:
        loose = self._loose
        u = [
            self._helmholtz[axis](residual[:, axis] * loose[axis]) * loose[axis]
            for axis in range(self.grid.dim)
        ]
        excess = self._inner_divergence(u) - residual[:, -1] * self._fluid
        phi = -self._pressure(excess)
        moved = [
            u[axis] - self._gradient(phi, axis) * loose[axis]
            + residual[:, axis] * (1 - loose[axis])
            for axis in range(self.grid.dim)
        ]  # fmt: skip
        p = phi / self.dt - (self.theta * self.viscosity) * excess
        p = p * self._fluid + residual[:, -1] * (1 - self._fluid)
        return torch.stack([*moved, p], 1)

    def _inner_divergence(self, u: Sequence[Tensor]) -> Tensor:
        """Divergence of velocities that are zero where they are held."""
        total = torch.zeros_like(u[0])
        for axis, h in enumerate(self.grid.spacing):
            below = u[axis].roll(1, axis + 1)  # the last face is held, but at an outflow
            if self._kinds[axis][1] == "outflow":
                below.narrow(axis + 1, 0, 1).zero_()
            total = total + (u[axis] - below) / h
        return total * self._fluid

    def _projected(self, x: Tensor) -> Tensor:
        """The nearest velocities without divergence, and the potential of what was taken out."""
        u = self._imposed(x)
        phi = -self._pressure(self._divergence(u))
        moved = [
            u[axis] - self._gradient(phi, axis) * self._loose[axis] for axis in range(self.grid.dim)
        ]
        return torch.stack([*moved, phi], 1)

    def _explicit(self, x: Tensor) -> Tensor:
        def euler(state: Tensor) -> Tensor:
            u = self._imposed(state)
            moved = [u[a] - self.dt * self._transport(u, a) for a in range(self.grid.dim)]
            return self._projected(torch.stack([*moved, torch.zeros_like(moved[0])], 1))

        one = 0.75 * x + 0.25 * euler(euler(x))
        last = euler(one)
        found = x / 3 + last * (2 / 3)
        return torch.cat([found[:, :-1], last[:, -1:] / self.dt], 1)

    def _speeds(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self._imposed(x))

    def _held_speeds(self) -> tuple[Tensor, ...]:
        return (self._given, *self._lower, *self._tangents.values())

    def balanced(self, velocity: Tensor) -> Tensor:  # (b, dim, *shape) -> (b, *shape)
        """Return the pressure that keeps velocities without divergence so.

        Args:
            velocity: At upper faces, as in states.

        Returns:
            Pressure over density at the centres, ``(b, *shape)``.

        Raises:
            ValueError: If the shape is another.
        """
        axes = " ".join(map(str, ("b", self.grid.dim, *self.grid.shape)))
        _check.shapes("balanced", velocity=(velocity, axes))
        u = self._imposed(torch.cat([velocity, velocity[:, :1]], 1))
        pushed = [self._transport(u, a) * self._loose[a] for a in range(self.grid.dim)]
        return self._pressure(self._inner_divergence(pushed))

    def pressure(self, state: Tensor) -> Tensor:  # (..., *shape)
        """Return the pressure over density, at the centres.

        Args:
            state: Velocities and pressure.

        Returns:
            The pressure, ``(..., *shape)``.
        """
        self._check("pressure", state=state)
        return state.select(-self.grid.dim - 1, -1)

    def velocity(self, state: Tensor) -> Tensor:  # (..., dim, *shape)
        """Return the velocity at the centres, the means of opposite faces.

        Args:
            state: Velocities and pressure.

        Returns:
            The velocity, ``(..., dim, *shape)``.
        """
        self._check("velocity", state=state)
        u = self._imposed(self._rows(state))
        made = []
        for axis in range(self.grid.dim):
            faces, n = self._faces(u[axis], axis), self.grid.shape[axis]
            made.append((faces.narrow(axis + 1, 0, n) + u[axis]) / 2)
        found = torch.stack(made, 1)
        return found.reshape(*self._batch(state), *found.shape[1:])

    def centrelines(self, state: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Velocities on the two lines through the middle, in two dimensions.

        Args:
            state: Velocities and pressure.

        Returns:
            The coordinate y and ``u(x = middle, y)``, the coordinate x and ``v(x, y = middle)``;
            what walls and inflow hold at both ends is included.

        Raises:
            ValueError: If the grid has three axes.
        """
        self._check("centrelines", state=state)
        if self.grid.dim != 2:
            raise ValueError(f"`centrelines(...)` needs two axes. Got {self.grid.dim}.")
        u, found = self._imposed(self._rows(state)), []
        for axis, x in enumerate(self.grid.axes(dtype=self.dtype, device=self.device)):
            component, start, length = 1 - axis, self.grid.origin[axis], self.grid.lengths[axis]
            wide, n = self._wide(u[component], component, axis), self.grid.shape[component]
            line = sum(wide.select(component + 1, (n + k) // 2 - 1) for k in (0, 1)) / 2
            assert isinstance(line, Tensor)
            ends = [line[:, :2].mean(1, keepdim=True), line[:, -2:].mean(1, keepdim=True)]
            values = torch.cat([ends[0], line[:, 1:-1], ends[1]], 1)
            places = torch.cat([x.new_full((1,), start), x, x.new_full((1,), start + length)])
            found += [places, values.reshape(*self._batch(state), -1)]
        return found[2], found[3], found[0], found[1]

    def divergence(self, state: Tensor) -> Tensor:  # (..., *shape)
        """Return the divergence of the velocity in the cells, zero inside obstacles.

        Args:
            state: Velocities and pressure.

        Returns:
            The divergence, ``(..., *shape)``.
        """
        self._check("divergence", state=state)
        found = self._divergence(self._imposed(self._rows(state)))
        return found.reshape(*self._batch(state), *self.grid.shape)

    def vorticity(self, state: Tensor) -> Tensor:  # (..., *shape), or (..., 3, *shape)
        """Return the vorticity at the centres: one number in 2D, three components in 3D.

        Args:
            state: Velocities and pressure.

        Returns:
            The vorticity, ``(..., *shape)`` in two dimensions, ``(..., 3, *shape)`` in three.
        """
        self._check("vorticity", state=state)
        u = self._imposed(self._rows(state))
        pairs = [(0, 1)] if self.grid.dim == 2 else [(1, 2), (2, 0), (0, 1)]
        made = [self._shear(u, b, a) - self._shear(u, a, b) for a, b in pairs]
        found = made[0] if self.grid.dim == 2 else torch.stack(made, 1)
        return found.reshape(*self._batch(state), *found.shape[1:])

    def _shear(self, u: Sequence[Tensor], component: int, axis: int) -> Tensor:  # (b, *shape)
        """Derivative of a component along another axis, at centres."""
        k, j = component + 1, axis + 1
        n, m, h = self.grid.shape[component], self.grid.shape[axis], self.grid.spacing[axis]
        wide = self._wide(u[component], component, axis)
        slope = (wide.narrow(j, 2, m) - wide.narrow(j, 0, m)) / (2 * h)
        if self._kinds[component][0] == "periodic":
            below = slope.roll(1, k)
        else:
            side = self._lower[component]
            (line,) = torch.gradient(side, spacing=h, dim=axis)
            below = torch.cat([line.expand_as(slope.narrow(k, 0, 1)), slope.narrow(k, 0, n - 1)], k)
        return (slope + below) / 2 * self._fluid

    def energy(self, state: Tensor) -> Tensor:  # (..., *state_shape) -> (...)
        """Return the kinetic energy, ``½ ∫ |u|²``, of each cell the mean of opposite faces.

        Args:
            state: Velocities and pressure.

        Returns:
            One number per state, (...).
        """
        self._check("energy", state=state)
        total = torch.zeros((), dtype=self.dtype, device=self.device)
        for axis, u in enumerate(self._imposed(self._rows(state))):
            squares = self._faces(u, axis).square()
            n = self.grid.shape[axis]
            pairs = squares.narrow(axis + 1, 0, n) + squares.narrow(axis + 1, 1, n)
            total = total + (pairs * self._fluid).flatten(1).sum(1) / 2
        return (total * (math.prod(self.grid.spacing) / 2)).reshape(self._batch(state))

    def initial(self, kind: str = "rest", **options: Any) -> Tensor:
        """Make states to begin with: see `Flow.initial`.

        Args:
            kind: ``"rest"``, ``"taylor_green"`` or ``"turbulence"``. Turbulence gets what sides
                hold, and no divergence, after its speed is set.
            options: As there.

        Returns:
            The states, ``(*batch, *state_shape)``; pressures are zero.
        """
        made = super().initial(kind, **options)
        if kind != "turbulence" or not made.numel():
            return made
        return self._still(self._projected(self._rows(made))).reshape(made.shape)

    def _turbulence(self, batch: int, peak: float, generator: torch.Generator) -> Tensor:
        u = random_field((batch, self.grid.dim), self.grid, peak, 0, generator)
        rings = [low == "periodic" for low, _ in self._kinds]
        u = u * window(
            [self._axes(self.grid.dim)[a].cpu() for a in range(self.grid.dim)], self.grid, rings
        )
        x = torch.cat([u, torch.zeros_like(u[:, :1])], 1).to(self.device, self.dtype)
        return self._still(self._projected(x))

    def _taylor_green(self) -> Tensor:
        found = torch.zeros(self.state_shape, dtype=self.dtype, device=self.device)
        dim, waves = self.grid.dim, [2 * math.pi / length for length in self.grid.lengths]
        for axis, sign in ((0, 1.0), (1, -waves[0] / waves[1])):
            angles = [
                k * (x - x0)
                for k, x, x0 in zip(waves, self.places(axis), self.grid.origin, strict=True)
            ]
            parts = [torch.sin(t) if a == 1 - axis else torch.cos(t) for a, t in enumerate(angles)]
            found[axis] = sign * math.prod(parts[1:], start=parts[0])
        assert dim >= 2
        return found

    def _still(self, x: Tensor) -> Tensor:
        """Without pressure, and with what is held where it is held."""
        return torch.cat([torch.stack(self._imposed(x), 1), torch.zeros_like(x[:, -1:])], 1)

    def _at_rest(self) -> Tensor:
        zero = torch.zeros(1, *self.state_shape, dtype=self.dtype, device=self.device)
        return self._still(zero)[0]
