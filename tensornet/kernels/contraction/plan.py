"""How the monomials are walked through: as products of two factors that many of them share.

*Factors* are the number one, the components, and a few products of components, each made of two
factors before it. A monomial is a left times a right factor; a *run* is the terms of one component
of the result with one left factor, so that ``out[k] += left * (sum of coefficient * right)``. Which
products become factors is chosen greedily: always the one that the most monomials still wait for.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations
from typing import Any

import numpy as np
from torch import Tensor

from tensornet.kernels import _bridge
from tensornet.kernels._index import check_range

Array = np.ndarray[Any, Any]
Monomial = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Plan:
    """Tables of whole numbers; factors are numbered one, components, products."""

    products: Array  # (products, 3): its number as a factor, those of its two factors
    runs: Array  # (runs, 4): left factor, component of the result, first and last term
    rights: Array  # (t,): right factor of each term, in the order of the runs
    order: Array  # (t,): which monomial each term is

    @cached_property
    def flat(self) -> tuple[Array, Array, Array, Array]:
        """The tables with one axis each."""
        return self.products.reshape(-1), self.runs.reshape(-1), self.rights, self.order


def plan(name: str, n_i: int, n_k: int, monomials: Tensor, at_k: Tensor) -> Plan:
    """Check the indices and give the tables, those of last time where the monomials are the same.

    Args:
        name: Of the kernel, for messages.
        n_i: Number of components of the features.
        n_k: Number of components of the result.
        monomials: The components of each monomial, (t, q).
        at_k: The component of the result that each belongs to, (t,).

    Returns:
        The tables.

    Raises:
        IndexError: If an index is out of range.
    """
    content = (a.tobytes() for a in _bridge.arrays(monomials, at_k))
    return _plan(name, n_i, n_k, monomials.shape[1], *content)


@lru_cache(maxsize=256)
def _plan(name: str, n_i: int, n_k: int, width: int, monomials: bytes, at_k: bytes) -> Plan:
    table, k = np.frombuffer(monomials, np.int64), np.frombuffer(at_k, np.int64)
    check_range(name, "monomials", table, n_i + 1)
    check_range(name, "at_k", k, n_k)
    words = [tuple(sorted(i for i in row if i < n_i)) for row in table.reshape(-1, width).tolist()]
    factors: dict[Monomial, int] = {(): 0, **{(i,): i + 1 for i in range(n_i)}}
    products: list[tuple[int, int]] = []
    split = _splits(words)
    runs: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for t, (word, of) in enumerate(zip(words, k.tolist(), strict=True)):
        left, right = (_factor(part, factors, products) for part in split[word])
        runs[of, left].append((right, t))
    starts: list[tuple[int, ...]] = []
    terms: list[tuple[int, int]] = []
    for (of, left), mine in sorted(runs.items(), key=lambda run: (len(run[1]), run[0])):
        starts.append((left, of, len(terms), len(terms) + len(mine)))
        terms.extend(sorted(mine))
    rights, order = np.array(terms, np.int64).T
    return Plan(
        _numbered(products, n_i + 1), np.array(starts, np.int64),
        np.ascontiguousarray(rights), np.ascontiguousarray(order),
    )  # fmt: skip


def _factor(word: Monomial, factors: dict[Monomial, int], products: list[tuple[int, int]]) -> int:
    """The number of a factor; it and those it is made of join the tables."""
    if word not in factors:
        half = len(word) // 2
        pair = (_factor(part, factors, products) for part in (word[:half], word[half:]))
        products.append((*pair,))  # type: ignore[arg-type]
        factors[word] = len(factors)
    return factors[word]


def _splits(words: list[Monomial]) -> dict[Monomial, tuple[Monomial, Monomial]]:
    """Left and right part of each monomial; the right has half of its indices, rounded up."""
    found: dict[Monomial, tuple[Monomial, Monomial]] = {}
    waiting: dict[Monomial, set[Monomial]] = defaultdict(set)
    wanted: Counter[Monomial] = Counter()
    for word in sorted(set(words)):
        size = (len(word) + 1) // 2
        if len(word) < 3:
            found[word] = word[size:], word[:size]
            continue
        for part in combinations(word, size):
            if word not in waiting[part]:
                waiting[part].add(word)
                wanted[part] += 1
    while wanted:
        part = max(wanted, key=lambda w: (wanted[w], w))
        for word in waiting[part]:
            if word in found:
                continue
            found[word] = _without(word, part), part
            for other in set(combinations(word, len(part))):
                wanted[other] -= 1
        del wanted[part]
        wanted = +wanted
    return found


def _without(word: Monomial, part: Monomial) -> Monomial:
    rest = list(word)
    for i in part:
        rest.remove(i)
    return tuple(rest)


def _numbered(products: list[tuple[int, int]], first: int) -> Array:
    rows = [(first + place, *pair) for place, pair in enumerate(products)]
    return np.array(rows, np.int64).reshape(-1, 3)
