"""Vectors of numbers as values in Numba code: ``load``, arithmetic, ``store``.

A vector holds as many numbers as fit 64 bytes; narrower machines take it in parts. Import this
module where kernels are compiled, not before: it needs Numba.
"""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils, typing
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, models, register_model

from tensornet.kernels._tile import BYTES, FMA, Vectors

_INT32 = ir.IntType(32)


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


class _Code:
    """What an emitter needs: the builder, vectors of the right kind, places in arrays."""

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

    def mix(self, x: Any, y: Any, places: list[int]) -> Any:
        """Pick lanes of x, and of y behind them."""
        mask = ir.Constant(ir.VectorType(_INT32, len(places)), places)
        return self.b.shuffle_vector(x, y, mask)


def _vector(kind: Any) -> Vector:
    return Vector(kind.dtype if isinstance(kind, types.Array | Vector) else kind)


@intrinsic  # type: ignore[untyped-decorator]
def load(typing: Any, x: Any, place: Any) -> Any:
    """The numbers of an array from a place on."""

    def code(*emit: Any) -> Any:
        c = _Code(*emit)
        return c.simd.load(c.data(0), c.args[1])

    return _vector(x)(x, types.intp), code


@intrinsic  # type: ignore[untyped-decorator]
def store(typing: Any, value: Any, x: Any, place: Any) -> Any:
    """Write to an array from a place on."""

    def code(*emit: Any) -> Any:
        c = _Code(*emit)
        c.simd.store(c.args[0], c.data(1), c.args[2])
        return c.context.get_dummy_value()

    return types.void(value, x, types.intp), code


@intrinsic  # type: ignore[untyped-decorator]
def every(typing: Any, x: Any, place: Any) -> Any:
    """One number of an array in every lane."""

    def code(*emit: Any) -> Any:
        c = _Code(*emit)
        return c.simd.every(c.data(0), c.args[1])

    return _vector(x)(x, types.intp), code


@intrinsic  # type: ignore[untyped-decorator]
def fill(typing: Any, like: Any, value: Any) -> Any:
    """A number in every lane of a vector like the numbers of an array."""

    def code(*emit: Any) -> Any:
        c = _Code(*emit)
        number = c.context.cast(c.b, c.args[1], value, like.dtype)
        empty = ir.Constant(c.simd.type, ir.Undefined)
        one = c.b.insert_element(empty, number, _INT32(0))
        return c.b.shuffle_vector(
            one, empty, ir.Constant(ir.VectorType(_INT32, c.simd.lanes), None)
        )

    return _vector(like)(like, value), code


@intrinsic  # type: ignore[untyped-decorator]
def line_start(typing: Any, x: Any) -> Any:
    """The first place of an array that stands at the start of a cache line."""

    def code(*emit: Any) -> Any:
        c = _Code(*emit)
        b, kind = c.b, ir.IntType(64)
        address = b.ptrtoint(c.data(0), kind)
        return b.udiv(b.and_(b.neg(address), kind(BYTES - 1)), kind(c.simd.size))

    return types.intp(x), code


@intrinsic  # type: ignore[untyped-decorator]
def soon_written(typing: Any, x: Any, place: Any) -> Any:
    """Ask for the cache line of a place that is written soon."""

    def code(*emit: Any) -> Any:
        c = _Code(*emit)
        b, byte = c.b, ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, _INT32, _INT32, _INT32])
        function = b.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        b.call(
            function,
            [
                b.bitcast(c.simd.pointer(c.data(0), c.args[1]), byte),
                _INT32(1),
                _INT32(3),
                _INT32(1),
            ],
        )  # to write, keep, data
        return c.context.get_dummy_value()

    return types.void(x, types.intp), code


@intrinsic  # type: ignore[untyped-decorator]
def root(typing: Any, x: Any) -> Any:
    """Square roots."""
    return x(x), lambda *emit: _Code(*emit).call("sqrt", emit[3][0])


@intrinsic  # type: ignore[untyped-decorator]
def absolute(typing: Any, x: Any) -> Any:
    """Absolute values."""
    return x(x), lambda *emit: _Code(*emit).call("fabs", emit[3][0])


@intrinsic  # type: ignore[untyped-decorator]
def larger(typing: Any, x: Any, y: Any) -> Any:
    """The larger of two; y where they cannot be compared."""

    def code(context: Any, b: Any, signature: Any, args: Any) -> Any:
        return b.select(b.fcmp_ordered(">", *args), *args)

    return x(x, y), code


@intrinsic  # type: ignore[untyped-decorator]
def where_zero(typing: Any, x: Any, y: Any, z: Any) -> Any:
    """Y where x is zero, elsewhere z."""

    def code(context: Any, b: Any, signature: Any, args: Any) -> Any:
        zero = ir.Constant(args[0].type, None)
        return b.select(b.fcmp_ordered("==", args[0], zero), args[1], args[2])

    return y(x, y, z), code


