"""Vector code of the aligned product beside its small matrices: weights and torques."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tensornet.kernels._tile import Vectors
from tensornet.kernels.cp.tiles import VECTORS


@intrinsic  # type: ignore[untyped-decorator]
def weigh(typing: Any, x: Any, rows: Any, z: Any, w: Any, g: Any, o: Any) -> Any:
    """``x[o] = sum over k < rows of x[g + k] x[z + k]``, then ``x[z + k] *= x[w]``: rows of x."""

    def code(context: Any, b: Any, signature: Any, args: tuple[Any, ...]) -> Any:
        data = context.make_array(signature.args[0])(context, b, args[0]).data
        _, rows, z, w, g, o = args
        number = signature.args[0].dtype
        simd = Vectors(b, context.get_value_type(number), number.bitwidth)
        step, each = ir.Constant(z.type, VECTORS * simd.lanes), range(VECTORS)
        sums = [cgutils.alloca_once_value(b, simd.constant(0.0)) for _ in each]
        weights = [simd.load(data, w, v) for v in each]
        with cgutils.for_range(b, rows) as loop:
            away = b.mul(loop.index, step)
            for v, total in enumerate(sums):
                here = b.add(z, away)
                value = simd.load(data, here, v)
                other = simd.load(data, b.add(g, away), v)
                b.store(simd.multiply_add(other, value, b.load(total)), total)
                simd.store(b.fmul(value, weights[v]), data, here, v)
        for v, total in enumerate(sums):
            simd.store(b.load(total), data, o, v)
        return context.get_dummy_value()

    n = types.intp
    return types.void(x, n, n, n, n, n), code


@intrinsic  # type: ignore[untyped-decorator]
def torque(
    typing: Any, x: Any, p: Any, q: Any, left: Any, right: Any, values: Any, first: Any, last: Any
) -> Any:
    """``sum over t, lanes of values[t] (x[p + left[t]] x[q + right[t]] - the two exchanged)``."""

    def code(context: Any, b: Any, signature: Any, args: tuple[Any, ...]) -> Any:
        data, left, right, values = (
            context.make_array(signature.args[k])(context, b, args[k]).data for k in (0, 3, 4, 5)
        )
        p, q, first, last = (args[k] for k in (1, 2, 6, 7))
        number = signature.args[0].dtype
        simd = Vectors(b, context.get_value_type(number), number.bitwidth)
        each = range(VECTORS)
        sums = [cgutils.alloca_once_value(b, simd.constant(0.0)) for _ in each]
        with cgutils.for_range(b, last, start=first) as loop:
            i, k = (
                b.load(b.gep(table, [loop.index], source_etype=first.type))
                for table in (left, right)
            )
            value = simd.every(values, loop.index)
            places = b.add(p, i), b.add(q, k), b.add(p, k), b.add(q, i)
            for v, total in enumerate(sums):
                one, two, three, four = (simd.load(data, place, v) for place in places)
                crossed = b.fsub(b.fmul(one, two), b.fmul(three, four), flags=("contract",))
                b.store(simd.multiply_add(value, crossed, b.load(total)), total)
        vector = b.load(sums[0])
        for total in sums[1:]:
            vector = b.fadd(vector, b.load(total))
        return simd.sum(vector)

    n = types.intp
    return x.dtype(x, n, n, left, right, values, n, n), code
