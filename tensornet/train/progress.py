"""What a run shows while it goes: a bar in a terminal, a line per epoch elsewhere."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from tensornet.train.keeper import Keeper

log = logging.getLogger(__name__)

MOST = 1e10  # seconds left that are told; `timedelta` cannot hold much more


class ProgressReport(Callback):
    """Show epochs, losses, errors and the time left.

    Args:
        keeper: The memory of the run, which has the records of the epochs.
        epochs: Number of epochs planned, with those before a resumption.
        steps_per_epoch: Optimizer steps in an epoch.
        console: Where the bar goes; if it is no terminal, each epoch is one line in the log.
    """

    def __init__(
        self, keeper: Keeper, *, epochs: int, steps_per_epoch: int, console: Console | None = None
    ) -> None:
        self.keeper = keeper
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self.console = console if console is not None else Console(stderr=True)
        # A narrow terminal gets short texts; lines of a log may be long.
        self._wide = not self.console.is_terminal or self.console.width >= 110
        self._bar: Progress | None = None
        self._task: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar."""
        if not self.console.is_terminal:
            return
        columns: list[ProgressColumn] = [
            TextColumn("epoch {task.fields[epoch]}/" + str(self.epochs)),
            BarColumn(bar_width=24 if self._wide else 8),
            TextColumn("{task.fields[errors]}"),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
        ]
        if self._wide:
            columns[2:2] = [MofNCompleteColumn(), TimeElapsedColumn()]
        self._bar = Progress(*columns, console=self.console)
        done = len(self.keeper.history)
        self._task = self._bar.add_task(
            "train",
            total=self.epochs * self.steps_per_epoch,
            completed=done * self.steps_per_epoch,
            epoch=done + 1,
            errors=self._errors(),
        )
        self._bar.start()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Move the bar by a step."""
        if self._bar is not None:
            self._bar.advance(self._task)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the errors of the epoch."""
        done = len(self.keeper.history)
        if self._bar is not None:
            epoch = min(done + 1, self.epochs)
            self._bar.update(self._task, epoch=epoch, errors=self._errors())
            return
        seconds = sorted(record["seconds"] for record in self.keeper.history[-9:])
        rest = seconds[len(seconds) // 2] * (self.epochs - done)
        left = timedelta(seconds=round(min(rest, MOST)))
        log.info("epoch %d/%d  %s  left %s", done, self.epochs, self._errors(), left)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Close the bar, so that the message stands below it."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _errors(self) -> str:
        if not self.keeper.history:
            return ""
        record = self.keeper.history[-1]
        text = f"loss {_short(record['train_loss'])} valid {_short(record['valid_loss'])}"
        units = {"energy": ("E", " meV/atom"), "forces": ("F", " meV/Å")}
        for name, (letter, unit) in units.items():
            if (key := f"valid_{name}_rmse") in record:
                text += f"  {letter} {_short(record[key])}{unit if self._wide else ''}"
        return text if self._wide else f"{text} meV"


def _short(x: float) -> str:
    return f"{x:.0f}" if 1000 <= x < 1e6 else f"{x:.3g}"
