"""States of flows to train on, made by the model itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tensornet import _check
from tensornet.pde import Flow


class FlowRollouts:
    """A buffer of states that a model reaches by its own steps. A problem for `fit_residual`.

    Every answer of the model becomes the state of its entry, so that the model is trained on what
    it will see when it is rolled out; no flow is solved. After `horizon` steps, or where numbers
    are out of bounds, an entry begins anew.

    Args:
        flow: The flow.
        initial: States to begin with, ``(n, *state_shape)``.
        size: Entries of the buffer.
        horizon: Steps after which an entry begins anew.
        bound: How much larger than the initial ones states may grow.

    Raises:
        TypeError: If the flow is none.
        ValueError: If states have another shape, or numbers are out of range.

    Examples:
        >>> from tensornet.models import LordStepper
        >>> from tensornet.pde import Grid, navier_stokes_2d
        >>> from tensornet.train import fit_residual
        >>> flow = navier_stokes_2d(Grid((8, 8), spacing=1 / 8), 0.1, reynolds=100)
        >>> rollouts = FlowRollouts(flow, flow.initial("turbulence", batch=4), size=8)
        >>> done = fit_residual(LordStepper(flow), rollouts, power=1.0, steps=4, batch=2)
        >>> int(rollouts.ages.sum())
        8
    """

    def __init__(
        self,
        flow: Flow,
        initial: Tensor,
        *,
        size: int = 64,
        horizon: int = 50,
        bound: float = 100.0,
    ) -> None:
        where = "FlowRollouts"
        if not isinstance(flow, Flow):
            raise TypeError(f"`{where}(flow=...)` must be a flow. Got {type(flow).__name__}.")
        _check.at_least(where, 1, size=size, horizon=horizon)
        _check.tolerance(where, bound=bound)
        if initial.shape[1:] != flow.state_shape or len(initial) == 0:
            raise ValueError(
                f"`{where}(initial=...)` must have shape (n, "
                f"{', '.join(map(str, flow.state_shape))}). Got {tuple(initial.shape)}."
            )
        if not bool(initial.isfinite().all()):
            raise ValueError(f"`{where}(initial=...)` must be finite. Got NaN or infinite numbers.")
        self.flow, self.initial, self.horizon = flow, initial, horizon
        self.limit = bound * max(float(initial.abs().max()), 1.0)
        picked = torch.arange(size) % len(initial)
        self.states = initial[picked].clone()
        self.previous = self.states.clone()
        self.ages = torch.zeros(size, dtype=torch.int64)
        self._begun = len(initial) + size
        self._chosen = torch.zeros(0, dtype=torch.int64)

    def sample(self, count: int, generator: torch.Generator) -> dict[str, Any]:
        """Choose states, and those one step before them.

        Args:
            count: How many, at most the size of the buffer.
            generator: Of the choice.

        Returns:
            ``state`` and ``previous``, each (count, *state_shape).

        Raises:
            ValueError: If there are more.
        """
        if count > len(self.states):
            raise ValueError(
                f"`fit_residual(batch=...)` must be at most the {len(self.states)} entries of the "
                f"buffer. Got {count}. (Give `FlowRollouts` a larger size.)"
            )
        self._chosen = torch.randperm(len(self.states), generator=generator)[:count]
        return {"state": self.states[self._chosen], "previous": self.previous[self._chosen]}

    def residual(self, answer: Tensor, state: Tensor, previous: Tensor) -> Tensor:
        """Residual of a step.

        Args:
            answer: The state after it.
            state: The state before it.
            previous: The one before that.

        Returns:
            What the discretised equation leaves of the step, in the shape of the answer.
        """
        return self.flow.residual(answer, state)

    def scaled_residual(self, residual: Tensor, power: float, **inputs: Any) -> Tensor:
        """Apply the inverse of the linear part.

        Args:
            residual: What `residual` gave.
            power: One; or zero, for nothing.
            inputs: What `sample` gave.

        Returns:
            The result, in the shape of the residual.

        Raises:
            ValueError: If the power is another.
        """
        if power not in (0, 1):
            raise ValueError(
                f"`fit_residual(power=...)` must be 1 for flows, whose inverse has no root. "
                f"Got {power}."
            )
        return self.flow.precondition(residual) if power else residual

    def reference(self, answer: Tensor, state: Tensor, previous: Tensor) -> Tensor:
        """The answer whose loss counts as one: nothing changes.

        Args:
            answer: Any answer.
            state: The state before it.
            previous: The one before that.

        Returns:
            `state`.
        """
        return state

    def keep(self, answer: Tensor) -> None:
        """Put answers into the buffer.

        Args:
            answer: To what `sample` gave last.
        """
        at = self._chosen
        self.previous[at], self.states[at] = self.states[at], answer
        self.ages[at] += 1
        flat = self.states[at].flatten(1).abs().amax(1)
        old = (self.ages[at] >= self.horizon) | ~(flat <= self.limit)
        for entry in at[old].tolist():
            fresh = self.initial[self._begun % len(self.initial)]
            self._begun += 1
            self.states[entry], self.previous[entry] = fresh, fresh
            self.ages[entry] = 0
