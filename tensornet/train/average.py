"""The exponential moving average of the weights: what is validated, kept and saved as the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class WeightAverage:
    """Keep the average of some weights, and put it in their place on demand.

    The n-th update keeps min(decay, (1 + n) / (10 + n)) of the average, so that the first weights
    are forgotten soon.

    Args:
        weights: The parameters, changed in place by whoever trains them.
        decay: Share of the average that an update keeps; 0 switches averaging off.

    Examples:
        >>> w = torch.nn.Parameter(torch.zeros(()))
        >>> average = WeightAverage([w], decay=0.9)
        >>> with torch.no_grad():
        ...     _ = w.fill_(1.0)
        >>> average.update()
        >>> average.swap()
        >>> round(w.item(), 4)  # the first update keeps 2/11 of the zero it began with
        0.8182
    """

    def __init__(self, weights: Sequence[Tensor], *, decay: float) -> None:
        self.weights = list(weights)
        self.decay = decay
        self.n_updates = 0
        self.average = [w.detach().clone() for w in self.weights] if decay else []

    def update(self) -> None:
        """Take the present weights into the average."""
        if not self.decay:
            return
        self.n_updates += 1
        keep = min(self.decay, (1 + self.n_updates) / (10 + self.n_updates))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, [w.detach() for w in self.weights], 1 - keep)

    def swap(self) -> None:
        """Exchange the weights and their average. Call it again to go back."""
        with torch.no_grad():
            for weight, average in zip(self.weights, self.average, strict=bool(self.decay)):
                before = weight.detach().clone()
                weight.copy_(average)
                average.copy_(before)

    def state_dict(self) -> dict[str, Any]:
        """Give what a checkpoint must hold."""
        return {"average": list(self.average), "n_updates": self.n_updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to the state of a checkpoint."""
        self.n_updates = state["n_updates"]
        for mine, saved in zip(self.average, state["average"], strict=True):
            mine.copy_(saved)
