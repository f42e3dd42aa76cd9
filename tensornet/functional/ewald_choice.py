"""How to divide a lattice sum: the width of the splitting and where both sums end."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# What a pair in real space costs, in units of an atom times a wave vector.
PAIR = 150.0
# Errors are estimated for charges that are not correlated, whose potentials are root mean squares;
# so of the wanted error this is asked for.
SAFETY = 0.05
_CANDIDATES = np.geomspace(0.3, 12.0, 24)  # widths to try, around that of the classical estimate


class Splitting(NamedTuple):
    """How the lattice sums of s structures are divided.

    Args:
        rate: The smooth part of the interaction of two unit charges is erf(rate r)/r, (s,), 1/Å.
        cutoff: Where the sum of the rest ends, (s,), Å; zero where there is no rest.
        largest: Length of the largest wave vector, (s,), 1/Å.
    """

    rate: Array
    cutoff: Array
    largest: Array


def choose(
    n: Array,  # (s,)
    cells: Array,  # (s, 3, 3)
    *,
    smearing: float,
    tolerance: float,
    width: float | None = None,
) -> Splitting:
    """Choose the cheapest splitting whose error is estimated to be below the tolerance.

    Errors are those of potentials, in units of the root-mean-square charge over 1 Å, and of fields,
    of the same over 1 Å². They depend on the number of atoms and the cell alone, so that the energy
    of a structure stays a smooth function of its positions and charges.

    Args:
        n: Numbers of charges.
        cells: Lattice vectors as rows, Å.
        smearing: Width of the charges; zero for points, Å.
        tolerance: The error.
        width: Width of charges whose interaction is the smooth part; by default the cheapest.

    References:
        Kolafa & Perram, Molecular Simulation 9, 351 (1992).
    """
    volume = np.abs(np.linalg.det(cells))
    most = 0.5 / smearing if smearing else math.inf  # there is no rest beyond this rate
    if width is None:
        classical = math.sqrt(math.pi) * (n / volume**2) ** (1 / 6)
        rate = np.minimum(classical[:, None] * _CANDIDATES, most)
    else:
        rate = np.full((len(n), 1), min(0.5 / width, most))
    count, size = n[:, None], volume[:, None]
    wanted = SAFETY * tolerance
    near, far = _real(rate, count, size, wanted), _reciprocal(rate, count, size, wanted)
    cutoff, largest = np.where(rate < most, near / rate, 0.0), 2 * rate * far
    lengths = np.linalg.norm(cells, axis=-1)[:, None]  # (s, 1, 3)
    numbers = np.floor(largest[..., None] * lengths / (2 * math.pi))
    waves = (numbers[..., 0] + 1) * (2 * numbers[..., 1] + 1) * (2 * numbers[..., 2] + 1)
    pairs = 2 * math.pi / 3 * cutoff**3 * count / size
    best = (waves + PAIR * pairs).argmin(1)
    at = np.arange(len(n)), best
    return Splitting(rate[at], cutoff[at], largest[at])


def _real(rate: Array, n: Array, volume: Array, wanted: float) -> Array:
    """The cutoff times the rate from which on what is left out of real space is small."""
    s = np.full_like(rate, 3.0)
    for _ in range(6):
        potential = np.sqrt(n * s / (2 * rate * volume)) / s**2
        field = 2 * np.sqrt(n * rate / (s * volume))
        s = np.sqrt(np.log(np.maximum(np.maximum(potential, field) / wanted, math.e)))
    return s


def _reciprocal(rate: Array, n: Array, volume: Array, wanted: float) -> Array:
    """The largest wave vector over twice the rate, likewise."""
    s = np.full_like(rate, 3.0)
    for _ in range(6):
        largest = 2 * rate * s
        others = np.sqrt(8 * n / volume) * rate * largest**-1.5
        itself = 4 * rate**2 / (math.pi * largest)
        worst = np.maximum(others + itself, others * largest)
        s = np.sqrt(np.log(np.maximum(worst / wanted, math.e)))
    return s


def gap(height: float, n: int, first: Array, second: Array, tolerance: float) -> float:
    """Choose the length of a period across a slab, beside which its images are not felt.

    Waves along the slab fall off like exp(-k z) outside of it; the dipole of the images and the
    background are taken out exactly.

    Args:
        height: Extent of the slab, Å.
        n: Number of charges.
        first: One lattice vector, (3,), Å.
        second: The other.
        tolerance: As in `choose`.
    """
    area = float(np.linalg.norm(np.cross(first, second)))
    smallest = 2 * math.pi * _smallest(first, second) / area
    strength = 12 * math.pi * math.sqrt(n) / (area * smallest) * max(1.0, smallest)
    apart = math.log(max(strength / (SAFETY * tolerance), math.e)) / smallest
    return height + apart


def _smallest(first: Array, second: Array) -> float:
    """Length of the shortest vector of a planar lattice (by Gauss)."""
    a, b = sorted((first, second), key=lambda x: float(x @ x))
    while True:
        b = b - np.rint(float(a @ b) / float(a @ a)) * a
        if float(b @ b) >= float(a @ a) * (1 - 1e-12):
            return float(np.linalg.norm(a))
        a, b = b, a
