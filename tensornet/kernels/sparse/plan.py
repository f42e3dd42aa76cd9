"""How the numbers of a coupling are walked through: products of pairs first, then their sums.

Components of the two inputs meet in a *pair*, whose product serves all terms that hold it. Two
pairs that always meet the same numbers, up to signs, serve as their sum and difference, in half as
many terms; in couplings of harmonics that is most pairs. A *unit* is a pair, or two, or the four of
two x and two y that are two times two. A *row* is a component of the result and a path: it sums
products, and meets its weight once. A *tile* is a set of rows with the units they need, few enough
to stay near the processor. Gradients go the other way: each product sums its rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from torch import Tensor

from tensornet.kernels import _bridge
from tensornet.kernels._index import check_range
from tensornet.kernels._tile import BYTES
from tensornet.kernels.sparse.tiles import LONGEST, VECTORS
from tensornet.kernels.sparse.units import find_units

Array = np.ndarray[Any, Any]
CAP = 96  # products of a tile, where no path needs more


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums in runs of one kind."""

    runs: Array  # (runs, 6): see `tiles`
    rows: Array  # (rows, 2): two places
    terms: Array  # (terms,): which vector, once for sums taken together
    values: Array  # (t,)


@dataclass(frozen=True, eq=False)
class Plan:
    """Tables of whole numbers, and the values in the order of their use."""

    tiles: Array  # (tiles + 1, 6): first unit, two, four, run, row, run back
    units: Array  # (units, 4): i and other i, j and other j
    rows: Sums  # k and p; terms are products of the tile
    back: Sums  # products of the tile; terms are rows of the tile, or k where there are no weights
    most: tuple[int, int]  # products and rows of a tile


@dataclass(frozen=True, eq=False)
class Tables:
    """A plan for channels of one number, as two arrays."""

    whole: Array  # sizes of the six tables, then these
    values: Array  # of the rows, then back
    most: tuple[int, int]  # products and rows of a tile
    n_terms: int


_recent: dict[tuple[Any, ...], tuple[list[Array], Tables]] = {}


def tables(name: str, letters: str, sizes: tuple[int, ...], width: int, *tensors: Tensor) -> Tables:
    """Check the indices and give the tables, those of last time where the coupling is the same.

    Args:
        name: Of the kernel, for messages.
        letters: ``"ijk"`` or ``"ijkp"``.
        sizes: Of each letter.
        width: Number of channels.
        tensors: An index for each letter, then the values, (t,) each.

    Returns:
        The tables.

    Raises:
        IndexError: If an index is out of range.
    """
    arrays = _bridge.arrays(*tensors)
    key = (*map(id, tensors), name, sizes, width)
    known = _recent.get(key)
    # Tensors may be changed in place, and an id be given again: only content counts.
    if known is not None and all(map(np.array_equal, known[0], arrays)):
        return known[1]
    content = (a.tobytes() for a in arrays)
    found = _flat(name, letters, sizes, width, arrays[-1].dtype.char, *content)
    if len(_recent) >= 256:
        _recent.clear()
    _recent[key] = [a.copy() for a in arrays], found
    return found


@lru_cache(maxsize=256)
def _flat(
    name: str, letters: str, sizes: tuple[int, ...], width: int, dtype: str, *content: bytes
) -> Tables:
    made = _plan(name, letters, sizes, dtype, *content)
    rows, back = made.rows, made.back
    step = BYTES // rows.values.itemsize * VECTORS
    parts = (
        made.tiles, made.units * width, rows.runs, rows.rows * width, rows.terms * step,
        back.runs, back.rows * step, back.terms * (step if len(letters) == 4 else width),
    )  # fmt: skip
    whole = np.concatenate([[len(t) for t in parts], *(t.reshape(-1) for t in parts)])
    values = np.concatenate([rows.values, back.values])
    return Tables(whole.astype(np.int64), values, made.most, len(rows.values))


def _plan(name: str, letters: str, sizes: tuple[int, ...], dtype: str, *content: bytes) -> Plan:
    at = [np.frombuffer(c, np.int64) for c in content[:-1]]
    for letter, bound, index in zip(letters, sizes, at, strict=True):
        check_range(name, f"at_{letter}", index, bound)
    values = np.frombuffer(content[-1], dtype)
    i, j, k = at[:3]
    n_j, n_k, n_p = sizes[1], sizes[2], sizes[3] if len(at) > 3 else 1
    row = at[3] * n_k + k if len(at) > 3 else k
    both, where = np.unique((i * n_j + j) * (n_k * n_p) + row, return_inverse=True)
    summed = np.zeros(len(both), dtype)
    np.add.at(summed, where, values)
    pair, row = np.divmod(both, n_k * n_p)
    units, size, kept, product, summed = find_units(pair, row, summed, n_j)
    return _tables(units, size, product, row[kept], summed, n_k, len(at) > 3)


