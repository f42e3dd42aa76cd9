"""Vector code of the edge convolution: a few rows times one or two vectors of channels.

Arrays are flat. The matrix of an edge stands in `m`, a vector of edges for each cell; one column
after the other is multiplied into sums that stay in registers.
"""

import inspect
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tensornet.kernels import _bridge
from tensornet.kernels._tile import BYTES, Vectors

_INT32 = ir.IntType(32)
Arguments = dict[str, Any]


class _Code:
    """What an emitter needs: the builder, vectors, and the arguments by name."""

    def __init__(self, context: Any, b: Any, signature: Any, names: str, args: Any) -> None:
        self.b = b
        self.at: Arguments = {}
        for name, kind, value in zip(names.split(), signature.args, args, strict=True):
            whole = isinstance(kind, types.Integer)
            self.at[name] = value if whole else context.make_array(kind)(context, b, value).data
            if not whole and isinstance(kind.dtype, types.Float):
                number = kind.dtype
        self.simd = Vectors(b, context.get_value_type(number), number.bitwidth)
        self.zero = self.simd.constant(0.0)
        self.int = next(a.type for n, a in self.at.items() if isinstance(a.type, ir.IntType))

    def whole(self, name: str, *index: Any) -> Any:
        """A whole number of a table, at the sum of indices."""
        place = self.b.gep(self.at[name], [self.plus(*index)], source_etype=self.int)
        return self.b.load(place)

    def plus(self, *terms: Any) -> Any:
        total = self.int(0)
        for term in terms:
            total = self.b.add(total, self.int(term) if isinstance(term, int) else term)
        return total

    def times(self, x: Any, factor: int) -> Any:
        return self.b.mul(x, self.int(factor))

    def variable(self, value: Any) -> Any:
        return cgutils.alloca_once_value(self.b, value)

    def add_to(self, variable: Any, x: Any, y: Any) -> None:
        self.b.store(self.simd.multiply_add(x, y, self.b.load(variable)), variable)

    def starts(self, n_rows: int, base: str) -> list[Any]:
        """Where the rows of a tile stand in an array."""
        places = [self.whole("rows", self.at["row"], r) for r in range(n_rows)]
        return [self.b.add(self.at[base], place) for place in places]


def _make(names: str, emit: Callable[..., None], *constants: int) -> Any:
    """An intrinsic of arrays and whole numbers, in the order of `names`; arrays have a bar."""
    kinds = [name.endswith("|") for name in names.split()]

    def make(typing: Any, *given: Any) -> Any:
        arguments = [g if array else types.intp for g, array in zip(given, kinds, strict=True)]

        def code(context: Any, b: Any, signature: Any, args: Any) -> Any:
            emit(_Code(context, b, signature, names.replace("|", ""), args), *constants)
            return context.get_dummy_value()

        return types.void(*arguments), code

    words = ["typing", *names.replace("|", "").split()]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    make.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(word, kind) for word in words]
    )
    return intrinsic(make)


def _columns(code: _Code, n_rows: int) -> Any:
    """A loop over columns: yields the places in two arrays and that of the first cell."""
    b, at = code.b, code.at
    height = n_rows * code.simd.lanes
    with cgutils.for_range(b, at["last"], start=at["first"]) as loop:
        left = code.whole("columns", code.times(loop.index, 2))
        right = code.whole("columns", code.times(loop.index, 2), 1)
        yield left, right, code.times(b.sub(loop.index, at["first"]), height)


def _convolve(code: _Code, n_rows: int, n_vectors: int) -> None:
    """``o[row] += sum over columns of m[column, row] x[column] w[column]``."""
    simd, b, at, each = code.simd, code.b, code.at, range(n_vectors)
    outs = code.starts(n_rows, "o0")
    sums = [[code.variable(simd.load(at["o"], out, v)) for v in each] for out in outs]
    for left, right, cell in _columns(code, n_rows):
        x, w = b.add(at["x0"], left), b.add(at["w0"], right)
        products = [b.fmul(simd.load(at["x"], x, v), simd.load(at["w"], w, v)) for v in each]
        for r, mine in enumerate(sums):
            number = simd.every(at["m"], code.plus(at["m0"], cell, r * simd.lanes))
            for v in each:
                code.add_to(mine[v], number, products[v])
    for out, mine in zip(outs, sums, strict=True):
        for v in each:
            simd.store(b.load(mine[v]), at["o"], out, v)


