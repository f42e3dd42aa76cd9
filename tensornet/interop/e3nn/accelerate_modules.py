"""Modules of e3nn in faster forms that need no kernel of their own: maps, networks, gates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tensornet.interop.e3nn.accelerate_swap import Swapped, UnsuitableError
from tensornet.interop.e3nn.harmonics import SphericalHarmonics
from tensornet.kernels import harmonics


@dataclass(frozen=True)
class Mixing:
    """How channels of one irrep are mixed: blocks of input and output, and the weights between.

    Args:
        d: Components of the irrep.
        ins: Blocks of the input.
        outs: Blocks of the output.
        weights: Of every input block and output block, its instruction.
    """

    d: int
    ins: tuple[int, ...]
    outs: tuple[int, ...]
    weights: tuple[tuple[int, ...], ...]


def mixings(irreps_in: Any, irreps_out: Any, pairs: Sequence[tuple[int, int]]) -> list[Mixing]:
    """Group instructions ``(block of the input, block of the output)`` of a linear map by irrep.

    Raises:
        UnsuitableError: If some blocks of an irrep are not connected, or connected twice.
    """
    numbers: dict[tuple[int, int], int] = {}
    for number, pair in enumerate(pairs):
        if pair in numbers:
            raise UnsuitableError("two paths connect the same blocks")
        numbers[pair] = number
    made = []
    for ir in dict.fromkeys(irreps_out[o].ir for _, o in pairs):
        ins = sorted({i for i, o in pairs if irreps_out[o].ir == ir})
        outs = sorted({o for _, o in pairs if irreps_out[o].ir == ir})
        if any((i, o) not in numbers for i in ins for o in outs):
            raise UnsuitableError("only some blocks of an irrep are connected")
        weights = tuple(tuple(numbers[i, o] for o in outs) for i in ins)
        made.append(Mixing(ir.dim, tuple(ins), tuple(outs), weights))
    return made


def matrix(mixing: Mixing, weights: Sequence[Tensor]) -> Tensor:  # (u, ..., w)
    """Put the weights between blocks together."""
    rows = [joined([weights[n] for n in row]) for row in mixing.weights]
    return torch.cat(rows) if len(rows) > 1 else rows[0]


def mix(
    x: Tensor,  # (n, dim_in)
    irreps_in: Any,
    irreps_out: Any,
    listed: Sequence[Mixing],
    matrices: Sequence[Tensor],  # (u, w) each
) -> Tensor:  # (n, dim_out)
    """Multiply the channels of each irrep by its matrix."""
    if len(listed) == 1 and len(irreps_in) == len(irreps_out) == listed[0].d == 1:
        return x @ matrices[0]
    blocks = x.split_with_sizes([block.dim for block in irreps_in], 1)
    made: list[Tensor | None] = [None] * len(irreps_out)
    for mixing, w in zip(listed, matrices, strict=True):
        u = joined([blocks[i] for i in mixing.ins])
        if mixing.d == 1:
            out = u @ w
        else:
            out = torch.matmul(w.mT, u.view(len(u), -1, mixing.d)).flatten(1)
        if len(mixing.outs) == 1:
            made[mixing.outs[0]] = out
            continue
        sizes = [irreps_out[o].dim for o in mixing.outs]
        for o, part in zip(mixing.outs, out.split_with_sizes(sizes, 1), strict=True):
            made[o] = part
    for o, block in enumerate(irreps_out):
        if made[o] is None:
            made[o] = x.new_zeros(len(x), block.dim)
    return joined([part for part in made if part is not None])


def scaled(weight: Tensor, factors: Sequence[float], shapes: Sequence[tuple[int, ...]]) -> Any:
    """Take the weights of instructions apart, each times a factor."""
    sizes = [math.prod(shape) for shape in shapes]
    if len(set(factors)) == 1:
        parts = (weight * factors[0]).split_with_sizes(sizes)
        return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
    parts = weight.split_with_sizes(sizes)
    return [p.view(s) * f for p, s, f in zip(parts, shapes, factors, strict=True)]


class FastLinear(Swapped):
    """`e3nn.o3.Linear`: one product of matrices per irrep, however many blocks it has."""

    how = "one matrix per irrep"
    instructions: Any
    irreps_in: Any
    irreps_out: Any
    weight: Tensor
    weight_numel: int

    def make(self) -> tuple[list[Mixing], list[float], list[tuple[int, ...]]]:
        """Group the instructions; their factors and shapes."""
        if not self.shared_weights:
            raise UnsuitableError("weights of its own per row")
        if self.weight.ndim > 1:
            raise UnsuitableError("extra axes of channels (f_in, f_out)")
        if any(ins.i_in < 0 for ins in self.instructions):
            raise UnsuitableError("biases")
        if not self.instructions or any(0 in ins.path_shape for ins in self.instructions):
            raise UnsuitableError("empty paths")
        pairs = [(ins.i_in, ins.i_out) for ins in self.instructions]
        listed = mixings(self.irreps_in, self.irreps_out, pairs)
        shapes = [tuple(ins.path_shape) for ins in self.instructions]
        return listed, [float(ins.path_weight) for ins in self.instructions], shapes

    def example(self, like: Tensor) -> tuple[Any, ...]:
        """Some rows."""
        weight = () if self.internal_weights else (like.new_empty(self.weight_numel).normal_(),)
        return like.new_empty(5, self.irreps_in.dim).normal_().requires_grad_(), *weight

    def forward(
        self,
        features: Tensor,  # (..., dim_in)
        weight: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:  # (..., dim_out)
        """Map."""
        weight = self.weight if weight is None else weight
        if bias is not None or weight.ndim > 1:
            return self.plain(features, weight, bias)  # type: ignore[no-any-return]
        listed, factors, shapes = self.part(features)
        flat = features.reshape(-1, self.irreps_in.dim)
        views = scaled(weight, factors, shapes)
        matrices = [matrix(mixing, views) for mixing in listed]
        out = mix(flat, self.irreps_in, self.irreps_out, listed, matrices)
        return out.view(*features.shape[:-1], self.irreps_out.dim)


class FastNetwork(Swapped):
    """`e3nn.nn.FullyConnectedNet`: constants go into the weights instead of over every row."""

    how = "constants folded into the weights"

    def make(self) -> list[tuple[str, float, Any, float]]:
        """Name, factor of the weights, activation and factor after it, of each layer."""
        made = []
        layers: list[tuple[str, Any]] = list(self.named_children())
        for name, layer in layers:
            if type(layer).__name__ != "_Layer" or not hasattr(layer, "var_out"):
                raise UnsuitableError(f"layer {name} is not e3nn's")
            if layer.act is None:
                factor = (layer.h_in * layer.var_in / layer.var_out) ** -0.5
                made.append((name, factor, None, 1.0))
                continue
            function, constant = getattr(layer.act, "f", None), getattr(layer.act, "cst", None)
            if function is None or constant is None:
                raise UnsuitableError(
                    f"the activation of layer {name} is not e3nn's normalised one"
                )
            after = 1.0 if getattr(layer.act, "_is_id", False) else float(constant)
            factor = (layer.h_in * layer.var_in) ** -0.5
            made.append((name, factor, function, after * layer.var_out**0.5))
        return made

    def example(self, like: Tensor) -> tuple[Any, ...]:
        """Some rows."""
        first = next(iter(self.parameters()))
        return (like.new_empty(5, first.shape[0]).normal_().requires_grad_(),)

    def forward(
        self,
        x: Tensor,  # (..., r)
    ) -> Tensor:  # (..., w)
        """Evaluate."""
        before = 1.0
        layers: Any = self._modules
        for name, factor, function, after in self.part(x):
            x = x @ (layers[name].weight * (factor * before))
            before = 1.0
            if function is not None:
                x, before = function(x), after
        return x if before == 1.0 else x * before


class FastGate(Swapped):
    """`e3nn.nn.Gate` without copies of what it takes apart."""

    how = "blocks taken apart once"
    sc: Any
    act_scalars: Any
    act_gates: Any
    irreps_gated: Any

    def make(self) -> list[tuple[int, ...]]:
        """Blocks of scalars, gates and gated features."""
        cut = self.sc.cut
        if len(cut.irreps_outs) != 3 or sum(len(i) for i in cut.instructions) != len(cut.irreps_in):
            raise UnsuitableError("it is not made of scalars, gates and gated features")
        return list(cut.instructions)

    def example(self, like: Tensor) -> tuple[Any, ...]:
        """Some rows."""
        return (like.new_empty(5, self.sc.cut.irreps_in.dim).normal_().requires_grad_(),)

    def forward(
        self,
        features: Tensor,  # (..., dim_in)
    ) -> Tensor:  # (..., dim_out)
        """Gate."""
        blocks = features.split([block.dim for block in self.sc.cut.irreps_in], -1)
        scalars, gates, gated = ([blocks[i] for i in part] for part in self.part(features))
        if not gates:
            return self.act_scalars(joined(scalars))  # type: ignore[no-any-return]
        numbers = self.act_gates(joined(gates)).split([mul for mul, _ in self.irreps_gated], -1)
        done = [
            (block.unflatten(-1, (mul, ir.dim)) * own[..., None]).flatten(-2)
            for block, own, (mul, ir) in zip(gated, numbers, self.irreps_gated, strict=True)
        ]
        if scalars:
            done = [self.act_scalars(joined(scalars)), *done]
        return joined(done)


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Put columns side by side."""
    return torch.cat(list(parts), -1) if len(parts) > 1 else parts[0]


class FastHarmonics(Swapped):
    """`e3nn.o3.SphericalHarmonics`, by a kernel that has its derivatives."""

    how = "one kernel for all degrees"
    kernel = harmonics
    normalize: bool
    normalization: str

    def make(self) -> SphericalHarmonics:
        """Read the degrees."""
        if not self.normalize:
            raise UnsuitableError("vectors are not normalised")
        read: Any = self
        return SphericalHarmonics(list(read._ls_list), True, self.normalization, read.irreps_in)

    def example(self, like: Tensor) -> tuple[Any, ...]:
        """Some vectors."""
        return (like.new_empty(5, 3).normal_().requires_grad_(),)

    def forward(
        self,
        x: Tensor,  # (..., 3)
    ) -> Tensor:  # (..., m)
        """Evaluate."""
        return self.part(x)(x)  # type: ignore[no-any-return]
