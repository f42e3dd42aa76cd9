"""Where the numbers of irreps stand: e3nn's order, and ours with channels last."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Block = tuple[int, int]  # multiplicity, number of components
_WIDE = 16  # channels from which on one group with fewer of them beats several groups


class _Permute(torch.autograd.Function):
    """Columns in another order; its derivative is the order back, which autograd does not know."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        return x.index_select(-1, index)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])
        ctx.save_for_forward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        index, inverse = ctx.saved_tensors
        return _permute(g, inverse, index), None, None

    @staticmethod
    def jvp(ctx: Any, x: Tensor, *_: Any) -> Tensor:
        index, inverse = ctx.saved_tensors
        return _permute(x, index, inverse)


def _permute(x: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
    if torch.compiler.is_compiling() or not (torch.is_grad_enabled() and x.requires_grad):
        return x.index_select(-1, index)
    done: Tensor = _Permute.apply(x, index, inverse)  # type: ignore[no-untyped-call]
    return done


class Permutation(nn.Module):
    """Columns in another order, and back."""

    def __init__(self, index: Sequence[int] | Tensor) -> None:
        super().__init__()
        order = torch.as_tensor(index, dtype=torch.int64)
        self.identity = bool((order == torch.arange(len(order))).all())
        self.register_buffer("index", order, persistent=False)
        self.register_buffer("inverse", torch.argsort(order), persistent=False)
        self.index: Tensor
        self.inverse: Tensor

    def forward(self, x: Tensor) -> Tensor:  # (..., d) -> (..., d)
        """Take column ``index[q]`` to q."""
        return x if self.identity else _permute(x, self.index, self.inverse)

    def back(self, x: Tensor) -> Tensor:  # (..., d) -> (..., d)
        """Take column q to ``index[q]``."""
        return x if self.identity else _permute(x, self.inverse, self.index)


def groups(muls: Iterable[int]) -> list[tuple[int, set[int]]]:
    """Group multiplicities whose blocks can stand side by side as channels.

    A common divisor wide enough for vectors makes one group of all: there a block of 64 is two
    blocks of 32 channels.

    Returns:
        Number of channels and multiplicities of each group.
    """
    found = sorted(set(muls))
    common = math.gcd(*found)
    if len(found) > 1 and common >= _WIDE:
        return [(common, set(found))]
    return [(mul, {mul}) for mul in found]


def split(x: Tensor, sizes: Sequence[int]) -> Sequence[Tensor]:  # (..., d) -> (..., size) each
    """Take columns apart; one part is the tensor itself, whose gradient is not copied then."""
    return [x] if len(sizes) == 1 else x.split(list(sizes), -1)


class Arrangement(nn.Module):
    """Take rows of irreps apart into groups ``(n, components, channels)``, and put them together.

    Copy a of a block, where the block has more multiplicity than its group has channels, stands at
    ``start[block] + a d``, d its number of components.

    Args:
        blocks: Multiplicity and number of components of each block.
        parts: Channels and blocks of each group. No block is in two.
    """

    def __init__(self, blocks: Sequence[Block], parts: list[tuple[int, list[int]]]) -> None:
        super().__init__()
        self.start: dict[int, int] = {}
        self.shapes: list[tuple[int, int]] = []
        places = torch.arange(sum(mul * d for mul, d in blocks))
        slices, order = places.split([mul * d for mul, d in blocks]), []
        for channels, members in parts:
            size = 0
            for block in members:
                mul, d = blocks[block]
                self.start[block] = size
                size += mul // channels * d
                order.append(slices[block].view(-1, channels, d).mT.flatten())
            self.shapes.append((size, channels))
        left = [part for block, part in enumerate(slices) if block not in self.start]
        self.left = sum(len(part) for part in left)
        self.permutation = Permutation(torch.cat([*order, *left, places[:0]]))

    def split(self, x: Tensor) -> list[Tensor]:  # (n, dim) -> (n, i, c) each
        """Take apart; blocks of no group are left out."""
        sizes = [i * c for i, c in self.shapes]
        sizes = [*sizes, self.left] if self.left or not sizes else sizes
        parts = split(self.permutation(x), sizes)
        return [
            part.unflatten(-1, shape).contiguous()
            for part, shape in zip(parts, self.shapes, strict=False)
        ]

    def join(self, parts: list[Tensor], like: Tensor, n: int) -> Tensor:  # (n, i, c) -> (n, dim)
        """Put together; blocks of no group are zero."""
        flat = [part.flatten(1) for part in parts]
        if self.left or not flat:
            flat.append(like.new_zeros(n, self.left))
        return self.permutation.back(flat[0] if len(flat) == 1 else torch.cat(flat, 1))