def _weigh(code: _Code, n_rows: int, n_vectors: int) -> None:
    """``o += sum over rows of g[row] sum over columns of m[column, row] x[column]``."""
    simd, b, at, each = code.simd, code.b, code.at, range(n_vectors)
    sums = [[code.variable(code.zero) for _ in each] for _ in range(n_rows)]
    for left, _, cell in _columns(code, n_rows):
        x = b.add(at["x0"], left)
        vectors = [simd.load(at["x"], x, v) for v in each]
        for r, mine in enumerate(sums):
            number = simd.every(at["m"], code.plus(at["m0"], cell, r * simd.lanes))
            for v in each:
                code.add_to(mine[v], number, vectors[v])
    rows = code.starts(n_rows, "g0")
    for v in each:
        total = simd.load(at["o"], at["o0"], v)
        for row, mine in zip(rows, sums, strict=True):
            total = simd.multiply_add(simd.load(at["g"], row, v), b.load(mine[v]), total)
        simd.store(total, at["o"], at["o0"], v)


def _pair(code: _Code, n_rows: int, n_vectors: int) -> None:
    """``o[column, row] += x[column] w[column] g[row]``, a vector each; vectors of channels add."""
    simd, b, at, each = code.simd, code.b, code.at, range(n_vectors)
    rows = [[simd.load(at["g"], row, v) for v in each] for row in code.starts(n_rows, "g0")]
    for left, right, cell in _columns(code, n_rows):
        x, w = b.add(at["x0"], left), b.add(at["w0"], right)
        products = [b.fmul(simd.load(at["x"], x, v), simd.load(at["w"], w, v)) for v in each]
        for r, mine in enumerate(rows):
            place = code.plus(at["o0"], cell, r * simd.lanes)
            total = simd.load(at["o"], place)
            for v in each:
                total = simd.multiply_add(products[v], mine[v], total)
            simd.store(total, at["o"], place)


def _contract(code: _Code, horizontal: int) -> None:
    """``o[s] = sum over t from starts[s] of values[t] x[index[t]]``: vectors, or their sums."""
    simd, b, at = code.simd, code.b, code.at
    total = code.variable(code.zero)
    with cgutils.for_range(b, at["n"]) as outer:
        b.store(code.zero, total)
        start, stop = (code.whole("starts", outer.index, k) for k in (0, 1))
        with cgutils.for_range(b, stop, start=start) as loop:
            place = code.times(code.whole("index", loop.index), simd.lanes)
            code.add_to(total, simd.every(at["values"], loop.index), simd.load(at["x"], place))
        if horizontal:
            place = b.gep(at["o"], [b.add(at["o0"], outer.index)], source_etype=simd.scalar)
            b.store(_sum(code, b.load(total)), place)
        else:
            place = b.add(at["o0"], code.times(outer.index, simd.lanes))
            simd.store(b.load(total), at["o"], place)


def _sum(code: _Code, vector: Any) -> Any:
    """The sum of a vector, halves first."""
    lanes = code.simd.lanes
    half = lanes // 2
    while half:
        order = [min(lane + half, lanes - 1) for lane in range(lanes)]
        mask = ir.Constant(ir.VectorType(_INT32, lanes), order)
        vector = code.b.fadd(vector, code.b.shuffle_vector(vector, vector, mask))
        half //= 2
    return code.b.extract_element(vector, _INT32(0))


