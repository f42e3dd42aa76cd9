"""Vectors of numbers as values in Numba code: ``load``, arithmetic, ``store``.

A vector holds as many numbers as fit 64 bytes; narrower machines take it in parts. Import this
module where kernels are compiled, not before: it needs Numba.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils, typing
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, models, register_model

from tensornet.kernels._tile import BYTES, FMA, Vectors


class Vector(types.Type):  # type: ignore[misc]
    """The type of a vector of numbers."""

    def __init__(self, scalar: types.Float) -> None:
        self.dtype = scalar
        super().__init__(name=f"vector({scalar})")


@register_model(Vector)
class _Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Vector) -> None:
        scalar = manager.lookup(kind.dtype).get_value_type()
        super().__init__(manager, kind, ir.VectorType(scalar, 8 * BYTES // kind.dtype.bitwidth))


def _arithmetic(symbol: Any, emit: Callable[[Any, Any, Any], Any]) -> None:
    """Let ``symbol(vector, vector)`` mean an instruction."""

    class Template(AbstractTemplate):  # type: ignore[misc]
        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) == 2 and all(isinstance(a, Vector) for a in args):
                return typing.signature(args[0], *args)
            return None

    infer_global(symbol)(Template)
    lower_builtin(symbol, Vector, Vector)(lambda context, b, signature, args: emit(b, *args))


_arithmetic(operator.add, lambda b, x, y: b.fadd(x, y, flags=FMA))
_arithmetic(operator.iadd, lambda b, x, y: b.fadd(x, y, flags=FMA))
_arithmetic(operator.sub, lambda b, x, y: b.fsub(x, y, flags=FMA))
_arithmetic(operator.mul, lambda b, x, y: b.fmul(x, y, flags=FMA))
_arithmetic(operator.truediv, lambda b, x, y: b.fdiv(x, y))


class Call:
    """What an intrinsic is emitted with: builder, vectors of the right kind, its arguments."""

    def __init__(self, context: Any, b: Any, signature: Any, args: Any) -> None:
        self.context, self.b, self.signature, self.args = context, b, signature, args
        kinds = signature.args
        dtype = next(getattr(k, "dtype", k) for k in kinds if not isinstance(k, types.Integer))
        self.simd = Vectors(b, context.get_value_type(dtype), dtype.bitwidth)

    def data(self, k: int) -> Any:
        """Where the numbers of the array given as argument k stand."""
        return self.context.make_array(self.signature.args[k])(
            self.context, self.b, self.args[k]
        ).data

    def call(self, name: str, x: Any) -> Any:
        """One of LLVM's functions of a vector."""
        kind = f"v{self.simd.lanes}f{8 * self.simd.size}"
        function = cgutils.get_or_insert_function(
            self.b.module, ir.FunctionType(x.type, [x.type]), f"llvm.{name}.{kind}"
        )
        return self.b.call(function, [x])


def _vector(kind: Any) -> Vector:
    return Vector(kind.dtype if isinstance(kind, types.Array | Vector) else kind)


@intrinsic  # type: ignore[untyped-decorator]
def load(typing: Any, x: Any, place: Any) -> Any:
    """The numbers of an array from a place on."""

    def code(*emit: Any) -> Any:
        c = Call(*emit)
        return c.simd.load(c.data(0), c.args[1])

    return _vector(x)(x, types.intp), code


@intrinsic  # type: ignore[untyped-decorator]
def store(typing: Any, value: Any, x: Any, place: Any) -> Any:
    """Write to an array from a place on."""

    def code(*emit: Any) -> Any:
        c = Call(*emit)
        c.simd.store(c.args[0], c.data(1), c.args[2])
        return c.context.get_dummy_value()

    return types.void(value, x, types.intp), code


@intrinsic  # type: ignore[untyped-decorator]
def every(typing: Any, x: Any, place: Any) -> Any:
    """One number of an array in every lane."""

    def code(*emit: Any) -> Any:
        c = Call(*emit)
        return c.simd.every(c.data(0), c.args[1])

    return _vector(x)(x, types.intp), code


@intrinsic  # type: ignore[untyped-decorator]
def fill(typing: Any, like: Any, value: Any) -> Any:
    """A number in every lane of a vector like the numbers of an array."""

    def code(*emit: Any) -> Any:
        c = Call(*emit)
        return c.simd.filled(c.context.cast(c.b, c.args[1], value, like.dtype))

    return _vector(like)(like, value), code


