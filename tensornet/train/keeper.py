"""The memory of a run: the history of its epochs, the best model, and the checkpoint to resume."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from tensornet._files import write_atomically
from tensornet.models import save
from tensornet.models.low_rank import merged
from tensornet.train.checkpoint import rng_state, set_rng_state, write_checkpoint
from tensornet.train.limits import writing
from tensornet.train.module import TrainingModule
from tensornet.train.processes import gather, is_main, rank


class Keeper(Callback):
    """Write what a run has to show at the end of every epoch, and stop it when it is time.

    Args:
        folder: The output folder, which exists.
        patience: Epochs without a better validation loss after which to stop. ``None``: never.
        fingerprint: What identifies recipe and data, for the checkpoint.
        provenance: What the model file shall say of its training.
    """

    def __init__(
        self,
        folder: Path,
        *,
        patience: int | None,
        fingerprint: dict[str, str],
        provenance: dict[str, Any],
    ) -> None:
        self.folder = folder
        self.patience = patience
        self.fingerprint = fingerprint
        self.provenance = provenance
        self.history: list[dict[str, float]] = []
        self.best = math.inf
        self.best_epoch = 0
        self.stopped = False
        self._rng: list[dict[str, Any]] | None = None  # of each process

    @property
    def waited(self) -> int:
        """Epochs since the best one."""
        return len(self.history) - self.best_epoch

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a checkpoint; random numbers follow when training starts."""
        self.history = list(state["history"])
        self.best, self.best_epoch = state["best"], state["best_epoch"]
        self.stopped = state["stopped"]
        rng = state["rng"]
        self._rng = rng if isinstance(rng, list) else [rng]  # runs of version 0.1 had one

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the random numbers back, after everything that draws some while setting up."""
        if self._rng is not None and rank() < len(self._rng):
            set_rng_state(self._rng[rank()])

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the model, with the averaged weights that are in it now, if it is the best."""
        module = _ours(pl_module)
        self.history.append(dict(module.record))
        if module.begins_stage_two:
            self.best = math.inf
        if module.record["valid_loss"] < self.best:
            self.best, self.best_epoch = module.record["valid_loss"], len(self.history)
            told = {"epoch": self.best_epoch, "valid_loss": self.best}
            provenance = {**self.provenance, **told}
            if is_main():
                with writing(self.folder / "model.safetensors") as path:
                    save(merged(module.model), path, provenance=provenance)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write table and checkpoint, and stop if nothing got better for too long."""
        module = _ours(pl_module)
        if self.patience is not None and self.waited >= self.patience:
            self.stopped = trainer.should_stop = True
        state = {
            **module.state(),
            "fingerprint": self.fingerprint,
            "history": self.history,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "stopped": self.stopped,
            "rng": gather(rng_state()),
        }
        if not is_main():
            return
        with writing(self.folder / "last.ckpt") as path:
            write_checkpoint(path, state)
        with writing(self.folder / "metrics.csv") as path:
            write_atomically(path, table(self.history).encode())
        numbers = {k: v for k, v in module.record.items() if k not in ("epoch", "step")}
        for logger in trainer.loggers:
            _log(logger, numbers, module.step)


def table(history: list[dict[str, float]]) -> str:
    """Write the history of a run as CSV, one row per epoch.

    Args:
        history: The records of the epochs, all with the same keys.

    Returns:
        The text, with a header. RMSEs are in meV/atom (energy, virial) and meV/Å (forces).
    """
    text = io.StringIO()
    if history:
        writer = csv.DictWriter(text, list(history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
    return text.getvalue()


def _log(logger: Logger, numbers: dict[str, float], step: int) -> None:
    logger.log_metrics(numbers, step=step)
    logger.save()


def _ours(module: pl.LightningModule) -> TrainingModule:
    assert isinstance(module, TrainingModule)
    return module
