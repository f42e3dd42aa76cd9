"""The linear network of directions: a V-cycle of learned stencils, symmetric and positive definite.

On every grid it computes ``Q (G' G + floor) Q r + gain C M C' r``, with the same network M on the
next grid; Q is a diagonal, G a product of symmetric stencils, C the interpolation. All but Q, the
inverse on the coarsest grid and the shape of stencils is learned.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tensornet.kernels import _bridge
from tensornet.models.direction_grid import (
    Cells,
    Hierarchy,
    combined,
    hierarchy,
    neighbours,
    prolongation,
    restriction,
)
from tensornet.pde import Domain, StencilOperator
from tensornet.pde.operator import LinearOperator

if TYPE_CHECKING:
    from tensornet.models.direction_sweeps import Sweep


@dataclass(frozen=True)
class Weights:
    """What a network does on one grid.

    Args:
        stencils: ``(steps, 2, 2, 2)``: the weights of G by the distance along each axis.
        stencil_ends: What is added to the diagonal of each, a field ``(1, i, j, k)``.
        transfer: ``(2, 2, 2)``: the weights of C for parents and the nearer neighbours of parents.
        transfer_ends: What is added to the weight of the parent, ``(1, i, j, k)``.
        floor: Positive multiple of the identity.
        gain: Positive factor of what the next grid finds.
    """

    stencils: Tensor
    stencil_ends: tuple[Tensor, ...]
    transfer: Tensor
    transfer_ends: Tensor
    floor: Tensor
    gain: Tensor


class LinearDirection(nn.Module):
    """Weights of the linear network; those of the last grid serve all coarser ones.

    Args:
        dim: Number of axes.
        grids: How many grids have weights of their own.
        steps: How many stencils G is made of.
    """

    def __init__(self, dim: int, grids: int, steps: int) -> None:
        super().__init__()
        sizes = (1,) * (3 - dim) + (2,) * dim
        distance = torch.stack(
            torch.meshgrid(*(torch.arange(n) for n in sizes), indexing="ij")
        ).sum(0)
        stencil = 0.9 * (distance == 0) + 0.18 / dim * (distance == 1)
        linear = 0.75 ** (dim - distance) * 0.25**distance
        ends = torch.tensor([1.0, -1.0, 0.0, 0.0])
        self.stencils = nn.Parameter(stencil.expand(grids, steps, *sizes).clone())
        self.transfers = nn.Parameter(linear.expand(grids, *sizes).clone())
        self.stencil_ends = nn.Parameter(ends.expand(grids, steps, 4).clone())
        self.transfer_ends = nn.Parameter(ends.expand(grids, 4).clone())
        self.floors = nn.Parameter(torch.full((grids,), -3.0))
        self.gains = nn.Parameter(torch.zeros(grids))

    def on(self, cells: Cells, depth: int) -> Weights:
        """Give the weights on a grid, with what walls and held values change.

        Args:
            cells: The grid.
            depth: Its number, zero for the finest.
        """
        g = min(depth, len(self.gains) - 1)
        stencils, transfer = self.stencils[g], self.transfers[g]
        many = torch.tensor([1.0, 2.0]).to(stencils)
        ends = []
        for weights, rule in zip(stencils, self.stencil_ends[g], strict=True):
            total = weights
            for axis in range(3):
                if weights.shape[axis] == 2:
                    total = total * many.reshape([2 if a == axis else 1 for a in range(3)])
            lost = total.sum() - combined(cells.active, weights, neighbours(cells))
            ends.append(_ends(cells, lost, rule))
        for axis, by in enumerate(cells.by):
            if by == 1:  # a parent and its neighbour are the same
                transfer = transfer.sum(axis, keepdim=True)
        lost = transfer.sum() - combined(cells.active_next, transfer, prolongation(cells))
        return Weights(
            stencils,
            tuple(ends),
            transfer,
            _ends(cells, lost, self.transfer_ends[g]),
            self.floors[g].exp(),
            self.gains[g].exp(),
        )

    def forward(self, r: Tensor, grids: Hierarchy, depth: int = 0) -> Tensor:
        """Propose directions for residuals, with derivatives in everything.

        Args:
            r: Residuals ``(b, i, j, k)``, zero in inactive cells.
            grids: The grids.
            depth: The grid they are on.
        """
        if depth == len(grids.grids):
            return (r.flatten(1) @ grids.inverse).reshape(r.shape)
        cells = grids.grids[depth]
        w, around = self.on(cells, depth), neighbours(cells)
        down, up = restriction(cells), prolongation(cells)
        own = torch.zeros_like(w.transfer)
        own.view(-1)[0] = 1

        start = y = cells.scale * r
        chain = list(zip(w.stencils, w.stencil_ends, strict=True))
        for stencil, ends in (*chain, *chain[::-1]):
            y = cells.active * combined(y, stencil, around) + ends * y
        coarse = combined(r, w.transfer, down) + combined(w.transfer_ends * r, own, down)
        found = self(cells.active_next * coarse, grids, depth + 1)
        far = combined(found, w.transfer, up)
        far = cells.active * far + w.transfer_ends * combined(found, own, up)
        result: Tensor = cells.scale * (y + w.floor * start) + w.gain * far
        return result


def _ends(cells: Cells, lost: Tensor, rule: Tensor) -> Tensor:
    """What walls give back of the weights that are lost, and held values take."""
    back = lost * (rule[0] + rule[1] * cells.held_share)
    return cells.active * (back + rule[2] * cells.missing + rule[3] * cells.held)


class Direction(LinearOperator):
    """A linear network on one operator: symmetric, positive definite. See `DirectionNet.bind`.

    Attributes:
        shapes: Of the grids, finest first.
    """

    symmetric = True

    def __init__(self, net: LinearDirection, A: StencilOperator, precision: torch.dtype) -> None:
        self.domain, self.shape = A.domain, A.shape
        self.dtype, self.device = A.dtype, A.device
        self._precision = precision
        self._net = deepcopy(net).to(self.device, precision).requires_grad_(False)
        self._grids = hierarchy(A, precision)
        self.shapes = [*(cells.shape for cells in self._grids.grids), self._grids.shape]
        self._sweeps = self._in_memory() if self._plain() else None

    def _plain(self) -> bool:
        """Whether the loops on the CPU can run: they join the ends of even rings only."""
        rings = (
            around and n % 2
            for cells in self._grids.grids
            for around, n in zip(cells.periodic, cells.shape, strict=True)
        )
        return self.device.type == "cpu" and bool(self._grids.grids) and not any(rings)

    def _in_memory(self) -> _Memory:
        from tensornet.models.direction_sweeps import Last, Sweep

        grids = self._grids.grids
        last = Last(self._grids.inverse, self._grids.shape, grids[-1].periodic)
        after: Last | Sweep = last
        total = self._grids.inverse.nbytes
        for depth, cells in reversed(list(enumerate(grids))):
            after = Sweep(cells, self._net.on(cells, depth), after)
            total += after.n_bytes
        assert isinstance(after, Sweep)
        runs = after.room.runs(self.domain.place, self.domain.grid.shape)
        self._grids = replace(self._grids, grids=())  # they are in the fields now
        return _Memory(after, runs, total, Lock())

    @property
    def n_bytes(self) -> int:
        """Memory of all grids, with their vectors for one right-hand side."""
        if self._sweeps is not None:
            return self._sweeps.n_bytes
        fields = (
            part
            for cells in self._grids.grids
            for part in (cells.active, cells.scale, cells.missing, cells.held)
        )
        return sum(part.nbytes for part in fields) + self._grids.inverse.nbytes

    def _apply(self, x: Tensor) -> Tensor:
        found: Tensor = _Map.apply(self, x)  # type: ignore[no-untyped-call]
        return found

    def run(self, x: Tensor) -> Tensor:  # (b, n) -> (b, n)
        """Propose directions, without derivatives.

        Args:
            x: Residuals.
        """
        size = x.detach().abs().amax(1, keepdim=True)  # single precision holds few magnitudes
        size = torch.where((size > 0) & size.isfinite(), size, 1.0)
        if self._sweeps is None:
            grids = replace(self._grids, unit=1.0)
            found = propose(self._net, grids, self.domain, (x / size).to(self._precision))
            return found.to(x) * (size / self._grids.unit)
        out, unit = torch.empty_like(x), self._grids.unit
        rows = zip(x.detach().contiguous(), out, size[:, 0].tolist(), strict=True)
        for row, into, amount in rows:
            here, there = _bridge.arrays(row, into)
            self._sweeps.run(here, there, 1 / amount, amount / unit)
        return out


@dataclass(frozen=True)
class _Memory:
    """Fields that are used again by every call, by one thread at a time."""

    first: Sweep
    runs: tuple[Any, Any, Any]
    n_bytes: int
    lock: Lock

    def run(self, x: Any, out: Any, before: float, after: float) -> None:
        from tensornet.kernels.cycle.cpu import gather, spread_out

        first = self.first
        with self.lock:
            spread_out(x, before, *self.runs, first.scale, first.r, first.s)
            first.run()
            gather(first.x, after, *self.runs, out)


def propose(net: LinearDirection, grids: Hierarchy, domain: Domain, x: Tensor) -> Tensor:
    """Propose directions with derivatives in weights and vectors.

    Args:
        net: The weights.
        grids: The grids.
        domain: Where the vectors live.
        x: Residuals ``(b, n)``, of the dtype of the weights.
    """
    field = domain.embed(x)
    missing = 3 - domain.grid.dim
    found: Tensor = net(field.reshape(len(x), *(1,) * missing, *domain.grid.shape), grids)
    return domain.restrict(found.reshape(field.shape)) / grids.unit


class _Map(torch.autograd.Function):
    """A symmetric map is its own derivative."""

    @staticmethod
    def forward(context: Any, M: Direction, x: Tensor) -> Tensor:
        context.M = M
        return M.run(x)

    @staticmethod
    def backward(context: Any, *grads: Tensor) -> Any:
        return None, _Map.apply(context.M, grads[0])  # type: ignore[no-untyped-call]
