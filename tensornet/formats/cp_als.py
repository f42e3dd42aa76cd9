"""Alternating least squares with a proximal pull and an exact line search."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tensornet.formats.cp_data import EXPLICIT, Known, Whole
from tensornet.formats.cp_terms import Fit, balance, contract, gram_product, tail

# Relative decrease of the squared error still to come, at which a fit counts as stationary.
STATIONARY = 1e-7
# Longest prolongation of a move, in multiples of it.
_REACH = 20.0
Floats = NDArray[np.float64]


def als(
    data: Whole | Known,
    factors: Sequence[Tensor],
    *,
    tolerance: float,
    max_iterations: int,
    ridge: float = 0.0,
    patience: float = math.inf,
) -> Fit:
    """Fit by least squares in one factor at a time.

    Each step is pulled towards its last value, by an amount that falls with the square of the
    error. That is what gets the sweeps through swamps. Every few sweeps the last move is
    prolonged by as much as is best.

    Args:
        data: What to fit, of norm one or a little less.
        factors: Where to start.
        tolerance: Error at which to stop.
        max_iterations: Sweeps at most.
        ridge: Weight of the squared entries of the factors.
        patience: Give up when more than so many sweeps would be needed at the current rate, but
            not before a quarter of them.

    Returns:
        The last factors.

    References:
        Li, Kindermann & Navasca, Some convergence results on the regularized alternating
        least-squares method (2013); Rajih, Comon & Harshman, Enhanced line search (2008).
    """
    factors = list(factors)
    last = error = data.error(factors)
    decreases: list[float] = []
    for step in range(1, max_iterations + 1):
        before = list(factors)
        error, factors = data.sweep(factors, _pull(error), ridge)
        if error <= tolerance:
            return Fit(factors, error, step, False)
        decreases.append((last * last - error * error) / (error * error))
        last = error
        if step < 3:
            continue
        left, rate = _still_to_come(decreases)
        if left < STATIONARY:
            return Fit(factors, error, step, True)
        if step > max(5, patience / 4) and _sweeps_needed(left, rate) > patience:
            return Fit(factors, error, step, False)
        if step % 8 == 0 and isinstance(data, Whole) and error > EXPLICIT and ridge == 0:
            factors, error = _prolong(data, before, factors, error)
            last = error
        elif step % 10 == 0:
            factors = balance(factors)
    return Fit(factors, error, max_iterations, False)


def _pull(error: float) -> float:
    return min(1e-2, max(1e-14, 0.1 * error * error))


def _still_to_come(decreases: list[float]) -> tuple[float, float]:
    """Estimate what a geometric decrease still adds, and its rate."""
    now, then = decreases[-1], decreases[-2]
    if now <= 0:
        return abs(now), 0.0
    rate = min(now / then, 0.999) if then > 0 else 0.999
    return now * rate / (1 - rate), rate


def _sweeps_needed(left: float, rate: float) -> float:
    return math.log(STATIONARY / left) / math.log(rate) if 0 < rate < 1 else 0.0


def _prolong(
    data: Whole, before: list[Tensor], after: list[Tensor], error: float
) -> tuple[list[Tensor], float]:
    """Go on along the last move, as far as is best.

    Along a line the squared error is a polynomial in the length t, of degree 2 n: it is known
    from its values at 2 n + 1 points, of which the linear part <x, .> needs n + 1.
    """
    n = len(after)
    moves = [b - a for a, b in zip(before, after, strict=True)]

    def at(t: float) -> list[Tensor]:
        return [a + t * m for a, m in zip(after, moves, strict=True)]

    ends = tail(data.x, [after[-1]]), tail(data.x, [moves[-1]])
    many, few = _knots(2 * n + 1), _knots(n + 1)
    lines = [
        a + torch.from_numpy(many).to(a)[:, None, None] * m
        for a, m in zip(after, moves, strict=True)
    ]
    squares = gram_product([f.mT @ f for f in lines]).sum((1, 2)).tolist()
    inner = []
    for t in few:
        factors = at(t)
        inner.append(float((contract(ends[0] + t * ends[1], factors, 0) * factors[0]).sum()))
    lengths = _REACH * np.linspace(0, 1, 200)
    values = data.squared - 2 * _through(few, inner, lengths) + _through(many, squares, lengths)
    best = int(values.argmin())
    if best == 0 or values[best] >= error * error:
        return after, error
    moved = balance(at(float(lengths[best])))
    new = data.error(moved)
    return (moved, new) if new < error else (after, error)


def _knots(count: int) -> Floats:
    """Chebyshev points in the interval of the line search."""
    return _REACH * 0.5 * (1 + np.cos(np.pi * (np.arange(count) + 0.5) / count))


def _through(knots: Floats, values: list[float], points: Floats) -> Floats:
    """Evaluate the polynomial through values."""
    degree = len(knots) - 1
    found = np.polynomial.Chebyshev.fit(knots, values, degree, domain=[0, _REACH])(points)
    return np.asarray(found)
