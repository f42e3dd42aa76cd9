"""Training of networks that propose conjugate directions."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from tensornet import _check
from tensornet.models.direction import DirectionNet
from tensornet.pde import StencilOperator
from tensornet.train.direction_data import Sampler, box_sampler, ritz_sampler

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DirectionFit:
    """What a training of directions did.

    Args:
        history: Per record the step, the CPU seconds since the start, and the mean since the
            record before of how much of the residual a direction leaves.
        seconds: CPU time.
        steps: Steps of the optimizer.
        samples: Right-hand sides that were seen, each once.
        message: The same in a sentence.
    """

    history: tuple[dict[str, float], ...]
    seconds: float
    steps: int
    samples: int
    message: str


def fit_direction(
    model: DirectionNet,
    operators: StencilOperator | Sequence[StencilOperator],
    *,
    data: str = "box",
    samples: int = 2_000,
    passes: int = 1,
    batch_size: int = 8,
    unroll: int = 3,
    learning_rate: float = 1e-2,
    seconds: float | None = None,
    ritz_count: int = 500,
    seed: int = 0,
) -> DirectionFit:
    """Train a network to propose directions along which residuals vanish.

    The loss is the paper's, ``‖b - alpha A f(b)‖²`` with the best ``alpha``, on unit right-hand
    sides; with ``unroll`` above one it is what is left after so many steps of
    `linalg.deep_conjugate_direction`, so that directions are good together and not only alone. Its
    logarithm per step is minimised by Adam, with a learning rate that falls to zero as a cosine.
    Solutions are never needed. The operators take turns; one network serves masks, sizes and
    boundaries like theirs, and notes their kinds (`DirectionNet.trained_for`).

    Args:
        model: The network; it is changed.
        operators: One operator or several, symmetric, of any sizes and masks.
        data: ``"box"``: right-hand sides are sums of eigenvectors of the box around each operator,
            made when they are needed; ``"ritz"``: of Ritz vectors by Lanczos' method, as in the
            paper, which are kept. The lower half of either is nine times as loud as the rest.
        samples: Number of different right-hand sides.
        passes: How often each is seen.
        batch_size: Of one operator, in one step.
        unroll: Steps of the solver in the loss, 1 for the paper's.
        learning_rate: Of Adam, at first. The networks of the paper want 1e-4 to 1e-3.
        seconds: CPU time after which training ends, or None. The learning rate then falls with the
            time, if that ends first.
        ritz_count: Number of Ritz vectors of each operator.
        seed: Of all right-hand sides.

    Returns:
        What was done. The network keeps the weights of the last step; where numbers became NaN,
        those of the last good record.

    Raises:
        TypeError: If `model` is no `DirectionNet`, or an operator none of `pde`.
        ValueError: If there are no operators, one does not fit the network, or a number is out of
            range.

    References:
        Kaneda et al., A deep conjugate direction method for iteratively solving linear systems,
        ICML (2023), sections on loss and data.

    Examples:
        >>> from tensornet.pde import Grid, poisson
        >>> net = DirectionNet(dim=2)
        >>> A = poisson(Grid((16, 16), spacing=1 / 16)).operator
        >>> found = fit_direction(net, A, samples=64)
        >>> found.steps, found.history[-1]["left"] < 0.5
        (8, True)
    """
    if not isinstance(model, DirectionNet):
        raise TypeError(
            f"`fit_direction(model=...)` must be a DirectionNet. Got {type(model).__name__}."
        )
    _check.at_least("fit_direction", 1, samples=samples, passes=passes, batch_size=batch_size)
    _check.at_least("fit_direction", 1, unroll=unroll, ritz_count=ritz_count)
    _check.one_of("fit_direction", ("box", "ritz"), data=data)
    _check.tolerance("fit_direction", learning_rate=learning_rate, seconds=seconds)
    given = [operators] if isinstance(operators, StencilOperator) else list(operators)
    if not given:
        raise ValueError("`fit_direction(operators=...)` must hold an operator. Got none.")
    begin = time.process_time()
    tasks = [_Task(model, A, data, ritz_count, seed + k) for k, A in enumerate(given)]
    batches = max(1, math.ceil(samples / batch_size))
    plan = _Plan(passes * batches, batches, batch_size, unroll, learning_rate, seconds, seed, begin)
    try:
        history, note = _run(model, tasks, plan)
    finally:
        model.note_training(given)
    steps, spent = int(history[-1]["step"]), time.process_time() - begin
    seen = min(steps, batches) * batch_size
    message = (
        f"{steps} steps on {seen} right-hand sides of {len(given)} operator(s) in {spent:.0f} s of "
        f"CPU time: a direction leaves {100 * history[-1]['left']:.1f} % of the residual, "
        f"{100 * history[0]['left']:.1f} % at first.{note}"
    )
    return DirectionFit(tuple(history), spent, steps, seen, message)


@dataclass(frozen=True)
class _Plan:
    """How long, and how."""

    steps: int
    batches: int
    batch_size: int
    unroll: int
    learning_rate: float
    seconds: float | None
    seed: int
    begin: float

    def done(self, step: int) -> float:
        """Which share of the training is over."""
        spent = time.process_time() - self.begin
        share = 0.0 if self.seconds is None else spent / max(self.seconds, 1e-9)
        return max(step / self.steps, share)


class _Task:
    """An operator with its grids and its right-hand sides."""

    def __init__(
        self, model: DirectionNet, A: StencilOperator, data: str, count: int, seed: int
    ) -> None:
        self.grids = model.grids_of(A)
        if self.grids is not None and not self.grids.grids:
            raise ValueError(
                "`fit_direction(operators=...)` must have grids that can be made coarser. Got "
                f"{A.domain.grid.shape} cells, where the matrix is inverted and nothing is learned."
            )
        self.model, self.A = model, A.to(model.dtype)
        self.sample: Sampler = (
            box_sampler(A, model.dtype)
            if data == "box"
            else ritz_sampler(A, model.dtype, count=count, seed=seed)
        )

    def loss(self, b: Tensor, steps: int) -> Tensor:
        """Logarithm of what is left of unit residuals, per step of the solver."""
        r, memory = b, list[tuple[Tensor, Tensor, Tensor]]()
        for _ in range(steps):
            p = self.model.propose(self.A, r / r.norm(dim=1, keepdim=True), self.grids)
            for q, Aq, qAq in memory:
                p = p - (p * Aq).sum(1, keepdim=True) / qAq * q
            Ap = self.A(p)
            pAp = (p * Ap).sum(1, keepdim=True)
            r = r - (p * r).sum(1, keepdim=True) / pAp * Ap
            memory = [*memory, (p, Ap, pAp)][-2:]
        return r.square().sum(1).mean().log() / (2 * steps)


def _run(
    model: DirectionNet, tasks: list[_Task], plan: _Plan
) -> tuple[list[dict[str, float]], str]:
    """The loop: records, and what must be said of how it ended."""
    optimizer = torch.optim.Adam(model.parameters(), lr=plan.learning_rate)
    history, since = list[dict[str, float]](), list[float]()
    good, every = _copy(model), max(1, min(50, plan.steps // 20))
    model.train()
    with ExitStack() as stack:
        bar = _bar(stack, plan.steps)
        for step in range(plan.steps):
            share = plan.done(step)
            if share >= 1 and step:
                return history, " The CPU time was used up."
            for group in optimizer.param_groups:
                group["lr"] = plan.learning_rate * (0.5 + 0.5 * math.cos(math.pi * min(share, 1.0)))
            task = tasks[step % len(tasks)]
            generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + step % plan.batches)
            value = task.loss(task.sample(generator, plan.batch_size), plan.unroll)
            optimizer.zero_grad()
            value.backward()
            if not bool(value.isfinite()):
                model.load_state_dict(good)
                history = history or [_record(plan, step, since or [1.0])]
                return history, " Numbers were not finite; the last good weights were kept."
            optimizer.step()
            since.append(math.exp(float(value.detach())))
            last = step + 1 == plan.steps or plan.done(step + 1) >= 1
            if (step + 1) % every == 0 or last or step + 1 == len(tasks):
                history.append(_record(plan, step + 1, since))
                good, since = _copy(model), []
                log.info("step %d/%d  left %.4f", step + 1, plan.steps, history[-1]["left"])
            if bar is not None:
                left = f"{history[-1]['left']:.3f}" if history else ""
                bar[0].update(bar[1], completed=step + 1, left=left)
    return history, ""


def _record(plan: _Plan, step: int, since: list[float]) -> dict[str, float]:
    spent = time.process_time() - plan.begin
    return {"step": step, "seconds": spent, "left": sum(since) / len(since)}


def _copy(model: DirectionNet) -> dict[str, Any]:
    return {name: x.detach().clone() for name, x in model.state_dict().items()}


def _bar(stack: ExitStack, steps: int) -> tuple[Progress, Any] | None:
    """A bar, in a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        return None
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("left {task.fields[left]}"))
    bar = stack.enter_context(Progress(*columns, TimeRemainingColumn(), console=console))
    return bar, bar.add_task("train", total=steps, left="")
