"""Vector code of the edge convolution: a few rows times one or two vectors of channels.

Arrays are flat. The matrix of an edge stands in `m`, a vector of edges for each cell; one column
after the other is multiplied into sums that stay in registers.
"""

from collections.abc import Callable, Iterator
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from tensornet.kernels._code import Code, vector_code
from tensornet.kernels._tile import each_case
from tensornet.kernels.convolution.plan import HEIGHTS

Arguments = dict[str, Any]


def _starts(code: Code, n_rows: int, base: str) -> list[Any]:
    """Where the rows of a tile stand in an array."""
    return [code.plus(base, code.whole("rows", "row", r)) for r in range(n_rows)]


def _columns(code: Code, n_rows: int) -> Iterator[tuple[Any, Any, Any]]:
    """A loop over columns: yields the places in two arrays and that of the first cell."""
    b, at = code.b, code.at
    height = n_rows * code.simd.lanes
    with cgutils.for_range(b, at["last"], start=at["first"]) as loop:
        if "k_x" in at:
            turn = b.add(at["turn"], loop.index)
            _ahead(code, "x", turn)
            _ahead(code, "w", turn)
        left = code.whole("columns", code.times(loop.index, 2))
        right = code.whole("columns", code.times(loop.index, 2), 1)
        yield left, right, code.times(b.sub(loop.index, at["first"]), height)


def _convolve(code: Code, n_rows: int, n_vectors: int) -> None:
    """``o[row] += sum over columns of m[column, row] x[column] w[column]``."""
    simd, b, at, each = code.simd, code.b, code.at, range(n_vectors)
    outs = _starts(code, n_rows, "o0")
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


def _weigh(code: Code, n_rows: int, n_vectors: int) -> None:
    """``o += sum over rows of g[row] sum over columns of m[column, row] x[column]``."""
    simd, b, at, each = code.simd, code.b, code.at, range(n_vectors)
    sums = [[code.variable() for _ in each] for _ in range(n_rows)]
    for left, _, cell in _columns(code, n_rows):
        x = b.add(at["x0"], left)
        vectors = [simd.load(at["x"], x, v) for v in each]
        for r, mine in enumerate(sums):
            number = simd.every(at["m"], code.plus(at["m0"], cell, r * simd.lanes))
            for v in each:
                code.add_to(mine[v], number, vectors[v])
    rows = _starts(code, n_rows, "g0")
    for v in each:
        total = simd.load(at["o"], at["o0"], v)
        for row, mine in zip(rows, sums, strict=True):
            total = simd.multiply_add(simd.load(at["g"], row, v), b.load(mine[v]), total)
        simd.store(total, at["o"], at["o0"], v)


def _pair(code: Code, n_rows: int, n_vectors: int) -> None:
    """``o[column, row] += x[column] w[column] g[row]``, a vector each; vectors of channels add."""
    simd, b, at, each = code.simd, code.b, code.at, range(n_vectors)
    rows = [[simd.load(at["g"], row, v) for v in each] for row in _starts(code, n_rows, "g0")]
    for left, right, cell in _columns(code, n_rows):
        x, w = b.add(at["x0"], left), b.add(at["w0"], right)
        products = [b.fmul(simd.load(at["x"], x, v), simd.load(at["w"], w, v)) for v in each]
        for r, mine in enumerate(rows):
            place = code.plus(at["o0"], cell, r * simd.lanes)
            total = simd.load(at["o"], place)
            for v in each:
                total = simd.multiply_add(products[v], mine[v], total)
            simd.store(total, at["o"], place)


def prefetch(code: Code, name: str, index: Any, near: int = 3) -> None:
    """Ask for a line of an array, which is read soon; the nearest cache is 3."""
    code.simd.prefetch(code.at[name], index, writes=False, near=near)


def _fetch(code: Code) -> None:
    """Ask for the n numbers of x from x0 on."""
    stop = code.b.udiv(code.at["n"], code.int(code.simd.lanes))
    with cgutils.for_range(code.b, stop) as loop:
        prefetch(code, "x", code.plus(code.at["x0"], code.times(loop.index, code.simd.lanes)))


