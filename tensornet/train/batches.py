"""Batches of graphs, in an order that follows from the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch_geometric.data import Batch, Data

from tensornet.train.processes import rank, share, size

FIELDS = ("pos", "z", "cell", "pbc", "edge_shift")
LABELS = ("energy", "interaction_energy", "forces", "stress")


def collate(graphs: Sequence[Data]) -> Data:
    """Put graphs together into one with several structures.

    The tensors are those of `torch_geometric.data.Batch.from_data_list`, which takes several
    times longer because it must be ready for any field; these here are known.

    Args:
        graphs: Graphs with labels, all of them or none.

    Returns:
        A `Batch` with the fields of the graphs, `batch` and `ptr`.
    """
    n_atoms = torch.tensor([len(g.z) for g in graphs])
    n_edges = torch.tensor([g.edge_index.shape[1] for g in graphs])
    ptr = torch.cat((n_atoms.new_zeros(1), n_atoms.cumsum(0)))
    names = [name for name in (*FIELDS, *LABELS) if name in graphs[0]]
    fields = {name: torch.cat([g[name] for g in graphs]) for name in names}
    edge_index = torch.cat([g.edge_index for g in graphs], dim=1)
    return Batch(
        _base_cls=Data,
        edge_index=edge_index + torch.repeat_interleave(ptr[:-1], n_edges),
        batch=torch.repeat_interleave(n_atoms),
        ptr=ptr,
        **fields,
    )


class Batches:
    """Go through graphs in batches, again in each epoch.

    Lightning takes it as a data loader. It has no worker processes: the graphs are in memory, and
    putting a batch together costs less than a message to another process. The order depends on
    nothing but `seed` and `epoch`, so a run that was stopped sees the batches it would have seen.
    Where several processes train together each has its share of every batch, even in edges.

    Args:
        graphs: The structures.
        batch_size: Structures per batch; the last batch of an epoch may be smaller.
        seed: Seed of the order. By default the order is that of `graphs`.
        keep: Whether to make the batches once and keep them, if they are always the same.
        shared: Whether to take a share only, where there are several processes.

    Examples:
        >>> Batches(list(range(5)), batch_size=2, seed=1).order(epoch=0)
        [4, 2, 1, 0, 3]
    """

    def __init__(
        self,
        graphs: Sequence[Data] | Any,
        *,
        batch_size: int,
        seed: int | None = None,
        keep: bool = True,
        shared: bool = False,
    ) -> None:
        self.graphs = graphs
        self.batch_size = batch_size
        self.seed = seed
        self.keep = keep and seed is None
        self.shared = shared and size() > 1
        self.epoch = 0
        self._kept: list[Data] | None = None

    def __len__(self) -> int:
        return -(-len(self.graphs) // self.batch_size)

    def __iter__(self) -> Iterator[Data]:
        if self._kept is None:
            batches = self._make(self.order(self.epoch))
            if not self.keep:
                yield from batches
                return
            self._kept = list(batches)
        yield from self._kept

    def order(self, epoch: int) -> list[int]:
        """Give the order of the graphs in an epoch."""
        if self.seed is None:
            return list(range(len(self.graphs)))
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order: list[int] = torch.randperm(len(self.graphs), generator=generator).tolist()
        return order

    def _make(self, order: list[int]) -> Iterator[Data]:
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            yield self._share(chosen) if self.shared else collate([self.graphs[k] for k in chosen])

    def _share(self, chosen: list[int]) -> Data:
        """Our part of a batch; where there is none, a structure without labels, which counts 0."""
        edges = [self.graphs[k].edge_index.shape[1] for k in chosen]
        mine = share(chosen, edges, rank(), size())
        if mine:
            return collate([self.graphs[k] for k in mine])
        blank = self.graphs[chosen[0]].clone()
        for name in LABELS:
            if name in blank:
                blank[name] = torch.full_like(blank[name], torch.nan)
        return collate([blank])
