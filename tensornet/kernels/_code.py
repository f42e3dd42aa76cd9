"""Vector code with its arguments by name: what the emitters of kernels are written with.

Import this module where kernels are compiled, not before: it needs Numba.
"""

import inspect
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tensornet.kernels._tile import Vectors


class Code:
    """What an emitter needs: the builder, vectors, and the arguments by name.

    An index is given as terms that are added: names of arguments, whole numbers and values.
    """

    def __init__(self, context: Any, b: Any, signature: Any, names: list[str], args: Any) -> None:
        self.b = b
        self.at: dict[str, Any] = {}
        for name, kind, value in zip(names, signature.args, args, strict=True):
            whole = isinstance(kind, types.Integer)
            self.at[name] = value if whole else context.make_array(kind)(context, b, value).data
            if not whole and isinstance(kind.dtype, types.Float):
                number = kind.dtype
        self.simd = Vectors(b, context.get_value_type(number), number.bitwidth)
        self.int = next(a.type for a in self.at.values() if isinstance(a.type, ir.IntType))

    def plus(self, *terms: Any) -> Any:
        """The sum of whole numbers, each a name, a number or a value."""
        total = self.int(0)
        for term in terms:
            total = self.b.add(total, self._value(term))
        return total

    def times(self, x: Any, factor: Any) -> Any:
        """A value times a whole number, which is a name, a number or a value."""
        return self.b.mul(x, self._value(factor))

    def whole(self, name: str, *index: Any) -> Any:
        """A whole number of a table."""
        place = self.b.gep(self.at[name], [self.plus(*index)], source_etype=self.int)
        return self.b.load(place)

    def place(self, name: str, *index: Any) -> Any:
        """Where a vector of an array stands."""
        return self.plus(*index)

    def load(self, name: str, *index: Any) -> Any:
        """A vector of an array."""
        return self.simd.load(self.at[name], self.place(name, *index))

    def every(self, name: str, *index: Any) -> Any:
        """One number of an array in every lane."""
        return self.simd.every(self.at[name], self.plus(*index))

    def store(self, value: Any, name: str, *index: Any) -> None:
        """Write a vector to an array."""
        self.simd.store(value, self.at[name], self.place(name, *index))

    def variable(self, value: Any = None) -> Any:
        """A vector that changes, zero at first unless a value is given; in a register."""
        zero = self.simd.constant(0.0)
        return cgutils.alloca_once_value(self.b, zero if value is None else value)

    def add_to(self, variable: Any, x: Any, y: Any) -> None:
        """``variable += x y``."""
        self.b.store(self.simd.multiply_add(x, y, self.b.load(variable)), variable)

    def _value(self, term: Any) -> Any:
        term = self.at[term] if isinstance(term, str) else term
        return self.int(term) if isinstance(term, int) else term


def vector_code(
    names: str, emit: Callable[..., None], *constants: Any, kind: type[Code] = Code
) -> Any:
    """Make an intrinsic of arrays, named with a bar, and whole numbers, in the order of `names`.

    Args:
        names: Of the arguments.
        emit: Called with the code, whose `at` holds the arguments, and the constants.
        constants: The same in every call.
        kind: What the emitter is given.

    Returns:
        What Numba code calls by position.
    """
    words = [name.removesuffix("|") for name in names.split()]
    arrays = [name.endswith("|") for name in names.split()]

    def make(typing: Any, *given: Any) -> Any:
        arguments = [g if array else types.intp for g, array in zip(given, arrays, strict=True)]

        def code(context: Any, b: Any, signature: Any, args: Any) -> Any:
            emit(kind(context, b, signature, words, args), *constants)
            return context.get_dummy_value()

        return types.void(*arguments), code

    plain = inspect.Parameter.POSITIONAL_OR_KEYWORD
    make.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(word, plain) for word in ("typing", *words)]
    )
    return intrinsic(make)
