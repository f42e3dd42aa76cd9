"""Vector code of the gradients of the edge convolution: one column of an edge's matrix at a time.

The numbers of a column stay in registers over all channels. Scratch `s` holds, each at its place:
matrices `m` and `n` (of the harmonics and of their cotangent), a vector of edges per cell; features
at the receiver `g` and what is summed there, for each vector of channels all rows side by side; the
weights of an edge; and for each cell a sum over channels, a vector still, which meets the coupling
later. Features and harmonics stand for a column (p, i), its rows are k.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from tensornet.kernels._tile import BYTES
from tensornet.kernels.convolution.plan import HEIGHTS
from tensornet.kernels.convolution.tiles import _Code, _make, _sum, ahead

_CHAINS = 4  # sums that a core adds to at the same time


def _slopes(code: _Code, n_rows: int) -> None:
    """``ox += w b, ow += x b, t = sum of x w g``, where ``b = sum over rows of m g``."""
    simd, b, at = code.simd, code.b, code.at
    ms = _cells(code, "m0", n_rows)
    sums = [code.variable(code.zero) for _ in ms]
    with _channels(code):
        x, w = simd.load(at["x"], at["left"]), simd.load(at["w"], at["right"])
        product, total = b.fmul(x, w), code.zero
        for r, (m, mine) in enumerate(zip(ms, sums, strict=True)):
            g = simd.load(at["s"], at["rows"], r)
            total = simd.multiply_add(m, g, total)
            code.add_to(mine, product, g)
        _add(code, "ox", "left", (w, total))
        _add(code, "s", "weights", (x, total))
    _keep(code, sums)


def _curvatures(code: _Code, n_rows: int) -> None:
    """The same for the derivative of that along (hx, hy, hw), and what is summed at receivers.

    With ``b = sum of m g, d = sum of n g, f = hx w + x hw``: ``ox += hw b + w d, ow += hx b + x d,
    t = sum of f g, og += m f + n x w``.
    """
    simd, b, at = code.simd, code.b, code.at
    ms, ns = _cells(code, "m0", n_rows), _cells(code, "n0", n_rows)
    sums = [code.variable(code.zero) for _ in ms]
    with _channels(code):
        x, hx = simd.load(at["x"], at["left"]), simd.load(at["hx"], at["left"])
        w, hw = simd.load(at["w"], at["right"]), simd.load(at["hw"], at["right"])
        product, change = b.fmul(x, w), simd.multiply_add(x, hw, b.fmul(hx, w))
        total = turn = code.zero
        for r, (m, n, mine) in enumerate(zip(ms, ns, sums, strict=True)):
            g = simd.load(at["s"], at["rows"], r)
            total, turn = simd.multiply_add(m, g, total), simd.multiply_add(n, g, turn)
            code.add_to(mine, change, g)
            _add(code, "s", "received", (m, change), (n, product), v=r)
        _add(code, "ox", "left", (hw, total), (w, turn))
        _add(code, "s", "weights", (hx, total), (x, turn))
    _keep(code, sums)


def _cells(code: _Code, base: str, n_rows: int) -> list[Any]:
    """The numbers of this column, each in a vector of its own."""
    lanes, at = code.simd.lanes, code.at
    return [
        code.simd.every(at["s"], code.plus(at[base], at["cell"], r * lanes)) for r in range(n_rows)
    ]


def _keep(code: _Code, sums: list[Any]) -> None:
    place = code.plus(code.at["t0"], code.at["cell"])
    for r, total in enumerate(sums):
        code.simd.store(code.b.load(total), code.at["s"], place, r)


def _add(code: _Code, array: str, place: str, *factors: tuple[Any, Any], v: int = 0) -> None:
    data, index = code.at[array], code.at[place]
    total = code.simd.load(data, index, v)
    for x, y in factors:
        total = code.simd.multiply_add(x, y, total)
    code.simd.store(total, data, index, v)


@contextmanager
def _channels(code: _Code) -> Iterator[None]:
    """A loop over vectors of channels, in which places are those of this vector."""
    b, at, lanes = code.b, code.at, code.simd.lanes
    before = dict(at)
    with cgutils.for_range(b, at["vectors"]) as loop:
        turn = b.add(at["turn"], loop.index)
        ahead(code, ("x", "hx", "ox"), "x", turn)
        ahead(code, ("w", "hw"), "w", turn)
        channel = code.times(loop.index, lanes)
        at["left"] = code.plus(at["x0"], at["i"], channel)
        at["right"] = code.plus(at["w0"], at["p"], channel)
        at["weights"] = code.plus(at["ow0"], at["p"], channel)
        staged = code.plus(b.mul(channel, at["height"]), code.times(at["row"], lanes))
        at["rows"] = code.plus(at["g0"], staged)
        if "og0" in at:
            at["received"] = code.plus(at["og0"], staged)
        yield
    at.clear()
    at.update(before)


def _walk(code: _Code, column: Callable[[_Code, int], None]) -> None:
    """Every column of every chunk of a table."""
    b, at, lanes = code.b, code.at, code.simd.lanes
    with cgutils.for_range(b, at["n"]) as loop:
        line = code.times(loop.index, 5)
        height, _, first, last, cell = (code.whole("chunks", line, k) for k in range(5))
        end = b.append_basic_block("end")
        switch = b.switch(height, end)
        for n_rows in HEIGHTS:
            block = b.append_basic_block("rows")
            switch.add_case(code.int(n_rows), block)
            b.position_at_end(block)
            with cgutils.for_range(b, last, start=first) as loop:
                line = code.times(loop.index, 3)
                at["i"], at["p"], at["row"] = (code.whole("columns", line, k) for k in range(3))
                before = code.times(b.sub(loop.index, first), n_rows)
                at["cell"] = code.times(b.add(cell, before), lanes)
                at["turn"] = b.mul(loop.index, at["vectors"])
                column(code, n_rows)
            b.branch(end)
        b.position_at_end(end)


def _reduce(code: _Code) -> None:
    """``o[s] = sum over t from starts[s] of values[t] x[index[t]]``, summed over lanes too."""
    simd, b, at = code.simd, code.b, code.at
    sums = [code.variable(code.zero) for _ in range(_CHAINS)]

    def add(mine: Any, t: Any) -> None:
        place = code.plus(at["t0"], code.times(code.whole("index", t), simd.lanes))
        code.add_to(mine, simd.every(at["values"], t), simd.load(at["s"], place))

    with cgutils.for_range(b, at["n"]) as outer:
        start, stop = (code.whole("starts", outer.index, k) for k in (0, 1))
        whole = b.udiv(b.sub(stop, start), code.int(_CHAINS))
        for mine in sums:
            b.store(code.zero, mine)
        with cgutils.for_range(b, whole) as loop:
            for chain, mine in enumerate(sums):
                add(mine, code.plus(start, code.times(loop.index, _CHAINS), chain))
        rest = b.add(start, code.times(whole, _CHAINS))
        with cgutils.for_range(b, stop, start=rest) as loop:
            add(sums[0], loop.index)
        pairs = [b.fadd(b.load(sums[k]), b.load(sums[k + 1])) for k in range(0, _CHAINS, 2)]
        place = b.gep(at["o"], [b.add(at["o0"], outer.index)], source_etype=simd.scalar)
        b.store(_sum(code, b.fadd(*pairs)), place)


def _move(code: _Code, past: int) -> None:
    """``o = x, x = 0`` for n numbers, the former past the cache where it is not needed soon."""
    simd, b, at = code.simd, code.b, code.at
    with cgutils.for_range(b, b.udiv(at["n"], code.int(simd.lanes))) as loop:
        channel = code.times(loop.index, simd.lanes)
        source = code.plus(at["x0"], channel)
        value = simd.load(at["x"], source)
        place = simd.pointer(at["o"], code.plus(at["o0"], channel))
        if past:
            stored = b.store(value, place, align=BYTES)
            stored.set_metadata("nontemporal", b.module.add_metadata([ir.IntType(32)(1)]))
        else:
            b.store(value, place, align=simd.size)
        simd.store(code.zero, at["x"], source)


def _stage(code: _Code, back: int) -> None:
    """Rows of a node side by side in scratch, for each vector of channels; or the way back."""
    simd, b, at = code.simd, code.b, code.at
    with (
        cgutils.for_range(b, at["vectors"]) as outer,
        cgutils.for_range(b, at["height"]) as loop,
    ):
        channel = code.times(outer.index, simd.lanes)
        place = code.plus(at["x0"], code.whole("rows", loop.index), channel)
        row = code.plus(b.mul(channel, at["height"]), code.times(loop.index, simd.lanes))
        staged = code.plus(at["s0"], row)
        if back:
            simd.store(simd.load(at["s"], staged), at["x"], place)
            simd.store(code.zero, at["s"], staged)
        else:
            simd.store(simd.load(at["x"], place), at["s"], staged)


_TABLES = "chunks| n vectors columns| height s| m0 "
_PLACES = " x0 w0 x1 w1 n_x n_w k_x k_w"
slopes = _make(_TABLES + "g0 ow0 t0 x| w| ox|" + _PLACES, _walk, _slopes)
curvatures = _make(_TABLES + "n0 g0 og0 ow0 t0 x| hx| w| hw| ox|" + _PLACES, _walk, _curvatures)
reduce = _make("starts| n index| values| s| t0 o| o0", _reduce)
move, move_past = (_make("x| x0 o| o0 n", _move, past) for past in (0, 1))
stage, unstage = (_make("rows| height vectors x| x0 s| s0", _stage, back) for back in (0, 1))
