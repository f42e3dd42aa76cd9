"""What happens in a step, in a validation and in an epoch, as a Lightning module."""

from __future__ import annotations

import math
import time
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch_geometric.data import Data

from tensornet.models import Potential
from tensornet.train.average import WeightAverage
from tensornet.train.batches import Steps
from tensornet.train.loss import Loss, errors
from tensornet.train.processes import add_gradients, add_up
from tensornet.train.recipe import Recipe, TrainingError
from tensornet.train.schedule import Schedule
from tensornet.train.soap import SOAP

LOOK_EVERY = 20  # steps between two looks for NaN: a look makes the CPU wait for a GPU


class Tally:
    """Sums over the batches of an epoch, kept on the device of the tensors."""

    def __init__(self, loss: Loss) -> None:
        self.loss = loss
        self.sums: dict[str, tuple[Tensor, Tensor]] = {}
        self.squares: dict[str, Tensor] = {}

    def add(
        self, found: dict[str, tuple[Tensor, Tensor]], sums: dict[str, tuple[Tensor, Tensor]]
    ) -> None:
        """Add a batch: its errors and the sums of their penalties."""
        for term, (penalty, n) in sums.items():
            square = found[term][0].detach().square().sum()
            if term in self.sums:
                penalty, n = self.sums[term][0] + penalty.detach(), self.sums[term][1] + n
                square = self.squares[term] + square
            self.sums[term], self.squares[term] = (penalty.detach(), n), square

    def record(self, split: str) -> dict[str, float]:
        """Give the loss, and the RMSE per term (meV/atom, meV/Å, meV/atom), of all processes."""
        flat = [x for term, pair in self.sums.items() for x in (*pair, self.squares[term])]
        all_ = iter(add_up(flat))
        sums, squares = {}, {}
        for term in self.sums:
            sums[term], squares[term] = (next(all_), next(all_)), next(all_)
        record = {f"{split}_loss": float(self.loss.total(sums))}
        for term, (_, n) in sums.items():
            rmse = 1000 * math.sqrt(float(squares[term]) / max(1, int(n)))
            name = "virial" if term == "stress" else term
            record[f"{split}_{name}_rmse"] = rmse
        return record