@intrinsic  # type: ignore[untyped-decorator]
def line_start(typing: Any, x: Any) -> Any:
    """The first place of an array that stands at the start of a cache line."""

    def code(*emit: Any) -> Any:
        c = Call(*emit)
        b, kind = c.b, ir.IntType(64)
        address = b.ptrtoint(c.data(0), kind)
        return b.udiv(b.and_(b.neg(address), kind(BYTES - 1)), kind(c.simd.size))

    return types.intp(x), code


def _third(which: int) -> Any:
    """A load of every third number, from the number `which` on."""

    def third(typing: Any, x: Any, place: Any) -> Any:
        def code(*emit: Any) -> Any:
            c = Call(*emit)
            n = c.simd.lanes
            parts = [c.simd.load(c.data(0), c.args[1], v) for v in range(3)]
            at = [3 * lane + which for lane in range(n)]
            low = c.simd.mix(parts[0], parts[1], [p if p < 2 * n else 0 for p in at])
            places = [p - n if p >= 2 * n else lane for lane, p in enumerate(at)]
            return c.simd.mix(low, parts[2], places)

        return _vector(x)(x, types.intp), code

    return intrinsic(third)


load_first, load_second, load_third = _third(0), _third(1), _third(2)


@intrinsic  # type: ignore[untyped-decorator]
def store_threes(typing: Any, x: Any, y: Any, z: Any, out: Any, place: Any) -> Any:
    """Write x, y and z in turns."""

    def code(*emit: Any) -> Any:
        c = Call(*emit)
        n = c.simd.lanes
        for v in range(3):
            at = [divmod(n * v + lane, 3) for lane in range(n)]
            two = c.simd.mix(c.args[0], c.args[1], [q if k == 0 else n + q for q, k in at])
            places = [n + q if k == 2 else lane for lane, (q, k) in enumerate(at)]
            c.simd.store(c.simd.mix(two, c.args[2], places), c.data(3), c.args[4], v)
        return c.context.get_dummy_value()

    return types.void(x, y, z, out, types.intp), code


@intrinsic  # type: ignore[untyped-decorator]
def store_fours(typing: Any, w: Any, x: Any, y: Any, z: Any, out: Any, place: Any) -> Any:
    """Write w, x, y and z in turns."""

    def code(*emit: Any) -> Any:
        c = Call(*emit)
        _zip_four(c, c.args[:4], c.data(4), c.args[5])
        return c.context.get_dummy_value()

    return types.void(w, x, y, z, out, types.intp), code


@intrinsic  # type: ignore[untyped-decorator]
def lanes_of(typing: Any, x: Any) -> Any:
    """How many numbers of an array a vector holds, known when compiled."""

    def code(*emit: Any) -> Any:
        c = Call(*emit)
        return c.context.get_value_type(types.intp)(c.simd.lanes)

    return types.intp(x), code


def _turn(c: Call, x: Any, start: Any, step: Any, out: Any, out_start: Any, out_step: Any) -> None:
    """As many vectors as lanes, a step apart, turned over; written in ascending order."""
    b, n = c.b, c.simd.lanes

    def places(first: Any, by: Any) -> list[Any]:
        return [b.add(first, b.mul(by, by.type(k))) for k in range(n)]

    rows = c.simd.transposed([c.simd.load(x, place) for place in places(start, step)])
    for row, place in zip(rows, places(out_start, out_step), strict=True):
        c.simd.store(row, out, place)


def _turn_columns(
    c: Call, m: Any, x: tuple[Any, Any, Any, Any, Any], out: tuple[Any, Any, Any, Any, Any]
) -> None:
    """All m columns: in blocks of lanes, of which the last overlaps, or one number by number.

    Of both an array, its start, and the steps to the next row of a block, to the next column of
    the whole, and along the whole.
    """
    b, n = c.b, m.type(c.simd.lanes)
    blocks = b.sdiv(b.add(m, b.sub(n, m.type(2))), n)
    with cgutils.for_range(b, blocks) as loop:
        at, last = b.mul(loop.index, n), b.sub(m, n)
        at = b.select(b.icmp_signed("<", at, last), at, last)
        places = [(a, b.add(start, b.mul(at, ahead)), by) for a, start, by, ahead, _ in (x, out)]
        _turn(c, *places[0], *places[1])
    with b.if_then(b.icmp_signed("==", b.srem(m, n), m.type(1))):
        at = b.sub(m, m.type(1))
        ends = [(a, b.add(start, b.mul(at, ahead)), by) for a, start, _, ahead, by in (x, out)]
        _copy(c, *ends[0][:2], *ends[1][:2], n, ends[0][2], ends[1][2])


