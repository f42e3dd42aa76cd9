"""Steps of flows in a few corrections by Lord modules."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tensornet import _check
from tensornet.layers import LordModule
from tensornet.pde import Flow


class LordStepper(nn.Module):
    """An implicit step of a flow in a fixed number of corrections, without iterating to the end.

    It starts from what the last change suggests, and each block sees the residual of the step
    through the exact inverse of its linear part, ``f = -precondition(residual(u, state))``:

    ``u = (mixed u) + (1 + L_j)(mixed f)``

    where ``L_j`` is a linear Lord module, a sum of Kronecker products over space that mixes the
    components of the state, zero before training, and mixed means that combination with what
    earlier blocks saw whose f is least (Anderson's mixing). Before training it is that method,
    cut off. A steady state of the discretised flow stays where it is, whatever the weights.

    Args:
        flow: The flow, which gives residuals and the inverse of the linear part.
        blocks: Number of corrections.
        rank: Kronecker products of each module; 0 for none: the method without learning.
        seed: Of the modules.

    Raises:
        TypeError: If the flow is none.
        ValueError: If numbers are out of range.

    Derivatives:
        First order, in parameters and states.

    References:
        Anderson, J. ACM 12, 547 (1965); Huang et al., LordNet, Neural Networks 176, 106354 (2024).

    Examples:
        >>> from tensornet.pde import Grid, navier_stokes_2d
        >>> flow = navier_stokes_2d(Grid((16, 16), spacing=1 / 16), 0.01, reynolds=100)
        >>> state = flow.initial("turbulence", speed=0.1)
        >>> after = LordStepper(flow, blocks=3)(state)
        >>> bool(flow.residual(after, state).norm() < 1e-3 * flow.residual(state, state).norm())
        True
    """

    def __init__(self, flow: Flow, *, blocks: int = 3, rank: int = 8, seed: int = 0) -> None:
        super().__init__()
        if not isinstance(flow, Flow):
            raise TypeError(
                f"`LordStepper(flow=...)` must be a flow of `pde`. Got {type(flow).__name__}."
            )
        _check.at_least("LordStepper", 1, blocks=blocks)
        _check.at_least("LordStepper", 0, rank=rank)
        self.flow, self.blocks = flow, blocks
        dim, shape = flow.grid.dim, flow.state_shape
        self.components = math.prod(shape[:-dim])
        self.space = shape[-dim:]
        made = [
            LordModule(
                self.space, rank, in_channels=self.components, out_channels=self.components,
                seed=seed + j, dtype=flow.dtype,
            ).to(flow.device)
            for j in range(blocks if rank else 0)
        ]  # fmt: skip
        for module in made:
            nn.init.zeros_(module.mix_out)
        self.inverses = nn.ModuleList(made)
        self.extrapolation = nn.Parameter(torch.ones((), dtype=flow.dtype, device=flow.device))

    def forward(
        self,
        state: Tensor,  # (..., *state_shape)
        previous: Tensor | None = None,  # (..., *state_shape)
    ) -> Tensor:  # (..., *state_shape)
        """Do one step of time.

        Args:
            state: The state.
            previous: The state one step before, if there is one.

        Returns:
            The state one step later.

        Raises:
            TypeError: If a state is of another dtype.
            ValueError: If the shape differs.
        """
        shape = self.flow.state_shape
        u = state if previous is None else state + self.extrapolation * (state - previous)
        rows = (math.prod(state.shape[: state.ndim - len(shape)]), -1)
        us: list[Tensor] = []
        fs: list[Tensor] = []
        for j in range(self.blocks):
            f = -self.flow.precondition(self.flow.residual(u, state))
            us.append(u.reshape(rows))
            fs.append(f.reshape(rows))
            base, force = _mixed(us, fs)
            force = force.reshape(state.shape)
            u = base.reshape(state.shape) + force
            if len(self.inverses):
                u = u + self._corrected(j, force)
        return u

    def _corrected(self, j: int, x: Tensor) -> Tensor:
        batch = x.shape[: x.ndim - len(self.flow.state_shape)]
        y: Tensor = self.inverses[j](x.reshape(*batch, self.components, *self.space))
        return y.reshape(x.shape)

    @torch.no_grad()
    def rollout(
        self,
        state: Tensor,  # (..., *state_shape)
        steps: int,
        previous: Tensor | None = None,  # (..., *state_shape)
    ) -> Tensor:  # (..., *state_shape)
        """Do many steps.

        Args:
            state: Where to start.
            steps: How many.
            previous: The state one step before, if there is one.

        Returns:
            The last state.

        Raises:
            ValueError: If the number is below one, or states are not finite any more.
        """
        _check.at_least("LordStepper.rollout", 1, steps=steps)
        for step in range(steps):
            previous, state = state, self(state, previous)
            if not bool(state.isfinite().all()):
                raise ValueError(
                    "`LordStepper.rollout(state=...)` must lead to finite states. Got NaN or "
                    f"infinite numbers after {step + 1} steps. (Shorten the time step, or train "
                    "on states like these.)"
                )
        return state


def _mixed(us: list[Tensor], fs: list[Tensor]) -> tuple[Tensor, Tensor]:  # each (b, n)
    """Combine what was seen so that f is least; weights sum to one."""
    u, f = us[-1], fs[-1]
    if len(us) == 1:
        return u, f
    du = torch.stack([u - x for x in us[:-1]], 1)
    df = torch.stack([f - x for x in fs[:-1]], 1)
    size = torch.linalg.vector_norm(df.detach(), dim=2, keepdim=True)
    size = size.clamp_min(torch.finfo(f.dtype).tiny)
    du, df = du / size, df / size
    gram = df @ df.mT
    gram = gram + 1e-12 * torch.eye(gram.shape[-1], dtype=f.dtype, device=f.device)
    share = torch.linalg.solve(gram, df @ f[..., None]).mT  # (b, 1, m)
    return u - (share @ du)[:, 0], f - (share @ df)[:, 0]