class TrainingModule(pl.LightningModule):
    """A potential in training. Validation sees the averaged weights.

    Args:
        model: The potential.
        recipe: The whole recipe.
        loss: The loss, with the model's scale.
        batches: The training steps, which are told the number of each epoch.
    """

    def __init__(self, model: Potential, recipe: Recipe, *, loss: Loss, batches: Steps) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.first_loss = self.loss = loss
        self.batches = batches
        self.schedule = Schedule(recipe.optimizer, len(batches), recipe.training.epochs)
        self.average = WeightAverage([], decay=0.0)
        self.step = 0  # optimizer steps since the very beginning
        self.epoch = 0  # epochs completed since the very beginning
        self.record: dict[str, float] = {}  # what the present epoch gave
        self.restored: dict[str, Any] | None = None
        self._tally = Tally(loss)
        self._started = 0.0

    @property
    def begins_stage_two(self) -> bool:
        """Whether losses before this epoch were weighted otherwise, and cannot be compared."""
        two = self.recipe.loss.stage_two
        return two is not None and self.epoch == two.first_epoch(self.recipe.training.epochs)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Make the optimizer of the recipe."""
        settings = self.recipe.optimizer
        weights = [p for p in self.model.parameters() if p.requires_grad]
        if settings.name == "soap":
            return SOAP(weights, lr=settings.lr, weight_decay=settings.weight_decay)
        make = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
        return make(
            weights,
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            amsgrad=settings.amsgrad,
            fused=True,
        )

    def on_train_start(self) -> None:
        """Begin the average of the weights, or put everything back to a checkpoint."""
        weights = [p for p in self.model.parameters() if p.requires_grad]
        self.average = WeightAverage(weights, decay=self.recipe.training.ema)
        if self.restored is not None:
            self.trainer.optimizers[0].load_state_dict(self.restored["optimizer"])
            self.average.load_state_dict(self.restored["average"])
            self.schedule.load_state_dict(self.restored["schedule"])

    def on_train_epoch_start(self) -> None:
        """Start the sums and the clock, in the order that belongs to this epoch."""
        self.batches.epoch = self.epoch
        self.loss = self.first_loss.at(self.epoch, self.recipe.training.epochs)
        self._tally = Tally(self.loss)
        self._started = time.perf_counter()

    def on_train_batch_start(self, batch: list[Data], batch_idx: int) -> None:
        """Set the learning rate of this step."""
        lr = self.schedule.lr(self.step)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = lr

    def training_step(self, batch: list[Data], batch_idx: int) -> Tensor:
        """Compute the loss of a step, and all gradients but those of its last batch.

        A mean is over the labels of all batches of the step and of all processes: gradients are
        then added up, and are those of one large batch.
        """
        known = self.loss.counts(batch)
        counts = dict(zip(known, add_up(list(known.values())), strict=True))
        self.trainer.optimizers[0].zero_grad()
        loss = torch.zeros(())
        for k, part in enumerate(batch):
            found = self._errors(part)
            sums = self.loss.sums(found, part)
            self._tally.add(found, sums)
            loss = self.loss.total({t: (s, counts[t]) for t, (s, _) in sums.items()})
            if k < len(batch) - 1:
                loss.backward()
        return loss

    def optimizer_zero_grad(
        self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer
    ) -> None:
        """Leave the gradients: `training_step` has begun them."""

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Differentiate by the weights only: positions require gradients too, for the forces."""
        kwargs["inputs"] = [p for p in self.model.parameters() if p.requires_grad]
        super().backward(loss, *args, **kwargs)

    def on_after_backward(self) -> None:
        """Add up the gradients of all processes."""
        add_gradients([p for p in self.model.parameters() if p.requires_grad])

    def on_train_batch_end(self, outputs: Any, batch: list[Data], batch_idx: int) -> None:
        """Average the weights, and now and then look whether the loss is still a number."""
        self.step += 1
        self.average.update()
        if self.step % LOOK_EVERY == 0:
            self._must_be_finite(float(self.loss.total(self._tally.sums)), "training loss")

    def on_validation_start(self) -> None:
        """Close the sums over the training batches, and validate the averaged weights."""
        lr = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.record = {"epoch": self.epoch + 1, "step": self.step, "lr": lr}
        self.record |= self._tally.record("train")
        self._must_be_finite(self.record["train_loss"], "training loss")
        self._tally = Tally(self.loss)
        self.average.swap()

    def validation_step(self, batch: Data, batch_idx: int) -> None:
        """Add up the errors of a batch."""
        found = self._errors(batch)
        self._tally.add(found, self.loss.sums(found, batch))

    def on_validation_epoch_end(self) -> None:
        """Complete the record of the epoch."""
        self.record |= self._tally.record("valid")
        self._must_be_finite(self.record["valid_loss"], "validation loss")
        self.record["seconds"] = time.perf_counter() - self._started

    def on_validation_end(self) -> None:
        """Take the training weights back; callbacks have seen the averaged ones by now."""
        self.average.swap()
        if self.begins_stage_two:
            self.schedule.best = math.inf
        self.schedule.observe(self.record["valid_loss"])
        self.epoch += 1

    def state(self) -> dict[str, Any]:
        """Give what a checkpoint must hold of the training."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.trainer.optimizers[0].state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a checkpoint; the optimizer follows when training starts."""
        self.model.load_state_dict(state["model"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.batches.epoch = self.epoch  # Lightning begins the first epoch before it says so
        self.restored = state

    def _errors(self, batch: Data) -> dict[str, tuple[Tensor, Tensor]]:
        terms = self.loss.terms
        output = self.model(batch, forces=terms != ("energy",))
        return errors(output, batch, terms)

    def _must_be_finite(self, value: float, name: str) -> None:
        if not math.isfinite(value):
            kept = "; the last good checkpoint and the best model so far are kept"
            raise TrainingError(
                f"The {name} became {value} in epoch {self.epoch + 1} (step {self.step}). "
                "(Lower `optimizer.lr` or `optimizer.clip`, or look for outliers in the data"
                f"{kept if self.epoch else ''}.)"
            )