_CONVOLVE = "columns| first last m| m0 x| x0 w| w0 rows| row o| o0"
_WEIGH = "columns| first last m| m0 x| x0 g| g0 rows| row o| o0"
_PAIR = "columns| first last x| x0 w| w0 g| g0 rows| row o| o0"
_CONTRACT = "starts| n index| values| x| o| o0"
contract = _make(_CONTRACT, _contract, 0)
contract_sums = _make(_CONTRACT, _contract, 1)

_convolve_72, _convolve_71 = _make(_CONVOLVE, _convolve, 7, 2), _make(_CONVOLVE, _convolve, 7, 1)
_convolve_52, _convolve_51 = _make(_CONVOLVE, _convolve, 5, 2), _make(_CONVOLVE, _convolve, 5, 1)
_convolve_32, _convolve_31 = _make(_CONVOLVE, _convolve, 3, 2), _make(_CONVOLVE, _convolve, 3, 1)
_convolve_22, _convolve_21 = _make(_CONVOLVE, _convolve, 2, 2), _make(_CONVOLVE, _convolve, 2, 1)
_convolve_12, _convolve_11 = _make(_CONVOLVE, _convolve, 1, 2), _make(_CONVOLVE, _convolve, 1, 1)
_weigh_72, _weigh_71 = _make(_WEIGH, _weigh, 7, 2), _make(_WEIGH, _weigh, 7, 1)
_weigh_52, _weigh_51 = _make(_WEIGH, _weigh, 5, 2), _make(_WEIGH, _weigh, 5, 1)
_weigh_32, _weigh_31 = _make(_WEIGH, _weigh, 3, 2), _make(_WEIGH, _weigh, 3, 1)
_weigh_22, _weigh_21 = _make(_WEIGH, _weigh, 2, 2), _make(_WEIGH, _weigh, 2, 1)
_weigh_12, _weigh_11 = _make(_WEIGH, _weigh, 1, 2), _make(_WEIGH, _weigh, 1, 1)
_pair_72, _pair_71 = _make(_PAIR, _pair, 7, 2), _make(_PAIR, _pair, 7, 1)
_pair_52, _pair_51 = _make(_PAIR, _pair, 5, 2), _make(_PAIR, _pair, 5, 1)
_pair_32, _pair_31 = _make(_PAIR, _pair, 3, 2), _make(_PAIR, _pair, 3, 1)
_pair_22, _pair_21 = _make(_PAIR, _pair, 2, 2), _make(_PAIR, _pair, 2, 1)
_pair_12, _pair_11 = _make(_PAIR, _pair, 1, 2), _make(_PAIR, _pair, 1, 1)


@_bridge.jit
def convolve(height, vectors, columns, first, last, m, m0, x, x0, w, w0, rows, row, o, o0):  # type: ignore[no-untyped-def]
    """`_convolve` of any height, over all vectors of channels."""
    lanes = BYTES // x.itemsize
    for v in range(0, vectors, 2):
        s = v * lanes
        if vectors - v >= 2:
            if height == 7:
                _convolve_72(
                    columns, first, last, m, m0, x, x0 + s, w, w0 + s, rows, row, o, o0 + s
                )
            elif height == 5:
                _convolve_52(
                    columns, first, last, m, m0, x, x0 + s, w, w0 + s, rows, row, o, o0 + s
                )
            elif height == 3:
                _convolve_32(
                    columns, first, last, m, m0, x, x0 + s, w, w0 + s, rows, row, o, o0 + s
                )
            elif height == 2:
                _convolve_22(
                    columns, first, last, m, m0, x, x0 + s, w, w0 + s, rows, row, o, o0 + s
                )
            else:
                _convolve_12(
                    columns, first, last, m, m0, x, x0 + s, w, w0 + s, rows, row, o, o0 + s
                )
        else:
            if height == 7:
                _convolve_71(
                    columns, first, last, m, m0, x, x0 + s, w, w0 + s, rows, row, o, o0 + s
                )
            elif height == 5:
                _convolve_51(
                    columns, first, last, m, m0, x, x0 + s, w, w0 + s, rows, row, o, o0 + s
                )
            elif height == 3:
                _convolve_31(
                    columns, first, last, m, m0, x, x0 + s, w, w0 + s, rows, row, o, o0 + s
                )
            elif height == 2:
                _convolve_21(
                    columns, first, last, m, m0, x, x0 + s, w, w0 + s, rows, row, o, o0 + s
                )
            else:
                _convolve_11(
                    columns, first, last, m, m0, x, x0 + s, w, w0 + s, rows, row, o, o0 + s
                )


