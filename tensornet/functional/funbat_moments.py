"""Sums over scattered entries that the functional Tucker and CP models need, in batches.

First and second moments go through the same contractions: a second moment of a factor, symmetric,
is kept as the row of its upper triangle, and the second moment of the core is summed accordingly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from math import prod
from string import ascii_letters

import torch
from torch import Tensor

from tensornet.linalg.contraction import contract
from tensornet.linalg.mode_product import mode_multiplied

# Numbers of the largest temporary of a batch.
_BATCH = 2_000_000


@cache
def pairing(rank: int) -> Tensor:  # (r r, r (r + 1) / 2)
    """Give the matrix of zeros and ones that says which entries of a matrix are which pair.

    Args:
        rank: Size r of the matrix.
    """
    row, column = torch.triu_indices(rank, rank)
    matrix = torch.zeros(rank, rank, len(row), dtype=torch.float64)
    pair = torch.arange(len(row))
    matrix[row, column, pair] = 1.0
    matrix[column, row, pair] = 1.0
    return matrix.reshape(rank * rank, -1)


def packed(matrix: Tensor) -> Tensor:  # (..., r, r) -> (..., r (r + 1) / 2)
    """Give the upper triangle of symmetric matrices as rows.

    Args:
        matrix: The matrices.
    """
    row, column = torch.triu_indices(matrix.shape[-1], matrix.shape[-1])
    return matrix[..., row, column]


def unpacked(rows: Tensor, rank: int) -> Tensor:  # (..., r (r + 1) / 2) -> (..., r, r)
    """Give symmetric matrices A such that the inner product with any B is that of rows.

    ``sum(A * B)`` is ``sum(rows * packed(B))``: entries off the diagonal are halved.

    Args:
        rows: Numbers of each pair.
        rank: Size of the matrices.
    """
    pairs = pairing(rank)
    square = rows @ (pairs / pairs.sum(0)).mT
    return square.reshape(*rows.shape[:-1], rank, rank)


class Moments:
    """Contractions of a core with rows of factors, one row of each mode per entry.

    Args:
        index: Which row each entry takes, one tensor (n,) per mode.
        ranks: Rank of each mode.
        diagonal: Whether the core holds its superdiagonal only, as in CP.
    """

    def __init__(self, index: Sequence[Tensor], ranks: Sequence[int], diagonal: bool) -> None:
        self.index = list(index)
        self.ranks = tuple(ranks)
        self.diagonal = diagonal
        self.n = len(self.index[0])
        letters = ascii_letters.replace("z", "")[: len(ranks)]  # z counts the entries
        self._axes = ["a"] * len(ranks) if diagonal else list(letters)
        self._core = "a" if diagonal else letters

    @property
    def core_shape(self) -> tuple[int, ...]:
        """Shape of the core that is kept."""
        return self.ranks[:1] if self.diagonal else self.ranks

    def _batches(self, core: Tensor) -> Iterator[slice]:
        widest = max(core.numel() // min(core.shape), max(core.shape))
        step = max(1, _BATCH // widest)
        return (slice(s, min(s + step, self.n)) for s in range(0, self.n, step))

    def _rows(self, factors: Sequence[Tensor], batch: slice) -> list[Tensor]:
        pairs = zip(factors, self.index, strict=True)
        return [factor[index[batch]] for factor, index in pairs]

    def values(self, core: Tensor, factors: Sequence[Tensor]) -> Tensor:  # (n,)
        """Give the core contracted with a row of every factor.

        Args:
            core: The core, or its superdiagonal.
            factors: One matrix per mode.
        """
        pattern = ",".join([self._core, *(f"z{axis}" for axis in self._axes)]) + "->z"
        return torch.cat([
            contract(pattern, core, *self._rows(factors, batch)) for batch in self._batches(core)
        ])  # fmt: skip

    def total(self, factors: Sequence[Tensor], weights: Tensor | None) -> Tensor:
        """Give the sum over entries of the products of rows, in the shape of the core.

        Args:
            factors: One matrix per mode.
            weights: A factor for each entry, (n,), or none.
        """
        shape = [f.shape[1] for f in factors[: 1 if self.diagonal else None]]
        result = factors[0].new_zeros(shape)
        inputs = [f"z{axis}" for axis in self._axes]
        for batch in self._batches(result):
            rows = self._rows(factors, batch)
            if weights is not None:
                rows[0] = rows[0] * weights[batch, None]
            # Rows are multiplied out on two sides, and the entries summed by one matrix product.
            result += contract(",".join(inputs) + "->" + self._core, *rows)
        return result

    def message(
        self, core: Tensor, factors: Sequence[Tensor], mode: int, weights: Tensor | None
    ) -> Tensor:
        """Give, for each row of one factor, the sum over its entries of all else contracted.

        Args:
            core: The core, or its superdiagonal.
            factors: One matrix per mode; that of the mode says how many rows there are.
            mode: Which factor.
            weights: A factor for each entry, (n,), or none.

        Returns:
            As the factor, (rows, r).
        """
        result = torch.zeros_like(factors[mode])
        axis = self._axes[mode]
        others = [k for k in range(len(factors)) if k != mode]
        pattern = ",".join([self._core, *(f"z{self._axes[k]}" for k in others)])
        for batch in self._batches(core):
            rows = self._rows(factors, batch)
            if others:
                part = contract(f"{pattern}->z{axis}", core, *(rows[k] for k in others))
            else:
                part = core.expand(len(rows[mode]), -1)
            if weights is not None:
                part = part * weights[batch, None]
            result.index_add_(0, self.index[mode][batch], part)
        return result

    def packed_core(self, second: Tensor) -> Tensor:
        """Give the second moment of the core, (c, c), summed over what `packed` rows share.

        Args:
            second: Expectation of the products of two entries of the core.
        """
        order = len(self.core_shape)
        x = second.reshape(self.core_shape * 2)
        x = x.permute(*[axis for k in range(order) for axis in (k, order + k)])
        x = x.reshape([r * r for r in self.core_shape])
        for k, r in enumerate(self.core_shape):
            x = mode_multiplied(x, pairing(r).mT, k)
        return x

    def unpacked_total(self, total: Tensor) -> Tensor:  # (c, c)
        """Give the sum of products of two entries of the core from a `total` of packed rows.

        Args:
            total: The result of `total` for second moments.
        """
        order = len(self.core_shape)
        for k, r in enumerate(self.core_shape):
            total = mode_multiplied(total, pairing(r), k)
        total = total.reshape([r for r in self.core_shape for _ in range(2)])
        total = total.permute(*range(0, 2 * order, 2), *range(1, 2 * order, 2))
        size = prod(self.core_shape)
        return total.reshape(size, size)
