"""Vectors of lengths in Numba code: roots, comparisons, choices by lane."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tensornet.kernels._tile import Vectors
from tensornet.kernels._vector import Call


@intrinsic  # type: ignore[untyped-decorator]
def root(typing: Any, x: Any) -> Any:
    """Square roots."""
    return x(x), lambda *emit: Call(*emit).call("sqrt", emit[3][0])


@intrinsic  # type: ignore[untyped-decorator]
def over_root(typing: Any, x: Any) -> Any:
    """One over square roots of numbers from 1e-30 to 1e30.

    Of float64 it is found in float32 and made better once, in third order: half the time.
    """

    def code(*emit: Any) -> Any:
        c, b = Call(*emit), emit[1]
        (s,) = c.args
        if c.simd.size == 4:
            return b.fdiv(c.simd.constant(1.0), c.call("sqrt", s))
        half = Vectors(b, ir.FloatType(), 8 * c.simd.size)  # as many lanes, of half the size
        short = b.fptrunc(s, half.type)
        name = f"llvm.sqrt.v{half.lanes}f32"
        kind = ir.FunctionType(half.type, [half.type])
        rooted = b.call(cgutils.get_or_insert_function(b.module, kind, name), [short])
        y = b.fpext(b.fdiv(half.constant(1.0), rooted), s.type)
        left = c.simd.multiply_add(b.fneg(b.fmul(s, y)), y, c.simd.constant(1.0))
        step = b.fmul(left, c.simd.multiply_add(left, c.simd.constant(0.375), c.simd.constant(0.5)))
        return c.simd.multiply_add(y, step, y)

    return x(x), code


@intrinsic  # type: ignore[untyped-decorator]
def absolute(typing: Any, x: Any) -> Any:
    """Absolute values."""
    return x(x), lambda *emit: Call(*emit).call("fabs", emit[3][0])


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
