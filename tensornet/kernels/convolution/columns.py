"""Vector code of the gradients of the edge convolution: edges of one receiver, group by group.

Scratch `s` holds vectors of channels: for the cells of a group the coupling contracted with the
features received (from `m0` on) and, for second derivatives, behind those of a column what is to
be contracted with it; and for each edge and component of its harmonics a gradient (from `t0` on),
a vector still. Harmonics of an edge and sums for their gradient stay in registers while the columns
of a chunk pass by; what weights need stays there during a segment.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from tensornet.kernels._code import Code, vector_code
from tensornet.kernels._tile import BYTES, each_case
from tensornet.kernels.convolution.gradient_plan import IN_PAIRS
from tensornet.kernels.convolution.plan import HEIGHTS
from tensornet.kernels.convolution.tiles import prefetch

ENDS = ("x0", "w0", "y0", "x1", "w1")  # where what belongs to an edge stands, and what is asked for
_HELD = 5  # rows of which cotangents stay in registers too
_NEAR = 2  # into the second cache: it is needed with the next node


def _edges(code: Code) -> None:
    """All edges times some vectors of channels of a group: one by one, or two in one body."""
    b, at = code.b, code.at
    for together, heights in ((1, (*HEIGHTS, 0)), (2, (*IN_PAIRS, 0))):
        with b.if_then(b.icmp_signed("==", at["together"], code.int(together))):
            _edges_of(code, together, heights)


def _edges_of(code: Code, together: int, heights: tuple[int, ...]) -> None:
    """From the vector `u0` of channels on as many turns; `size` is that of a vector's cells."""
    b, at, lanes = code.b, code.at, code.simd.lanes
    before = dict(at)
    with (
        cgutils.for_range(b, at["n"]) as loop,
        cgutils.for_range(b, at["turns"]) as turn,
    ):
        for k, name in enumerate(ENDS):
            at[name] = code.whole("ends", code.times(loop.index, len(ENDS)), k)
        done = code.times(turn.index, together)
        u = b.add(at["u0"], done)
        for name in ("x", "w"):
            at[name + "0"] = b.add(at[name + "0"], code.times(u, lanes))
            at[name + "1"] = b.add(at[name + "1"], b.mul(done, at["step_" + name]))
        at["m0"] = b.add(at["m0"], b.mul(u, at["size"]))
        slot = code.times(b.mul(loop.index, at["n_y"]), lanes)
        at["t0"] = b.add(at["t0"], slot)
        with cgutils.for_range(b, at["stop"], start=at["start"]) as chunk:
            line = code.times(chunk.index, 4)
            height, row, at["first"], at["last"] = (code.whole("chunks", line, k) for k in range(4))
            for n_rows in each_case(b, height, heights):
                _chunk(code, [code.whole("rows", row, r) for r in range(n_rows)], together)
    at.clear()
    at.update(before)


def _chunk(code: Code, rows: list[Any], together: int) -> None:
    """One edge: its harmonics stand in registers, those of `rows`, or are loaded with a column."""
    simd, b, at, lanes = code.simd, code.b, code.at, code.simd.lanes
    held = [_harmonic(code, row, len(rows) <= _HELD) for row in rows]
    sums = [code.variable(simd.load(at["s"], place)) for *_, place in held]
    registers = [(y, hy, mine) for (y, hy, _), mine in zip(held, sums, strict=True)]
    with cgutils.for_range(b, at["last"], start=at["first"]) as loop:
        line = code.times(loop.index, 5)
        path, first, last, cell, met = (code.whole("segments", line, k) for k in range(5))
        for v in range(together):
            ahead = code.times(loop.index, lanes)
            _ask(code, ("w", "hw"), code.plus(at["w1"], code.times(at["step_w"], v), ahead))
            _ask(code, ("x", "hx", "ox"), code.plus(at["x1"], code.times(at["step_x"], v), ahead))
        place = b.add(at["w0"], path)
        weights = [
            [simd.load(at[name], place, v) if name in at else None for name in ("w", "hw")]
            for v in range(together)
        ]
        totals = [code.variable() for _ in weights]
        with cgutils.for_range(b, last, start=first) as column:
            i, j = (code.whole("columns", code.times(column.index, 2), k) for k in (0, 1))
            copies = 2 if "hw" in at else 1
            step = code.times(b.sub(column.index, first), max(1, len(rows)) * copies)
            cell = code.times(b.add(cell, step), lanes)
            at["x_i"] = b.add(at["x0"], i)
            mine = registers
            if not rows:
                y, hy, t = _harmonic(code, j, True)
                mine = [(y, hy, code.variable(simd.load(at["s"], t)))]
            for v, ((w, hw), total) in enumerate(zip(weights, totals, strict=True)):
                at["cell"] = b.add(cell, code.times(at["size"], v))
                _column(code, w, hw, total, mine, v)
            if not rows:
                simd.store(b.load(mine[0][2]), at["s"], t)
        _give(code, [b.load(total) for total in totals], place, met)
    for mine, (*_, t) in zip(sums, held, strict=True):
        simd.store(b.load(mine), at["s"], t)


def _harmonic(code: Code, j: Any, hold: bool) -> tuple[Any, Any, Any]:
    """A harmonic, its cotangent (or where it stands), and where the sum for its gradient stands."""
    at, place = code.at, code.b.add(code.at["y0"], j)
    y = code.simd.every(at["y"], place)
    hy = code.simd.every(at["hy"], place) if "hy" in at and hold else place
    return y, hy, code.plus(at["t0"], code.times(j, code.simd.lanes))


