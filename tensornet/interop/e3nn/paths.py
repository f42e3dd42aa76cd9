"""Instructions seen by the kernels: one side has channels, the other meets each or its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensornet.interop.e3nn.arrangement import Block
from tensornet.interop.e3nn.instructions import Program


@dataclass(frozen=True)
class Path:
    """An instruction with weights of its own, seen from the side that has the channels.

    Args:
        first: Block of the side with channels.
        second: Block of the other side.
        out: Block of the output.
        degrees: Of the three blocks.
        factor: Factor of the coupling.
        mul: Multiplicity of the side with channels.
        others: Multiplicity of the other side where each meets all channels, else one.
        mul_out: Multiplicity of the output.
        offset: Place of the first weight; none without weights.
        turned: Whether the first side is the product's second input.
        outer: Whether the others are kept in the output.
    """

    first: int
    second: int
    out: int
    degrees: tuple[int, int, int]
    factor: float
    mul: int
    others: int
    mul_out: int
    offset: int | None
    turned: bool = False
    outer: bool = False

    def copies(self, channels: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Number every pair of a copy of the channels and one of the others."""
        a, v = np.divmod(np.arange(self.mul // channels * self.others), self.others)
        return a, v


def seen(made: Program, n: int, offset: int) -> Path:
    """See an instruction from the side whose multiplicity is that of the kernel's channels."""
    ins = made.instructions[n]
    muls = made.irreps_in1[ins.i_in1].mul, made.irreps_in2[ins.i_in2].mul
    mode, mul_out = ins.connection_mode, made.irreps_out[ins.i_out].mul
    turned = mode == "uvv" or (mode == "uvw" and muls[1] > muls[0])
    one, two, three = made.degrees(ins)
    factor = -ins.path_weight if (one, two, three) in made.flipped else ins.path_weight
    first, second = ins.i_in1, ins.i_in2
    if turned:
        first, second, muls, one, two = second, first, muls[::-1], two, one
    return Path(
        first, second, ins.i_out, (one, two, three), factor, muls[0],
        muls[1] if mode[:2] == "uv" and mode != "uvu<v" else 1,
        mul_out, offset if ins.has_weight else None, turned, mode == "uvuv",
    )  # fmt: skip


def blocks(irreps: Any) -> list[Block]:
    """Multiplicity and number of components of each block."""
    return [(mul, ir.dim) for mul, ir in irreps]


def members(
    paths: Iterable[Path], parts: list[tuple[int, set[int]]], side: str
) -> list[tuple[int, list[int]]]:
    """Blocks of one side in each group."""
    return [
        (c, sorted({getattr(path, side) for path in paths if path.mul in muls}))
        for c, muls in parts
    ]
