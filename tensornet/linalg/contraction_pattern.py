"""Read the pattern of a contraction, and say what is wrong with it as a whole."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Operand:
    """The axes of one tensor.

    Args:
        letters: One letter per axis; repeated ones are a diagonal.
        dropped: Axes of size one that are only there to fit a batch.
        shape: Sizes of the axes that stay, or none if none were dropped.
    """

    letters: str
    dropped: dict[int, int]
    shape: tuple[int, ...] | None


def parsed(
    pattern: str, shapes: Sequence[tuple[int, ...]]
) -> tuple[list[Operand], str, dict[str, int]]:
    """Read a pattern for tensors of given shapes.

    Args:
        pattern: As for `tensornet.linalg.plan`.
        shapes: Shape of each tensor.

    Returns:
        The tensors, the letters of the result, and the size of each letter.

    Raises:
        ValueError: If the pattern does not say a contraction of such shapes.

    Examples:
        >>> parsed("ab,bc", ((2, 3), (3, 4)))[1:]
        ('ac', {'a': 2, 'b': 3, 'c': 4})
    """
    if not isinstance(pattern, str):
        raise TypeError(f"`contract(pattern=...)` must be a string. Got {pattern!r}.")
    left, arrow, right = pattern.replace(" ", "").partition("->")
    words = left.split(",")
    if not shapes or len(words) != len(shapes):
        raise _wrong(pattern, f"name as many tensors as there are, {len(shapes)}", len(words))
    for word in (*words, right):
        if word.count("...") > 1 or not all(c.isalpha() for c in word.replace("...", "")):
            raise _wrong(pattern, "have letters and one `...` at most per tensor", repr(word))
    widths = [len(s) - len(w.replace("...", "")) for w, s in zip(words, shapes, strict=True)]
    for k, (word, shape, width) in enumerate(zip(words, shapes, widths, strict=True)):
        if width < 0 or (width > 0 and "..." not in word):
            raise _wrong(pattern, f"give tensor {k} one letter per axis", f"shape {shape}")
    batch = _unused(pattern, max([w for w, word in zip(widths, words, strict=True)
                                  if "..." in word], default=0))  # fmt: skip
    full = [
        word.replace("...", batch[len(batch) - width :])
        for word, width in zip(words, widths, strict=True)
    ]
    sizes = _sizes(pattern, full, shapes, batch)
    operands = [_operand(w, s, sizes, batch) for w, s in zip(full, shapes, strict=True)]
    if arrow:
        if batch and "..." not in right:
            raise _wrong(pattern, "keep the batch `...` in the result", repr(right))
        result = right.replace("...", batch)
    else:
        count = Counter("".join(full))
        result = batch + "".join(sorted(c for c in count if count[c] == 1 and c not in batch))
    for letter, times in Counter(result).items():
        if times > 1 or letter not in sizes:
            raise _wrong(pattern, "have in the result letters of the tensors, each once", letter)
    return operands, result, sizes


def _wrong(pattern: str, must: str, got: object) -> ValueError:
    return ValueError(f"`contract(pattern={pattern!r})` must {must}. Got {got}.")


def _unused(pattern: str, n: int) -> str:
    """Give letters that the pattern does not have."""
    letters = (c for c in string.ascii_letters if c not in pattern)
    return "".join(c for c, _ in zip(letters, range(n), strict=False))


def _sizes(
    pattern: str, words: Sequence[str], shapes: Sequence[tuple[int, ...]], batch: str
) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for k, (word, shape) in enumerate(zip(words, shapes, strict=True)):
        for letter, size in zip(word, shape, strict=True):
            known = sizes.setdefault(letter, size)
            if letter in batch and 1 in (known, size):
                sizes[letter] = max(known, size) if 0 not in (known, size) else 0
            elif known != size:
                name = "the batch `...`" if letter in batch else f"{letter!r}"
                raise _wrong(pattern, f"give {name} one size", f"{known}, and {size} in tensor {k}")
    return sizes


def _operand(word: str, shape: tuple[int, ...], sizes: dict[str, int], batch: str) -> Operand:
    """Leave out axes of size one where the batch is larger."""
    dropped = {
        axis: size
        for axis, (letter, size) in enumerate(zip(word, shape, strict=True))
        if letter in batch and size != sizes[letter]
    }
    if not dropped:
        return Operand(word, {}, None)
    kept = [axis for axis in range(len(word)) if axis not in dropped]
    return Operand("".join(word[a] for a in kept), dropped, tuple(shape[a] for a in kept))
