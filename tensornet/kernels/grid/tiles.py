"""Vector code of the grid: a few rows times one vector of functions, sums in registers.

Arrays are flat, and a vector holds one number of as many functions as it has lanes.
"""

from collections.abc import Callable
from typing import Any

from numba.core import cgutils

from tensornet.kernels._code import Code, vector_code
from tensornet.kernels._tile import each_case
from tensornet.kernels.grid.tables import HIGH, TALL, WIDE


def _sums(code: Code, n: int) -> list[Any]:
    return [code.variable() for _ in range(n)]


def _by_rows(code: Code, emit: Callable[..., None], most: int) -> None:
    """The code for the number of rows that is asked for, one to `most`."""
    for rows in each_case(code.b, code.at["rows"], range(1, most + 1)):
        emit(code, rows)


def _rise(code: Code, rows: int) -> None:
    """Sum degrees of one order, at heights of both signs: even l - m is even in the height."""
    b, at, lanes = code.b, code.at, code.simd.lanes
    sums = [[_sums(code, 2) for _ in range(rows)] for _ in range(2)]  # parity, row, cosine or sine
    with cgutils.for_range(b, at["pairs"]) as loop:
        for parity, of_rows in enumerate(sums):
            t = b.add(code.times(loop.index, 2), code.int(parity))
            component = code.whole("whole", code.plus("c0", t))
            other = b.sub(component, code.times(at["m"], 2))
            x = [code.load("x", "x0", code.times(c, code.simd.lanes)) for c in (component, other)]
            for p, mine in enumerate(of_rows):
                number = code.every("numbers", "u0", code.times(t, rows), p)
                for value, variable in zip(x, mine, strict=True):
                    code.add_to(variable, number, value)
    for p, (even, odd) in enumerate(zip(*sums, strict=True)):
        for slot, e, o in zip(("cos", "sin"), even, odd, strict=True):
            one, other = b.load(e), b.load(o)
            down = code.times(code.int(p), "step")
            column = code.times(at[slot], lanes)
            code.store(b.fadd(one, other), "f", "f0", down, column)
            code.store(b.fsub(one, other), "f", b.sub(code.plus("mirror", column), down))


def _ring(code: Code, rows: int) -> None:
    """Sum orders at longitudes p, -p, pi - p and pi + p."""
    b, lanes = code.b, code.simd.lanes
    parts = []
    first = code.int(0)
    for pairs in ("cosines", "sines"):
        sums = [_sums(code, rows) for _ in range(2)]  # even and odd orders
        with cgutils.for_range(b, code.at[pairs]) as loop:
            for parity, mine in enumerate(sums):
                slot = b.add(b.add(code.times(loop.index, 2), code.int(parity)), first)
                x = code.load("f", "f0", code.times(slot, lanes))
                for p, variable in enumerate(mine):
                    number = code.every("numbers", "t0", code.times(slot, rows), p)
                    code.add_to(variable, number, x)
        first = code.times(code.at[pairs], 2)
        even, odd = ([b.load(variable) for variable in mine] for mine in sums)
        parts.append([(b.fadd(e, o), b.fsub(e, o)) for e, o in zip(even, odd, strict=True)])
    for p, ((right, left), (high, low)) in enumerate(zip(*parts, strict=True)):
        four = b.fadd(right, high), b.fsub(right, high), b.fsub(left, low), b.fadd(left, low)
        for j, value in enumerate(four):
            code.store(value, "v", "v0", (4 * p + j) * lanes)


def _multiply(code: Code, shared: int) -> None:
    """Multiply values by others; sum them up with the signs of the four kinds of orders.

    What is left is multiplied by cosines of even and odd orders, then by sines. Shared others are
    one number for all lanes.
    """
    b, lanes = code.b, code.simd.lanes
    read = code.every if shared else code.load
    with cgutils.for_range(b, code.at["n"]) as loop:
        quad = code.times(loop.index, 4 * lanes)
        places = [code.plus(quad, j * lanes) for j in range(4)]
        one, two, three, four = (
            b.fmul(code.load("v", place), read("w", "w0", place)) for place in places
        )
        right, high = b.fadd(one, two), b.fsub(one, two)
        left, low = b.fadd(three, four), b.fsub(four, three)
        kinds = b.fadd(right, left), b.fsub(right, left), b.fadd(high, low), b.fsub(high, low)
        for kind, place in zip(kinds, places, strict=True):
            code.store(kind, "v", place)


