"""Vector code of the sparse product: short sums of numbers times vectors, each with its own end.

Arrays are flat; places in them come from tables. A sum takes its vectors from `s` and stays in
registers, beside others that take the same vectors. Sums of one length stand together, so that
their code has no branches.
"""

from collections.abc import Callable, Iterator
from typing import Any

from numba.core import cgutils

from tensornet.kernels._code import Code, vector_code
from tensornet.kernels._tile import FMA

LONGEST = (6, 4, 3, 2)  # terms of one, two, three or four sums that are taken at once
VECTORS = 4  # of a place in `s`, at most


class _Channels(Code):
    """Code whose vectors stand from the start of an array, a place and the channel on."""

    def place(self, name: str, *index: Any) -> Any:
        return self.plus(self.at.get(f"{name}0", 0), *index, "channel")

    def vectors(self, x: Any) -> Any:
        """The place of a number of vectors in `s`."""
        return self.times(x, self.simd.lanes * VECTORS)

    def add(self, name: str, place: Any, x: Any, y: Any = None) -> None:
        """``name[place] += x y``."""
        old = self.load(name, place)
        new = self.b.fadd(old, x, flags=FMA) if y is None else self.simd.multiply_add(x, y, old)
        self.store(new, name, place)

    def each_vector(self) -> Iterator[None]:
        """A loop over the vectors of channels."""
        with cgutils.for_range(self.b, self.at["n"]) as loop:
            self.at["channel"] = self.times(loop.index, self.simd.lanes)
            yield


Finish = Callable[[_Channels, Any, Any, Any, Any], None]


def _units(code: _Channels, first: str, last: str) -> Iterator[tuple[Any, list[Any]]]:
    """A loop over units; yields its number and the places of two x and two y."""
    with cgutils.for_range(code.b, code.at[last], start=code.at[first]) as loop:
        line = code.times(loop.index, 4)
        yield loop.index, [code.whole("units", line, k) for k in range(4)]


def _each_kind(code: _Channels) -> Iterator[tuple[int, Any, list[Any]]]:
    """Loops over units of one, two and four pairs; yields also the place of the first in `s`."""
    place = code.int(0)
    kinds = (1, "first", "twos"), (2, "twos", "fours"), (4, "fours", "last")
    for size, first, last in kinds:
        for number, ends in _units(code, first, last):
            step = code.b.mul(code.b.sub(number, code.at[first]), code.int(size))
            yield size, code.vectors(code.b.add(place, step)), ends
        count = code.b.sub(code.at[last], code.at[first])
        place = code.b.add(place, code.times(count, size))


def _pairs(code: _Channels) -> None:
    """Products of pairs; of two that always meet the same numbers, up to signs, sum and difference.

    A unit of four holds all pairs of two x and two y.
    """
    for size, place, (i, i2, j, j2) in _each_kind(code):
        for _ in code.each_vector():
            x, y = code.load("x", i), code.load("y", j)
            made = [code.b.fmul(x, y)]
            if size > 1:
                other_x, other_y = code.load("x", i2), code.load("y", j2)
                made = _sum_and_difference(code, x, y, other_x, other_y)
            if size > 2:
                made += _sum_and_difference(code, x, other_y, other_x, y)
            for k, vector in enumerate(made):
                code.store(vector, "s", place, code.vectors(code.int(k)))


def _sum_and_difference(code: _Channels, x: Any, y: Any, other_x: Any, other_y: Any) -> list[Any]:
    first = code.b.fmul(x, y, flags=FMA)
    second = code.b.fmul(other_x, other_y, flags=FMA)
    return [code.b.fadd(first, second, flags=FMA), code.b.fsub(first, second, flags=FMA)]


def _spread(code: _Channels) -> None:
    """Slopes u of x and v of y, from the slopes of what `_pairs` made, in `s`."""
    add, subtract = code.b.fadd, code.b.fsub
    for size, place, (i, i2, j, j2) in _each_kind(code):
        for _ in code.each_vector():
            s = [code.load("s", place, code.vectors(code.int(k))) for k in range(size)]
            ends = [(i, j, s[0])]
            if size > 1:
                ends = [(i, j, add(s[0], s[1])), (i2, j2, subtract(s[0], s[1]))]
            if size > 2:
                ends += [(i, j2, add(s[2], s[3])), (i2, j, subtract(s[2], s[3]))]
            for left, right, slope in ends:
                code.add("u", left, code.load("y", right), slope)
            for left, right, slope in ends:
                code.add("v", right, code.load("x", left), slope)