def _ahead(code: Code, name: str, turn: Any) -> None:
    """Ask for one line of what the next edge needs of an array: memory is kept busy all along."""
    b, at = code.b, code.at
    index = code.times(b.mul(turn, at["k_" + name]), code.simd.lanes)
    with b.if_then(b.icmp_signed("<", index, at["n_" + name])):
        prefetch(code, name, code.plus(at[name + "1"], index))


def _contract(code: Code, horizontal: int) -> None:
    """``o[s] = sum over t from starts[s] of values[t] x[index[t]]``: vectors, or their sums."""
    simd, b, at = code.simd, code.b, code.at
    total = code.variable()
    with cgutils.for_range(b, at["n"]) as outer:
        b.store(code.simd.constant(0.0), total)
        start, stop = (code.whole("starts", outer.index, k) for k in (0, 1))
        with cgutils.for_range(b, stop, start=start) as loop:
            place = code.times(code.whole("index", loop.index), simd.lanes)
            code.add_to(total, simd.every(at["values"], loop.index), simd.load(at["x"], place))
        if horizontal:
            place = b.gep(at["o"], [b.add(at["o0"], outer.index)], source_etype=simd.scalar)
            b.store(simd.sum(b.load(total)), place)
        else:
            place = b.add(at["o0"], code.times(outer.index, simd.lanes))
            simd.store(b.load(total), at["o"], place)


def _walk(code: Code, tile: Callable[[Code, int, int], None], shifted: str, width: int) -> None:
    """A tile for every chunk of a table, over all vectors of channels, two at a time.

    Places named in `shifted` move along with the channels. `width` is that of the table; a sixth
    column is the path whose numbers are written.
    """
    b, at, lanes = code.b, code.at, code.simd.lanes
    places = {name: at[name] for name in shifted.split()}
    cells = "m0" if "m0" in at else "o0"
    from_cell, channels = at[cells], code.times(at["vectors"], lanes)
    with cgutils.for_range(b, at["n"]) as loop:
        line = code.times(loop.index, width)
        height, at["row"], at["first"], at["last"], cell = (
            code.whole("chunks", line, k) for k in range(5)
        )
        at[cells] = code.plus(from_cell, code.times(cell, lanes))
        moved = dict(places)
        if width == 6:
            moved["o0"] = code.plus(places["o0"], b.mul(code.whole("chunks", line, 5), channels))
        pairs = b.lshr(at["vectors"], code.int(1))
        with cgutils.for_range(b, pairs) as pair:
            _at_channels(code, moved, code.times(pair.index, 2 * lanes))
            if "n_columns" in at:
                at["turn"] = b.mul(pair.index, at["n_columns"])
            for n_rows in each_case(b, height, HEIGHTS):
                tile(code, n_rows, 2)
        with b.if_then(b.trunc(at["vectors"], ir.IntType(1))):
            _at_channels(code, moved, code.times(pairs, 2 * lanes))
            if "n_columns" in at:
                at["turn"] = b.mul(pairs, at["n_columns"])
            for n_rows in each_case(b, height, HEIGHTS):
                tile(code, n_rows, 1)


def _at_channels(code: Code, places: Arguments, channel: Any) -> None:
    code.at.update((name, code.b.add(place, channel)) for name, place in places.items())


_TABLES = "chunks| n vectors columns| rows| "
_AHEAD = " n_columns x1 w1 n_x n_w k_x k_w"
convolve = vector_code(
    _TABLES + "m| m0 x| x0 w| w0 o| o0" + _AHEAD, _walk, _convolve, "x0 w0 o0", 5
)
weigh = vector_code(_TABLES + "m| m0 x| x0 g| g0 o| o0", _walk, _weigh, "x0 g0 o0", 6)
pair = vector_code(_TABLES + "x| x0 w| w0 g| g0 o| o0", _walk, _pair, "x0 w0 g0", 5)
_CONTRACT = "starts| n index| values| x| o| o0"
fetch = vector_code("x| x0 n", _fetch)
contract = vector_code(_CONTRACT, _contract, 0)
contract_sums = vector_code(_CONTRACT, _contract, 1)