@_bridge.jit
def weigh(height, vectors, columns, first, last, m, m0, x, x0, g, g0, rows, row, o, o0):  # type: ignore[no-untyped-def]
    """`_weigh` of any height, over all vectors of channels."""
    lanes = BYTES // x.itemsize
    for v in range(0, vectors, 2):
        s = v * lanes
        if vectors - v >= 2:
            if height == 7:
                _weigh_72(columns, first, last, m, m0, x, x0 + s, g, g0 + s, rows, row, o, o0 + s)
            elif height == 5:
                _weigh_52(columns, first, last, m, m0, x, x0 + s, g, g0 + s, rows, row, o, o0 + s)
            elif height == 3:
                _weigh_32(columns, first, last, m, m0, x, x0 + s, g, g0 + s, rows, row, o, o0 + s)
            elif height == 2:
                _weigh_22(columns, first, last, m, m0, x, x0 + s, g, g0 + s, rows, row, o, o0 + s)
            else:
                _weigh_12(columns, first, last, m, m0, x, x0 + s, g, g0 + s, rows, row, o, o0 + s)
        else:
            if height == 7:
                _weigh_71(columns, first, last, m, m0, x, x0 + s, g, g0 + s, rows, row, o, o0 + s)
            elif height == 5:
                _weigh_51(columns, first, last, m, m0, x, x0 + s, g, g0 + s, rows, row, o, o0 + s)
            elif height == 3:
                _weigh_31(columns, first, last, m, m0, x, x0 + s, g, g0 + s, rows, row, o, o0 + s)
            elif height == 2:
                _weigh_21(columns, first, last, m, m0, x, x0 + s, g, g0 + s, rows, row, o, o0 + s)
            else:
                _weigh_11(columns, first, last, m, m0, x, x0 + s, g, g0 + s, rows, row, o, o0 + s)


@_bridge.jit
def pair(height, vectors, columns, first, last, x, x0, w, w0, g, g0, rows, row, o, o0):  # type: ignore[no-untyped-def]
    """`_pair` of any height, over all vectors of channels."""
    lanes = BYTES // x.itemsize
    for v in range(0, vectors, 2):
        s = v * lanes
        if vectors - v >= 2:
            if height == 7:
                _pair_72(columns, first, last, x, x0 + s, w, w0 + s, g, g0 + s, rows, row, o, o0)
            elif height == 5:
                _pair_52(columns, first, last, x, x0 + s, w, w0 + s, g, g0 + s, rows, row, o, o0)
            elif height == 3:
                _pair_32(columns, first, last, x, x0 + s, w, w0 + s, g, g0 + s, rows, row, o, o0)
            elif height == 2:
                _pair_22(columns, first, last, x, x0 + s, w, w0 + s, g, g0 + s, rows, row, o, o0)
            else:
                _pair_12(columns, first, last, x, x0 + s, w, w0 + s, g, g0 + s, rows, row, o, o0)
        else:
            if height == 7:
                _pair_71(columns, first, last, x, x0 + s, w, w0 + s, g, g0 + s, rows, row, o, o0)
            elif height == 5:
                _pair_51(columns, first, last, x, x0 + s, w, w0 + s, g, g0 + s, rows, row, o, o0)
            elif height == 3:
                _pair_31(columns, first, last, x, x0 + s, w, w0 + s, g, g0 + s, rows, row, o, o0)
            elif height == 2:
                _pair_21(columns, first, last, x, x0 + s, w, w0 + s, g, g0 + s, rows, row, o, o0)
            else:
                _pair_11(columns, first, last, x, x0 + s, w, w0 + s, g, g0 + s, rows, row, o, o0)
