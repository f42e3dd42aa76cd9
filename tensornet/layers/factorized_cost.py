"""What products and copies cost, by constants that were measured once.

Choices between ways that give the same numbers are made by these estimates alone, so that the same
layer takes the same way, and gives the same bits, wherever and whenever it runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch

from tensornet.linalg import plan


@dataclass(frozen=True)
class _Machine:
    """What a device does.

    Args:
        call: Seconds per call.
        call_training: Seconds per call with its derivatives.
        multiplications: Multiplications per second, of real float32 numbers.
        bytes: Bytes per second.
        half_speed: Smallest size of a product at which it has half of the full speed.
        entry: Seconds per entry whose axes change places.
    """

    call: float
    call_training: float
    multiplications: float
    bytes: float
    half_speed: int
    entry: float


# One thread of an x86 server with AVX-512. For other devices orders of magnitude, not measured.
_MACHINES = {"cpu": _Machine(15e-6, 80e-6, 35e9, 12e9, 8, 3e-9)}
_OTHER = _Machine(8e-6, 40e-6, 1e13, 1.5e12, 64, 1e-11)


def product_seconds(
    batch: int,
    rows: int,
    columns: int,
    width: int,
    dtype: torch.dtype,
    device: str,
    training: bool,
) -> float:
    """Estimate the time of products of matrices (rows, columns) and (columns, width).

    Args:
        batch: Number of products.
        rows: Rows of the first.
        columns: Columns of the first.
        width: Columns of the second.
        dtype: Real or complex.
        device: ``"cpu"``, or another kind.
        training: Whether both derivatives are taken.
    """
    machine = _MACHINES.get(device, _OTHER)
    speed = machine.multiplications * 4 / dtype.itemsize / (2 if dtype.is_complex else 1)
    speed /= 1 + machine.half_speed / max(1, min(rows, columns, width))
    moved = batch * (rows * columns + columns * width + rows * width) * dtype.itemsize
    once = batch * rows * columns * width / speed + moved / machine.bytes
    return machine.call_training + 3 * once if training else machine.call + once


def copy_seconds(n: int, dtype: torch.dtype, device: str, training: bool) -> float:
    """Estimate the time of a copy.

    Args:
        n: Number of entries.
        dtype: Of the entries.
        device: ``"cpu"``, or another kind.
        training: Whether its derivative is taken.
    """
    machine = _MACHINES.get(device, _OTHER)
    once = 2 * n * dtype.itemsize / machine.bytes
    return machine.call_training + 2 * once if training else machine.call + once


@lru_cache(maxsize=4096)
def contraction_seconds(
    pattern: str,
    shapes: tuple[tuple[int, ...], ...],
    dtype: torch.dtype,
    device: str,
    training: bool,
) -> float:
    """Estimate the time of a planned contraction.

    Args:
        pattern: As for `tensornet.linalg.plan`, without ``...``.
        shapes: Shape of each tensor.
        dtype: Of the tensors.
        device: ``"cpu"``, or another kind.
        training: Whether all derivatives are taken.
    """
    words = pattern.partition("->")[0].split(",")
    sizes = {
        letter: size
        for word, shape in zip(words, shapes, strict=True)
        for letter, size in zip(word, shape, strict=True)
    }

    def volume(letters: set[str]) -> int:
        return math.prod(sizes[letter] for letter in letters)

    out = pattern.partition("->")[2]
    entry = _MACHINES.get(device, _OTHER).entry * (4 if training else 1)
    total = volume(set(out)) * entry if len(words) > 1 else 0.0  # brought into order in the end
    for step in plan(pattern, *shapes).steps:
        both, _, made = step.partition("->")
        a, b = (set(word) for word in both.split(","))
        batch = a & b & set(made)
        size = (volume(batch), volume(a - b), volume((a & b) - batch), volume(b - a))
        total += product_seconds(*size, dtype, device, training)
    return total
