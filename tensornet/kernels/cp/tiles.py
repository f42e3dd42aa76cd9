"""Vector code of products in CP format: a small matrix times a block of columns, in registers.

Arrays are flat. A block has `VECTORS` vectors of columns; tables say where its rows stand.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tensornet.kernels import _bridge
from tensornet.kernels._tile import FMA, Vectors, each_case

VECTORS = 4  # of a block
HEIGHT = 6  # rows of the largest tile: six rows of four vectors, and the four of a column
STORE, TIMES, ADD = 0, 1, 2
_INT32 = ir.IntType(32)


def _tile(n_rows: int) -> Any:
    """``s[k] = sum over t < size of a[a0 + k a_row + t a_step] x[given[t0 + t]]`` for a few k.

    STORE: ``x[made[k0 + k]] = s[k]``; TIMES: ``x[made[k0 + k]] *= s[k]``; ADD: ``+= s[k]``.
    """

    def tile(
        typing: Any, mode: Any, size: Any, a: Any, a0: Any, a_row: Any, a_step: Any,
        x: Any, given: Any, t0: Any, made: Any, k0: Any,
    ) -> Any:  # fmt: skip
        n = types.intp
        arguments = (n, n, a, n, n, n, x, given, n, made, n)
        return types.void(*arguments), lambda *emit: _emit(n_rows, *emit)

    return intrinsic(tile)


def _emit(n_rows: int, context: Any, b: Any, signature: Any, args: tuple[Any, ...]) -> Any:
    mode, size, _, a0, a_row, a_step, _, _, t0, _, k0 = args
    a, x, given, made = (
        context.make_array(signature.args[k])(context, b, args[k]).data for k in (2, 6, 7, 9)
    )
    number = signature.args[6].dtype
    simd = Vectors(b, context.get_value_type(number), number.bitwidth)
    each = range(VECTORS)

    def place(table: Any, index: Any) -> Any:
        return b.load(b.gep(table, [index], source_etype=size.type))

    def plus(value: Any, k: int) -> Any:
        return b.add(value, ir.Constant(value.type, k))

    starts = [b.add(a0, b.mul(a_row, ir.Constant(a_row.type, k))) for k in range(n_rows)]
    zero = simd.constant(0.0)
    sums = [[cgutils.alloca_once_value(b, zero) for _ in each] for _ in starts]
    with cgutils.for_range(b, size) as loop:
        there, along = place(given, b.add(t0, loop.index)), b.mul(loop.index, a_step)
        vectors = [simd.load(x, there, v) for v in each]
        for start, mine in zip(starts, sums, strict=True):
            factor = simd.every(a, b.add(start, along))
            for v in each:
                b.store(simd.multiply_add(factor, vectors[v], b.load(mine[v])), mine[v])
    done = [[b.load(s) for s in mine] for mine in sums]
    places = [place(made, plus(k0, k)) for k in range(n_rows)]
    for chosen in each_case(b, mode, (STORE, TIMES, ADD)):
        for row, mine in zip(places, done, strict=True):
            for v in each:
                value = mine[v]
                if chosen == TIMES:
                    value = b.fmul(value, simd.load(x, row, v))
                elif chosen == ADD:
                    value = b.fadd(value, simd.load(x, row, v))
                simd.store(value, x, row, v)
    return context.get_dummy_value()


six, four, three, two, one = (_tile(height) for height in (HEIGHT, 4, 3, 2, 1))


@_bridge.jit
def multiply(  # type: ignore[no-untyped-def]
    mode, rows, size, a, a0, a_row, a_step, x, given, t0, made, k0
):
    """A matrix of some rows times the rows `given` of x, to the rows `made`."""
    k = 0
    while k < rows:
        start, left = a0 + k * a_row, rows - k
        if left >= HEIGHT:
            six(mode, size, a, start, a_row, a_step, x, given, t0, made, k0 + k)
            k += HEIGHT
        elif left >= 4:
            four(mode, size, a, start, a_row, a_step, x, given, t0, made, k0 + k)
            k += 4
        elif left >= 2:
            two(mode, size, a, start, a_row, a_step, x, given, t0, made, k0 + k)
            k += 2
        else:
            one(mode, size, a, start, a_row, a_step, x, given, t0, made, k0 + k)
            k += 1


@intrinsic  # type: ignore[untyped-decorator]
def copy(typing: Any, x: Any, x0: Any, o: Any, o0: Any, n: Any) -> Any:
    """``o[o0 + s] = x[x0 + s]`` for s < n."""

    def code(context: Any, b: Any, signature: Any, args: tuple[Any, ...]) -> Any:
        data = [context.make_array(signature.args[k])(context, b, args[k]).data for k in (0, 2)]
        item = context.get_value_type(signature.args[0].dtype)
        source, target = (
            b.gep(d, [args[k]], source_etype=item) for d, k in zip(data, (1, 3), strict=True)
        )
        size = signature.args[0].dtype.bitwidth // 8
        cgutils.raw_memcpy(b, target, source, args[4], size)
        return context.get_dummy_value()

    n_type = types.intp
    return types.void(x, n_type, o, n_type, n_type), code


@intrinsic  # type: ignore[untyped-decorator]
def fill(typing: Any, h: Any, h0: Any, o: Any, o0: Any, n: Any) -> Any:
    """``o[o0 + s] = h[h0]`` for s < n, and up to a vector more."""

    def code(context: Any, b: Any, signature: Any, args: tuple[Any, ...]) -> Any:
        h_data, o_data = (
            context.make_array(signature.args[k])(context, b, args[k]).data for k in (0, 2)
        )
        number = signature.args[2].dtype
        simd = Vectors(b, context.get_value_type(number), number.bitwidth)
        value = simd.every(h_data, args[1])
        with cgutils.for_range_slice(
            b, args[4].type(0), args[4], args[4].type(simd.lanes), args[4].type
        ) as (index, _):
            simd.store(value, o_data, b.add(args[3], index))
        return context.get_dummy_value()

    n_type = types.intp
    return types.void(h, n_type, o, n_type, n_type), code


@intrinsic  # type: ignore[untyped-decorator]
def turn(
    typing: Any, x: Any, u: Any, v: Any, o: Any, ou: Any, ov: Any, t: Any, cos: Any, sin: Any,
    n: Any,
) -> Any:  # fmt: skip
    """``o[ou + s] = x[u + s] c - x[v + s] d`` and ``o[ov + s] = x[v + s] c + x[u + s] d``, s < n.

    c and d stand in t.
    """

    def code(context: Any, b: Any, signature: Any, args: tuple[Any, ...]) -> Any:
        x, o, t = (
            context.make_array(signature.args[k])(context, b, args[k]).data for k in (0, 3, 6)
        )
        _, u, v, _, ou, ov, _, cos, sin, n = args
        number = signature.args[0].dtype
        simd = Vectors(b, context.get_value_type(number), number.bitwidth)

        def both(left: Any, right: Any, c: Any, d: Any) -> tuple[Any, Any]:
            one = b.fsub(b.fmul(left, c, flags=FMA), b.fmul(right, d, flags=FMA), flags=FMA)
            two = b.fadd(b.fmul(right, c, flags=FMA), b.fmul(left, d, flags=FMA), flags=FMA)
            return one, two

        c, d = simd.every(t, cos), simd.every(t, sin)
        whole = b.and_(n, ir.Constant(n.type, -simd.lanes))
        lanes = ir.Constant(n.type, simd.lanes)
        with cgutils.for_range_slice(b, n.type(0), whole, lanes, n.type) as (s, _):
            given = [simd.load(x, b.add(place, s)) for place in (u, v)]
            for made, place in zip(both(given[0], given[1], c, d), (ou, ov), strict=True):
                simd.store(made, o, b.add(place, s))
        first = _INT32(0)
        c, d = b.extract_element(c, first), b.extract_element(d, first)
        with cgutils.for_range(b, n, start=whole) as loop:
            one, two, three, four = (
                b.gep(data, [b.add(place, loop.index)], source_etype=simd.scalar)
                for data, place in ((x, u), (x, v), (o, ou), (o, ov))
            )
            for made, place in zip(
                both(b.load(one), b.load(two), c, d), (three, four), strict=True
            ):
                b.store(made, place)
        return context.get_dummy_value()

    k = types.intp
    return types.void(x, k, k, o, k, k, t, k, k, k), code


@intrinsic  # type: ignore[untyped-decorator]
def total(typing: Any, x: Any, x0: Any, n: Any) -> Any:
    """``sum over s < n of x[x0 + s]``: of vectors, their halves, and what is left."""

    def code(context: Any, b: Any, signature: Any, args: tuple[Any, ...]) -> Any:
        x = context.make_array(signature.args[0])(context, b, args[0]).data
        number = signature.args[0].dtype
        simd = Vectors(b, context.get_value_type(number), number.bitwidth)
        _, x0, n = args
        sums = cgutils.alloca_once_value(b, simd.constant(0.0))
        whole = b.and_(n, ir.Constant(n.type, -simd.lanes))
        lanes = ir.Constant(n.type, simd.lanes)
        with cgutils.for_range_slice(b, n.type(0), whole, lanes, n.type) as (index, _):
            b.store(b.fadd(b.load(sums), simd.load(x, b.add(x0, index))), sums)
        result = cgutils.alloca_once_value(b, simd.sum(b.load(sums)))
        with cgutils.for_range(b, n, start=whole) as loop:
            item = b.load(b.gep(x, [b.add(x0, loop.index)], source_etype=simd.scalar))
            b.store(b.fadd(b.load(result), item), result)
        return b.load(result)

    return x.dtype(x, types.intp, types.intp), code
