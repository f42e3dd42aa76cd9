"""What all discretised flows have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod

import torch
from torch import Tensor

from tensornet.pde.flow_boundary import FlowSide
from tensornet.pde.grid import Grid


class Flow(ABC):
    """An incompressible flow, discretised in space and time.

    A step of time from `state` to `state_next` is where `residual` is zero. With ``theta = 1``
    this is Euler's implicit step, with ``theta = 1/2`` the implicit midpoint rule, of second order.
    Any batch may stand in front of states.
    """

    state_shape: tuple[int, ...]

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
        self.grid, self.dt, self.viscosity = grid, dt, viscosity
        self.sides, self.theta = sides, theta
        self.dtype, self.device = dtype, device

    @abstractmethod
    def _residual(self, after: Tensor, before: Tensor) -> Tensor:  # (b, *state_shape) each
        """Do what `residual` does, on one axis of batch."""

    @abstractmethod
    def _precondition(self, residual: Tensor) -> Tensor:  # (b, *state_shape)
        """Do what `precondition` does, on one axis of batch."""

    def residual(
        self,
        state_next: Tensor,  # (..., *state_shape)
        state: Tensor,  # (..., *state_shape)
    ) -> Tensor:  # (..., *state_shape)
        """Discretised equation of a step; zero where `state_next` follows `state`.

        Args:
            state_next: The state after the step.
            state: The state before, of the same batch or one that broadcasts.

        Raises:
            TypeError: If a state is no tensor of the dtype of the flow.
            ValueError: If the shape or the device is another.

        Derivatives:
            Any order, in both states.
        """
        self._check("residual", state_next=state_next, state=state)
        after, before = torch.broadcast_tensors(state_next, state)
        return self._residual(self._rows(after), self._rows(before)).reshape(after.shape)

    def precondition(self, residual: Tensor) -> Tensor:  # (..., *state_shape) twice
        """Apply the inverse of the linear part of the step, by fast diagonalisation.

        Where the flow is slow, ``state_next - precondition(residual(state_next, state))`` is the
        state after the step. As a loss its square weighs errors of the state, not of its high
        derivatives.

        Args:
            residual: What `residual` gave, or anything of this shape.

        Raises:
            TypeError: If it is no tensor of the dtype of the flow.
            ValueError: If the shape or the device is another.

        Derivatives:
            Any order.
        """
        self._check("precondition", residual=residual)
        return self._precondition(self._rows(residual)).reshape(residual.shape)

    def _rows(self, x: Tensor) -> Tensor:
        batch = x.shape[: x.ndim - len(self.state_shape)]
        return x.reshape(prod(batch), *self.state_shape)

    def _check(self, where: str, **states: Tensor) -> None:
        want = ", ".join(str(n) for n in self.state_shape)
        for name, x in states.items():
            if not isinstance(x, Tensor) or x.dtype != self.dtype:
                got = x.dtype if isinstance(x, Tensor) else type(x).__name__
                raise TypeError(
                    f"`{where}({name}=...)` must be a tensor of {self.dtype}. Got {got}."
                )
            if x.shape[max(x.ndim - len(self.state_shape), 0) :] != self.state_shape:
                raise ValueError(
                    f"`{where}({name}=...)` must have shape (..., {want}). Got {tuple(x.shape)}."
                )
            if x.device != self.device:
                raise ValueError(f"`{where}({name}=...)` must be on {self.device}. Got {x.device}.")
