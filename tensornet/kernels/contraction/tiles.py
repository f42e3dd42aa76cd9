"""Vector code of the symmetric contraction: a few rows at once, a vector of channels of each.

Everything stands in one flat array, at the places of `PLACES`: per factor (or component, or
term) `ROWS` vectors, one per row of features; coefficients are one vector per term. A coefficient
is loaded once for all rows, and its sums stay in registers over a run.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tensornet.kernels._tile import Vectors

ROWS = 4
PLACES = ("factor", "coefficient", "g", "out", "slope", "gradient", "turn", "bend")
"""Values of factors, coefficients, given slopes of the results, results (or their change), slopes
in factors and in coefficients, and the changes of the factors and of their slopes along h."""


class _Code:
    """What an emitter needs: the builder, vectors, tables and places."""

    def __init__(self, context: Any, b: Any, signature: Any, args: Any) -> None:
        self.b, self.n = b, args[1]
        self.int = self.n.type
        kinds = signature.args
        self.table, self.rights, self.work = (
            context.make_array(kinds[k])(context, b, args[k]).data for k in (0, 2, 3)
        )
        number = kinds[3].dtype
        self.simd = Vectors(b, context.get_value_type(number), number.bitwidth)
        self.at = {name: b.extract_value(args[4], k) for k, name in enumerate(PLACES)}

    def whole(self, table: Any, index: Any) -> Any:
        return self.b.load(self.b.gep(table, [index], source_etype=self.int))

    def entry(self, row: Any, width: int, k: int) -> Any:
        """A whole number of the table."""
        return self.whole(self.table, self.b.add(self.b.mul(row, self.int(width)), self.int(k)))

    def place(self, name: str, index: Any, rows: int = ROWS) -> Any:
        """Where the vectors of an index stand."""
        step = self.int(rows * self.simd.lanes)
        return self.b.add(self.at[name], self.b.mul(index, step))

    def load(self, place: Any, v: int = 0) -> Any:
        return self.simd.load(self.work, place, v)

    def vectors(self, name: str, index: Any) -> list[Any]:
        place = self.place(name, index)
        return [self.load(place, v) for v in range(ROWS)]

    def put(self, name: str, index: Any, values: list[Any], rows: int = ROWS) -> None:
        place = self.place(name, index, rows)
        for v, value in enumerate(values):
            self.simd.store(value, self.work, place, v)

    def add(self, name: str, index: Any, *pairs: tuple[list[Any], list[Any]]) -> None:
        """Add products to vectors that stand in memory."""
        totals = self.vectors(name, index)
        for x, y in pairs:
            totals = [self.simd.multiply_add(*three) for three in zip(x, y, totals, strict=True)]
        self.put(name, index, totals)

    def times(self, x: list[Any], y: list[Any]) -> list[Any]:
        return [self.b.fmul(*xy) for xy in zip(x, y, strict=True)]

    def zeros(self) -> list[Any]:
        """Sums that live in registers."""
        return [cgutils.alloca_once_value(self.b, self.simd.constant(0.0)) for _ in range(ROWS)]

    def gather(self, sums: list[Any], x: list[Any], y: list[Any]) -> None:
        for total, left, right in zip(sums, x, y, strict=True):
            self.b.store(self.simd.multiply_add(left, right, self.b.load(total)), total)

    def read(self, sums: list[Any]) -> list[Any]:
        return [self.b.load(total) for total in sums]


def _make(emit: Callable[[_Code], None]) -> Any:
    """An intrinsic ``(table, rows of it, right factors, work, places)``."""

    def walk(typing: Any, table: Any, n: Any, rights: Any, work: Any, places: Any) -> Any:
        def code(context: Any, b: Any, signature: Any, args: Any) -> Any:
            emit(_Code(context, b, signature, args))
            return context.get_dummy_value()

        return types.void(table, types.intp, rights, work, places), code

    return intrinsic(walk)


@contextmanager
def _products(code: _Code, backwards: bool = False) -> Iterator[tuple[Any, Any, Any]]:
    """Go over the products: yields the numbers of the product and of its two factors."""
    b = code.b
    with cgutils.for_range(b, code.n) as loop:
        row = loop.index
        if backwards:
            row = b.sub(b.sub(code.n, code.int(1)), row)
        first, left, right = (code.entry(row, 3, k) for k in range(3))
        yield first, left, right


def _multiply(code: _Code) -> None:
    """Make the products."""
    with _products(code) as (f, left, right):
        code.put(
            "factor", f, code.times(code.vectors("factor", left), code.vectors("factor", right))
        )


def _multiply_turns(code: _Code) -> None:
    """Make the products and their changes."""
    with _products(code) as (f, left, right):
        x, y = code.vectors("factor", left), code.vectors("factor", right)
        u, v = code.vectors("turn", left), code.vectors("turn", right)
        code.put("factor", f, code.times(x, y))
        change = zip(u, y, code.times(x, v), strict=True)
        code.put("turn", f, [code.simd.multiply_add(*three) for three in change])


def _spread(code: _Code) -> None:
    """Give the slopes in products on to their factors."""
    with _products(code, backwards=True) as (f, left, right):
        x, y, s = (code.vectors(*w) for w in (("factor", left), ("factor", right), ("slope", f)))
        code.add("slope", left, (s, y))
        code.add("slope", right, (s, x))


def _spread_bends(code: _Code) -> None:
    """Give the slopes in products and their changes on to their factors."""
    with _products(code, backwards=True) as (f, left, right):
        x, y, s = (code.vectors(*w) for w in (("factor", left), ("factor", right), ("slope", f)))
        u, v, d = (code.vectors(*w) for w in (("turn", left), ("turn", right), ("bend", f)))
        code.add("bend", left, (d, y), (s, v))
        code.add("bend", right, (d, x), (s, u))
        code.add("slope", left, (s, y))
        code.add("slope", right, (s, x))


@contextmanager
def _runs(code: _Code) -> Iterator[tuple[Any, Any, Any, Any]]:
    with cgutils.for_range(code.b, code.n) as loop:
        left, k, first, last = (code.entry(loop.index, 4, column) for column in range(4))
        yield left, k, first, last


@contextmanager
def _terms(code: _Code, first: Any, last: Any) -> Iterator[tuple[Any, Any, list[Any]]]:
    """Go over the terms of a run: yields their number, right factor and coefficient."""
    with cgutils.for_range(code.b, last, start=first) as loop:
        coefficient = code.load(code.place("coefficient", loop.index, 1))
        yield loop.index, code.whole(code.rights, loop.index), [coefficient] * ROWS


def _evaluate(code: _Code) -> None:
    """``out[k] += left * (sum of coefficient * right)``."""
    with _runs(code) as (left, k, first, last):
        sums = code.zeros()
        with _terms(code, first, last) as (_, right, c):
            code.gather(sums, c, code.vectors("factor", right))
        code.add("out", k, (code.vectors("factor", left), code.read(sums)))


def _differentiate(code: _Code, coefficients: bool) -> None:
    """The slopes in both factors, and in the coefficients."""
    with _runs(code) as (left, k, first, last):
        g, sums = code.vectors("g", k), code.zeros()
        scaled = code.times(g, code.vectors("factor", left))
        with _terms(code, first, last) as (t, right, c):
            values = code.vectors("factor", right)
            code.gather(sums, c, values)
            code.add("slope", right, (c, scaled))
            if coefficients:
                _sum_rows(code, t, (scaled, values))
        code.add("slope", left, (g, code.read(sums)))


def _sum_rows(code: _Code, t: Any, *pairs: tuple[list[Any], list[Any]]) -> None:
    """Add products, over all rows, to the slope in a coefficient."""
    place = code.place("gradient", t, 1)
    totals = [code.load(place), code.simd.constant(0.0)]
    for x, y in pairs:
        for v in range(ROWS):
            totals[v % 2] = code.simd.multiply_add(x[v], y[v], totals[v % 2])
    code.put("gradient", t, [code.b.fadd(*totals)], 1)


def _bend(code: _Code) -> None:
    """The same with dual numbers: changes along h of values and of slopes."""
    with _runs(code) as (left, k, first, last):
        g, sums, changes = code.vectors("g", k), code.zeros(), code.zeros()
        value, turn = code.vectors("factor", left), code.vectors("turn", left)
        scaled, turned = code.times(g, value), code.times(g, turn)
        with _terms(code, first, last) as (t, right, c):
            values, turns = code.vectors("factor", right), code.vectors("turn", right)
            code.gather(sums, c, values)
            code.gather(changes, c, turns)
            code.add("slope", right, (c, scaled))
            code.add("bend", right, (c, turned))
            _sum_rows(code, t, (turned, values), (scaled, turns))
        code.add("out", k, (turn, code.read(sums)), (value, code.read(changes)))
        code.add("slope", left, (g, code.read(sums)))
        code.add("bend", left, (g, code.read(changes)))


multiply, multiply_turns = _make(_multiply), _make(_multiply_turns)
spread, spread_bends = _make(_spread), _make(_spread_bends)
evaluate, bend = _make(_evaluate), _make(_bend)
differentiate = _make(lambda code: _differentiate(code, coefficients=False))
differentiate_all = _make(lambda code: _differentiate(code, coefficients=True))
