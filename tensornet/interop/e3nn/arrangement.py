"""Where the numbers of irreps stand: e3nn's order, and ours with channels last."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

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


def groups(blocks: Iterable[tuple[int, int]]) -> list[tuple[int, list[int]]]:
    """Group blocks, given with their multiplicities, that can stand side by side as channels.

    Blocks with a common divisor of multiplicities wide enough for vectors make one group: a block
    of 64 channels is two blocks of 32 there.

    Returns:
        Number of channels and blocks of each group.
    """
    muls = dict(sorted((block, mul) for block, mul in blocks if mul > 0))
    if not muls:
        return []
    common = math.gcd(*muls.values())
    if common >= _WIDE or len(set(muls.values())) == 1:
        return [(common, list(muls))]
    by_mul: dict[int, list[int]] = {}
    for block, mul in muls.items():
        by_mul.setdefault(mul, []).append(block)
    return list(by_mul.items())


class Arrangement(nn.Module):
    """Take rows of irreps apart into groups ``(n, components, channels)``, and put them together.

    Copy a of a block, where the block has more multiplicity than its group has channels, stands at
    ``start[block] + a d``, d its number of components.
    """

    def __init__(self, irreps: Any, parts: list[tuple[int, list[int]]]) -> None:
        super().__init__()
        self.group: dict[int, int] = {}
        self.start: dict[int, int] = {}
        self.shapes: list[tuple[int, int]] = []
        slices, order = irreps.slices(), []
        for number, (channels, blocks) in enumerate(parts):
            size = 0
            for block in blocks:
                mul, d = irreps[block].mul, irreps[block].ir.dim
                self.group[block], self.start[block] = number, size
                size += mul // channels * d
                own = torch.arange(slices[block].start, slices[block].stop)
                order.append(own.view(-1, channels, d).mT.flatten())
            self.shapes.append((size, channels))
        left = [torch.arange(s.start, s.stop) for b, s in enumerate(slices) if b not in self.group]
        self.left = sum(len(part) for part in left)
        self.permutation = Permutation(torch.cat([*order, *left, torch.empty(0)]).long())

    def split(self, x: Tensor) -> list[Tensor]:  # (n, dim) -> (n, i, c) each
        """Take apart; blocks of no group are left out."""
        sizes = [i * c for i, c in self.shapes]
        parts = self.permutation(x).split([*sizes, self.left], -1)
        return [p.unflatten(-1, s) for p, s in zip(parts[:-1], self.shapes, strict=True)]

    def join(self, parts: list[Tensor], like: Tensor, n: int) -> Tensor:  # (n, i, c) -> (n, dim)
        """Put together; blocks of no group are zero."""
        flat = [part.flatten(1) for part in parts]
        if self.left or not flat:
            flat.append(like.new_zeros(n, self.left))
        return self.permutation.back(flat[0] if len(flat) == 1 else torch.cat(flat, 1))
