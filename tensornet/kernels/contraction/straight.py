"""The symmetric contraction as straight-line code made for one coupling, without tables.

The terms are parted by their right factors, few of them at a time, so that products, sums and
slopes of a part stay in registers: each part becomes a function. A coefficient is loaded once, as
it is used, for a value and for a slope.
"""

from functools import lru_cache
from hashlib import sha256
from typing import Any

import numpy as np
from llvmlite import ir
from numba import cfunc, types
from numba.extending import intrinsic

from tensornet.kernels._tile import FMA, Vectors
from tensornet.kernels.contraction.plan import Array, Plan

_RIGHTS, _TERMS = 6, 64  # of a part
_PLANS: dict[str, tuple[str, Plan, int]] = {}

Run = tuple[int, int, list[tuple[int, int]]]  # left factor, component, (right factor, term)


def parts(plan: Plan) -> list[list[Run]]:
    """All terms, in parts of few right factors that meet the same left ones."""
    waiting: dict[int, list[tuple[int, int, int]]] = {}
    for left, k, first, last in plan.runs.tolist():
        for t in range(first, last):
            waiting.setdefault(int(plan.rights[t]), []).append((left, k, t))
    found = []
    while waiting:
        part: dict[tuple[int, int], list[tuple[int, int]]] = {}
        size = count = 0
        while waiting and count < _RIGHTS:
            best = min(waiting, key=lambda right: (_new(waiting[right], part), right))
            if part and size + len(waiting[best]) > _TERMS:
                break
            for left, k, t in waiting.pop(best):
                part.setdefault((left, k), []).append((best, t))
                size += 1
            count += 1
        found.append([(*key, terms) for key, terms in sorted(part.items())])
    return found


def _new(terms: list[tuple[int, int, int]], part: dict[tuple[int, int], Any]) -> int:
    """How many left factors a right one would add to a part, less those it shares with it."""
    return sum(-1 if (left, k) in part else 1 for left, k, _ in terms)


def order(plan: Plan) -> list[int]:
    """The monomials in the order of the use of their coefficients."""
    return [int(plan.order[t]) for part in parts(plan) for _, _, terms in part for _, t in terms]


class _Part:
    """A function ``(x, step, c, g, step, out, step)``; components stand a step apart."""

    def __init__(self, module: Any, dtype: Any, scalar: Any, plan: Plan, n_i: int) -> None:
        self.int, kind = ir.IntType(64), scalar.as_pointer()
        signature = [kind, self.int, kind, kind, self.int, kind, self.int]
        label = module.get_unique_name("contraction.part")
        self.function = ir.Function(module, ir.FunctionType(ir.VoidType(), signature), label)
        self.function.linkage = "internal"
        self.function.attributes.add("noinline")
        self.b = ir.IRBuilder(self.function.append_basic_block())
        x, x_step, self.c, g, g_step, out, out_step = self.function.args
        self.at = {"x": (x, x_step), "g": (g, g_step), "out": (out, out_step)}
        self.simd = Vectors(self.b, scalar, dtype.bitwidth)
        self.n_i = n_i
        self.made = {f: (left, right) for f, left, right in plan.products.tolist()}
        self.values: dict[int, Any] = {}

    def place(self, name: str, k: int) -> tuple[Any, Any]:
        data, step = self.at[name]
        return data, self.b.mul(step, self.int(k))

    def load(self, name: str, k: int) -> Any:
        return self.simd.load(*self.place(name, k))

    def coefficient(self, term: int) -> Any:
        return self.simd.load(self.c, self.int(term * self.simd.lanes))

    def factor(self, f: int) -> Any:
        """The value of a factor; none for the number one."""
        if f and f not in self.values:
            if f <= self.n_i:
                self.values[f] = self.load("x", f - 1)
            else:
                self.values[f] = self.times(*(self.factor(part) for part in self.made[f]))
        return self.values.get(f)

    def times(self, x: Any, y: Any) -> Any:
        return y if x is None else x if y is None else self.b.fmul(x, y, flags=FMA)

    def plus(self, x: Any, y: Any, z: Any) -> Any:
        """``x y + z``, where x or y may be the number one, and z nothing."""
        if z is None:
            return self.times(x, y)
        if x is None or y is None:
            return self.b.fadd(self.times(x, y), z, flags=FMA)
        return self.simd.multiply_add(x, y, z)

    def add(self, k: int, value: Any) -> None:
        """Add to a component of the result."""
        place = self.place("out", k)
        self.simd.store(self.b.fadd(value, self.simd.load(*place), flags=FMA), *place)


