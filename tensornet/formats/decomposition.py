"""What every function that computes a format returns."""

from dataclasses import dataclass
from typing import Generic, TypeVar

Value = TypeVar("Value")


class BudgetError(Exception):
    """The next call of a black box would ask for more than is allowed; it was not made."""


@dataclass(frozen=True)
class Decomposition(Generic[Value]):
    """A format and how well it represents what it was computed from.

    Args:
        value: The format.
        relative_error: Norm of the difference over the norm, computed from the data.
        converged: Whether the tolerance was reached; of `cp`, whether the fit came to an end, be it
            at the tolerance or where the error no longer falls. The message says which.
        message: The outcome as a sentence.
        n_iterations: Sweeps or steps done.
        n_evaluations: Entries asked of a function; zero for dense data.
    """

    value: Value
    relative_error: float
    converged: bool
    message: str
    n_iterations: int
    n_evaluations: int
