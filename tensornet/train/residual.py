"""Training on residuals of discretised equations: no data, nothing is solved."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor, nn

from tensornet import _check

log = logging.getLogger(__name__)
LOSSES = ("preconditioned", "plain")


class ResidualProblem(Protocol):
    """What `fit_residual` asks of a family of problems: to draw inputs, and to judge answers."""

    def sample(self, count: int, generator: torch.Generator) -> dict[str, Any]:
        """Draw inputs, the keyword arguments of the model."""

    @property
    def residual(self) -> Callable[..., Tensor]:
        """Called with an answer ``(b, ...)`` and the inputs; zero where the answer is right."""

    @property
    def scaled_residual(self) -> Callable[..., Tensor]:
        """Called with a residual, a power of the inverse of the linear part, and the inputs."""


@dataclass(frozen=True)
class ResidualFit:
    """How a training on residuals went.

    Args:
        message: The outcome as a sentence.
        finished: Whether all steps were done, or the time that was given was used up.
        history: Per record: ``step``, ``loss``, ``seconds`` of CPU time, and what `check` gave.
        n_steps: Steps done.
        seconds: CPU time of the process.
    """

    message: str
    finished: bool
    history: list[dict[str, float]] = field(repr=False)
    n_steps: int
    seconds: float


def fit_residual(
    model: nn.Module,
    problem: ResidualProblem,
    *,
    loss: str = "preconditioned",
    power: float = 0.5,
    steps: int = 1000,
    seconds: float | None = None,
    batch: int = 16,
    lr: float = 1e-3,
    max_norm: float = 1.0,
    seed: int = 0,
    check: Callable[[nn.Module], dict[str, float]] | None = None,
    records: int = 20,
    console: Console | None = None,
) -> ResidualFit:
    """Train a model so that its answers make the residual of an equation small.

    Inputs are drawn anew at every step; no solution is needed. With ``loss="plain"`` the mean
    square of the residual is minimised, as in the paper; its condition is that of the operator
    squared. With ``loss="preconditioned"`` a power of the inverse of the linear part comes first:
    1/2 for the error in the norm of the operator, 1 for the error of the answer. It is relative to
    what answering zero would give, or what the problem calls its ``reference``. A problem with a
    method ``keep`` is given the answers, for models that are trained on what they did.

    Adam, with a rate that rises for a twentieth of the way and falls as a cosine. Where the loss is
    no finite number any more, the training ends with a message, and the weights with the least
    loss so far, as a running mean over a twentieth of the steps, are put back. Ctrl-C leaves the
    model with the weights it has then.

    Args:
        model: Called as ``model(**inputs)``; its parameters are changed.
        problem: Draws inputs and gives residuals, as `DiffusionFamily` or `FlowRollouts`.
        loss: ``"preconditioned"`` or ``"plain"``.
        power: Of the inverse, 1/2 or 1, for the former.
        steps: Steps of the optimizer.
        seconds: CPU time to use at most; the rate falls by it if given.
        batch: Inputs per step.
        lr: Highest learning rate.
        max_norm: Of the gradient; longer ones are scaled down.
        seed: Of the inputs. The same seed gives the same weights on one machine.
        check: Called with the model at every record, gives numbers to keep.
        records: Number of records in the history.
        console: Where the progress bar goes, standard error by default. No terminal, no bar.

    Returns:
        How it went. The model is left in evaluation mode.

    Raises:
        TypeError: If a number of steps is no whole number.
        ValueError: If numbers are out of range, the loss is unknown, or the model has nothing to
            learn.

    Derivatives:
        None.

    References:
        Huang et al., LordNet, Neural Networks 176, 106354 (2024).

    Examples:
        >>> from tensornet.models import DiffusionFamily, LordNet
        >>> from tensornet.pde import Grid
        >>> family = DiffusionFamily(Grid((8, 8), spacing=1 / 8), contrast=1.0)
        >>> net = LordNet(family, blocks=2)
        >>> fit_residual(net, family, steps=3, batch=2).n_steps
        3
    """
    where = "fit_residual"
    _check.one_of(where, LOSSES, loss=loss)
    _check.at_least(where, 1, steps=steps, batch=batch, records=records)
    _check.tolerance(where, power=power, lr=lr, max_norm=max_norm, seconds=seconds)
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError(f"`{where}(model=...)` must have parameters that require gradients.")
    run = _Run(model, problem, 0.0 if loss == "plain" else float(power), steps, seconds, seed)
    optimizer = torch.optim.Adam(parameters, lr=lr)
    every = max(1, steps // records)
    try:
        with _bar(console, steps) as show:
            model.train()
            while not run.over() and run.step(optimizer, batch, lr, max_norm):
                if run.done % every == 0 or run.over():
                    run.record(check)
                show(run)
    finally:
        ended = run.ended()
    return ended


class _Run:
    """State of a training: running mean, best weights so far, history."""

    def __init__(
        self,
        model: nn.Module,
        problem: ResidualProblem,
        power: float,
        steps: int,
        seconds: float | None,
        seed: int,
    ) -> None:
        self.model, self.problem, self.power = model, problem, power
        self.steps, self.seconds = steps, math.inf if seconds is None else seconds
        self.generator = torch.Generator().manual_seed(seed)
        self.begin, self.done, self.mean, self.best = time.process_time(), 0, math.inf, math.inf
        self.weights = self._copied()
        self.history: list[dict[str, float]] = []
        self.spoiled, self.skipped = False, 0

    def _copied(self) -> dict[str, Tensor]:
        return {name: x.detach().clone() for name, x in self._tensors()}

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        yield from self.model.named_parameters()
        yield from self.model.named_buffers()

    @property
    def used(self) -> float:
        """CPU time since the beginning."""
        return time.process_time() - self.begin

    def over(self) -> bool:
        """Whether steps or time are used up."""
        return self.done >= self.steps or self.used >= self.seconds

    def loss(self, batch: int) -> Tensor:
        """Draw inputs and judge the answers."""
        inputs = self.problem.sample(batch, self.generator)
        answer = self.model(**inputs)
        r = self.problem.residual(answer, **inputs)
        if self.power == 0:
            value = r.square().mean()
        else:
            z = self.problem.scaled_residual(r, self.power, **inputs)
            reference = getattr(self.problem, "reference", None)
            other = reference(answer, **inputs) if reference else torch.zeros_like(answer)
            zero = self.problem.residual(other.detach(), **inputs)
            z0 = self.problem.scaled_residual(zero, self.power, **inputs).detach()
            value = (_squared(z) / _squared(z0).clamp_min(torch.finfo(z.dtype).tiny)).mean()
        keep = getattr(self.problem, "keep", None)
        if keep is not None:
            keep(answer.detach())
        return value

    def step(
        self, optimizer: torch.optim.Optimizer, batch: int, lr: float, max_norm: float
    ) -> bool:
        """Do one step; False if it spoiled the model."""
        way = max(self.done / self.steps, min(self.used / self.seconds, 1.0))
        rate = lr * min(1.0, 20 * (way + 1 / self.steps)) * 0.5 * (1 + math.cos(math.pi * way))
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss = self.loss(batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            self.spoiled = True
            return False
        share = min(1.0, max(20 / self.steps, 1 / (self.done + 1)))
        self.mean = value if self.done == 0 else self.mean + share * (value - self.mean)
        if way >= 0.05 and self.mean < self.best:
            self.best, self.weights = self.mean, self._copied()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), max_norm)
        if bool(norm.isfinite()):
            optimizer.step()
        else:
            self.skipped += 1
        self.done += 1
        return True

    def record(self, check: Callable[[nn.Module], dict[str, float]] | None) -> None:
        """Add a line to the history."""
        line = {"step": float(self.done), "loss": self.mean, "seconds": self.used}
        if check is not None:
            begin = time.process_time()
            self.model.eval()
            with torch.no_grad():
                line.update(check(self.model))
            self.model.train()
            self.begin += time.process_time() - begin  # judging is no training
        self.history.append(line)
        log.info("step %d/%d  loss %.3g", self.done, self.steps, self.mean)

    def ended(self) -> ResidualFit:
        """Say how it went; put the best weights back if it went wrong."""
        if self.spoiled:
            with torch.no_grad():
                for name, x in self._tensors():
                    x.copy_(self.weights[name])
        self.model.eval()
        if self.spoiled:
            said = f"The loss was not finite after {self.done} steps; the best weights are kept."
        else:
            said = f"{self.done} steps in {self.used:.0f} s of CPU time, loss {self.mean:.3g}."
        if self.skipped:
            said += f" {self.skipped} steps were left out, whose gradients were not finite."
        done = not self.spoiled
        return ResidualFit(said, done, self.history, self.done, self.used)


@contextmanager
def _bar(console: Console | None, steps: int) -> Iterator[Callable[[_Run], None]]:
    """A bar in a terminal, nothing elsewhere."""
    console = Console(stderr=True) if console is None else console
    if not console.is_terminal:
        yield lambda _: None
        return
    columns = (
        TextColumn("residual {task.fields[loss]}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("train", total=steps, loss="")
        yield lambda run: bar.update(task, completed=run.done, loss=f"{run.mean:.3g}")


def _squared(x: Tensor) -> Tensor:  # (b, ...) -> (b,)
    return x.flatten(1).square().sum(1)
