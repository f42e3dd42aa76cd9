"""How the gradients of the edge convolution walk through the numbers of a coupling.

Where a node receives, the coupling is contracted with its features first: that is done once for
many edges. What is left for an edge is a sparse matrix with a row per component j of its harmonics
and a column per path p and component i of the features. A *chunk* is a set of rows with the columns
they share, a *segment* the columns of one path in it; its numbers are *cells*, column by column. A
*group* is a run of chunks whose cells, a vector of channels each, stay in the nearest cache. Where
a cell has a second vector, those of a column stand behind the first ones.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from torch import Tensor

from tensornet.kernels import _bridge
from tensornet.kernels._tile import BYTES
from tensornet.kernels.convolution.plan import HEIGHTS, Cell, checked, split

Array = np.ndarray[Any, Any]
IN_PAIRS = (3, 2, 1)  # rows of which two vectors of channels fit in registers
_NEAREST = 768  # vectors of the nearest cache for what all edges of a node read


@dataclass(frozen=True, eq=False)
class GradientPlan:
    """Tables of whole numbers, in which components and paths are places in a row of channels."""

    groups: Array  # (groups, 6): from where to where the chunks, cells and terms go
    chunks: Array  # (chunks, 4): rows or zero, first row, from where to where the segments go
    rows: Array  # (rows,): j
    segments: Array  # (segments, 5): path, from where to where the columns go, first vector,
    # whether the path was met before
    columns: Array  # (columns, 2): i, and j where a chunk has no rows in common
    cells: Array  # (cells, 3): vector, how far behind the second one is, k of the first number
    cell_values: Array  # (cells,)
    terms: Array  # (terms, 3): the same for further numbers
    term_values: Array  # (terms,)
    n_unmet: int  # number of paths without numbers
    at_once: tuple[int, int]  # vectors of channels that meet an edge, and those of them in one body

    @cached_property
    def largest(self) -> int:
        """Number of cells of a group."""
        return int((self.groups[:, 3] - self.groups[:, 2]).max())

    @cached_property
    def whole(self) -> bool:
        """Whether each path is met once."""
        return not self.segments[:, 4].any()

    @cached_property
    def flat(self) -> tuple[Array, ...]:
        """The tables, as compiled code takes them."""
        tables = self.groups, self.chunks, self.rows, self.segments, self.columns, self.cells
        more = self.cell_values, self.terms, self.term_values
        return tuple(t.reshape(-1) for t in (*tables, *more))


def gradient_plan(
    name: str,
    sizes: tuple[int, int, int, int],
    at: tuple[Tensor, ...],
    values: Tensor,
    width: int,
    copies: int,
) -> GradientPlan:
    """Check the indices and give the tables, those of last time where the coupling is the same.

    Args:
        name: Of the kernel, for messages.
        sizes: Of i, j, k and p.
        at: The indices, (t,) each.
        values: The numbers, (t,).
        width: Number of channels, which are whole vectors.
        copies: Number of vectors of a cell: two for second derivatives.

    Returns:
        The tables.

    Raises:
        IndexError: If an index is out of range.
    """
    arrays = _bridge.arrays(*at, values)
    content = [a.tobytes() for a in arrays]
    return _plan(name, sizes, (width, copies), arrays[-1].dtype.char, *content)


@lru_cache(maxsize=256)
def _plan(
    name: str, sizes: tuple[int, ...], layout: tuple[int, int], dtype: str, *content: bytes
) -> GradientPlan:
    i, j, k, p = checked(name, sizes, content[:4])
    width, copies = layout
    terms: dict[Cell, list[int]] = {}
    for t, cell in enumerate(zip(p.tolist(), j.tolist(), i.tolist(), strict=True)):
        terms.setdefault(cell, []).append(t)
    numbers = np.append(np.frombuffer(content[4], dtype), 0).astype(dtype)
    places = np.append(k, 0) * width
    chunks, rows, segments, columns, cells = _chunks(terms)
    first = [terms.get(cell, [-1])[0] for cell in cells]
    more = [(cell, t) for cell, c in enumerate(cells) for t in terms.get(c, [])[1:]]
    of_cell, of_term = np.array(more, np.int64).reshape(-1, 2).T
    heights = np.maximum(chunks[:, 0], 1).repeat(chunks[:, 5] - chunks[:, 4])
    row = (np.arange(len(cells)) - chunks[:, 4].repeat(chunks[:, 5] - chunks[:, 4])) % heights
    vectors = np.stack([(np.arange(len(cells)) - row) * copies + row, heights], 1)
    groups = np.array(_groups(chunks, _NEAREST // copies), np.int64)
    n_vectors, low = width * numbers.itemsize // BYTES, chunks[:, 0].max() <= IN_PAIRS[0]
    at_once = n_vectors if len(cells) * n_vectors * copies <= _NEAREST // 3 else 1
    n_unmet = sizes[3] - len(set(segments[:, 0].tolist()))
    segments[:, 0] *= width
    segments[:, 3] *= copies
    columns[:, 0] *= width
    return GradientPlan(
        np.concatenate([groups, np.searchsorted(of_cell, groups[:, 2:])], 1), chunks[:, :4], rows,
        segments, columns, np.column_stack([vectors, places[first]]), numbers[first],
        np.column_stack([vectors[of_cell], places[of_term]]), numbers[of_term], n_unmet,
        (at_once, 2 if low and at_once % 2 == 0 else 1),
    )  # fmt: skip


def _groups(chunks: Array, most: int) -> list[list[int]]:
    """Runs of chunks: from where to where chunks and cells go."""
    groups: list[list[int]] = []
    for n, (*_, cell, stop) in enumerate(chunks.tolist()):
        if groups and stop - groups[-1][2] <= most:
            groups[-1][1], groups[-1][3] = n + 1, stop
        else:
            groups.append([n, n + 1, cell, stop])
    return groups


def _chunks(terms: Iterable[Cell]) -> tuple[Array, Array, Array, Array, list[Cell]]:
    """Chunks, rows, segments, columns and the (p, j, i) of all cells, those of zeros too.

    Cells without neighbours in their path stand at the end, with a row for each column.
    """
    alone, shared, groups = split(sorted(terms))
    lone: list[tuple[int, ...]] = [(p, i, j) for j, wanted in alone.items() for p, i in wanted]
    lone.sort()
    chunks: list[list[int]] = []
    rows: list[int] = []
    segments: list[tuple[int, ...]] = []
    columns: list[tuple[int, int]] = []
    cells: list[Cell] = []

    def add(js: list[int], wanted: list[tuple[int, ...]]) -> None:
        head = [len(js), len(rows), len(segments)]
        start, cell = len(columns), len(cells)
        met = {s[0] for s in segments}
        columns.extend((c[1], c[-1]) for c in wanted)
        cells.extend((c[0], j, c[1]) for c in wanted for j in (js or c[2:]))
        rows.extend(js)
        for q in sorted({c[0] for c in wanted}):
            mine = [n for n, c in enumerate(wanted) if c[0] == q]
            at = cell + mine[0] * max(1, len(js))
            segments.append((q, start + mine[0], start + mine[-1] + 1, at, int(q in met)))
        chunks.append([*head, len(segments), cell, len(cells)])

    for group in groups:
        while group:
            height = next(h for h in HEIGHTS if h <= len(group))
            js, group = group[:height], group[height:]
            add(js, sorted(set().union(*(shared[j] for j in js))))
    if lone:
        add([], lone)
    tables = (
        np.array(table, np.int64).reshape(len(table), -1) for table in (chunks, segments, columns)
    )
    whole, parts, lines = tables
    return whole, np.array(rows, np.int64), parts, lines, cells
