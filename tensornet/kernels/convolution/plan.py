"""How the numbers of a coupling are walked through: small dense blocks that fit in registers.

For one edge the coupling, contracted with the harmonics, is a sparse matrix with a row per
component k of the result and a column per path p and component i of the features. A *chunk* is a
set of rows with the columns they share; its numbers are *cells*, column by column.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from torch import Tensor

from tensornet.kernels import _bridge
from tensornet.kernels._index import check_range

Array = np.ndarray[Any, Any]
HEIGHTS = (7, 5, 3, 2, 1)  # rows of a chunk
Cell = tuple[int, int, int]
Columns = dict[int, set[tuple[int, int]]]  # of each row its columns (p, i)


@dataclass(frozen=True, eq=False)
class Plan:
    """Tables of whole numbers, and the values in the order of their use."""

    chunks: Array  # (chunks, 5): rows, first row, first and last column, first cell
    segments: Array  # (segments, 6): the same for columns of one path, and the path
    rows: Array  # (rows,): k
    columns: Array  # (columns, 2): i and p
    cell_starts: Array  # (cells + 1,)
    cell_j: Array  # (t,)
    cell_values: Array  # (t,)
    j_starts: Array  # (j + 1,)
    j_cells: Array  # (t,)
    j_values: Array  # (t,)


def plan(
    name: str,
    sizes: tuple[int, int, int, int],
    at: tuple[Tensor, ...],
    values: Tensor,
) -> Plan:
    """Check the indices and give the tables, those of last time where the coupling is the same.

    Args:
        name: Of the kernel, for messages.
        sizes: Of i, j, k and p.
        at: The indices, (t,) each.
        values: The numbers, (t,).

    Returns:
        The tables.

    Raises:
        IndexError: If an index is out of range.
    """
    arrays = _bridge.arrays(*at, values)
    return _plan(name, sizes, arrays[-1].dtype.char, *(a.tobytes() for a in arrays))


def checked(name: str, sizes: tuple[int, ...], content: tuple[bytes, ...]) -> list[Array]:
    """The indices i, j, k and p from their bytes; an IndexError if one is out of range."""
    at = [np.frombuffer(c, np.int64) for c in content]
    for letter, size, index in zip("ijkp", sizes, at, strict=True):
        check_range(name, f"at_{letter}", index, size)
    return at


@lru_cache(maxsize=256)
def _plan(name: str, sizes: tuple[int, int, int, int], dtype: str, *content: bytes) -> Plan:
    i, j, k, p = checked(name, sizes, content[:4])
    values = np.frombuffer(content[4], dtype)
    terms: dict[Cell, list[int]] = defaultdict(list)
    for t, cell in enumerate(zip(p.tolist(), k.tolist(), i.tolist(), strict=True)):
        terms[cell].append(t)
    chunks, segments, rows, columns, cells = _blocks(terms)
    in_cells = [terms.get(cell, []) for cell in cells]
    order = np.array([t for ts in in_cells for t in ts], np.int64)
    cell_of = np.repeat(np.arange(len(cells)), [len(ts) for ts in in_cells])
    by_j = np.argsort(j[order], kind="stable")
    return Plan(
        chunks, segments, rows, columns,
        _starts(cell_of, len(cells)), j[order], values[order],
        _starts(j, sizes[1]), cell_of[by_j], values[order][by_j],
    )  # fmt: skip


def _starts(labels: Array, n: int) -> Array:
    return np.concatenate([[0], np.bincount(labels, minlength=n).cumsum()]).astype(np.int64)


def _blocks(terms: Iterable[Cell]) -> tuple[Array, Array, Array, Array, list[Cell]]:
    """Chunks, segments, rows, columns and the (p, k, i) of all cells, those of zeros too."""
    alone, shared, groups = split(sorted(terms))
    chunks: list[tuple[int, ...]] = []
    segments: list[tuple[int, ...]] = []
    rows: list[int] = []
    columns: list[tuple[int, int]] = []
    cells: list[Cell] = []

    def add(ks: list[int], wanted: set[tuple[int, int]]) -> None:
        start, cell = len(columns), len(cells)
        columns.extend((i, p) for p, i in sorted(wanted))
        cells.extend((p, k, i) for p, i in sorted(wanted) for k in ks)
        chunks.append((len(ks), len(rows), start, len(columns), cell))
        for q in sorted({p for p, _ in wanted}):
            mine = [c for c in range(start, len(columns)) if columns[c][1] == q]
            at = cell + (mine[0] - start) * len(ks)
            segments.append((len(ks), len(rows), mine[0], mine[-1] + 1, at, q))
        rows.extend(ks)

    for group in groups:
        while group:
            height = next(h for h in HEIGHTS if h <= len(group))
            ks, group = group[:height], group[height:]
            add(ks, set().union(*(shared[k] | alone.pop(k, set()) for k in ks)))
    for k, wanted in sorted(alone.items()):
        add([k], wanted)
    tables = (np.array(table, np.int64) for table in (chunks, segments, rows, columns))
    return *tables, cells  # type: ignore[return-value]


def split(cells: list[Cell]) -> tuple[Columns, Columns, list[list[int]]]:
    """Cells that share neither row nor column within their path, the others, and rows of those.

    Cells of the first kind, as on the diagonal of a path of scalars, do not tie rows together. They
    join the chunk of their row, where zeros cost less than a chunk of its own.
    """
    in_row = Counter((p, k) for p, k, _ in cells)
    in_column = Counter((p, i) for p, _, i in cells)
    alone: Columns = defaultdict(set)
    shared: Columns = defaultdict(set)
    leader: dict[int, int] = {}
    first: dict[tuple[int, int], int] = {}  # a row that has the column

    def find(k: int) -> int:
        while leader.setdefault(k, k) != k:
            k = leader[k]
        return k

    for p, k, i in cells:
        if in_row[p, k] == 1 and in_column[p, i] == 1:
            alone[k].add((p, i))
        else:
            shared[k].add((p, i))
            leader[find(k)] = find(first.setdefault((p, i), k))
    groups: dict[int, list[int]] = defaultdict(list)
    for k in sorted(shared):
        groups[find(k)].append(k)
    return alone, shared, list(groups.values())
