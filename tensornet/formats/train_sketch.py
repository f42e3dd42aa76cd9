r"""Randomized rounding: sketch first, orthogonalize the few sketched directions only.

The matrix T_k of all cores from k on is multiplied by a random train, T_k w, in one sweep from the
right. In a sweep from the left, an orthonormal basis of M_k T_k+1 w, with M_k the first k cores in
the bases found so far, takes the place of the singular vectors. Some columns of the sketch are
held out of the bases: the mean square of what the bases leave of them is an unbiased estimate of
the squared error. Sums and products of trains need only be multiplied by small matrices from
either side, which is what an `Operand` does; they are never formed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tensornet.formats.train_cut import Budget, cut
from tensornet.formats.train_sweeps import split_scale

_HELD_OUT = 6
# The estimate has at least 2 * 6 squares of normal numbers behind it in the complex case and 6 in
# the real one; three times its root is exceeded in about one of a thousand cases.
SAFETY = 3.0


class Operand(Protocol):
    """What is a train when multiplied out. Its outer ranks are summed over."""

    sizes: tuple[int, ...]
    ranks: tuple[int, ...]

    def right(self, k: int, w: Tensor) -> Tensor:  # (r_k+1, l) -> (r_k, d_k l)
        """Multiply core k by a matrix from the right."""
        ...

    def left(self, k: int, c: Tensor) -> Tensor:  # (q, r_k) -> (q d_k, r_k+1)
        """Multiply core k by a matrix from the left."""
        ...


class Sum:
    """Trains of the same ranks as one operand, multiplied in batches.

    Args:
        trains: Their cores (r, d, r').
    """

    def __init__(self, trains: Sequence[Sequence[Tensor]]) -> None:
        several = len(trains) > 1
        self.cores = [
            torch.stack(cores) if several else cores[0][None] for cores in zip(*trains, strict=True)
        ]
        self.sizes = tuple(core.shape[2] for core in self.cores)
        n = len(trains)
        self.ranks = (n, *(n * core.shape[3] for core in self.cores))

    def right(self, k: int, w: Tensor) -> Tensor:
        """See `Operand`."""
        n, r, d, after = self.cores[k].shape
        if n == 1:
            return (self.cores[k].reshape(r * d, after) @ w).reshape(r, -1)
        return torch.bmm(self.cores[k].reshape(n, r * d, after), w.reshape(n, after, -1)).reshape(
            n * r, -1
        )

    def left(self, k: int, c: Tensor) -> Tensor:
        """See `Operand`."""
        n, r, d, after = self.cores[k].shape
        if n == 1:
            return (c @ self.cores[k].reshape(r, d * after)).reshape(-1, after)
        moved = c.reshape(-1, n, r).transpose(0, 1) @ self.cores[k].reshape(n, r, d * after)
        return moved.reshape(n, -1, after).transpose(0, 1).reshape(-1, n * after)


class Product:
    """A matrix times a train as an operand; its ranks are pairs (R, r).

    Args:
        matrix: Cores (R, o, i, R') of the matrix.
        cores: Cores (r, i, r') of the train.
    """

    def __init__(self, matrix: Sequence[Tensor], cores: Sequence[Tensor]) -> None:
        self.matrix, self.cores = matrix, cores
        self.sizes = tuple(A.shape[1] for A in matrix)
        pairs = zip(matrix, cores, strict=True)
        self.ranks = (1, *(A.shape[3] * c.shape[2] for A, c in pairs))

    def right(self, k: int, w: Tensor) -> Tensor:
        """See `Operand`."""
        A, c = self.matrix[k], self.cores[k]
        w = w.reshape(A.shape[3], c.shape[2], -1)
        half = torch.einsum("cid,Sdl->ciSl", c, w)
        return torch.einsum("RoiS,ciSl->Rcol", A, half).reshape(A.shape[0] * c.shape[0], -1)

    def left(self, k: int, c: Tensor) -> Tensor:
        """See `Operand`."""
        A, core = self.matrix[k], self.cores[k]
        c = c.reshape(-1, A.shape[0], core.shape[0])
        half = torch.einsum("qRc,cid->qRid", c, core)
        return torch.einsum("qRid,RoiS->qoSd", half, A).reshape(-1, A.shape[3] * core.shape[2])


@dataclass(frozen=True)
class Block:
    """Some columns of the sketch.

    Args:
        parts: For every k and operand, T_k w over a power of two, (r_k, l).
        exponents: For every k, the exponent of this power.
    """

    parts: list[list[Tensor]]
    exponents: list[Tensor]


def compress(
    operands: Sequence[Operand],
    like: Tensor,
    tolerance: float,
    max_rank: int | None,
    seed: int,
    *,
    largest: int | None = None,
) -> tuple[list[Tensor], Tensor, float] | None:
    """Give a train near the sum of operands, with orthonormal cores but for the last.

    Args:
        operands: What to add up.
        like: A tensor of their dtype and device.
        tolerance: Relative error at which the sketch need not grow; zero if `max_rank` decides.
        max_rank: Rank the caller will truncate to.
        seed: Seed of the sketch.
        largest: Most columns to try, by default any number.

    Returns:
        Cores, the exponent of a common factor, and `SAFETY` times the estimated relative error;
        or none if the largest sketch was too small.
    """
    generator = torch.Generator(device=like.device).manual_seed(seed)
    bound = max(sum(op.ranks[k] for op in operands) for k in range(len(operands[0].sizes)))
    bound = bound + _HELD_OUT if largest is None else largest
    width = _HELD_OUT + (24 if max_rank is None else max_rank + max(8, max_rank // 4))
    blocks: list[Block] = []
    total = 0
    while True:
        width = max(min(width, bound - total), 1 + _HELD_OUT)
        blocks.append(_sketch(operands, like, width, generator))
        total += width
        final = tolerance == 0 or (total >= bound and largest is None)
        found = _project(operands, like, blocks, math.inf if final else 0.5 * tolerance / SAFETY)
        if found is not None:
            return found[0], found[1], SAFETY * found[2]
        if total >= bound:
            return None
        width = total


def _sketch(
    operands: Sequence[Operand], like: Tensor, width: int, generator: torch.Generator
) -> Block:
    """Multiply every T_k, k > 0, by a train of normal numbers with ranks `width`."""
    n = len(operands[0].sizes)
    w = [like.new_ones(op.ranks[-1], 1) for op in operands]
    e = torch.zeros((), dtype=torch.int64, device=like.device)
    parts, exponents = [w], [e]
    for k in range(n - 1, 0, -1):
        moved = [op.right(k, part) for op, part in zip(operands, w, strict=True)]
        rows = moved[0].shape[1]
        single = torch.complex64 if like.is_complex() else torch.float32  # drawn faster than double
        normal = (
            torch.randn(rows, width, generator=generator, dtype=single, device=like.device)
            .mul_((rows / operands[0].sizes[k]) ** -0.5)
            .to(like.dtype)
        )
        w, more = _common_scale([part @ normal for part in moved])
        e = e + more
        parts.append(w)
        exponents.append(e)
    return Block([[], *parts[::-1]], [e, *exponents[::-1]])


def _project(
    operands: Sequence[Operand], like: Tensor, blocks: list[Block], allowed: float
) -> tuple[list[Tensor], Tensor, float] | None:
    """Sweep from the left; give cores, exponent and the estimated relative error, if allowed."""
    sizes = operands[0].sizes
    m = [op.left(0, like.new_ones(1, op.ranks[0])) for op in operands]
    e = torch.zeros((), dtype=torch.int64, device=like.device)
    cores: list[Tensor] = []
    lost, at, q = [], [], 1
    for k in range(len(sizes) - 1):
        columns = [_times(m, block.parts[k + 1]) for block in reversed(blocks)]
        held, seen = (
            columns[0][:, :_HELD_OUT],
            torch.cat([columns[0][:, _HELD_OUT:], *columns[1:]], 1),
        )
        basis = torch.linalg.qr(seen).Q
        left_over = held - basis @ (basis.mH @ held)
        lost.append(torch.linalg.vector_norm(left_over).square() / held.shape[1])
        if allowed < math.inf and torch.linalg.vector_norm(left_over) > 2 * allowed * (
            torch.linalg.vector_norm(held)
        ):
            return None  # this cut alone is far from enough
        at.append(e + blocks[-1].exponents[k + 1])
        cores.append(basis.reshape(q, sizes[k], -1))
        q = basis.shape[1]
        m = [op.left(k + 1, basis.mH @ part) for op, part in zip(operands, m, strict=True)]
        m, more = _common_scale(m)
        e = e + more
    last = _times(m, [like.new_ones(op.ranks[-1], 1) for op in operands])
    cores.append(last.reshape(q, sizes[-1], 1))
    norm = float(torch.linalg.vector_norm(last))
    if not lost or norm == 0:
        return cores, e, 0.0
    squares, powers = torch.stack(lost), (2 * (torch.stack(at) - e)).to(lost[0].dtype)
    error = math.sqrt(float((squares * torch.exp2(powers)).sum())) / norm
    return (cores, e, error) if error <= allowed else None


def truncate_back(
    cores: list[Tensor], tolerance: float, max_rank: int | None
) -> tuple[list[Tensor], float]:
    """Truncate a train with orthonormal cores but for the last, from the last to the first.

    Returns:
        Cores, and the error relative to the norm.
    """
    norm = float(torch.linalg.vector_norm(cores[-1]))
    budget = Budget(tolerance * norm, len(cores) - 1)
    m, new = cores[-1], []
    for k in range(len(cores) - 1, 0, -1):
        flat = m.reshape(m.shape[0], -1)
        basis, weight = cut(flat.mH, budget.next(), max_rank)
        budget.spend(weight)
        new.append(basis.mH.reshape(-1, m.shape[1], m.shape[2]))
        m = cores[k - 1] @ (flat @ basis)
    return [m, *reversed(new)], math.sqrt(budget.spent) / norm if norm > 0 else 0.0


def _times(left: list[Tensor], right: list[Tensor]) -> Tensor:
    product = left[0] @ right[0]
    for a, b in zip(left[1:], right[1:], strict=True):
        product = torch.addmm(product, a, b)
    return product


def _common_scale(parts: list[Tensor]) -> tuple[list[Tensor], Tensor]:
    """Divide all by one power of two; give the exponent too."""
    largest = torch.stack([part.abs().amax() for part in parts]).amax()
    factor, e = split_scale(largest)
    factor = torch.where(largest > 0, factor / largest, torch.ones_like(largest))
    return [part * factor for part in parts], e
