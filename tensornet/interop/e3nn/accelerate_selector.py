"""Self-connections: products with scalars of few kinds, such as one row per species."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tensornet.interop.e3nn.accelerate_modules import Mixing, matrix, mix, mixings
from tensornet.interop.e3nn.accelerate_swap import Swapped, UnsuitableError


class FastSelector(Swapped):
    """Fully connected products with scalars of few kinds, such as one row per species.

    Rows whose scalars are equal share one matrix per irrep, made of the weights once per kind,
    where the product multiplies every pair of channels. Told apart by what they are, not by what
    they should be: scalars that differ from row to row are right as well, only slow.
    """

    how = "one matrix per species"
    instructions: Any
    irreps_in1: Any
    irreps_in2: Any
    irreps_out: Any
    weight: Tensor
    weight_numel: int

    def make(self) -> list[Mixing]:
        """Group the instructions."""
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
        return mixings(self.irreps_in1, self.irreps_out, pairs)

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
                return self._selected(x, y, weight, *kinds)
        return self.plain(x, y, weight)  # type: ignore[no-any-return]

    def _selected(
        self, x: Tensor, y: Tensor, weight: Tensor, first: Tensor, kind: Tensor
    ) -> Tensor:  # (n, dim_out)
        """Rows of one kind after another, each kind by its own matrices."""
        scalars, views, at = y.index_select(0, first), [], 0
        for ins in self.instructions:
            u, z, w = ins.path_shape
            factor = ins.path_weight / self.irreps_in1[ins.i_in1].ir.dim ** 0.5
            own = weight[at : at + u * z * w].view(u, z, w) * factor
            views.append(torch.einsum("kz,uzw->kuw", scalars, own))
            at += u * z * w
        listed = self.part(x)
        matrices = [matrix(mixing, views) for mixing in listed]
        irreps = self.irreps_in1, self.irreps_out
        if len(first) == 1:
            return mix(x, *irreps, listed, [m[0] for m in matrices])
        order = torch.argsort(kind, stable=True)
        counts = torch.bincount(kind, minlength=len(first)).tolist()
        rows = x.index_select(0, order).split(counts)
        done = [mix(r, *irreps, listed, [m[k] for m in matrices]) for k, r in enumerate(rows)]
        return torch.cat(done).index_select(0, torch.argsort(order))


def distinct(
    y: Tensor,  # (n, z)
    species: Tensor | None = None,  # (n or more,)
) -> tuple[Tensor, Tensor] | None:
    """Find the rows that differ.

    Args:
        y: Rows.
        species: What the rows depend on, where it is known; without it, rows that need gradients
            cannot share them.

    Returns:
        One row of each kind and the kind of each row, or none if that does not pay.
    """
    if not len(y) or (species is None and y.requires_grad):
        return None
    if species is None:
        mixed = (y * torch.arange(1, y.shape[1] + 1, device=y.device).to(y.dtype).sqrt()).sum(1)
    else:
        mixed = species.flatten()[: len(y)]
    kind = torch.unique(mixed, return_inverse=True)[1]
    n_kinds = int(kind.max()) + 1
    if n_kinds > max(1, len(y) // 2):
        return None
    first = kind.new_empty(n_kinds)
    first[kind] = torch.arange(len(y), device=y.device)
    with torch.no_grad():
        same = torch.equal(y.index_select(0, first).index_select(0, kind), y)
    return (first, kind) if same else None
