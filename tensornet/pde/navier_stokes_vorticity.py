"""Flow in two dimensions by vorticity and stream function: closed cavities and periodic boxes."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from tensornet.kernels._bridge import arrays, spread
from tensornet.pde.flow import Flow
from tensornet.pde.flow_case import FlowCase
from tensornet.pde.flow_plate import PeriodicPlate, Plate, WalledPlate
from tensornet.pde.flow_solve import DEPTH, WORSE
from tensornet.pde.flow_states import random_field, window
from tensornet.pde.flow_stream import stream_step
from tensornet.pde.flow_sweeps import stream_residual
from tensornet.pde.grid import expanded
from tensornet.pde.navier_stokes_velocity import VelocityFlow

_LARGEST = 300  # places along an axis, beyond which eigenvectors are not the fastest


class VorticityFlow(Flow):
    """Flow in two dimensions; the state is the stream function. See `navier_stokes_2d`.

    The stream function stands at the corners of the cells, where walls are: inside walls a state
    is ``(..., nx - 1, ny - 1)``, the corners inside, with zero on all walls; in a periodic box
    ``(..., nx, ny)``, entry p at ``origin + p spacing``. The velocity is ``u = dψ/dy, v = -dψ/dx``,
    the vorticity ``ω = -Δψ``. Velocities at faces are differences of ψ along them, so that their
    divergence is zero to rounding.

    Args:
        case: The grid, the sides, the viscosity and the steps: walls all around, or periodic.

    Attributes:
        periodic: Whether both axes are.
    """

    _reach = 2

    def __init__(self, case: FlowCase) -> None:
        super().__init__(case)
        grid = case.grid
        self.periodic = case.sides[0][0].kind == "periodic"
        self.state_shape = grid.shape if self.periodic else tuple(n - 1 for n in grid.shape)
        self._pinned = [0] if self.periodic else []  # the stream function of a ring is relative
        self._wall_velocity = torch.zeros(0) if self.periodic else self._slid()
        self._drive = None if self.periodic else self._driven()
        kind: type[Plate] = PeriodicPlate if self.periodic else WalledPlate
        place = (case.dtype, case.device)
        self._plate = kind(
            self.state_shape, grid.spacing, 1 / case.dt, case.theta * case.viscosity, *place
        )
        (V, W), *rest = self._plate.eigen()
        self._eigen = (V, V.mT.contiguous(), W, W.mT.contiguous(), *rest)
        self._poisson = kind(self.state_shape, grid.spacing, 1.0, 0.0, *place)

    def _slid(self) -> Tensor:  # (2, nx + 1, ny + 1)
        """Velocity on the walls; in their corners zero."""
        nodes = self.node_axes()
        found = torch.zeros([2, *map(len, nodes)], dtype=self.dtype, device=self.device)
        for axis in range(2):
            for end, side in zip((0, -1), self.sides[axis], strict=True):
                if not side.velocity:
                    continue
                points = [x[1:-1] for x in nodes]
                points[axis] = nodes[axis][end].reshape(1)
                x, y = torch.meshgrid(*points, indexing="ij")
                line, where = found[1 - axis].select(axis, end)[1:-1], "navier_stokes_2d"
                value = self.grid.evaluated(side.velocity[1 - axis], (x, y), where, "boundary")
                line += expanded(where, "boundary", value.flatten(), line.shape)
        return found

    def _driven(self) -> Tensor:  # (nx + 1, ny + 1)
        """What sliding walls add to Thom's vorticity on them."""
        (u, v), (hx, hy) = self._wall_velocity, self.grid.spacing
        found = torch.zeros_like(u)
        found[0] -= 2 * v[0] / hx
        found[-1] += 2 * v[-1] / hx
        found[:, 0] += 2 * u[:, 0] / hy
        found[:, -1] -= 2 * u[:, -1] / hy
        return found

    def node_axes(self) -> tuple[Tensor, ...]:  # each (n + 1,), periodic (n,)
        """Return the coordinates of the corners of cells along each axis, walls included."""
        found = []
        for n, h, start in zip(self.grid.shape, self.grid.spacing, self.grid.origin, strict=True):
            p = torch.arange(n if self.periodic else n + 1, dtype=torch.float64)
            found.append((start + p * h).to(self.device, self.dtype))
        return tuple(found)

    def _around(self, psi: Tensor) -> tuple[Tensor, Tensor]:  # (b, m, n) -> (b, m + 2, n + 2) twice
        """Stream function and vorticity with what is around them: walls, or the other end."""
        if self.periodic:
            wide = pad(psi, (2, 2, 2, 2), "circular")
        else:  # mirrored at the walls: Thom's formula
            wide = pad(pad(psi, (1, 1, 1, 1))[:, None], (1, 1, 1, 1), "reflect")[:, 0]
        omega = self._minus_laplacian(wide)
        if self._drive is not None:
            omega = omega + self._drive
        return wide[:, 1:-1, 1:-1], omega

    def _minus_laplacian(self, x: Tensor) -> Tensor:  # (b, m + 2, n + 2) -> (b, m, n)
        ax, ay = (h**-2 for h in self.grid.spacing)
        middle = x[:, 1:-1, 1:-1]
        along_x = x[:, 2:, 1:-1] + x[:, :-2, 1:-1]
        along_y = x[:, 1:-1, 2:] + x[:, 1:-1, :-2]
        return (2 * ax + 2 * ay) * middle - ax * along_x - ay * along_y

    def _inside(self, psi: Tensor) -> Tensor:  # (b, m, n) -> (b, m, n)
        """Vorticity at the places of the state."""
        how = "circular" if self.periodic else "constant"
        return self._minus_laplacian(pad(psi, (1, 1, 1, 1), how))

    def _rest(self, x: Tensor) -> Tensor:
        stream, omega = self._around(x)
        return self.viscosity * self._minus_laplacian(omega) - self._jacobian(stream, omega)

    def _jacobian(self, p: Tensor, w: Tensor) -> Tensor:  # (b, m + 2, n + 2) twice -> (b, m, n)
        """``p_x w_y - p_y w_x``: Arakawa's in a periodic box, else the one that keeps energy only.

        Between walls the latter is the more accurate: fluxes of vorticity with the velocities at
        faces.
        """
        low, mid, high = slice(None, -2), slice(1, -1), slice(2, None)
        ne, se = p[:, high, high], p[:, high, low]
        nw, sw = p[:, low, high], p[:, low, low]
        e, n, west, s = ne - se, ne - nw, nw - sw, se - sw
        area = math.prod(self.grid.spacing)
        if not self.periodic:
            total = n * w[:, mid, high] - s * w[:, mid, low]
            total = total + west * w[:, low, mid] - e * w[:, high, mid]
            return total / (4 * area)
        pe, pw = p[:, high, mid], p[:, low, mid]
        pn, ps = p[:, mid, high], p[:, mid, low]
        x, y = pe - pw, pn - ps
        total = (x + n) * w[:, mid, high] - (x + s) * w[:, mid, low]
        total = total + (y + west) * w[:, low, mid] - (y + e) * w[:, high, mid]
        total = total + (pe - pn) * w[:, high, high] + (ps - pe) * w[:, high, low]
        total = total + (pn - pw) * w[:, low, high] + (pw - ps) * w[:, low, low]
        return total / (12 * area)

    def _residual(self, after: Tensor, before: Tensor) -> Tensor:
        between = after if self.theta == 1 else torch.lerp(before, after, self.theta)
        return self._inside(after - before) / self.dt + self._rest(between)

    def _solved(
        self, before: Tensor, x: Tensor, scale: Tensor, rtol: float, maxiter: int
    ) -> tuple[Tensor, Tensor, list[float], Tensor]:
        if self.device.type != "cpu" or max(self.state_shape) > _LARGEST:
            return super()._solved(before, x, scale, rtol, maxiter)
        x, before = x.contiguous().clone(), before.contiguous()
        drive = x.new_zeros(0, 0) if self._drive is None else self._drive
        fixed = arrays(*self._eigen)
        history = np.zeros((len(x), maxiter + 1))
        counts = torch.zeros(len(x), dtype=torch.int64)

        def run(start: int, stop: int) -> None:
            for k in range(start, stop):
                counts[k] = stream_step(
                    *arrays(x[k : k + 1], before[k : k + 1], drive), self.periodic, self.theta,
                    1 / self.dt, self.viscosity, *self.grid.spacing, *fixed, float(scale[k]),
                    rtol, maxiter, WORSE, DEPTH, history[k],
                )  # fmt: skip

        spread(run, len(x), 1)
        last = history[np.arange(len(x)), counts.numpy()]
        worst = [max(h[min(k, int(c))] for h, c in zip(history, counts, strict=True))
                 for k in range(int(counts.max()) + 1)]  # fmt: skip
        return x, torch.from_numpy(last), [float(w) for w in worst], counts

    def _quick(self, after: Tensor, before: Tensor) -> Tensor:
        """Do what `_residual` does, without derivatives; on a CPU in one go over memory."""
        if after.device.type != "cpu":
            return self._residual(after, before)
        m, n = self.state_shape
        out, work = torch.empty_like(after), after.new_empty(2, m + 2, n + 2)
        drive = work[0] if self._drive is None else self._drive
        stream_residual(
            *arrays(after.contiguous(), before.contiguous(), drive, work[0], work[1], out),
            self.periodic, self.theta, 1 / self.dt, self.viscosity, *self.grid.spacing,
        )  # fmt: skip
        return out

    def _precondition(self, residual: Tensor) -> Tensor:
        return self._plate.solve(residual)

    def _mass(self, x: Tensor) -> Tensor:
        return self._inside(x)

    def _explicit(self, x: Tensor) -> Tensor:
        def euler(psi: Tensor) -> Tensor:
            return psi - self.dt * self._poisson.solve(self._rest(psi))

        one = 0.75 * x + 0.25 * euler(euler(x))
        return x / 3 + euler(one) * (2 / 3)

    def _speeds(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.face_velocity(x))

    def _held_speeds(self) -> tuple[Tensor, ...]:
        return () if self.periodic else (self._wall_velocity,)

    def pressure(self, state: Tensor) -> Tensor:  # (..., nx, ny)
        """Return the pressure over density at the centres, from the velocities at faces.

        Args:
            state: The stream function.

        Returns:
            The pressure, ``(..., nx, ny)``, with a mean of zero.
        """
        self._check("pressure", state=state)
        u, v = self.face_velocity(self._rows(state))
        if self.periodic:
            both = torch.stack([u.roll(-1, -2), v.roll(-1, -1)], 1)
        else:
            both = torch.stack([u[:, 1:], v[:, :, 1:]], 1)
        return self._staggered.balanced(both).reshape(*state.shape[:-2], *self.grid.shape)

    @cached_property
    def _staggered(self) -> VelocityFlow:
        return VelocityFlow(self.case)

    def face_velocity(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Components of the velocity across faces, walls included.

        Args:
            state: The stream function.

        Returns:
            The first ``(..., nx + 1, ny)`` and the second ``(..., nx, ny + 1)``; in a periodic box
            both ``(..., nx, ny)``, at the lower faces of cells.
        """
        self._check("face_velocity", state=state)
        hx, hy = self.grid.spacing
        if self.periodic:
            return (state.roll(-1, -1) - state) / hy, (state - state.roll(-1, -2)) / hx
        p = pad(state, (1, 1, 1, 1))
        return p.diff(dim=-1) / hy, -p.diff(dim=-2) / hx

    def divergence(self, state: Tensor) -> Tensor:  # (..., nx, ny)
        """Return the divergence of the velocity in the cells.

        Args:
            state: The stream function.

        Returns:
            The divergence, ``(..., nx, ny)``.
        """
        u, v = self.face_velocity(state)
        if self.periodic:
            u, v = torch.cat([u, u[..., :1, :]], -2), torch.cat([v, v[..., :1]], -1)
        return u.diff(dim=-2) / self.grid.spacing[0] + v.diff(dim=-1) / self.grid.spacing[1]

    def stream_function(self, state: Tensor) -> Tensor:  # (..., nx + 1, ny + 1), periodic as it is
        """Return the stream function at all corners of cells, walls included.

        Args:
            state: The stream function inside.

        Returns:
            ``(..., nx + 1, ny + 1)`` between walls; in a periodic box the state itself.
        """
        self._check("stream_function", state=state)
        return state if self.periodic else pad(state, (1, 1, 1, 1))

    def velocity(self, state: Tensor) -> Tensor:  # (..., 2, nx + 1, ny + 1), periodic (nx, ny)
        """Return the velocity at all corners of cells, walls included, by central differences.

        Args:
            state: The stream function.

        Returns:
            ``(..., 2, nx + 1, ny + 1)`` between walls; in a periodic box ``(..., 2, nx, ny)``.
        """
        p = self.stream_function(state)
        hx, hy = self.grid.spacing
        if self.periodic:
            u, v = p.roll(-1, -1) - p.roll(1, -1), p.roll(1, -2) - p.roll(-1, -2)
            return torch.stack([u / (2 * hy), v / (2 * hx)], -3)
        u = pad((p[..., 2:] - p[..., :-2]) / (2 * hy), (1, 1))
        v = pad((p[..., :-2, :] - p[..., 2:, :]) / (2 * hx), (0, 0, 1, 1))
        return torch.stack([u, v], -3) + self._wall_velocity

    def centrelines(self, state: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Velocities on the two lines through the middle, walls included.

        Args:
            state: The stream function.

        Returns:
            The coordinate y and ``u(x = middle, y)``, the coordinate x and ``v(x, y = middle)``.
        """
        u, v = self.velocity(state).unbind(-3)
        x, y = self.node_axes()
        return y, _middle(u, -2), x, _middle(v, -1)

    def vorticity(self, state: Tensor) -> Tensor:  # (..., nx + 1, ny + 1), periodic (nx, ny)
        """Return the vorticity at all corners of cells, on walls by Thom's formula.

        Args:
            state: The stream function.

        Returns:
            ``(..., nx + 1, ny + 1)`` between walls, zero where two walls meet; in a periodic box
            ``(..., nx, ny)``.
        """
        self._check("vorticity", state=state)
        rows = self._rows(state)
        found = self._inside(rows) if self.periodic else self._around(rows)[1]
        return found.reshape(*state.shape[:-2], *found.shape[-2:])

    def from_vorticity(self, vorticity: Tensor) -> Tensor:  # (..., *state_shape) twice
        """Return the state with a given vorticity at the places of the state.

        Args:
            vorticity: In a periodic box its mean is left out.

        Returns:
            The stream function, ``(..., *state_shape)``.
        """
        self._check("from_vorticity", vorticity=vorticity)
        return self._poisson.solve(self._rows(vorticity)).reshape(vorticity.shape)

    def energy(self, state: Tensor) -> Tensor:  # (..., *state_shape) -> (...)
        """Return the kinetic energy, ``½ ∫ |u|²``, from velocities at faces.

        Args:
            state: The stream function.

        Returns:
            One number per state, (...).
        """
        volume = math.prod(self.grid.spacing)
        u, v = self.face_velocity(state)
        return volume / 2 * (u.square().sum((-2, -1)) + v.square().sum((-2, -1)))

    def enstrophy(self, state: Tensor) -> Tensor:  # (..., *state_shape) -> (...)
        """Return the enstrophy, ``½ ∫ ω²``, from the vorticity at the places of the state.

        Args:
            state: The stream function.

        Returns:
            One number per state, (...).
        """
        self._check("enstrophy", state=state)
        inside = self._inside(self._rows(state)).square().sum((-2, -1))
        return (inside * (math.prod(self.grid.spacing) / 2)).reshape(state.shape[:-2])

    def _turbulence(self, batch: int, peak: float, generator: torch.Generator) -> Tensor:
        psi = random_field((batch,), self.grid, peak, 1, generator)
        if not self.periodic:
            axes = [x.double().cpu()[1:-1] for x in self.node_axes()]
            psi = psi[:, 1:, 1:] * window(axes, self.grid, (False, False))
        return psi.to(self.device, self.dtype)

    def _taylor_green(self) -> Tensor:
        kx, ky = (2 * math.pi / length for length in self.grid.lengths)
        x, y = (a - x0 for a, x0 in zip(self.node_axes(), self.grid.origin, strict=True))
        return -torch.cos(kx * x)[:, None] * torch.cos(ky * y) / ky

    def _at_rest(self) -> Tensor:
        return torch.zeros(self.state_shape, dtype=self.dtype, device=self.device)


def _middle(x: Tensor, axis: int) -> Tensor:
    """Values half way along an axis, the mean of two where no place is there."""
    n = x.shape[axis]
    return (x.select(axis, n // 2) + x.select(axis, (n - 1) // 2)) / 2