@intrinsic  # type: ignore[untyped-decorator]
def ordinary(typing: Any, x: Any) -> Any:
    """Whether all are from 1e-30 to 1e30."""

    def code(context: Any, b: Any, signature: Any, args: Any) -> Any:
        low, high = (
            ir.Constant(
                args[0].type, [ir.Constant(args[0].type.element, limit)] * args[0].type.count
            )
            for limit in (1e-30, 1e30)
        )
        inside = b.and_(b.fcmp_ordered(">=", args[0], low), b.fcmp_ordered("<=", args[0], high))
        bits = ir.IntType(args[0].type.count)
        return b.icmp_signed("==", b.bitcast(inside, bits), bits(-1))

    return types.boolean(x), code


def _third(which: int) -> Any:
    """A load of every third number, from the number `which` on."""

    def third(typing: Any, x: Any, place: Any) -> Any:
        def code(*emit: Any) -> Any:
            c = _Code(*emit)
            n = c.simd.lanes
            parts = [c.simd.load(c.data(0), c.args[1], v) for v in range(3)]
            at = [3 * lane + which for lane in range(n)]
            low = c.mix(parts[0], parts[1], [p if p < 2 * n else 0 for p in at])
            places = [p - n if p >= 2 * n else lane for lane, p in enumerate(at)]
            return c.mix(low, parts[2], places)

        return _vector(x)(x, types.intp), code

    return intrinsic(third)


load_first, load_second, load_third = _third(0), _third(1), _third(2)


@intrinsic  # type: ignore[untyped-decorator]
def store_threes(typing: Any, x: Any, y: Any, z: Any, out: Any, place: Any) -> Any:
    """Write x, y and z in turns."""

    def code(*emit: Any) -> Any:
        c = _Code(*emit)
        n = c.simd.lanes
        for v in range(3):
            at = [divmod(n * v + lane, 3) for lane in range(n)]
            two = c.mix(c.args[0], c.args[1], [q if k == 0 else n + q for q, k in at])
            places = [n + q if k == 2 else lane for lane, (q, k) in enumerate(at)]
            c.simd.store(c.mix(two, c.args[2], places), c.data(3), c.args[4], v)
        return c.context.get_dummy_value()

    return types.void(x, y, z, out, types.intp), code


@intrinsic  # type: ignore[untyped-decorator]
def transpose(
    typing: Any, x: Any, start: Any, step: Any, out: Any, out_start: Any, out_step: Any
) -> Any:
    """As many vectors as lanes, a step apart, turned over; written in ascending order."""

    def code(*emit: Any) -> Any:
        c = _Code(*emit)
        b, n = c.b, c.simd.lanes
        start, step, _, out_start, out_step = c.args[1:]

        def places(first: Any, by: Any) -> list[Any]:
            return [b.add(first, b.mul(by, by.type(k))) for k in range(n)]

        rows = [c.simd.load(c.data(0), place) for place in places(start, step)]
        distance = n // 2
        while distance:
            for k in range(n):
                if not k & distance:
                    pair = rows[k], rows[k + distance]
                    lanes = range(n)
                    rows[k] = c.mix(*pair, [
                        n + q - distance if q & distance else q for q in lanes
                    ])  # fmt: skip
                    rows[k + distance] = c.mix(*pair, [
                        n + q if q & distance else q + distance for q in lanes
                    ])  # fmt: skip
            distance //= 2
        for row, place in zip(rows, places(out_start, out_step), strict=True):
            c.simd.store(row, c.data(3), place)
        return c.context.get_dummy_value()

    n = types.intp
    return types.void(x, n, n, out, n, n), code


@intrinsic  # type: ignore[untyped-decorator]
def interleave_four(typing: Any, x: Any, start: Any, out: Any, place: Any) -> Any:
    """Write four vectors, lanes one after the other: the first of each, the second of each."""

    def code(*emit: Any) -> Any:
        c = _Code(*emit)
        n = c.simd.lanes
        rows = [c.simd.load(c.data(0), c.args[1], v) for v in range(4)]
        zip_low = [lane // 2 + n * (lane % 2) for lane in range(n)]
        zip_high = [lane + n // 2 for lane in zip_low]
        even, odd = ([c.mix(rows[k], rows[k + 2], z) for z in (zip_low, zip_high)] for k in (0, 1))
        for half in (0, 1):
            for v, z in enumerate((zip_low, zip_high)):
                c.simd.store(c.mix(even[half], odd[half], z), c.data(2), c.args[3], 2 * half + v)
        return c.context.get_dummy_value()

    return types.void(x, types.intp, out, types.intp), code
