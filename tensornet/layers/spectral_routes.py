"""The ways in which Fourier modes can meet a factorised weight, and what each costs.

A weight has the modes (in, out, frequencies). Every format of it is a product of up to three: a
matrix that takes the input channels to fewer ones, a matrix per frequency, or numbers per frequency
if the format is CP, and a matrix that goes to the output channels. The dense weight is the way that
has only the middle one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from tensornet.layers.factorized_cost import contraction_seconds, copy_seconds, product_seconds
from tensornet.linalg import contract

_MODES, _RANKS = "abcde", "npqrs"


@dataclass(frozen=True)
class Way:
    """Up to three products.

    Args:
        patterns: How each is made of parts: for the input channels (in, rank), for frequencies
            (modes, rank, rank') or (modes, rank), for the output channels (rank', out); empty
            where there is none.
        parts: The parts of each.
        shapes: Their shapes.
    """

    patterns: tuple[str, str, str]
    parts: tuple[tuple[int, ...], ...]
    shapes: tuple[tuple[tuple[int, ...], ...], ...]

    def fold(self, parts: Sequence[Tensor]) -> list[Tensor | None]:
        """Make the three of the parts.

        Args:
            parts: Complex parts, cut to the modes that are there.
        """
        made: list[Tensor | None] = []
        for pattern, chosen in zip(self.patterns, self.parts, strict=True):
            made.append(contract(pattern, *[parts[k] for k in chosen]) if pattern else None)
        middle = made[1]
        assert middle is not None
        channels = self.patterns[1].partition("->")[2].lstrip(_MODES)
        made[1] = middle.flatten(0, middle.ndim - len(channels) - 1)
        return made

    @staticmethod
    def apply(
        x: Tensor,  # (frequencies, n, in)
        first: Tensor | None,
        middle: Tensor,
        last: Tensor | None,
    ) -> Tensor:  # (frequencies, n, out)
        """Multiply.

        Args:
            x: Fourier modes.
            first: Matrix of the input channels.
            middle: Matrices or numbers of the frequencies.
            last: Matrix of the output channels.
        """
        if first is not None:
            x = x @ first
        x = torch.bmm(x, middle) if middle.ndim == 3 else x * middle[:, None]
        return x if last is None else x @ last

    def seconds(self, n: int, dtype: torch.dtype, device: str, *, training: bool) -> float:
        """Estimate the time of a call, with its derivatives and what is made of parts in training.

        Args:
            n: Number of fields.
            dtype: Complex.
            device: ``"cpu"``, or another kind.
            training: Whether the products are made of the parts anew, and derivatives taken.
        """
        kind = (dtype, device, training)
        total = 0.0
        sizes: dict[str, int] = {}
        for pattern, shapes in zip(self.patterns, self.shapes, strict=True):
            words = pattern.partition("->")[0].split(",")
            for word, shape in zip(words, shapes, strict=False):
                sizes.update(zip(word, shape, strict=True))
        outs = [pattern.partition("->")[2] for pattern in self.patterns]
        modes = "".join(c for c in outs[1] if c in _MODES)
        frequencies = math.prod(sizes[c] for c in modes)
        for out in (outs[0], outs[2]):
            if out:
                rows, columns = (sizes[c] for c in out)
                total += product_seconds(1, frequencies * n, rows, columns, *kind)
        channels = [sizes[c] for c in outs[1].lstrip(_MODES)]
        if len(channels) == 2:
            total += product_seconds(frequencies, n, channels[0], channels[1], *kind)
        else:
            total += copy_seconds(2 * frequencies * n * channels[0], *kind)
        if training:
            for pattern, shapes in zip(self.patterns, self.shapes, strict=True):
                if pattern:
                    total += contraction_seconds(pattern, shapes, *kind)
        return total


@lru_cache(maxsize=256)
def spectral_ways(
    kind: str, shapes: tuple[tuple[int, ...], ...], separable: bool
) -> tuple[Way, ...]:
    """Give the ways for a format, the dense one first.

    Args:
        kind: ``"dense"``, ``"cp"``, ``"tucker"`` or ``"tensor_train"``.
        shapes: Shapes of the parts, cut to the modes that are there.
        separable: Whether there is one axis of channels.
    """
    channels = "i" if separable else "io"
    order = len(shapes[0]) - len(channels) if kind == "dense" else 0
    letters = ""
    if kind == "dense":
        letters = channels + _MODES[:order]
        words = [_MODES[:order] + channels]
    elif kind == "cp":
        letters = channels + _MODES[: len(shapes) - len(channels)]
        words = [c + "z" for c in letters]
    elif kind == "tucker":
        letters = channels + _MODES[: len(shapes) - 1 - len(channels)]
        ranks = "xy"[: len(channels)] + _RANKS[: len(letters) - len(channels)]
        words = [ranks, *map("".join, zip(letters, ranks, strict=True))]
    else:
        letters = channels + _MODES[: len(shapes) - len(channels)]
        bonds = "w" + "xy"[: len(channels)] + _RANKS[: len(letters) - len(channels)]
        words = [bonds[k] + c + bonds[k + 1] for k, c in enumerate(letters)]
    modes = letters[len(channels) :]

    def way(
        first: str, middle: str, last: str, n_first: Sequence[int], n_last: Sequence[int]
    ) -> Way:
        parts = (n_first, [k for k in range(len(words)) if k not in (*n_first, *n_last)], n_last)
        patterns = [
            f"{','.join(words[k] for k in chosen)}->{out}" if out else ""
            for chosen, out in zip(parts, (first, middle, last), strict=True)
        ]
        return Way(
            (patterns[0], patterns[1], patterns[2]),
            tuple(tuple(chosen) for chosen in parts),
            tuple(tuple(shapes[k] for k in chosen) for chosen in parts),
        )

    ways = [way("", modes + channels, "", (), ())]
    if separable or kind == "dense":
        return tuple(ways)
    if kind == "cp":
        ways.append(way("iz", modes + "z", "zo", [0], [1]))
    elif kind == "tucker":
        ways.append(way("ix", modes + "xy", "yo", [1], [2]))
        ways.append(way("ix", modes + "xo", "", [1], []))
        ways.append(way("", modes + "iy", "yo", [], [2]))
    else:
        ways.append(way("ix", modes + "xo", "", [0], []))
    return tuple(ways)
