"""The steps of a contraction: what is done with one tensor, and with two."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tensornet.linalg.contraction_pattern import Operand

One = Callable[[Tensor], Tensor]
Two = Callable[[Tensor, Tensor], Tensor]


def reduced(
    operand: Operand, needed: set[str], *, order: str | None = None
) -> tuple[One | None, str]:
    """Take diagonals, and sum over axes that nothing else has.

    Args:
        operand: The tensor.
        needed: Letters that other tensors or the result have.
        order: Order of letters to bring the axes into.

    Returns:
        A function, or none if nothing is to be done, and the letters that it leaves.
    """
    steps: list[One] = []
    letters = operand.letters
    if operand.shape is not None:
        shape = operand.shape
        steps.append(lambda x: x.reshape(shape))
    for letter in dict.fromkeys(letters):
        while letters.count(letter) > 1:
            first = letters.index(letter)
            second = letters.index(letter, first + 1)
            letters = letters[:first] + letters[first + 1 : second] + letters[second + 1 :] + letter
            steps.append(_diagonal(first, second))
    alone = [axis for axis, letter in enumerate(letters) if letter not in needed]
    if alone:
        letters = "".join(letter for letter in letters if letter in needed)
        steps.append(lambda x: x.sum(alone))
    if order is not None and order != letters:
        axes = [letters.index(letter) for letter in order]
        letters = order
        steps.append(lambda x: x.permute(axes))
    if len(steps) < 2:
        return (steps[0] if steps else None), letters

    def run(x: Tensor) -> Tensor:
        for step in steps:
            x = step(x)
        return x

    return run, letters


def _diagonal(first: int, second: int) -> One:
    return lambda x: x.diagonal(0, first, second)


def pairwise(
    a: str, b: str, needed: set[str], sizes: dict[str, int], following: str, *, last: bool
) -> tuple[Two, str]:
    """Contract two tensors.

    Args:
        a: Letters of the first.
        b: Letters of the second.
        needed: Letters that are still needed after.
        sizes: Size of each letter.
        following: Letters of what the result meets next, or of the end result.
        last: Whether that is the end result.

    Returns:
        A function, and the letters of what it gives.
    """

    def volume(word: str) -> int:
        return math.prod(sizes[letter] for letter in word)

    larger, smaller = (a, b) if volume(a) >= volume(b) else (b, a)
    shared = "".join(letter for letter in larger if letter in smaller)
    batch = "".join(letter for letter in shared if letter in needed)
    summed = "".join(letter for letter in shared if letter not in needed)
    rest_a = "".join(letter for letter in a if letter not in shared)
    rest_b = "".join(letter for letter in b if letter not in shared)
    orders = [batch + rest_a + rest_b, batch + rest_b + rest_a]
    fitting = [order for order in orders if _fits(order, following, last)]
    out = (fitting or orders)[0]
    if out != orders[0]:
        a, b, rest_a, rest_b = b, a, rest_b, rest_a
        swapped = True
    else:
        swapped = False
    run = _product(a, b, batch, summed, rest_a, rest_b, sizes)
    if swapped:
        return lambda x, y: run(y, x), out
    return run, out


def _fits(order: str, following: str, last: bool) -> bool:
    """Say whether axes in this order can be grouped as the next step needs them, without a copy."""
    if last:
        return order == following
    shared = [letter for letter in following if letter in order]
    at = [order.index(letter) for letter in shared]
    return not at or (at == sorted(at) and (at[0] == 0 or at[-1] == len(order) - 1))


def _product(
    a: str, b: str, batch: str, summed: str, rest_a: str, rest_b: str, sizes: dict[str, int]
) -> Two:
    """Make the product of (batch, rest_a, summed) and (batch, summed, rest_b)."""

    def size(word: str) -> list[int]:
        return [sizes[letter] for letter in word]

    n, i, k, j = (math.prod(size(word)) for word in (batch, rest_a, summed, rest_b))
    shape = size(batch + rest_a + rest_b)
    if not summed:
        one = _laid_out(a, batch + rest_a, [*size(batch + rest_a), *[1] * len(rest_b)], sizes)
        middle = [1] * len(rest_a) if rest_b else []
        two = _laid_out(b, batch + rest_b, [*size(batch), *middle, *size(rest_b)], sizes)
        return _composed(torch.mul, one, two, None)
    if batch and not rest_a and not rest_b:
        one = _laid_out(a, batch + summed, [*size(batch), k], sizes)
        two = _laid_out(b, batch + summed, [*size(batch), k], sizes)
        return _composed(lambda x, y: (x * y).sum(-1), one, two, None)
    if batch:
        one = _matrix(a, (batch, rest_a, summed), [n, i, k], sizes)
        two = _matrix(b, (batch, summed, rest_b), [n, k, j], sizes)
        return _composed(torch.bmm, one, two, None if shape == [n, i, j] else shape)
    one = _matrix(a, ("", rest_a, summed), [i, k], sizes)
    two = _matrix(b, ("", summed, rest_b), [k, j], sizes)
    return _composed(torch.mm, one, two, None if shape == [i, j] else shape)


def _laid_out(word: str, order: str, shape: list[int], sizes: dict[str, int]) -> One | None:
    """Bring axes into an order and a shape."""
    same = shape == [sizes[letter] for letter in order]
    if word == order:
        return None if same else lambda x: x.reshape(shape)
    axes = [word.index(letter) for letter in order]
    if same:
        return lambda x: x.permute(axes)
    return lambda x: x.permute(axes).reshape(shape)


def _matrix(
    word: str, groups: tuple[str, str, str], shape: list[int], sizes: dict[str, int]
) -> One | None:
    """Make a matrix, or a batch of them, of groups of axes; transposed ones need no copy."""
    batch, rows, columns = groups
    if word == batch + columns + rows and word != batch + rows + columns:
        turned = [*shape[:-2], shape[-1], shape[-2]]
        if turned == [sizes[letter] for letter in word]:
            return lambda x: x.mT
        return lambda x: x.reshape(turned).mT
    return _laid_out(word, batch + rows + columns, shape, sizes)


def _composed(product: Two, one: One | None, two: One | None, shape: list[int] | None) -> Two:
    """Join what is done before a product, the product, and the shape after it."""
    if one is None and two is None and shape is None:
        return product

    def run(x: Tensor, y: Tensor) -> Tensor:
        if one is not None:
            x = one(x)
        if two is not None:
            y = two(y)
        z = product(x, y)
        return z if shape is None else z.reshape(shape)

    return run
