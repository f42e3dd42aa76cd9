"""Vectors in emitted code, and the small matrix product inside the CPU kernels, in registers.

Numba's loops lose their vectors easily (aliasing checks, unrolling). Here the vectors are said: a
tile of rows times vectors stays in registers over the whole sum, and is used up from there.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tensornet.kernels import _bridge

FMA = ("contract", "nsz")
BYTES = _bridge.LINE  # of a vector; narrower machines take it in parts
STORE, WEIGH, SPREAD = 0, 1, 2
_INT32 = ir.IntType(32)


class Vectors:
    """Emits vector instructions for flat arrays of one dtype."""

    def __init__(self, builder: Any, scalar: Any, bits: int) -> None:
        self.b, self.scalar, self.size = builder, scalar, bits // 8
        self.lanes = 8 * BYTES // bits
        self.type = ir.VectorType(scalar, self.lanes)

    def constant(self, value: float) -> Any:
        return ir.Constant(self.type, [ir.Constant(self.scalar, value)] * self.lanes)

    def pointer(self, data: Any, index: Any, v: int = 0) -> Any:
        """Where vector number v behind an index stands."""
        index = self.b.add(index, ir.Constant(index.type, v * self.lanes))
        place = self.b.gep(data, [index], source_etype=self.scalar)
        return self.b.bitcast(place, self.type.as_pointer())

    def load(self, data: Any, index: Any, v: int = 0) -> Any:
        return self.b.load(self.pointer(data, index, v), align=self.size)

    def store(self, value: Any, data: Any, index: Any, v: int = 0) -> None:
        self.b.store(value, self.pointer(data, index, v), align=self.size)

    def every(self, data: Any, index: Any) -> Any:
        """A vector that holds one number of memory everywhere."""
        return self.filled(self.b.load(self.b.gep(data, [index], source_etype=self.scalar)))

    def filled(self, value: Any) -> Any:
        """A vector that holds one number everywhere."""
        empty = ir.Constant(self.type, ir.Undefined)
        one = self.b.insert_element(empty, value, _INT32(0))
        return self.mix(one, empty, [0] * self.lanes)

    def multiply_add(self, x: Any, y: Any, z: Any) -> Any:
        return self.b.fadd(self.b.fmul(x, y, flags=FMA), z, flags=FMA)

    def mix(self, x: Any, y: Any, places: list[int]) -> Any:
        """Pick lanes of x, and of y behind them."""
        mask = ir.Constant(ir.VectorType(_INT32, len(places)), places)
        return self.b.shuffle_vector(x, y, mask)

    def sum(self, x: Any) -> Any:
        """The sum of a vector's numbers, halves first."""
        half = self.lanes // 2
        while half:
            other = [min(lane + half, self.lanes - 1) for lane in range(self.lanes)]
            x = self.b.fadd(x, self.mix(x, x, other))
            half //= 2
        return self.b.extract_element(x, _INT32(0))

    def prefetch(self, data: Any, index: Any, *, writes: bool, near: int = 3) -> None:
        """Ask for the line of the cache where an index stands; the nearest cache is 3."""
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, _INT32, _INT32, _INT32])
        function = self.b.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        place = self.b.bitcast(self.b.gep(data, [index], source_etype=self.scalar), byte)
        self.b.call(function, [place, _INT32(int(writes)), _INT32(near), _INT32(1)])  # 1: data

    def transposed(self, rows: list[Any]) -> list[Any]:
        """As many vectors as lanes, turned over: ever smaller blocks cross the diagonal."""
        n, rows = self.lanes, list(rows)
        width = n // 2
        while width:
            low = [n + q - width if q & width else q for q in range(n)]
            high = [n + q if q & width else q + width for q in range(n)]
            for k in range(n):
                if not k & width:
                    pair = rows[k], rows[k + width]
                    rows[k], rows[k + width] = self.mix(*pair, low), self.mix(*pair, high)
            width //= 2
        return rows


def each_case(b: Any, value: Any, cases: Iterable[int]) -> Iterator[int]:
    """Code for each of the cases in turn, of which the one that is the value runs, or none."""
    end = b.append_basic_block("end")
    switch = b.switch(value, end)
    for case in cases:
        block = b.append_basic_block("case")
        switch.add_case(ir.Constant(value.type, case), block)
        b.position_at_end(block)
        yield case
        b.branch(end)
    b.position_at_end(end)