def _column(
    code: Code, w: Any, hw: Any, total: Any, rows: list[tuple[Any, Any, Any]], v: int
) -> None:
    """``ox += w b, ow += x b, oy += x w m`` where ``b = sum over rows of y m``.

    Or the derivative of that along (hx, hy, hw), and what features received take: with
    ``d = sum of hy m, f = hx w + x hw``: ``ox += hw b + w d, ow += hx b + x d, oy += f m,
    n += y f + hy x w``.
    """
    simd, b, at = code.simd, code.b, code.at
    x = simd.load(at["x"], at["x_i"], v)
    product = change = b.fmul(x, w)
    if hw is not None:
        hx = simd.load(at["hx"], at["x_i"], v)
        change = simd.multiply_add(x, hw, b.fmul(hx, w))
    along = turned = None
    place = b.add(at["m0"], at["cell"])
    for r, (y, hy, mine) in enumerate(rows):
        m = simd.load(at["s"], place, r)
        along = b.fmul(y, m) if along is None else simd.multiply_add(y, m, along)
        code.add_to(mine, change, m)
        if hw is not None:
            hy = hy if hy.type == simd.type else simd.every(at["hy"], hy)
            turned = b.fmul(hy, m) if turned is None else simd.multiply_add(hy, m, turned)
            n = simd.multiply_add(y, change, simd.load(at["s"], place, len(rows) + r))
            simd.store(simd.multiply_add(hy, product, n), at["s"], place, len(rows) + r)
    gradient = simd.load(at["ox"], at["x_i"], v)
    if hw is None:
        code.add_to(total, x, along)
        gradient = simd.multiply_add(w, along, gradient)
    else:
        code.add_to(total, hx, along)
        code.add_to(total, x, turned)
        gradient = simd.multiply_add(hw, along, simd.multiply_add(w, turned, gradient))
    simd.store(gradient, at["ox"], at["x_i"], v)


def _ask(code: Code, names: tuple[str, ...], place: Any) -> None:
    for name in names:
        if name in code.at:
            prefetch(code, name, place, _NEAR)


def _give(code: Code, totals: list[Any], place: Any, met: Any) -> None:
    """Gradients of weights: past the cache where they are not needed soon, or added."""
    simd, b, at = code.simd, code.b, code.at
    with b.if_else(b.icmp_signed("!=", met, code.int(0))) as (again, new):
        with again:
            for v, total in enumerate(totals):
                simd.store(b.fadd(total, simd.load(at["ow"], place, v)), at["ow"], place, v)
        with new, b.if_else(b.icmp_signed("!=", at["past"], code.int(0))) as (far, near):
            with far:
                for v, total in enumerate(totals):
                    stored = b.store(total, simd.pointer(at["ow"], place, v), align=BYTES)
                    stored.set_metadata("nontemporal", b.module.add_metadata([ir.IntType(32)(1)]))
            with near:
                for v, total in enumerate(totals):
                    simd.store(total, at["ow"], place, v)


def _terms(code: Code, copies: int, back: bool) -> None:
    """``m[cell] = sum over terms of values g[k]`` for all channels, ``n = 0``; or the way back.

    Back: ``g[k] += values n[cell]``. Every cell has a first term, which may be zero.
    """
    simd, b, at, lanes = code.simd, code.b, code.at, code.simd.lanes
    size = code.times(b.sub(at["last"], at["first"]), copies * lanes)  # of a vector of channels
    m0 = b.sub(at["m0"], code.times(at["first"], copies * lanes))

    def add(table: str, values: str, term: Any, new: bool) -> None:
        place, behind, k = (code.whole(table, code.times(term, 3), n) for n in range(3))
        value = simd.every(at[values], term)
        with cgutils.for_range(b, at["vectors"]) as loop:
            m = code.plus(m0, b.mul(loop.index, size), code.times(place, lanes))
            n = b.add(m, code.times(behind, lanes))
            g = code.plus(at["g0"], k, code.times(loop.index, lanes))
            source, goal = ((at["s"], n), (at["g"], g)) if back else ((at["g"], g), (at["s"], m))
            x = simd.load(*source)
            x = b.fmul(value, x) if new else simd.multiply_add(value, x, simd.load(*goal))
            simd.store(x, *goal)
            if new and copies == 2:
                simd.store(code.simd.constant(0.0), at["s"], n)

    with cgutils.for_range(b, at["last"], start=at["first"]) as loop:
        add("cells", "cell_values", loop.index, not back)
    with cgutils.for_range(b, at["stop"], start=at["start"]) as loop:
        add("terms", "term_values", loop.index, False)


def _sums(code: Code) -> None:
    """``o[k] = sum over lanes of s[k], s[k] = 0`` for n vectors."""
    simd, b, at = code.simd, code.b, code.at
    with cgutils.for_range(b, at["n"]) as loop:
        place = code.plus(at["s0"], code.times(loop.index, simd.lanes))
        total = simd.sum(simd.load(at["s"], place))
        simd.store(code.simd.constant(0.0), at["s"], place)
        b.store(total, b.gep(at["o"], [b.add(at["o0"], loop.index)], source_etype=simd.scalar))


_EDGES = (
    "start stop chunks| rows| segments| columns| ends| n n_y together u0 turns size step_x step_w "
    "past s| t0 m0 "
)
_TERMS = "first last cells| cell_values| start stop terms| term_values| vectors g| g0 s| m0"
slopes = vector_code(_EDGES + "x| y| w| ox| ow|", _edges)
curvatures = vector_code(_EDGES + "x| y| w| hx| hy| hw| ox| ow|", _edges)
contract_once, contract_twice = (vector_code(_TERMS, _terms, copies, False) for copies in (1, 2))
expand = vector_code(_TERMS, _terms, 2, True)
sums = vector_code("n s| s0 o| o0", _sums)
