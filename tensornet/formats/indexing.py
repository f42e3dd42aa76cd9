"""What an index in square brackets asks of a format."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor


def parse(kind: str, shape: tuple[int, ...], index: Any) -> tuple[list[Any], torch.Size | None]:
    """Bring an index to one whole number or slice per mode, or one flat index tensor per mode.

    Args:
        kind: Name of the format, for messages.
        shape: Size of each mode.
        index: What stood in the brackets.

    Returns:
        Whole numbers from zero on and slices, and ``None``; or int64 tensors (n,) of whole numbers
        from zero on, and the shape that the n entries are to have.

    Raises:
        IndexError: If there are too many indices, or one is out of range.
        TypeError: If an index is of another kind, or tensors and others are mixed.
        ValueError: If nothing would be left, or index tensors differ in shape.

    Examples:
        >>> parse("CP", (3, 4), (-1, ...))
        ([2, slice(None, None, None)], None)
    """
    given = list(index) if isinstance(index, tuple) else [index]
    if sum(i is Ellipsis for i in given) > 1:
        raise IndexError(f"`{kind}[...]` must have one ellipsis at most. Got {index!r}.")
    where = next((k for k, i in enumerate(given) if i is Ellipsis), len(given))
    given = [i for i in given if i is not Ellipsis]
    if len(given) > len(shape):
        raise IndexError(
            f"`{kind}[...]` must have at most {len(shape)} indices, one per mode. Got {len(given)}."
        )
    given[where:where] = [slice(None)] * (len(shape) - len(given))
    if any(isinstance(i, Tensor) and i.ndim > 0 for i in given):
        return _tensors(kind, shape, given), given[0].shape
    return [_one(kind, d, k, i) for k, (d, i) in enumerate(zip(shape, given, strict=True))], None


def _one(kind: str, d: int, k: int, i: Any) -> int | slice:
    if isinstance(i, slice):
        if len(range(*i.indices(d))) == 0 or (i.step is not None and i.step < 1):
            raise ValueError(
                f"`{kind}[...]` must leave entries of mode {k}, in their order. Got {i} for size "
                f"{d}."
            )
        return i
    if isinstance(i, bool) or not hasattr(i, "__index__"):
        raise TypeError(
            f"`{kind}[...]` must hold whole numbers, slices, `...`, or one index tensor for every "
            f"mode. Got {type(i).__name__}."
        )
    number = operator.index(i)
    if not -d <= number < d:
        raise IndexError(f"`{kind}[...]` must be in range of mode {k}, size {d}. Got {number}.")
    return number % d


def _tensors(kind: str, shape: tuple[int, ...], given: list[Any]) -> list[Tensor]:
    found = []
    for k, (d, i) in enumerate(zip(shape, given, strict=True)):
        if not isinstance(i, Tensor) or i.is_floating_point() or i.is_complex():
            raise TypeError(
                f"`{kind}[...]` must hold one tensor of whole numbers for every mode where it "
                f"holds one. Got {type(i).__name__} for mode {k}."
            )
        if i.dtype == torch.bool:
            raise TypeError(f"`{kind}[...]` must hold whole numbers. Got booleans for mode {k}.")
        if i.shape != given[0].shape:
            raise ValueError(
                f"`{kind}[...]` must hold index tensors of one shape. Got {tuple(given[0].shape)} "
                f"and {tuple(i.shape)}."
            )
        if i.numel() and not (-d <= int(i.min()) and int(i.max()) < d):
            raise IndexError(
                f"`{kind}[...]` must be in range of mode {k}, size {d}. Got {int(i.min())} to "
                f"{int(i.max())}."
            )
        flat = i.flatten().long()  # first: adding the size may leave the range of a short type
        found.append(torch.where(flat < 0, flat + d, flat))
    return found