def _copy(
    c: Call, x: Any, start: Any, out: Any, out_start: Any, n: Any, step: Any, out_step: Any
) -> None:
    """Numbers one by one."""
    b, kind = c.b, c.simd.scalar
    with cgutils.for_range(b, n) as loop:
        place, out_place = (b.mul(loop.index, by) for by in (step, out_step))
        number = b.load(b.gep(x, [b.add(start, place)], source_etype=kind))
        b.store(number, b.gep(out, [b.add(out_start, out_place)], source_etype=kind))


def _zip_four(c: Call, rows: Sequence[Any], out: Any, place: Any) -> None:
    """Four vectors, lanes one after the other: the first of each, the second of each."""
    n = c.simd.lanes
    low = [lane // 2 + n * (lane % 2) for lane in range(n)]
    high = [lane + n // 2 for lane in low]
    even, odd = ([c.simd.mix(rows[k], rows[k + 2], z) for z in (low, high)] for k in (0, 1))
    for half in (0, 1):
        for v, z in enumerate((low, high)):
            c.simd.store(c.simd.mix(even[half], odd[half], z), out, place, 2 * half + v)


@intrinsic  # type: ignore[untyped-decorator]
def rows_in(
    typing: Any, x: Any, start: Any, m: Any, more: Any, scratch: Any, base: Any, rest: Any
) -> Any:
    """Read as many rows of m numbers as lanes, a vector for each column; `rest` has room for them.

    `more` says whether rows follow, so that one can read behind.
    """

    def code(*emit: Any) -> Any:
        c = Call(*emit)
        _, start, m, more, _, base, _ = c.args
        x, scratch, rest, n = c.data(0), c.data(4), c.data(6), m.type(c.simd.lanes)
        one, zero = m.type(1), m.type(0)
        with c.b.if_else(c.b.icmp_signed(">=", m, n)) as (wide, narrow):
            with wide:
                _turn_columns(c, m, (x, start, m, one, m), (scratch, base, n, n, one))
            with narrow, c.b.if_else(more) as (inside, last):
                with inside:
                    _turn(c, x, start, m, scratch, base, n)
                with last:
                    _copy(c, x, start, rest, zero, c.b.mul(m, n), one, one)
                    _turn(c, rest, zero, m, scratch, base, n)
        return c.context.get_dummy_value()

    n = types.intp
    return types.void(x, n, n, types.boolean, scratch, n, rest), code


@intrinsic  # type: ignore[untyped-decorator]
def rows_out(
    typing: Any, scratch: Any, base: Any, out: Any, start: Any, m: Any, more: Any, rest: Any
) -> Any:
    """Write a vector for each column as rows of m numbers, the other way of `rows_in`.

    `more` says whether rows follow that are written later, so that one can write behind.
    """

    def code(*emit: Any) -> Any:
        c = Call(*emit)
        b, (_, base, _, start, m, more, _) = c.b, c.args
        scratch, out, rest, n = c.data(0), c.data(2), c.data(6), m.type(c.simd.lanes)
        one, zero = m.type(1), m.type(0)
        with b.if_else(b.icmp_signed(">=", m, n)) as (wide, narrow):
            with wide:
                _turn_columns(c, m, (scratch, base, n, n, one), (out, start, m, one, m))
            with narrow, b.if_else(b.icmp_signed("==", m, m.type(4))) as (four, few):
                with four:
                    _zip_four(c, [c.simd.load(scratch, base, v) for v in range(4)], out, start)
                with few, b.if_else(more) as (inside, last):
                    with inside:
                        _turn(c, scratch, base, n, out, start, m)
                    with last:
                        _turn(c, scratch, base, n, rest, zero, m)
                        _copy(c, rest, zero, out, start, b.mul(m, n), one, one)
        return c.context.get_dummy_value()

    n = types.intp
    return types.void(scratch, n, out, n, n, types.boolean, rest), code


@intrinsic  # type: ignore[untyped-decorator]
def soon_written(typing: Any, x: Any, first: Any, last: Any) -> Any:
    """Ask for the cache lines of places that are written soon."""

    def code(*emit: Any) -> Any:
        c = Call(*emit)
        b, (_, first, last) = c.b, c.args
        n = first.type(c.simd.lanes)
        lines = b.sdiv(b.sub(b.add(last, b.sub(n, n.type(1))), first), n)
        with cgutils.for_range(b, lines) as loop:
            c.simd.prefetch(c.data(0), b.add(first, b.mul(loop.index, n)), writes=True)
        return c.context.get_dummy_value()

    return types.void(x, types.intp, types.intp), code
