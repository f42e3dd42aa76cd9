"""Contractions that are planned once: opt_einsum finds the order, then no call searches or parses.

A plan is a fixed list of steps, each a product of two matrices, of two batches of matrices, or of
entries, on views wherever the order of the axes allows it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from torch import Tensor

from tensornet import _check
from tensornet.linalg.contraction_pattern import Operand, parsed
from tensornet.linalg.contraction_step import pairwise, reduced

SEARCHES = ("auto", "auto-hq", "dp", "greedy", "optimal")


@dataclass(frozen=True, eq=False)
class Plan:
    """A contraction of tensors of given shapes, ready to be done. Call it with the tensors.

    Args:
        pattern: What is computed, as for `torch.einsum`.
        shapes: Shape of each tensor.
        steps: The steps as patterns, in order.
        n_flops: Multiplications and additions of all steps.
        largest: Entries of the largest tensor between two steps: with autograd all that lie
            between are held, without it the largest ones for a moment.

    Examples:
        >>> import torch
        >>> product = plan("abc,za,zb,zc->z", (2, 3, 4), (5, 2), (5, 3), (5, 4))
        >>> product(torch.ones(2, 3, 4), torch.ones(5, 2), torch.ones(5, 3), torch.ones(5, 4))
        tensor([24., 24., 24., 24., 24.])
    """

    pattern: str
    shapes: tuple[tuple[int, ...], ...]
    steps: tuple[str, ...]
    n_flops: int
    largest: int
    _first: tuple[tuple[int, Callable[[Tensor], Tensor]], ...]
    _pairs: tuple[tuple[int, int, Callable[[Tensor, Tensor], Tensor]], ...]
    _last: Callable[[Tensor], Tensor] | None

    def __call__(self, *tensors: Tensor) -> Tensor:
        """Contract.

        Args:
            tensors: Of the shapes of the plan, of one dtype and device.

        Raises:
            TypeError: If the tensors differ in dtype.
            ValueError: If there are others than planned, or shapes differ from the plan.
        """
        if tuple([x.shape for x in tensors]) != self.shapes:
            raise ValueError(
                f"`plan({self.pattern!r})(...)` must be called with tensors of shapes "
                f"{', '.join(map(str, self.shapes))}. Got "
                f"{', '.join(str(tuple(x.shape)) for x in tensors)}."
            )
        return self._run(tensors)

    def _run(self, tensors: Sequence[Tensor]) -> Tensor:
        values = list(tensors)
        dtype = values[0].dtype
        for x in values:
            if x.dtype != dtype:
                raise TypeError(
                    f"`contract({self.pattern!r})` must have tensors of one dtype. Got "
                    f"{', '.join(str(x.dtype) for x in tensors)}."
                )
        try:
            for i, alone in self._first:
                values[i] = alone(values[i])
            for i, j, pair in self._pairs:
                second = values.pop(j)
                values.append(pair(values.pop(i), second))
            return values[0] if self._last is None else self._last(values[0])
        except RuntimeError as error:
            raise type(error)(f"`contract({self.pattern!r})`: {error}") from error


def plan(
    pattern: str,
    *shapes: Sequence[int],
    search: str = "auto",
) -> Plan:
    """Find a cheap order of pairwise contractions, and prepare the steps.

    Plans are remembered by pattern and shapes: asking again costs a look into a dictionary.

    Args:
        pattern: Letters of the axes of each tensor, and of the result, as for `torch.einsum`:
            ``"ab,bc->ac"``. Letters that are repeated in one tensor take its diagonal; ``...`` is
            any batch, the same for all or of size one; without ``->`` the result has the letters
            that appear once, sorted.
        shapes: Shape of each tensor.
        search: What opt_einsum searches with: ``"auto"`` (best up to some ten tensors, greedy for
            hundreds), ``"auto-hq"``, ``"dp"``, ``"optimal"`` or ``"greedy"``.

    Returns:
        The plan, to be called with the tensors.

    Raises:
        ValueError: If the pattern does not say a contraction of such shapes.

    Derivatives:
        All orders.

    References:
        Smith & Gray, opt_einsum, J. Open Source Softw. 3(26), 753 (2018).

    Examples:
        >>> plan("ab,bc,cd->ad", (2, 100), (100, 3), (3, 4)).steps
        ('ab,bc->ac', 'cd,ac->ad')
    """
    _check.one_of("plan", SEARCHES, search=search)
    return _planned(pattern, tuple(tuple(shape) for shape in shapes), search)


def contract(pattern: str, *tensors: Tensor) -> Tensor:
    """Contract tensors, with a plan that is made at the first call for these shapes.

    Args:
        pattern: As for `plan`.
        tensors: Of one dtype and device, real or complex; nothing is conjugated.

    Returns:
        The result, as `torch.einsum` gives it.

    Raises:
        TypeError: If an argument is no tensor, or dtypes differ.
        ValueError: If the pattern does not say a contraction of such shapes.

    Derivatives:
        All orders.

    Examples:
        >>> import torch
        >>> contract("ab,bc->ac", torch.ones(1, 2), torch.ones(2, 3))
        tensor([[2., 2., 2.]])
    """
    for x in tensors:
        if not isinstance(x, Tensor):
            raise TypeError(
                f"`contract({pattern!r}, ...)` must have tensors. Got {type(x).__name__}."
            )
    return _planned(pattern, tuple([x.shape for x in tensors]), "auto")._run(tensors)


@lru_cache(maxsize=4096)
def _planned(pattern: str, shapes: tuple[tuple[int, ...], ...], search: str) -> Plan:
    shapes = tuple(tuple(int(d) for d in shape) for shape in shapes)
    operands, result, sizes = parsed(pattern, shapes)
    first, letters = [], []
    for i, operand in enumerate(operands):
        needed = set(result).union(*(o.letters for j, o in enumerate(operands) if j != i))
        alone, kept = reduced(operand, needed)
        letters.append(kept)
        if alone is not None:
            first.append((i, alone))
    path = _path(letters, result, sizes, search)
    pairs: list[tuple[int, int, Callable[[Tensor, Tensor], Tensor]]] = []
    steps, n_flops, largest = [], 0, 0
    for step, (i, j) in enumerate(path):
        b, a = letters.pop(j), letters.pop(i)
        needed = set(result).union(*letters)
        following = _following(path, step, letters)
        run, out = pairwise(a, b, needed, sizes, following or result, last=following is None)
        joined = math.prod(sizes[letter] for letter in set(a + b))
        n_flops += joined * (1 if set(a + b) == set(out) else 2)
        largest = max(largest, math.prod(sizes[letter] for letter in out))
        steps.append(f"{a},{b}->{out}")
        pairs.append((i, j, run))
        letters.append(out)
    last, _ = reduced(Operand(letters[0], {}, None), set(result), order=result)
    return Plan(
        pattern, shapes, tuple(steps), n_flops, largest, tuple(first), tuple(pairs), last
    )  # fmt: skip


def _path(
    letters: Sequence[str], result: str, sizes: dict[str, int], search: str
) -> list[tuple[int, int]]:
    """Ask opt_einsum for pairs, each with the smaller index first."""
    if len(letters) < 3:
        return [(0, 1)] * (len(letters) - 1)
    import opt_einsum

    shapes = [tuple(sizes[letter] for letter in word) for word in letters]
    pattern = f"{','.join(letters)}->{result}"
    found, _ = opt_einsum.contract_path(pattern, *shapes, shapes=True, optimize=search)
    pairs, left = [], len(letters)
    for group in found:  # a group of more than two is taken apart from the end
        chosen = sorted(group)
        while len(chosen) > 1:
            j, i = chosen.pop(), chosen.pop()
            pairs.append((i, j))
            left -= 1
            chosen.append(left - 1)
    return pairs


def _following(path: Sequence[tuple[int, int]], step: int, letters: Sequence[str]) -> str | None:
    """Give the letters of what the result of a step meets next, if that is there already."""
    newest = len(letters)
    for i, j in path[step + 1 :]:
        if newest in (i, j):
            partner = i if newest == j else j
            return letters[partner] if partner < len(letters) else None
        letters = [word for k, word in enumerate(letters) if k not in (i, j)]
        newest -= sum(k < newest for k in (i, j))
    return None
