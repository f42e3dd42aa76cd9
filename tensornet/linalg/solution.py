"""What every solver returns."""

from dataclasses import dataclass
from typing import Generic, TypeVar

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
