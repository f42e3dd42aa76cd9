"""The axes of a kernel, said in one line: checks, shapes and test inputs come from it."""

from __future__ import annotations

from dataclasses import dataclass
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
        """Whether arguments fit: kinds, numbers of axes, sizes, dtypes, devices."""
        bound: dict[str, Any] = {}
        first: Tensor | None = None
        for x, letters, below, plain in zip(args, self.inputs, self.below, self.plain, strict=True):
            if plain:
                if type(x) is not int and not isinstance(x, torch.SymInt):
                    return False
                if x < 0:
                    return False
                continue
            if not isinstance(x, Tensor) or x.ndim != len(letters):
                return False
            for letter, size in zip(letters, x.shape, strict=True):
                if bound.setdefault(letter, size) != size:
                    return False
            first = x if first is None else first
            if x.device != first.device or x.dtype != (torch.int64 if below else first.dtype):
                return False
        return first is not None and (first.is_floating_point() or first.is_complex())

    def shapes(self, args: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """The shape of each result."""
        bound = self.bind(args)
        return [tuple(sum(bound[a] for a in axis) for axis in out) for out in self.outputs]
