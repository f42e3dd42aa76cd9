"""Self-connections: products with scalars of few kinds, such as one row per species."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tensornet.interop.e3nn.accelerate_modules import Mixing, matrix, mix, mixings, scaled
from tensornet.interop.e3nn.accelerate_swap import Swapped, UnsuitableError


class FastSelector(Swapped):
    """Fully connected products with scalars of few kinds, such as one row per species.

    Rows whose scalars are equal share one matrix per irrep, made of the weights once per kind,
    where the product multiplies every pair of channels. Rows are compared by their numbers:
    scalars that differ from row to row give right results too, only more slowly.
    """

    how = "one matrix per species"
    instructions: Any
    irreps_in1: Any
    irreps_in2: Any
    irreps_out: Any
    weight: Tensor
    weight_numel: int

    def make(self) -> tuple[list[Mixing], list[float], list[tuple[int, ...]]]:
        """Group the instructions; their factors and shapes."""
        if len(self.irreps_in2) != 1 or self.irreps_in2[0].ir.l != 0:
            raise UnsuitableError("the second operand is not one block of scalars")
        if self.irreps_in2[0].ir.p != 1:
            raise UnsuitableError("the second operand is odd")
        if not self.instructions or any(
            ins.connection_mode != "uvw" or not ins.has_weight or 0 in ins.path_shape
            for ins in self.instructions
        ):
            raise UnsuitableError("paths are not all fully connected")
        if not self.shared_weights:
            raise UnsuitableError("weights of its own per row")
        pairs = [(ins.i_in1, ins.i_out) for ins in self.instructions]
        listed = mixings(self.irreps_in1, self.irreps_out, pairs)
        factors = [
            ins.path_weight / self.irreps_in1[ins.i_in1].ir.dim ** 0.5 for ins in self.instructions
        ]
        return listed, factors, [tuple(ins.path_shape) for ins in self.instructions]

    def example(self, like: Tensor) -> tuple[Any, ...]:
        """Rows of two kinds."""
        kinds = like.new_empty(2, self.irreps_in2.dim).normal_()
        x = like.new_empty(5, self.irreps_in1.dim).normal_().requires_grad_()
        weight = () if self.internal_weights else (like.new_empty(self.weight_numel).normal_(),)
        return x, kinds[[0, 1, 1, 0, 1]], *weight

    def forward(
        self,
        x: Tensor,  # (n, dim1)
        y: Tensor,  # (n, z)
        weight: Tensor | None = None,
    ) -> Tensor:  # (n, dim_out)
        """Select and map."""
        weight = self.weight if weight is None else weight
        traced = torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0
        plain = isinstance(weight, Tensor) and weight.ndim == 1 and x.ndim == 2 and len(x) == len(y)
        if plain and not traced:
            kinds = distinct(y, self.__dict__.get("species"))
            if kinds is not None:
                return self._selected(x, y, weight, kinds)
        return self.plain(x, y, weight)  # type: ignore[no-any-return]

    def _selected(self, x: Tensor, y: Tensor, weight: Tensor, kinds: Kinds) -> Tensor:
        """Rows of one kind after another, each kind by its own matrices."""
        listed, factors, shapes = self.part(x)
        scalars = y.index_select(0, kinds.first)  # (k, z)
        views = [torch.matmul(scalars, own) for own in scaled(weight, factors, shapes)]  # (u, k, w)
        matrices = [matrix(mixing, views) for mixing in listed]
        irreps = self.irreps_in1, self.irreps_out
        if len(kinds.counts) == 1:
            return mix(x, *irreps, listed, [m[:, 0] for m in matrices])
        rows = x.index_select(0, kinds.order).split_with_sizes(kinds.counts)
        done = [mix(r, *irreps, listed, [m[:, k] for m in matrices]) for k, r in enumerate(rows)]
        return torch.cat(done).index_select(0, kinds.back)


@dataclass(frozen=True)
class Kinds:
    """Which rows are of one kind.

    Args:
        first: A row of each kind, (k,).
        kind: Kind of each row, (n,).
        order: Rows, one kind after another, (n,).
        back: The order that undoes it, (n,).
        counts: Rows of each kind.
    """

    first: Tensor
    kind: Tensor
    order: Tensor
    back: Tensor
    counts: list[int]


def distinct(
    y: Tensor,  # (n, z)
    species: Tensor | None = None,  # (n or more,)
) -> Kinds | None:
    """Find the rows that differ.

    Args:
        y: Rows.
        species: What the rows depend on, where it is known; without it, rows that need gradients
            cannot share them.

    Returns:
        The kinds, or none if they do not pay.
    """
    if not len(y) or (species is None and y.requires_grad):
        return None
    kinds = _recent(y if species is None else species, len(y))
    if kinds is None:
        return None
    with torch.no_grad():
        same = torch.equal(y.index_select(0, kinds.first).index_select(0, kinds.kind), y)
    return kinds if same else None


_last: list[tuple[Any, int, int, Kinds | None]] = []  # layers ask the same one after another


def _recent(told: Tensor, n: int) -> Kinds | None:
    """Sort rows by kind, or take the answer of last time."""
    if told.is_inference():
        return _sorted(told, n)
    for tensor, version, rows, kinds in _last:
        if tensor() is told and version == told._version and rows == n:
            return kinds
    found = _sorted(told, n)
    _last[:] = [(weakref.ref(told), told._version, n, found)]
    return found


def _sorted(told: Tensor, n: int) -> Kinds | None:
    if told.is_floating_point():
        told = (told * torch.arange(1, told.shape[1] + 1).to(told).sqrt()).sum(1)
    kind = torch.unique(told.detach().flatten()[:n], return_inverse=True)[1]
    counts = torch.bincount(kind).tolist()
    if len(counts) > max(1, n // 2):
        return None
    first = kind.new_empty(len(counts))
    first[kind] = torch.arange(n, device=kind.device)
    order = torch.argsort(kind, stable=True)
    return Kinds(first, kind, order, torch.argsort(order), counts)