def _sums(code: _Channels, finish: Finish) -> None:
    """Sums of the runs from first to last: a run says how many sums share vectors, of how many
    terms, then the first row, the number of such groups, the first term and the first value.
    """  # noqa: D205
    b, at = code.b, code.at
    with cgutils.for_range(b, at["last"], start=at["first"]) as loop:
        line = code.times(loop.index, 6)
        height, n_terms, *run = (code.whole("runs", line, k) for k in range(6))
        other, end = b.append_basic_block("other"), b.append_basic_block("end")
        switch = b.switch(b.add(code.times(height, 64), n_terms), other)
        b.position_at_end(other)
        _run(code, finish, 1, n_terms, *run)
        b.branch(end)
        for n_rows, longest in enumerate(LONGEST, 1):
            for terms in range(1, longest + 1):
                block = b.append_basic_block("sums")
                switch.add_case(code.int(64 * n_rows + terms), block)
                b.position_at_end(block)
                _run(code, finish, n_rows, terms, *run)
                b.branch(end)
        b.position_at_end(end)


def _run(
    code: _Channels, finish: Finish, n_rows: int, n_terms: Any, row: Any, groups: Any, term: Any,
    value: Any,
) -> None:  # fmt: skip
    """Groups of so many sums of so many terms; a number of terms not known here is any."""
    b, at = code.b, code.at
    size = code.int(n_terms) if isinstance(n_terms, int) else n_terms
    with cgutils.for_range(b, groups) as loop:
        terms = b.mul(loop.index, size)
        at["t"] = b.add(term, terms)
        at["value"] = b.add(value, code.times(terms, n_rows))
        which = [b.add(row, code.plus(code.times(loop.index, n_rows), k)) for k in range(n_rows)]
        sides = [[code.whole("rows", code.times(w, 2), side) for side in (0, 1)] for w in which]
        known = _short(code, n_rows, n_terms) if isinstance(n_terms, int) else None
        for _ in code.each_vector():
            sums = [_long(code, size)] if known is None else known()
            for w, (left, right), total in zip(which, sides, sums, strict=True):
                finish(code, w, left, right, total)


def _short(code: _Channels, n_rows: int, n_terms: int) -> Callable[[], list[Any]]:
    """Places and numbers stay in registers for all vectors."""
    t, first, simd = code.at["t"], code.at["value"], code.simd
    places = [code.whole("terms", t, k) for k in range(n_terms)]
    numbers = [
        [code.every("values", first, k * n_rows + r) for r in range(n_rows)] for k in range(n_terms)
    ]

    def sums() -> list[Any]:
        totals: list[Any] = []
        for place, mine in zip(places, numbers, strict=True):
            vector = code.load("s", place)
            if totals:
                pairs = zip(mine, totals, strict=True)
                totals = [simd.multiply_add(number, vector, total) for number, total in pairs]
            else:
                totals = [code.b.fmul(number, vector) for number in mine]
        return totals

    return sums


def _long(code: _Channels, n_terms: Any) -> Any:
    """One sum of any length."""
    b = code.b
    total = code.variable()
    with cgutils.for_range(b, n_terms) as loop:
        vector = code.load("s", code.whole("terms", "t", loop.index))
        code.add_to(total, code.every("values", "value", loop.index), vector)
    return b.load(total)


def _add(code: _Channels, row: Any, left: Any, right: Any, total: Any) -> None:
    """``o[left] += sum``."""
    code.add("o", left, total)


def _keep(code: _Channels, row: Any, left: Any, right: Any, total: Any) -> None:
    """``o[left] = sum``."""
    code.store(total, "o", left)


def _weigh(code: _Channels, row: Any, left: Any, right: Any, total: Any) -> None:
    """``o[left] += w[right] sum``."""
    code.add("o", left, total, code.load("w", right))


def _turn(code: _Channels, row: Any, left: Any, right: Any, total: Any) -> None:
    """``o[right] += g[left] sum`` and ``r[row] = g[left] w[right]``: slopes of weight and sum."""
    g = code.load("g", left)
    code.add("o", right, g, total)
    place = code.vectors(code.b.sub(row, code.at["first_row"]))
    code.store(code.b.fmul(g, code.load("w", right)), "r", place)


_UNITS = "n first twos fours last units| x| x0 y| y0 s| "
_SUMS = "n first last runs| rows| terms| values| s| s0 "
pairs = vector_code(_UNITS, _pairs, kind=_Channels)
spread = vector_code(_UNITS + "u| u0 v| v0", _spread, kind=_Channels)
add = vector_code(_SUMS + "o| o0", _sums, _add, kind=_Channels)
keep = vector_code(_SUMS + "o| o0", _sums, _keep, kind=_Channels)
weigh = vector_code(_SUMS + "w| w0 o| o0", _sums, _weigh, kind=_Channels)
turn = vector_code(_SUMS + "w| w0 g| g0 r| first_row o| o0", _sums, _turn, kind=_Channels)