def _back(code: Code, rows: int) -> None:
    """Sum longitudes for orders of one kind; on top of what is there, if `add` is one."""
    b, at, lanes = code.b, code.at, code.simd.lanes
    sums = _sums(code, rows)
    with b.if_then(b.icmp_signed("!=", at["add"], code.int(0))):
        for p, variable in enumerate(sums):
            b.store(code.load("g", "g0", 2 * p * lanes), variable)
    with cgutils.for_range(b, at["n"]) as loop:
        x = code.load("v", "v0", code.times(loop.index, 4 * lanes))
        for p, variable in enumerate(sums):
            code.add_to(variable, code.every("numbers", "b0", code.times(loop.index, rows), p), x)
    for p, variable in enumerate(sums):
        code.store(b.load(variable), "g", "g0", 2 * p * lanes)


def _fold(code: Code) -> None:
    """Sums and differences of what stands at heights of both signs, in place."""
    b, lanes = code.b, code.simd.lanes
    with cgutils.for_range(b, code.at["n"]) as loop:
        here = code.times(loop.index, lanes)
        high, low = code.load("g", "up", here), code.load("g", "down", here)
        code.store(b.fadd(high, low), "g", "up", here)
        code.store(b.fsub(high, low), "g", "down", here)


def _fall(code: Code, rows: int) -> None:
    """Sum heights for the degrees of one order and parity."""
    b, at, lanes = code.b, code.at, code.simd.lanes
    sums = [_sums(code, 2) for _ in range(rows)]
    with cgutils.for_range(b, at["n"]) as loop:
        ring = code.times(loop.index, "step")
        x = [code.load("g", "g0", ring, code.times(at[slot], lanes)) for slot in ("cos", "sin")]
        for p, mine in enumerate(sums):
            number = code.every("numbers", "d0", code.times(loop.index, rows), p)
            for value, variable in zip(x, mine, strict=True):
                code.add_to(variable, number, value)
    for p, mine in enumerate(sums):
        component = code.whole("whole", code.plus("c0", 2 * p))
        other = b.sub(component, code.times(at["m"], 2))
        for place, variable in zip((component, other), mine, strict=True):
            code.store(b.load(variable), "o", code.times(place, lanes))


def _turn(code: Code) -> None:
    """Transpose a square of numbers, as wide as a vector."""
    lanes = code.simd.lanes
    rows = [code.load("x", "x0", code.times(code.int(q), "xt")) for q in range(lanes)]
    for i, row in enumerate(code.simd.transposed(rows)):
        code.store(row, "o", "o0", code.times(code.int(i), "ot"))


def _copy(code: Code) -> None:
    """Copy n vectors from equal steps to equal steps."""
    with cgutils.for_range(code.b, code.at["n"]) as loop:
        x = code.load("x", "x0", code.times(loop.index, "xt"))
        code.store(x, "o", "o0", code.times(loop.index, "ot"))


rise = vector_code(
    "rows x| x0 whole| c0 pairs m numbers| u0 f| f0 mirror step cos sin", _by_rows, _rise, TALL
)
ring = vector_code("rows f| f0 cosines sines numbers| t0 v| v0", _by_rows, _ring, TALL)
meet = vector_code("v| w| w0 n", _multiply, 0)
join = vector_code("v| w| w0 n", _multiply, 1)
back = vector_code("rows v| v0 n numbers| b0 g| g0 add", _by_rows, _back, HIGH)
fold = vector_code("g| up down n", _fold)
fall = vector_code("rows g| g0 step cos sin n numbers| d0 o| whole| c0 m", _by_rows, _fall, WIDE)
turn = vector_code("x| x0 xt o| o0 ot", _turn)
copy = vector_code("x| x0 xt o| o0 ot n", _copy)
