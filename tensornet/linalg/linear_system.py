"""The door that all Krylov methods share: checks of arguments, and what comes back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tensornet import _check
from tensornet.linalg.implicit import System, solve
from tensornet.linalg.krylov_record import Callback, Record, norms, without
from tensornet.linalg.linear_map import LinearMap, Operator
from tensornet.linalg.solution import LinearSolution

Vector = TypeVar("Vector", Tensor, NDArray[Any])


@dataclass(frozen=True)
class Call:
    """What a method gets besides right-hand sides.

    Args:
        A: The matrix.
        M: What improves on a residual, or none.
        x0: First guesses ``(k, n)``, or none for zero.
        callback: Called with solutions ``(k, n)``.
    """

    A: LinearMap
    M: LinearMap | None
    x0: Tensor | None
    callback: Callback | None

    def adjoint(self, symmetric: bool) -> Call:
        """The same for the conjugate transpose, from zero, in silence."""
        if symmetric:
            return Call(self.A, self.M, None, None)
        M = self.M.adjoint() if self.M is not None and self.M.is_matrix else self.M
        return Call(self.A.adjoint(), M, None, None)


Method = Callable[[Call, Tensor, Record], Tensor]
"""Solve for right-hand sides ``(k, n)``."""


@dataclass(frozen=True)
class Arguments(Generic[Vector]):
    """What every method is called with.

    Args:
        where: Name of the public call.
        A: The matrix.
        b: Right-hand sides ``(..., n)``.
        M: What improves on a residual, or none.
        x0: First guess, or none for zero.
        rtol: Tolerance relative to the norm of `b`.
        atol: Absolute tolerance.
        callback: Called with the solution.
        proposal: Name of the argument that is `M` here.
    """

    where: str
    A: Operator
    b: Vector
    M: Operator | None
    x0: Vector | None
    rtol: float
    atol: float
    callback: Callable[[Vector], object] | None
    proposal: str = "M"

    def solve(self, method: Method, *, symmetric: bool) -> LinearSolution[Vector]:
        """Check the arguments, solve, and give the solution back in the kind of `b`.

        Args:
            method: How to solve.
            symmetric: Whether the matrix is its own adjoint.
        """
        where = self.where
        _check.tolerance(where, rtol=self.rtol, atol=self.atol)
        b = _tensor(where, "b", self.b, self.A)
        A = LinearMap(where, "A", self.A, b)
        if symmetric and getattr(self.A, "symmetric", None) is False:
            raise ValueError(
                f"`{where}(A=...)` must be symmetric. Got an operator that says it is not. (Take "
                "`gmres`.)"
            )
        M = None
        if self.M is not None:
            M = LinearMap(where, self.proposal, self.M, b, convert=True)
        x0 = None
        if self.x0 is not None:
            start = _tensor(where, "x0", self.x0, self.A).detach()
            if isinstance(self.x0, np.ndarray) and not (start.is_complex() and not b.is_complex()):
                start = start.to(b.dtype)
            if start.shape != b.shape:
                raise ValueError(
                    f"`{where}(x0=...)` must have the shape {tuple(b.shape)} of `b`. "
                    f"Got {tuple(start.shape)}."
                )
            _check.one_kind(where, b=b, x0=start)
            x0 = start.reshape(-1, b.shape[-1])

        def back(x: Tensor) -> Vector:
            shaped = x.reshape(b.shape)
            return shaped if isinstance(self.b, Tensor) else shaped.detach().numpy()

        told = self.callback
        callback = None if told is None else lambda x: told(back(x))
        call = Call(A, M, x0, callback)
        found = solve(self._system(call, method, symmetric), b.reshape(-1, b.shape[-1]))
        return LinearSolution(
            back(found.value),
            found.converged,
            found.message,
            found.residuals,
            found.n_iterations,
            found.residual.reshape(b.shape[:-1]),
            found.iterations.reshape(b.shape[:-1]),
        )

    def _system(self, call: Call, method: Method, symmetric: bool) -> System:
        def run(b: Tensor) -> LinearSolution[Tensor]:
            right, notes = _in_range(call.A, b)
            record = Record(self.where, right, self.rtol, self.atol)
            for note in notes:
                record.note(note)
            given = call
            if call.x0 is not None:  # where b is zero, so is the solution
                given = replace(call, x0=call.x0 * right.any(-1, keepdim=True))
            return record.solution(method(given, right, record))

        def adjoint() -> System:
            return replace(self, atol=0.0)._system(call.adjoint(symmetric), method, symmetric)

        return System(call.A, run, adjoint)


def _in_range(A: LinearMap, b: Tensor) -> tuple[Tensor, list[str]]:
    """Take off what an operator that names its null space cannot reach, and say so."""
    if A.unreachable is None:
        return b, []
    right, eps = without(b, A.unreachable), torch.finfo(b.dtype).eps
    size, left = norms(b), norms(right)
    nothing = left <= 100 * eps * size
    part = float((norms(b - right) / size.clamp_min(torch.finfo(b.dtype).tiny)).max())
    right = torch.where(nothing[:, None], 0.0, right)
    if part <= 1e3 * eps:
        return right, []
    return right, [
        "The operator is singular: the part of the right-hand side that it does not reach, along "
        f"its null space, {part:.1e} of the norm, was taken off."
    ]


def _tensor(where: str, name: str, given: Any, A: Operator) -> Tensor:
    """An argument as a finite tensor, in a dtype that holds it and a matrix of NumPy."""
    if isinstance(given, np.ndarray):
        theirs = getattr(A, "dtype", None)
        kind = np.result_type(given.dtype, theirs if isinstance(theirs, np.dtype) else np.float32)
        if given.dtype.kind not in "fciub":
            raise TypeError(f"`{where}({name}=...)` must hold numbers. Got {given.dtype}.")
        given = torch.from_numpy(np.array(given, dtype=kind))
    _check.dense(where, name, given)
    found: Tensor = given
    if found.dtype.itemsize < 4:
        raise TypeError(
            f"`{where}({name}=...)` must be of float32, float64 or complex. Got {found.dtype}."
        )
    return found
