"""In which order an input meets the parts of a factorised matrix, and what each order costs.

A route is a list of matrices. Each is made of some of the parts, and is applied to one axis of what
the matrices before it gave. The dense matrix is the route with one matrix, made of all parts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, pairwise

import torch
from torch import Tensor
from torch.nn import functional

from tensornet.layers.factorized_cost import contraction_seconds, copy_seconds, product_seconds
from tensornet.linalg import contract

_OUT, _IN, _RANKS_OUT, _RANKS_IN = "ABCDEFGHIJ", "abcdefghij", "NOPQRSTUVW", "nopqrstuvw"
MOST_MODES = len(_IN)


@dataclass(frozen=True)
class Step:
    """One matrix of a route.

    Args:
        parts: Which parts it is made of.
        pattern: How, as for `tensornet.linalg.contract`.
        shapes: Shapes of these parts.
        rows: Size of the axis that comes out.
        columns: Size of the axis that goes in.
        before: Size of what stands before that axis.
        behind: Size of what stands behind it.
        axes: Order of the axes of the part, where it is one.
        n_above: For CP, how many of the parts belong to the rows.
    """

    parts: tuple[int, ...]
    pattern: str
    shapes: tuple[tuple[int, ...], ...]
    rows: int
    columns: int
    before: int
    behind: int
    axes: tuple[int, ...] | None = None
    n_above: int | None = None

    def fold(self, parts: Sequence[Tensor]) -> Tensor:  # (rows, columns)
        """Make the matrix of the parts.

        Args:
            parts: All parts of the format.
        """
        chosen = [parts[k] for k in self.parts]
        if self.n_above is not None:
            above, below = chosen[: self.n_above], chosen[self.n_above :]
            if not below:
                return _khatri_rao(above)
            columns = _khatri_rao(below).t()
            return _khatri_rao(above) @ columns if above else columns
        if self.axes is not None:
            return chosen[0].permute(self.axes).reshape(self.rows, self.columns)
        return contract(self.pattern, *chosen).reshape(self.rows, self.columns)


@dataclass(frozen=True)
class Route:
    """The matrices that an input meets, in order.

    Args:
        name: Letters of the axes that each matrix gives and takes.
        steps: The matrices.
    """

    name: str
    steps: tuple[Step, ...]

    @property
    def by_rows(self) -> bool:
        """Whether every matrix is applied to the whole of its input."""
        return all(step.before == step.behind == 1 for step in self.steps)

    def fold(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Make the matrices of the parts.

        Args:
            parts: All parts of the format.
        """
        return [step.fold(parts) for step in self.steps]

    def apply(
        self,
        x: Tensor,  # (..., columns)
        matrices: Sequence[Tensor],
        bias: Tensor | None,
    ) -> Tensor:  # (..., rows)
        """Take an input through the matrices.

        Args:
            x: The input.
            matrices: As `fold` gives them.
            bias: What is added in the end.
        """
        if self.by_rows:
            for matrix in matrices[:-1]:
                x = functional.linear(x, matrix)
            return functional.linear(x, matrices[-1], bias)
        batch = x.shape[:-1]
        n = math.prod(batch)
        y = x.reshape(n, x.shape[-1]).t().contiguous()  # rows last, so that the products are wide
        for step, matrix in zip(self.steps, matrices, strict=True):
            y = y.reshape(step.before, step.columns, step.behind * n)
            if step.before == 1:
                y = matrix @ y[0]
            else:
                y = torch.bmm(matrix.expand(step.before, step.rows, step.columns), y)
        last = self.steps[-1]
        y = y.reshape(last.before * last.rows * last.behind, n).t().contiguous()
        if bias is not None:
            y = y + bias
        return y.reshape(*batch, y.shape[-1])

    def n_multiplications(self, n: int) -> int:
        """Count multiplications for n rows, without those that make the matrices.

        Args:
            n: Number of rows of the input.
        """
        return n * sum(s.before * s.rows * s.columns * s.behind for s in self.steps)

    def seconds(self, n: int, dtype: torch.dtype, device: str, *, training: bool) -> float:
        """Estimate the time of a call, with its derivatives and the matrices if in training.

        Args:
            n: Number of rows of the input.
            dtype: Of input and parts.
            device: ``"cpu"``, or another kind.
            training: Whether matrices are made anew, and derivatives taken.
        """
        kind = (dtype, device, training)
        total = 0.0
        for s in self.steps:
            total += product_seconds(s.before, s.rows, s.columns, s.behind * n, *kind)
            if training:
                total += contraction_seconds(s.pattern, s.shapes, *kind)
        if not self.by_rows:  # views at every step; there and back between rows and columns
            first, last = self.steps[0], self.steps[-1]
            size = first.columns * first.behind + last.before * last.rows
            total += copy_seconds(n * size if n > 1 else 0, *kind)
            total += 2 * len(self.steps) * copy_seconds(0, *kind)
        return total


