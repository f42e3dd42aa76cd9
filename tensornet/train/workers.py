"""Processes that prepare batches while the model trains."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from torch_geometric.data import Batch, Data

if TYPE_CHECKING:
    from tensornet.train.batches import Steps


class _Part(IterableDataset[list[dict[str, Any]]]):
    """The steps of one worker, as plain arrays: they cross to the other process in one piece."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        info = get_worker_info()
        assert info is not None
        for batches in self.steps.part(info.id, info.num_workers):
            yield [{name: b[name].numpy() for name in b.keys()} for b in batches]  # noqa: SIM118


def made_by(steps: Steps, n: int) -> Iterator[list[Data]]:
    """Have an epoch's batches made by other processes.

    Each makes every n-th step, and they are taken in turn: the order is that of one process.

    Args:
        steps: The steps, with the epoch set.
        n: How many processes.

    Yields:
        The batches of each step.
    """
    loader = DataLoader(
        _Part(steps), batch_size=None, num_workers=n, collate_fn=_same, worker_init_fn=_begin
    )
    for packed in loader:
        yield [
            Batch(_base_cls=Data, **{name: torch.from_numpy(x) for name, x in arrays.items()})
            for arrays in packed
        ]


def _same(item: Any) -> Any:
    return item


def _begin(number: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that trains
