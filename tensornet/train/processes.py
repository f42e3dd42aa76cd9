"""Training on several processes, as torchrun starts them: who is who, and sums over all.

Each process takes its share of every batch. Counts of labels are added up before a loss is made of
them, and gradients after, so that a step is that of one process with the whole batch, to rounding.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed

from tensornet.train.recipe import TrainingError


def rank() -> int:
    """The number of this process, from zero on."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def size() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_first() -> bool:
    """Whether this is the first process that torchrun started, or the only one; before `joined`."""
    return os.environ.get("RANK", "") in ("", "0")


def is_main() -> bool:
    """Whether this process writes files and speaks."""
    return rank() == 0


@contextmanager
def joined(device: str | None = None) -> Iterator[None]:
    """Join the other processes that torchrun started, if there are any.

    Inside, only the first process logs.

    Args:
        device: What the recipe says; on a GPU processes talk by NCCL, else by Gloo.

    Raises:
        TrainingError: If they cannot be joined.
    """
    if os.environ.get("WORLD_SIZE", "") in ("", "1") or distributed.is_initialized():
        yield
        return
    gpu = torch.cuda.is_available() and not (device or "cuda").startswith("cpu")
    if gpu:
        torch.cuda.set_device(local_rank())
    try:
        distributed.init_process_group("nccl" if gpu else "gloo")
    except (ValueError, RuntimeError) as error:
        raise TrainingError(
            f"The processes cannot join: {' '.join(str(error).split())} (Start them by torchrun, "
            "or unset WORLD_SIZE to train with one.)"
        ) from error
    log = logging.getLogger("tensornet")
    before = log.level
    if not is_main():
        log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(before)
        distributed.destroy_process_group()


def local_rank() -> int:
    """The number of this process on its machine, and of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def wait() -> None:
    """Wait until all processes are here."""
    if size() > 1:
        distributed.barrier()


def add_up(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Sum numbers over all processes, in float64; as they are with one process.

    Args:
        tensors: Any shapes; the same in all processes.

    Returns:
        The sums, the same bits everywhere, without gradients.
    """
    if size() == 1:
        return [t.detach() for t in tensors]
    flat = torch.cat([t.detach().to(torch.float64).flatten() for t in tensors])
    distributed.all_reduce(flat)
    parts = flat.split([t.numel() for t in tensors])
    return [part.view(t.shape).to(t.dtype) for part, t in zip(parts, tensors, strict=True)]


def add_gradients(parameters: Sequence[Tensor]) -> None:
    """Sum the gradients over all processes, in place.

    A parameter that no process has a gradient of stays without.

    Args:
        parameters: The same in all processes.
    """
    if size() == 1:
        return
    there = torch.tensor([float(p.grad is not None) for p in parameters], dtype=torch.float64)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    there, *sums = add_up([there.to(parameters[0].device), *gradients])
    for p, used, total in zip(parameters, there.tolist(), sums, strict=True):
        if used:
            p.grad = total


def gather(value: Any) -> list[Any]:
    """Collect a value of each process, in their order."""
    if size() == 1:
        return [value]
    found: list[Any] = [None] * size()
    distributed.all_gather_object(found, value)
    return found


def share(items: Sequence[int], weights: Sequence[int], part: int, parts: int) -> list[int]:
    """Divide items among processes so that the weights, and with them the work, are even.

    Args:
        items: What is divided.
        weights: Of each item.
        part: Which share to give.
        parts: How many shares.

    Returns:
        The items of the share, in their order.

    Examples:
        >>> [share([7, 8, 9], [5, 1, 3], k, 2) for k in (0, 1)]
        [[7], [8, 9]]
    """
    loads, mine = [0] * parts, []
    for k in sorted(range(len(items)), key=lambda k: -weights[k]):
        lightest = loads.index(min(loads))
        loads[lightest] += weights[k]
        if lightest == part:
            mine.append(k)
    return [items[k] for k in sorted(mine)]
