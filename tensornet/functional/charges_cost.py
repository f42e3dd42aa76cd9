"""Which cutoff makes the sum over charges fastest: a model of the cost, in seconds of one core."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tensornet.functional.charges_mode import LOCAL

# Measured on one core of a server; only their ratios matter.
_PAIR = 3.0e-8  # a charge within the cutoff
_CHARGE = 3.0e-6  # moments and slopes of a charge
_MULTIPLY = 5.0e-11  # one multiplication of a matrix product


def cost(lengths: Sequence[float], tolerance: float, n_charges: int, cutoff: float) -> float:
    """Estimate the time of one evaluation.

    Args:
        lengths: Of the sides of the box.
        tolerance: Of the sum.
        n_charges: Number of charges, spread evenly.
        cutoff: Where the short range ends.
    """
    density = n_charges / math.prod(lengths)
    near = min(n_charges, density * 4 / 3 * math.pi * cutoff**3)
    digits = math.log(1 / tolerance)
    top = (math.sqrt(digits) - 0.5) / cutoff  # square root of the largest exponent
    ranks = [12 + 2 * top * x * math.sqrt(digits + 2) / math.pi for x in lengths]
    panels = [LOCAL * math.ceil(top * x / 2.0) for x in lengths]
    spread = 2 * math.prod(panels) * ranks[2] * 1.6
    terms = 2.5 * 3 * math.prod(ranks) * max(ranks)
    return n_charges * (_CHARGE + near * _PAIR) + _MULTIPLY * (spread + terms)


def best_cutoff(
    lengths: Sequence[float], tolerance: float, n_charges: int, periodic: bool
) -> float:
    """Find the cutoff of the smallest cost.

    Args:
        lengths: Of the sides of the box.
        tolerance: Of the sum.
        n_charges: Number of charges.
        periodic: Whether the box is periodic.
    """
    longest = max(lengths) if periodic else math.hypot(*lengths)
    candidates = [0.6 * longest * 2 ** (-k / 8) for k in range(45)]
    return min(candidates, key=lambda c: cost(lengths, tolerance, n_charges, c))
