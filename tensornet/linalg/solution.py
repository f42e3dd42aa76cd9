"""What every solver returns."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor

Value = TypeVar("Value")


@dataclass(frozen=True)
class Solution(Generic[Value]):
    """An approximate solution, and what is known about it.

    Args:
        value: The solution.
        converged: Whether the tolerance was reached.
        message: The outcome as a sentence.
        residuals: Relative residual after each iteration, or what the solver says stands for it.
        n_iterations: Iterations or sweeps done.
    """

    value: Value
    converged: bool
    message: str
    residuals: tuple[float, ...]
    n_iterations: int


@dataclass(frozen=True)
class LinearSolution(Solution[Value]):
    """The solutions of one linear system or of a batch, by a Krylov method.

    Args:
        value: The solution, shape ``(..., n)``, in the kind of the right-hand side.
        converged: Whether every system reached the tolerance.
        message: The outcome as a sentence, with the systems that failed and why.
        residuals: The largest relative residual of the batch, before the first iteration and after
            each; the last is `residual`, recomputed.
        n_iterations: Iterations of the slowest system.
        residual: ``‖b - A x‖ / ‖b‖`` of each system, recomputed from the solution, ``(...)``.
        iterations: Iterations of each system, ``(...)``.
    """

    residual: Tensor
    iterations: Tensor
