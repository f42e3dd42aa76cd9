"""The axes of a kernel, said in one line: checks, shapes and test inputs come from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Axes:
    """The axes of a kernel, read from its line: of each input and of each result."""

    inputs: tuple[tuple[str, ...], ...]
    below: tuple[str | None, ...]  # the letter that bounds whole numbers
    plain: tuple[bool, ...]
    outputs: tuple[tuple[tuple[str, ...], ...], ...]

    @cached_property
    def twins(self) -> tuple[tuple[int, int], ...]:
        """Pairs of axes, counted over all inputs, that have the same letter."""
        letters = [letter for axes in self.inputs for letter in axes]
        pairs = enumerate(letters.index(letter) for letter in letters)
        return tuple((place, first) for place, first in pairs if place != first)

    @classmethod
    def read(cls, line: str) -> Axes:
        """Read a line as ``"n r, r d q, n<d, =m -> n q"``."""
        left, right = line.split("->")
        words = [w.strip() for w in left.split(",")]
        return cls(
            tuple(tuple(w.partition("<")[0].removeprefix("=").split()) for w in words),
            tuple(w.partition("<")[2] or None for w in words),
            tuple(w.startswith("=") for w in words),
            tuple(tuple(tuple(w.split("+")) for w in out.split()) for out in right.split(",")),
        )

    def bind(self, args: tuple[Any, ...]) -> dict[str, Any]:
        """The size of each letter; sizes that disagree are left to `agree`."""
        bound: dict[str, Any] = {}
        for x, letters in zip(args, self.inputs, strict=True):
            bound.update(zip(letters, x.shape if isinstance(x, Tensor) else (x,), strict=True))
        return bound

    def agree(self, args: tuple[Any, ...]) -> bool:
        """Whether arguments fit: kinds, numbers of axes, sizes, dtypes, devices.

        Every call of a kernel pays for it, so that it is written for speed.
        """
        sizes: list[Any] = []
        device = dtype = None
        for x, letters, below, plain in zip(args, self.inputs, self.below, self.plain, strict=True):
            if plain:
                if (type(x) is not int and not isinstance(x, torch.SymInt)) or x < 0:
                    return False
                sizes.append(x)
                continue
            if not isinstance(x, Tensor):
                return False
            shape = x.shape
            if len(shape) != len(letters):
                return False
            sizes += shape
            if device is None:
                device, dtype = x.device, x.dtype
            elif x.device != device:
                return False
            if x.dtype is not (torch.int64 if below else dtype):
                return False
        for place, twin in self.twins:
            if sizes[place] != sizes[twin]:
                return False
        return dtype is not None and (dtype.is_floating_point or dtype.is_complex)

    def shapes(self, args: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """The shape of each result."""
        bound = self.bind(args)
        return [tuple(sum(bound[a] for a in axis) for axis in out) for out in self.outputs]
