"""Flow in two dimensions by vorticity and stream function: closed cavities and periodic boxes."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from tensornet.pde.flow import Flow
from tensornet.pde.flow_boundary import FlowSide
from tensornet.pde.flow_plate import PeriodicPlate, Plate, WalledPlate
from tensornet.pde.grid import Grid


class VorticityFlow(Flow):
    """Flow in two dimensions; the state is the stream function. See `navier_stokes_2d`.

    The stream function stands at the corners of the cells, where walls are: inside walls a state
    is ``(..., nx - 1, ny - 1)``, the corners inside, with zero on all walls; in a periodic box
    ``(..., nx, ny)``, entry p at ``origin + p spacing``. The velocity is ``u = dψ/dy, v = -dψ/dx``,
    the vorticity ``ω = -Δψ``. Velocities at faces are differences of ψ along them, so that their
    divergence is zero to rounding.

    Attributes:
        grid: The grid.
        dt: Time step.
        viscosity: Kinematic viscosity.
        theta: Where between the two states of a step the rest of the equation is taken.
        state_shape: Shape of a state, without a batch.
        wall_speeds: What the walls add to the vorticity on them, ``(nx + 1, ny + 1)``.
    """

    def __init__(
        self,
        grid: Grid,
        dt: float,
        viscosity: float,
        sides: tuple[tuple[FlowSide, FlowSide], ...],
        theta: float,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        super().__init__(grid, dt, viscosity, sides, theta, dtype, device)
        self.periodic = sides[0][0].kind == "periodic"
        self.state_shape = grid.shape if self.periodic else tuple(n - 1 for n in grid.shape)
        self.wall_speeds = None if self.periodic else self._driven(sides)
        kind: type[Plate] = PeriodicPlate if self.periodic else WalledPlate
        self._plate = kind(self.state_shape, grid.spacing, 1 / dt, theta * viscosity, dtype, device)

    def _driven(self, sides: tuple[tuple[FlowSide, FlowSide], ...]) -> Tensor:  # (nx + 1, ny + 1)
        nodes = self.node_axes()
        found = torch.zeros([len(x) for x in nodes], dtype=self.dtype, device=self.device)
        for axis, h in enumerate(self.grid.spacing):
            for end, side in zip((0, -1), sides[axis], strict=True):
                if not side.velocity:
                    continue
                points = [x[1:-1] for x in nodes]
                points[axis] = nodes[axis][end].reshape(1)
                x, y = torch.meshgrid(*points, indexing="ij")
                speed = self.grid._evaluated(
                    side.velocity[1 - axis], (x, y), "navier_stokes_2d", "boundary"
                )
                sign = (1 if end else -1) * (1 if axis else -1)
                line = found.select(axis, end)[1:-1]
                line += (-2 * sign / h) * speed.reshape(-1).expand(len(line))
        return found

    def node_axes(self) -> tuple[Tensor, ...]:  # each (n + 1,), periodic (n,)
        """Coordinates of the corners of cells along each axis, walls included."""
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
            wide = pad(pad(psi, (1, 1, 1, 1)), (1, 1, 1, 1), "reflect")
        omega = self._minus_laplacian(wide)
        if self.wall_speeds is not None:
            omega = omega + self.wall_speeds
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

    def _change(self, psi: Tensor) -> Tensor:  # (b, m, n) -> (b, m, n)
        stream, omega = self._around(psi)
        return self._jacobian(stream, omega) - self.viscosity * self._minus_laplacian(omega)

    def _jacobian(self, p: Tensor, w: Tensor) -> Tensor:  # (b, m + 2, n + 2) twice -> (b, m, n)
        """Arakawa's ``p_x w_y - p_y w_x``."""
        low, mid, high = slice(None, -2), slice(1, -1), slice(2, None)
        e, west = p[:, high, mid], p[:, low, mid]
        n, s = p[:, mid, high], p[:, mid, low]
        ne, se = p[:, high, high], p[:, high, low]
        nw, sw = p[:, low, high], p[:, low, low]
        total = (s + se - n - ne) * w[:, high, mid] + (n + nw - s - sw) * w[:, low, mid]
        total = total + (e + ne - west - nw) * w[:, mid, high]
        total = total + (west + sw - e - se) * w[:, mid, low]
        total = total + (e - n) * w[:, high, high] + (s - e) * w[:, high, low]
        total = total + (n - west) * w[:, low, high] + (west - s) * w[:, low, low]
        return total / (12 * math.prod(self.grid.spacing))

    def _residual(self, after: Tensor, before: Tensor) -> Tensor:
        between = after if self.theta == 1 else torch.lerp(before, after, self.theta)
        return self._inside(after - before) / self.dt - self._change(between)

    def _precondition(self, residual: Tensor) -> Tensor:
        return self._plate.solve(residual)
