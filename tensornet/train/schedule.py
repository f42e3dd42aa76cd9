"""The learning rate as a function of the step: linear warm-up, then the chosen schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tensornet.train.recipe import OptimizerBlock


@dataclass
class Schedule:
    """Learning rate per step. Only the plateau schedule has a memory.

    Args:
        settings: The recipe's block `optimizer`.
        steps_per_epoch: Optimizer steps in an epoch.
        epochs: Number of epochs planned.

    Examples:
        >>> schedule = Schedule(OptimizerBlock(lr=0.1), steps_per_epoch=4, epochs=5)
        >>> schedule.lr(0), schedule.lr(3)
        (0.025, 0.1)
    """

    settings: OptimizerBlock
    steps_per_epoch: int
    epochs: int
    drops: int = 0
    best: float = math.inf
    waited: int = 0

    def lr(self, step: int) -> float:
        """Give the learning rate of optimizer step `step`, counted from zero."""
        s = self.settings
        warmup = round(s.warmup_epochs * self.steps_per_epoch)
        rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
        if s.schedule == "cosine":
            length = max(1, self.epochs * self.steps_per_epoch - warmup)
            passed = min(1.0, max(0.0, (step - warmup) / length))
            fall = s.final_factor + (1 - s.final_factor) * (1 + math.cos(math.pi * passed)) / 2
        elif s.schedule == "plateau":
            fall = s.plateau_factor**self.drops
        else:
            fall = 1.0
        return s.lr * rise * fall

    def observe(self, loss: float) -> None:
        """Take note of an epoch's validation loss."""
        if loss < self.best:
            self.best, self.waited = loss, 0
            return
        self.waited += 1
        if self.waited >= self.settings.plateau_patience:
            self.drops, self.waited = self.drops + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """Give what a checkpoint must hold."""
        return {"drops": self.drops, "best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to the state of a checkpoint."""
        self.drops, self.best, self.waited = state["drops"], state["best"], state["waited"]
