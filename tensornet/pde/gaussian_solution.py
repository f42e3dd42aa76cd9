"""What is known of a field after Gaussian process regression: mean, variance, evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from tensornet import _check
from tensornet.pde.gaussian_functionals import Functionals, Term
from tensornet.pde.gaussian_kernel import SpectralMixture

Operator = Mapping[tuple[int, ...], float]
Value = TypeVar("Value")


@dataclass(frozen=True, eq=False)
class GaussianProcessSolution:
    """A field as a Gaussian process given everything that was observed. Made by the solver.

    Args:
        mean: At the centres of cells, (*shape).
        variance: There, (*shape); of the field under the model, not of the model.
        kernels: The covariances with the largest evidence, one per axis.
        log_evidence: Logarithm of the density of all observations.
        history: Largest evidence so far after every step of the search; of a nonlinear equation
            every linearisation has observations of its own, whose evidences are not comparable.
        source_noise: Standard deviation by which the source may be missed.
        data_noise: Standard deviation of scattered values, or none without these.
        residual: By which the mean misses the equation at the centres, over the source; or the
            root of its mean square, if the source is zero. None without an equation.
        converged: Whether the search ended before its largest number of steps, and linearisations
            of a nonlinear equation came to rest.
        message: A sentence.
        look: Gives mean and variance of functionals.
    """

    mean: Tensor
    variance: Tensor
    kernels: tuple[SpectralMixture, ...]
    log_evidence: float
    history: tuple[float, ...]
    source_noise: float
    data_noise: float | None
    residual: float | None
    converged: bool
    message: str
    look: Callable[[Functionals], tuple[Tensor, Tensor]] = field(repr=False)

    def at(
        self,
        points: Tensor,  # (n, dim)
        operator: Operator | None = None,
    ) -> tuple[Tensor, Tensor]:  # (n,), (n,)
        """Mean and variance of the field, or of derivatives of it, at any points.

        Args:
            points: Coordinates.
            operator: Coefficients of derivatives, as ``{(1,): 1.0}`` for the slope along one axis;
                of the equation for the source it implies. By default the field itself.

        Returns:
            Mean and variance, (n,) each.

        Raises:
            TypeError: If these are no tensors or coefficients.
            ValueError: If shapes differ, numbers are NaN, or there is no such derivative.
        """
        where, dim = "GaussianProcessSolution.at", self.mean.ndim
        check_real(where, "points", points, order=2)
        _check.shapes(where, points=(points, f"n {dim}"))
        terms = terms_of(where, operator or {(0,) * dim: 1.0}, dim)
        return self.look(Functionals(points.to(torch.float64), terms))


def check_real(where: str, name: str, x: Tensor, *, order: int) -> None:
    """Check that an argument is a finite, non-empty tensor of real numbers.

    Args:
        where: Name of the public call, for messages.
        name: Name of the argument.
        x: The argument.
        order: Number of axes it must have.

    Raises:
        TypeError: If it is no tensor of real floating numbers.
        ValueError: If it has another number of axes, no entries, or NaN or infinite ones.
    """
    _check.dense(where, name, x, order=order)
    if x.is_complex():
        raise TypeError(f"`{where}({name}=...)` must be real. Got {x.dtype}.")


def terms_of(where: str, operator: Operator, dim: int) -> tuple[Term, ...]:
    """Read the coefficients of derivatives.

    Args:
        where: Name of the public call, for messages.
        operator: The coefficients.
        dim: Number of axes.

    Raises:
        TypeError: If it is no mapping, or a coefficient no number.
        ValueError: If orders are negative or of another number of axes.
    """
    made = []
    for orders, coefficient in check_orders(where, operator, dim).items():
        if isinstance(coefficient, bool) or not isinstance(coefficient, int | float):
            raise TypeError(f"`{where}(operator=...)` must hold numbers. Got {coefficient!r}.")
        made.append((orders, torch.tensor(float(coefficient), dtype=torch.float64)))
    return tuple(made)


def check_orders(
    where: str, operator: Mapping[tuple[int, ...], Value], dim: int
) -> dict[tuple[int, ...], Value]:
    """Refuse what is no mapping from orders of derivatives, one per axis.

    Args:
        where: Name of the public call, for messages.
        operator: To check.
        dim: Number of axes.

    Returns:
        The same as a dictionary.

    Raises:
        TypeError: If it is no mapping, or empty.
        ValueError: If orders are negative, no whole numbers, or of another number of axes.
    """
    if not isinstance(operator, Mapping) or not operator:
        raise TypeError(
            f"`{where}(operator=...)` must be a mapping from orders of derivatives to coefficients,"
            f" as {{(2,): 1.0}}. Got {operator!r}."
        )
    for orders in operator:
        whole = isinstance(orders, tuple) and all(type(n) is int and n >= 0 for n in orders)
        if not whole or len(orders) != dim:
            raise ValueError(
                f"`{where}(operator=...)` must have {dim} orders of derivatives each, one per "
                f"axis. Got {orders!r}."
            )
    return dict(operator)
