"""Vector code of products in CP format: a small matrix times a block of columns, in registers.

Arrays are flat. A block has `VECTORS` vectors of columns, and its rows follow each other.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tensornet.kernels import _bridge
from tensornet.kernels._tile import BYTES, Vectors

VECTORS = 4  # of a block
HEIGHT = 6  # rows of the largest tile: six rows of four vectors, and the four of a column
STORE, TIMES, ADD = 0, 1, 2
_INT32 = ir.IntType(32)


def _tile(n_rows: int) -> Any:
    """``s[k] = sum over t < size of a[a0 + k a_row + t a_step] x[x0 + t]`` for rows k of a block.

    STORE: ``o[o0 + k] = s[k]``; TIMES: ``o[o0 + k] *= s[k]``; ADD: ``o[o0 + k] += s[k]``.
    """

    def tile(
        typing: Any, mode: Any, size: Any, a: Any, a0: Any, a_row: Any, a_step: Any,
        x: Any, x0: Any, o0: Any,
    ) -> Any:  # fmt: skip
        n = types.intp
        return types.void(n, n, a, n, n, n, x, n, n), lambda *emit: _emit(n_rows, *emit)

    return intrinsic(tile)


def _emit(n_rows: int, context: Any, b: Any, signature: Any, args: tuple[Any, ...]) -> Any:
    mode, size, _, a0, a_row, a_step, _, x0, o0 = args
    a, x = (context.make_array(signature.args[k])(context, b, args[k]).data for k in (2, 6))
    number = signature.args[6].dtype
    simd = Vectors(b, context.get_value_type(number), number.bitwidth)
    width, each = VECTORS * simd.lanes, range(VECTORS)

    def times(value: Any, factor: int) -> Any:
        return b.mul(value, ir.Constant(value.type, factor))

    starts = [b.add(a0, times(a_row, k)) for k in range(n_rows)]
    zero = simd.constant(0.0)
    sums = [[cgutils.alloca_once_value(b, zero) for _ in each] for _ in starts]
    for mine in sums:
        for variable in mine:
            b.store(zero, variable)
    with cgutils.for_range(b, size) as loop:
        there, along = b.add(x0, times(loop.index, width)), b.mul(loop.index, a_step)
        vectors = [simd.load(x, there, v) for v in each]
        for start, mine in zip(starts, sums, strict=True):
            factor = simd.every(a, b.add(start, along))
            for v in each:
                b.store(simd.multiply_add(factor, vectors[v], b.load(mine[v])), mine[v])
    done = [[b.load(s) for s in mine] for mine in sums]
    places = [b.add(o0, ir.Constant(o0.type, k * width)) for k in range(n_rows)]
    end = b.append_basic_block("end")
    switch = b.switch(mode, end)
    for chosen in (STORE, TIMES, ADD):
        block = b.append_basic_block("mode")
        switch.add_case(ir.Constant(mode.type, chosen), block)
        b.position_at_end(block)
        for place, mine in zip(places, done, strict=True):
            for v in each:
                value = mine[v]
                if chosen == TIMES:
                    value = b.fmul(value, simd.load(x, place, v))
                elif chosen == ADD:
                    value = b.fadd(value, simd.load(x, place, v))
                simd.store(value, x, place, v)
        b.branch(end)
    b.position_at_end(end)
    return context.get_dummy_value()


_six, _four, _two, _one = _tile(HEIGHT), _tile(4), _tile(2), _tile(1)


@_bridge.jit
def multiply(mode, rows, size, a, a0, a_row, a_step, x, x0, o0):  # type: ignore[no-untyped-def]
    """A matrix of some rows times a block of `size` rows of x, to rows of x elsewhere."""
    width = VECTORS * BYTES // x.itemsize
    k = 0
    while k < rows:
        a_k, o_k = a0 + k * a_row, o0 + k * width
        left = rows - k
        if left >= HEIGHT:
            _six(mode, size, a, a_k, a_row, a_step, x, x0, o_k)
            k += HEIGHT
        elif left >= 4:
            _four(mode, size, a, a_k, a_row, a_step, x, x0, o_k)
            k += 4
        elif left >= 2:
            _two(mode, size, a, a_k, a_row, a_step, x, x0, o_k)
            k += 2
        else:
            _one(mode, size, a, a_k, a_row, a_step, x, x0, o_k)
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
def total(typing: Any, x: Any, x0: Any, n: Any) -> Any:
    """``sum over s < n of x[x0 + s]``: of vectors, their halves, and what is left."""

    def code(context: Any, b: Any, signature: Any, args: tuple[Any, ...]) -> Any:
        x = context.make_array(signature.args[0])(context, b, args[0]).data
        number = signature.args[0].dtype
        simd = Vectors(b, context.get_value_type(number), number.bitwidth)
        _, x0, n = args
        sums = cgutils.alloca_once_value(b, simd.constant(0.0))
        b.store(simd.constant(0.0), sums)
        whole = b.and_(n, ir.Constant(n.type, -simd.lanes))
        lanes = ir.Constant(n.type, simd.lanes)
        with cgutils.for_range_slice(b, n.type(0), whole, lanes, n.type) as (index, _):
            b.store(b.fadd(b.load(sums), simd.load(x, b.add(x0, index))), sums)
        vector, half = b.load(sums), simd.lanes // 2
        while half:
            order = [min(lane + half, simd.lanes - 1) for lane in range(simd.lanes)]
            mask = ir.Constant(ir.VectorType(_INT32, simd.lanes), order)
            vector = b.fadd(vector, b.shuffle_vector(vector, vector, mask))
            half //= 2
        result = cgutils.alloca_once_value(b, b.extract_element(vector, _INT32(0)))
        b.store(b.extract_element(vector, _INT32(0)), result)
        with cgutils.for_range(b, n, start=whole) as loop:
            item = b.load(b.gep(x, [b.add(x0, loop.index)], source_etype=simd.scalar))
            b.store(b.fadd(b.load(result), item), result)
        return b.load(result)

    return x.dtype(x, types.intp, types.intp), code