def _tables(
    units: Array, size: Array, product: Array, row: Array, values: Array, n_k: int, weighted: bool
) -> Plan:
    """Tables of all tiles."""
    unit = product // 4
    starts: list[list[int]] = []
    held: list[Array] = []
    ends: list[Array] = []
    places: list[Array] = []
    rows, back = Builder(), Builder()
    n_units = 0
    for chosen in _tiles(unit, size, row // n_k, weighted):
        mine = np.unique(unit[chosen])
        mine = mine[np.argsort(size[mine], kind="stable")]
        first = np.zeros(len(size), np.int64)
        first[mine] = np.cumsum(size[mine]) - size[mine]
        local = first[unit[chosen]] + product[chosen] % 4
        kinds = n_units + np.searchsorted(size[mine], (1, 2, 4))
        starts.append([*kinds.tolist(), len(rows.runs), rows.n_rows, len(back.runs)])
        held.append(units[mine])
        n_units += len(mine)
        names, owner = np.unique(row[chosen], return_inverse=True)
        place, at = rows.add(owner, local, values[chosen], len(names), cut=True)
        ends.append(np.stack(np.divmod(names[at], n_k)[::-1], 1))
        there = place[owner] if weighted else row[chosen]
        products = int(size[mine].sum())
        places.append(back.add(local, there, values[chosen], products, cut=False)[1])
    starts.append([n_units] * 3 + [len(rows.runs), rows.n_rows, len(back.runs)])
    kept = np.concatenate(places)
    return Plan(
        np.array(starts, np.int64), np.concatenate(held), rows.sums(np.concatenate(ends)),
        back.sums(np.stack([kept, kept], 1)), (max(map(len, places)), max(map(len, ends))),
    )  # fmt: skip


def _tiles(unit: Array, size: Array, p: Array, weighted: bool) -> Iterator[Array]:
    """Terms of each tile: whole paths, or else units in their order."""
    if not weighted:
        used = np.unique(unit)
        label = np.zeros(len(size), np.int64)
        label[used] = (np.cumsum(size[used]) - 1) // CAP
        for q in np.unique(label[unit]):
            yield np.flatnonzero(label[unit] == q)
        return
    order = np.argsort(p, kind="stable")
    paths = np.split(order, np.flatnonzero(np.diff(p[order])) + 1)
    paths.sort(key=lambda terms: int(unit[terms].min()))
    held: list[Array] = []
    known: Array = np.empty(0, np.int64)
    for terms in paths:
        union = np.union1d(known, unit[terms])
        if held and size[union].sum() > CAP:
            yield np.concatenate(held)
            held, union = [], np.unique(unit[terms])
        held.append(terms)
        known = union
    yield np.concatenate(held)


class Builder:
    """Sorts the terms of sums, tile after tile."""

    def __init__(self) -> None:
        self.runs: list[tuple[int, ...]] = []
        self.parts: list[tuple[Array, Array]] = []
        self.n_rows = self.n_terms = self.n_values = 0

    def add(
        self, owner: Array, term: Array, values: Array, n: int, *, cut: bool
    ) -> tuple[Array, Array]:
        """Sum the terms of owners 0 to n - 1, those of the same terms together.

        Args:
            owner: Of each term.
            term: Of each term, different for each owner.
            values: Of each term.
            n: Number of owners; those without terms get an empty sum.
            cut: Whether long sums become several, of the same owner.

        Returns:
            A place among the new rows for each owner, and the owner at each place.
        """
        order = np.lexsort((term, owner))
        spans = list(pairwise(np.searchsorted(owner[order], np.arange(n + 1)).tolist()))
        alike: dict[bytes, list[int]] = {}
        for q, (a, b) in enumerate(spans):
            alike.setdefault(term[order[a:b]].tobytes(), []).append(q)
        blocks: dict[tuple[int, int], list[tuple[list[int], int]]] = {}
        for members in alike.values():
            a, b = spans[members[0]]
            for offset, length, height in _pieces(b - a, cut=cut):
                for start in range(0, len(members), height):
                    block = members[start : start + height]
                    blocks.setdefault((len(block), length), []).append((block, offset))
        owners: list[int] = []
        for (height, length), groups in sorted(blocks.items()):
            self.runs.append((
                height, length, self.n_rows + len(owners), len(groups), self.n_terms, self.n_values
            ))  # fmt: skip
            for block, offset in groups:
                owners += block
                starts = [spans[q][0] + offset for q in block]
                which = np.stack([order[a : a + length] for a in starts], 1)  # (terms, height)
                self.parts.append((term[which[:, 0]], values[which].reshape(-1)))
                self.n_terms += length
                self.n_values += length * height
        at = np.array(owners, np.int64)
        self.n_rows += len(at)
        place = np.empty(n, np.int64)
        place[at] = np.arange(len(at))
        return place, at

    def sums(self, rows: Array) -> Sums:
        """The tables."""
        terms, values = (np.concatenate(part) for part in zip(*self.parts, strict=True))
        return Sums(np.array(self.runs, np.int64), rows, terms, values)


def _pieces(length: int, *, cut: bool) -> Iterator[tuple[int, int, int]]:
    """Cut a sum to what is taken at once: from which term on, how many, beside how many others."""
    if length > max(LONGEST) and not cut:
        yield 0, length, 1
        return
    for start in range(0, max(length, 1), max(LONGEST)):
        part = min(length - start, max(LONGEST))
        yield start, part, sum(part <= longest for longest in LONGEST) if part else 1