@_bridge.jit
def zeros(n, like):  # type: ignore[no-untyped-def]  # Numba infers them
    """So many zeros of the kind of an array, from the start of a line of the cache on."""
    room = np.zeros(n + BYTES // like.itemsize, like.dtype)
    start = -room.ctypes.data % BYTES // like.itemsize
    return room[start : start + n]


def _tile(n_rows: int, n_vectors: int) -> Any:
    """``s[k, lane] = sum over t < size of a[rows[p + k], t] x[t, lane]``, then by `mode`.

    STORE: ``o[row] = s[k]``; WEIGH: ``o[total] += sum over k of o[weight + row] s[k]``;
    SPREAD: ``o[row] += o[factor] s[k]``; or both of the last two. The arrays are flat, with starts
    and steps; the weights, factors and totals stand in `o` too.
    """

    def tile(
        typing: Any, mode: Any, rows: Any, p: Any, size: Any,
        a: Any, a_start: Any, a_row: Any, a_step: Any, x: Any, x_start: Any, x_step: Any,
        o: Any, o_start: Any, o_row: Any, weight: Any, total: Any, factor: Any,
    ) -> Any:  # fmt: skip
        n = types.intp
        arguments = (n, rows, n, n, a, n, n, n, x, n, n, o, n, n, n, n, n)
        return types.void(*arguments), lambda *emit: _emit(n_rows, n_vectors, *emit)

    return intrinsic(tile)


def _emit(
    n_rows: int, n_vectors: int, context: Any, b: Any, signature: Any, args: tuple[Any, ...]
) -> Any:
    mode, _, p, size, _, a_start, a_row, a_step, _, x_start, x_step, _, *places = args
    o_start, o_row, weight, total, factor = places
    rows_data, a, x, o = (
        context.make_array(signature.args[k])(context, b, args[k]).data for k in (1, 4, 8, 11)
    )
    number = signature.args[11].dtype
    simd = Vectors(b, context.get_value_type(number), number.bitwidth)
    each = range(n_vectors)
    ks = [ir.Constant(p.type, k) for k in range(n_rows)]
    rows = [b.load(b.gep(rows_data, [b.add(p, k)], source_etype=p.type)) for k in ks]
    starts = [b.add(a_start, b.mul(row, a_row)) for row in rows]
    zero = simd.constant(0.0)
    sums = [[cgutils.alloca_once_value(b, zero) for _ in each] for _ in rows]
    with cgutils.for_range(b, size) as loop:
        there = b.add(x_start, b.mul(loop.index, x_step))
        vectors = [simd.load(x, there, v) for v in each]
        along = b.mul(loop.index, a_step)
        for start, mine in zip(starts, sums, strict=True):
            number_ = simd.every(a, b.add(start, along))
            for v in each:
                b.store(simd.multiply_add(number_, vectors[v], b.load(mine[v])), mine[v])
    done = [[b.load(s) for s in mine] for mine in sums]
    offsets = [b.mul(row, o_row) for row in rows]

    def chosen(bits: int) -> Any:
        return b.icmp_signed("!=", b.and_(mode, ir.Constant(mode.type, bits)), mode.type(0))

    with b.if_then(b.not_(chosen(WEIGH | SPREAD))):
        for offset, mine in zip(offsets, done, strict=True):
            for v in each:
                simd.store(mine[v], o, b.add(o_start, offset), v)
    with b.if_then(chosen(WEIGH)):
        for v in each:
            result = simd.load(o, total, v)
            for offset, mine in zip(offsets, done, strict=True):
                result = simd.multiply_add(simd.load(o, b.add(weight, offset), v), mine[v], result)
            simd.store(result, o, total, v)
    with b.if_then(chosen(SPREAD)):
        for v in each:
            by = simd.load(o, factor, v)
            for offset, mine in zip(offsets, done, strict=True):
                place = b.add(o_start, offset)
                simd.store(simd.multiply_add(by, mine[v], simd.load(o, place, v)), o, place, v)
    return context.get_dummy_value()


_eight_two, _eight_one = _tile(8, 2), _tile(8, 1)
_four_two, _four_one = _tile(4, 2), _tile(4, 1)
_one_two, _one_one = _tile(1, 2), _tile(1, 1)


@_bridge.jit
def product(  # type: ignore[no-untyped-def]  # Numba infers them
    mode, rows, p, stop, size, a, a0, ar, at, x, x0, xt, o, o0, orow, weight, total, factor, vectors
):
    """Tiles over the rows p to stop and over all vectors."""
    lanes = BYTES // o.itemsize
    while p < stop:
        left = stop - p
        tall = 8 if left >= 8 else 4 if left >= 4 else 1
        v = 0
        while v < vectors:
            w = v * lanes
            b, c, d, e, f = x0 + w, o0 + w, weight + w, total + w, factor + w
            if vectors - v >= 2:
                v += 2
                if tall == 8:
                    _eight_two(mode, rows, p, size, a, a0, ar, at, x, b, xt, o, c, orow, d, e, f)
                elif tall == 4:
                    _four_two(mode, rows, p, size, a, a0, ar, at, x, b, xt, o, c, orow, d, e, f)
                else:
                    _one_two(mode, rows, p, size, a, a0, ar, at, x, b, xt, o, c, orow, d, e, f)
            else:
                v += 1
                if tall == 8:
                    _eight_one(mode, rows, p, size, a, a0, ar, at, x, b, xt, o, c, orow, d, e, f)
                elif tall == 4:
                    _four_one(mode, rows, p, size, a, a0, ar, at, x, b, xt, o, c, orow, d, e, f)
                else:
                    _one_one(mode, rows, p, size, a, a0, ar, at, x, b, xt, o, c, orow, d, e, f)
        p += tall