def _evaluate(p: _Part, part: list[Run], term: int) -> int:
    """``out[k] += left * (sum of coefficient * right)``."""
    sums: dict[int, Any] = {}
    for left, k, terms in part:
        total = None
        for right, _ in terms:
            total = p.plus(p.coefficient(term), p.factor(right), total)
            term += 1
        sums[k] = p.plus(p.factor(left), total, sums.get(k))
    for k, total in sums.items():
        p.add(k, total)
    return term


def _differentiate(p: _Part, part: list[Run], term: int) -> int:
    """The slopes in both factors, given on to the components they are made of."""
    slopes: dict[int, Any] = {}
    given: dict[int, Any] = {}
    for left, k, terms in part:
        if k not in given:
            given[k] = p.load("g", k)
        scaled, total = p.times(given[k], p.factor(left)), None
        for right, _ in terms:
            c = p.coefficient(term)
            if left:
                total = p.plus(c, p.factor(right), total)
            if right:
                slopes[right] = p.plus(c, scaled, slopes.get(right))
            term += 1
        if left:
            slopes[left] = p.plus(given[k], total, slopes.get(left))
    while slopes:
        f = max(slopes)  # a product is made of factors before it
        slope = slopes.pop(f)
        if f <= p.n_i:
            p.add(f - 1, slope)
            continue
        for one, other in (p.made[f], p.made[f][::-1]):
            slopes[one] = p.plus(slope, p.factor(other), slopes.get(one))
    return term


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def straight(
    typing: Any, name: Any, x: Any, xt: Any, c: Any, g: Any, gt: Any, out: Any, ot: Any
) -> Any:
    """Add values or slopes for one row and one vector of channels: pointers, each with its step."""

    def code(context: Any, b: Any, signature: Any, args: Any) -> Any:
        dtype = signature.args[1].dtype
        what, plan, n_i = _PLANS[name.literal_value]
        term = 0
        for part in parts(plan):
            p = _Part(b.module, dtype, context.get_value_type(dtype), plan, n_i)
            term = _EMIT[what](p, part, term)
            p.b.ret_void()
            b.call(p.function, args[1:])
        return context.get_dummy_value()

    n = types.intp
    return types.void(name, x, n, c, g, n, out, n), code


_EMIT = {"value": _evaluate, "slope": _differentiate}


@intrinsic  # type: ignore[untyped-decorator]
def call(
    typing: Any, address: Any, x: Any, xs: Any, xt: Any, c: Any, cs: Any,
    g: Any, gs: Any, gt: Any, out: Any, os: Any, ot: Any,
) -> Any:  # fmt: skip
    """Call what `compiled` gave, on flat arrays that each have a start, and a step if it varies."""

    def code(context: Any, b: Any, signature: Any, args: Any) -> Any:
        kinds, scalar = signature.args, context.get_value_type(signature.args[1].dtype)
        places = []
        for k in (1, 4, 6, 9):
            data = context.make_array(kinds[k])(context, b, args[k]).data
            places.append(b.gep(data, [args[k + 1]], source_etype=scalar))
        given = [places[0], args[3], *places[1:3], args[8], places[3], args[11]]
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in given])
        b.call(b.inttoptr(args[0], kind.as_pointer()), given)
        return context.get_dummy_value()

    n = types.intp
    return types.void(n, x, n, n, c, n, g, n, n, out, n, n), code


def _function(run: Any, signature: Any) -> Any:
    options = {"fastmath": {"contract", "nsz"}, "error_model": "numpy"}
    try:
        return cfunc(signature, cache=True, **options)(run)
    except RuntimeError:  # no place on disk can be written
        return cfunc(signature, **options)(run)


@lru_cache(maxsize=256)
def compiled(what: str, plan: Plan, n_i: int, bits: int) -> tuple[Any, Array]:
    """Compile "value" or "slope" of a plan; kept on disk, under a name that says what it is.

    Returns:
        What keeps the code alive, with its ``address``, and the monomials in the order in which
        their coefficients are wanted.
    """
    content = b"".join(table.tobytes() + b"|" for table in plan.flat)
    name = sha256(content + str((what, n_i, bits, _RIGHTS, _TERMS)).encode()).hexdigest()
    _PLANS[name] = what, plan, n_i

    def run(x, xt, c, g, gt, out, ot):  # type: ignore[no-untyped-def]
        straight(name, x, xt, c, g, gt, out, ot)

    number, whole = types.CPointer(getattr(types, f"float{bits}")), types.intp
    signature = types.void(number, whole, number, number, whole, number, whole)
    return _function(run, signature), np.array(order(plan), np.int64)
