"""Batches of graphs, in an order that follows from the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch_geometric.data import Batch, Data

from tensornet.datasets import ShardDataset
from tensornet.train.processes import rank, share, size

FIELDS = ("pos", "z", "cell", "pbc", "edge_shift", "charge")
LABELS = ("energy", "interaction_energy", "forces", "stress")
PRIME = 1_000_003


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
    names = [name for name in (*FIELDS, *LABELS, "weight") if name in graphs[0]]
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
    """Go through graphs in batches, always in the same order, for validation and results.

    Lightning takes it as a data loader. Where several processes train together each has its
    share of every batch, even in edges.

    Args:
        graphs: The structures.
        batch_size: Structures per batch; the last batch may be smaller.
        max_edges: Largest number of edges in a batch: one with more is divided, down to single
            structures.
        keep: Whether to make the batches once and keep them.
        shared: Whether to take a share only, where there are several processes.
    """

    def __init__(
        self,
        graphs: Sequence[Data] | Any,
        *,
        batch_size: int,
        max_edges: int | None = None,
        keep: bool = True,
        shared: bool = False,
    ) -> None:
        self.graphs = graphs
        self.batch_size = batch_size
        self.max_edges = max_edges
        self.keep = keep
        self.parts = (rank(), size()) if shared else (0, 1)
        self._kept: list[Data] | None = None

    def __len__(self) -> int:
        if self.max_edges is not None:
            raise TypeError("The number of batches is not known before they are made.")
        return -(-len(self.graphs) // self.batch_size)

    def __iter__(self) -> Iterator[Data]:
        if self._kept is None:
            batches = self._make()
            if not self.keep:
                yield from batches
                return
            self._kept = list(batches)
        yield from self._kept

    def _make(self) -> Iterator[Data]:
        n = len(self.graphs)
        for start in range(0, n, self.batch_size):
            chosen = list(range(start, min(start + self.batch_size, n)))
            mine = _mine(self.graphs, chosen, *self.parts)
            graphs = [self.graphs[k] for k in mine] or [_blank(self.graphs[chosen[0]])]
            yield from map(collate, self._divided(graphs))

    def _divided(self, graphs: list[Data]) -> Iterator[list[Data]]:
        """Divide a batch where it has too many edges, in its order."""
        part: list[Data] = []
        edges = 0
        for graph in graphs:
            more = graph.edge_index.shape[1]
            if part and self.max_edges is not None and edges + more > self.max_edges:
                yield part
                part, edges = [], 0
            part.append(graph)
            edges += more
        yield part


class Steps:
    """What the steps of training are made of, again in each epoch, in an order of its own.

    A step takes ``accumulate * batch_size`` structures, in `accumulate` batches that are even in
    edges, and in more where one would have over `max_edges`. What a step computes is the same
    however it is divided. The order depends on nothing but seed and epoch, so that a run that was
    stopped sees the structures it would have seen. Lightning takes it as a data loader.

    Args:
        graphs: The structures, in memory or in shards.
        batch_size: Structures per batch; those of the last step of a pass may be fewer.
        seed: Seed of the order.
        accumulate: Batches per step, whose gradients are added up.
        max_edges: Largest number of edges in a batch, but for a single structure with more.
        length: Steps per epoch; epochs then go on where the last one stopped, pass after pass
            through the data. By default an epoch is one pass.
        shared: Whether to take a share only, where there are several processes.
        workers: Processes that prepare batches ahead. With none, the training process does it
            between steps, which is best for graphs in memory.

    Examples:
        >>> steps = Steps(list(range(5)), batch_size=2, seed=1)
        >>> list(steps.chosen(epoch=0))
        [[4, 2], [1, 0], [3]]
        >>> list(Steps(list(range(5)), batch_size=2, seed=1, length=2).chosen(epoch=1))[0]
        [3]
    """

    def __init__(
        self,
        graphs: Sequence[Data] | Any,
        *,
        batch_size: int,
        seed: int,
        accumulate: int = 1,
        max_edges: int | None = None,
        length: int | None = None,
        shared: bool = False,
        workers: int = 0,
    ) -> None:
        self.graphs = graphs
        self.size = batch_size * accumulate
        self.seed = seed
        self.accumulate = accumulate
        self.max_edges = max_edges
        self.length = length
        self.workers = workers
        self.epoch = 0
        self.parts = (rank(), size()) if shared else (0, 1)
        self.per_pass = -(-len(graphs) // self.size)

    def __len__(self) -> int:
        return self.length or self.per_pass

    def __iter__(self) -> Iterator[list[Data]]:
        if self.workers == 0:
            yield from self.part(0, 1)
            return
        from tensornet.train.workers import made_by

        yield from made_by(self, self.workers)

    def part(self, k: int, n: int) -> Iterator[list[Data]]:
        """Make the steps k, k + n, k + 2n and so on of the epoch."""
        for chosen in islice(self.chosen(self.epoch), k, None, n):
            yield self._make(chosen)

    def chosen(self, epoch: int) -> Iterator[list[int]]:
        """Give the structures of each step of an epoch, of all processes together."""
        done = epoch * len(self)
        left = len(self)
        while left:
            number, start = divmod(done, self.per_pass)
            order = self._order(number, start * self.size)
            while left and (found := list(islice(order, self.size))):
                yield found
                done, left = done + 1, left - 1

    def _order(self, number: int, start: int) -> Iterator[int]:
        """The order of a pass through the data, from some structure on."""
        generator = torch.Generator().manual_seed(self.seed * PRIME + number)
        if isinstance(self.graphs, ShardDataset):
            return self.graphs.order(generator, start)
        return iter(torch.randperm(len(self.graphs), generator=generator)[start:].tolist())

    def _make(self, chosen: list[int]) -> list[Data]:
        mine = _mine(self.graphs, chosen, *self.parts)
        if not mine:
            return [collate([_blank(self.graphs[chosen[0]])])]
        return [collate([self.graphs[k] for k in part]) for part in self._divided(mine)]

    def _divided(self, chosen: list[int]) -> list[list[int]]:
        """Divide a step into batches, even in edges and none above the limit."""
        if self.accumulate == 1 and self.max_edges is None:
            return [chosen]
        edges = _n_edges(self.graphs, chosen)
        most = self.max_edges or max(1, sum(edges))
        fewest = max(self.accumulate, -(-sum(edges) // most))
        for n in range(min(fewest, len(chosen)), len(chosen) + 1):
            places = [share(range(len(chosen)), edges, k, n) for k in range(n)]
            if n == len(chosen) or max(sum(edges[k] for k in part) for part in places) <= most:
                break
        return [[chosen[k] for k in part] for part in places if part]


def _mine(graphs: Any, chosen: list[int], part: int, parts: int) -> list[int]:
    """The share of a process."""
    return chosen if parts == 1 else share(chosen, _n_edges(graphs, chosen), part, parts)


def _n_edges(graphs: Any, chosen: Sequence[int]) -> list[int]:
    if isinstance(graphs, ShardDataset):
        return graphs.n_edges(chosen)
    return [int(graphs[k].edge_index.shape[1]) for k in chosen]


def _blank(graph: Data) -> Data:
    """A structure without labels."""
    blank = graph.clone()
    for name in LABELS:
        if name in blank:
            blank[name] = torch.full_like(blank[name], torch.nan)
    return blank