@lru_cache(maxsize=256)
def linear_routes(
    kind: str, out_shape: tuple[int, ...], in_shape: tuple[int, ...], ranks: tuple[int, ...]
) -> tuple[Route, ...]:
    """Give the routes through a factorised matrix, the dense one first.

    Args:
        kind: ``"cp"``, ``"tucker"`` or ``"tensor_train"``.
        out_shape: Sizes whose product is the number of rows.
        in_shape: Sizes whose product is the number of columns.
        ranks: As `ranks_of` gives them.
    """
    outs, ins = _OUT[: len(out_shape)], _IN[: len(in_shape)]
    sizes = dict(zip(outs + ins, out_shape + in_shape, strict=True))
    n = len(outs)
    start = ins
    dense = (outs, ins)
    if kind == "cp":
        words = [letter + "n" for letter in outs + ins]
        sizes["n"] = ranks[0]
        groups = [[("n", ins), (outs, "n")]]
    elif kind == "tucker":
        above, below = _RANKS_OUT[:n], _RANKS_IN[: len(ins)]
        sizes.update(zip(above + below, ranks, strict=True))
        words = [above + below, *map("".join, zip(outs + ins, above + below, strict=True))]
        first, last = list(zip(below, ins, strict=True)), list(zip(outs, above, strict=True))
        groups = [
            [(above, ins), (outs, above)],
            [(below, ins), (outs, below)],
            [(below, ins), (above, below), (outs, above)],
            [*first, (outs, below)],
            [(above, ins), *last],
            [*first, (above, below), *last],
        ]
    else:
        bonds = "y" + _RANKS_IN[: n - 1] + "z"  # the outer ones have size one
        sizes.update(zip(bonds, (1, *ranks, 1), strict=True))
        words = [bonds[k] + outs[k] + ins[k] + bonds[k + 1] for k in range(n)]
        start, dense = "y" + ins, (outs + "z", "y" + ins)
        groups = [
            [(outs[i:j] + bonds[j], bonds[i] + ins[i:j]) for i, j in pairwise((0, *cuts, n))]
            for k in range(1, n)
            for cuts in combinations(range(1, n), k)
        ]
    return tuple(
        _route(words, sizes, start, group, columnwise=kind == "cp") for group in [[dense], *groups]
    )


def _khatri_rao(factors: Sequence[Tensor]) -> Tensor:  # (d_1 d_2 ..., r)
    """Multiply factors (d, r) column by column; the columns stay last, where memory is."""
    made = factors[0]
    for factor in factors[1:]:
        made = (made[:, None, :] * factor).flatten(0, 1)
    return made


def _route(
    words: Sequence[str],
    sizes: dict[str, int],
    start: str,
    group: Sequence[tuple[str, str]],
    *,
    columnwise: bool,
) -> Route:
    """Make a route of the letters of the parts, of the input, and of rows and columns."""

    def volume(letters: str) -> int:
        return math.prod(sizes[c] for c in letters)

    steps: list[Step] = []
    state, left = start, list(range(len(words)))
    for rows, columns in group:
        before, behind = state.split(columns)
        rest = "".join(r + c for r, c in group[len(steps) + 1 :]) + before + behind
        parts = _joined(words, left, columns, set(rest) | set(rows))
        left = [k for k in left if k not in parts]
        chosen = [words[k] for k in parts]
        shapes = tuple(tuple(sizes[c] for c in word) for word in chosen)
        pattern = f"{','.join(chosen)}->{rows}{columns}"
        sized = (volume(rows), volume(columns), volume(before), volume(behind))
        one = chosen[0] if len(chosen) == 1 and set(chosen[0]) == set(rows + columns) else None
        axes = None if one is None else tuple(one.index(c) for c in rows + columns)
        above = sum(bool(set(word) & set(_OUT)) for word in chosen) if columnwise else None
        steps.append(Step(parts, pattern, shapes, *sized, axes, above))
        state = before + rows + behind
    return Route(", ".join(f"{rows}<{columns}" for rows, columns in group), tuple(steps))


def _joined(
    words: Sequence[str], left: Sequence[int], columns: str, open_: set[str]
) -> tuple[int, ...]:
    """Collect the parts that hang on the columns, up to letters that stay open."""
    found: set[int] = set()
    edge = set(columns)
    while True:
        new = {k for k in left if k not in found and set(words[k]) & edge}
        if not new:
            return tuple(sorted(found))
        found |= new
        edge = {c for k in new for c in words[k]} - open_
