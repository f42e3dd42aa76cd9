"""Lengths, levelled lengths, envelopes and repulsion of edges in Numba, for inference.

Each is a few operations on a few hundred numbers: done one by one in torch they would take longer
than all else in a small molecule. They are those of `tensornet.layers`: `level_out`,
`polynomial_envelope` with its power of six, and `ZBL`.
"""

from math import exp, sqrt
from typing import Any

import numpy as np

from tensornet.kernels import _bridge


@_bridge.jit
def _envelope(x):  # type: ignore[no-untyped-def]  # Numba infers them
    """The envelope and its slope."""
    if not x < 1:
        return 0.0 * x, 0.0 * x
    rest = 1 - x
    series = 1 + x * (4 + x * (10 + x * (20 + x * (35 + x * 56))))
    cube, square = rest * rest * rest, x * x
    return cube * rest * series, -504 * square * square * x * cube


@_bridge.jit
def _level(d, start, flat):  # type: ignore[no-untyped-def]
    """The length that a network sees, and its slope: it levels out from `start` to `flat` of it."""
    if start <= 0 or d >= start:
        return d, 1.0
    width = (1 - flat) * start
    t = max((d - flat * start) / width, 0.0)
    square = t * t
    value = square * square * t * (7 + t * (-14 + t * (10 - 2.5 * t)))
    slope = square * square * (35 + t * (-84 + t * (70 - 20 * t)))
    return flat * start + width * (0.5 + value), slope


@_bridge.jit
def _repulsion(d, reach, charges, screening, terms):  # type: ignore[no-untyped-def]
    """Screened repulsion of two nuclei, and its slope."""
    screened, falling = 0.0, 0.0
    for k in range(len(terms)):
        rate = -screening * terms[k, 1]
        part = charges * terms[k, 0] * exp(rate * d)
        screened += part
        falling += rate * part
    switch, fall = _envelope(d / reach)
    value = screened / d
    return value * switch, (falling - value) / d * switch + value * fall / reach


@_bridge.jit
def _measure(  # type: ignore[no-untyped-def]
    vectors, sender, receiver, species, pairs, terms, flat, cutoff, of_edges, pair, of_atoms
):
    """Fill in what is known of edges and sum it up at atoms; false if an index is out of range."""
    n, n_species = len(species), int(sqrt(len(pairs) + 0.5))
    for a in range(n):
        if species[a] < 0 or species[a] >= n_species:
            return False
        of_atoms[0, a] = of_atoms[1, a] = 0
    for e in range(len(sender)):
        s, r = sender[e], receiver[e]
        if s < 0 or s >= n or r < 0 or r >= n:
            return False
        p = species[s] * n_species + species[r]
        pair[e] = p
        x, y, z = float(vectors[e, 0]), float(vectors[e, 1]), float(vectors[e, 2])
        d = sqrt(x * x + y * y + z * z)
        level, slope = _level(d, pairs[p, 0], flat)
        envelope, fall = _envelope(level / cutoff)
        of_edges[0, e], of_edges[1, e], of_edges[2, e] = d, level, slope
        of_edges[3, e], of_edges[4, e], of_edges[5, e] = envelope, fall / cutoff, 0
        of_atoms[0, r] += envelope
        if d < pairs[p, 1]:
            value, push = _repulsion(d, pairs[p, 1], pairs[p, 2], pairs[p, 3], terms)
            of_atoms[1, r] += 0.5 * value
            of_edges[5, e] = 0.5 * push
    return True


@_bridge.jit
def _collect(  # type: ignore[no-untyped-def]
    vectors, receiver, of_edges, of_atoms, weights, g, y, out, start, stop
):
    """Add the derivatives along the edges from start to stop."""
    for e in range(start, stop):
        r = receiver[e]
        total = of_atoms[0, r]
        for j in range(g.shape[1]):
            total += g[e, j] * y[e, j]
        along = (weights[e] + total * of_edges[4, e]) * of_edges[2, e]
        along = (along + of_edges[5, e] * of_atoms[1, r]) / of_edges[0, e]
        for k in range(3):
            out[e, k] += along * vectors[e, k]


@_bridge.jit
def _receive(vectors, g, sender, receiver, forces, virials):  # type: ignore[no-untyped-def]
    """Sum up at the atoms."""
    for e in range(len(sender)):
        s, r = sender[e], receiver[e]
        for a in range(3):
            forces[r, a] += g[e, a]
            forces[s, a] -= g[e, a]
            for b in range(3):
                quarter = (vectors[e, a] * g[e, b] + vectors[e, b] * g[e, a]) / 4
                virials[r, a, b] += quarter
                virials[s, a, b] += quarter


Array = np.ndarray[Any, Any]
_GRAIN = 10_000  # edges worth a thread


def measure(
    vectors: Array,  # (e, 3)
    sender: Array,  # (e,) int64
    receiver: Array,  # (e,) int64
    species: Array,  # (n,) int64
    pairs: Array,  # (species², 4) float64
    terms: Array,  # (k, 2) float64
    flat: float,
    cutoff: float,
) -> tuple[Array, Array, Array]:  # (6, e), (e,), (2, n)
    """Measure edges.

    Args:
        vectors: Of the edges, Å.
        sender: Atoms where they begin.
        receiver: Atoms where they end.
        species: Of the atoms.
        pairs: For each pair of species, sender first: where lengths begin to level out, up to where
            the pair repels (zero for never), its charges in eV Å, its screening in 1/Å.
        terms: Coefficients and exponents of the screening.
        flat: Of the length where levelling begins: there it ends.
        cutoff: Where envelopes end, Å.

    Returns:
        For the edges their length, levelled length and its slope, envelope and its slope in that,
        and half of the slope of the repulsion; their pair of species; for the atoms the sums of
        envelopes and half repulsions.

    Raises:
        IndexError: If an atom or a species is out of range.
    """
    of_edges = np.empty((6, len(sender)), vectors.dtype)
    pair, of_atoms = np.empty(len(sender), np.int64), np.empty((2, len(species)), vectors.dtype)
    given = vectors, sender, receiver, species, pairs, terms, flat, cutoff
    if not _measure(*given, of_edges, pair, of_atoms):
        raise IndexError(
            f"`measure(sender=..., receiver=...)` must be from 0 to {len(species) - 1}. Got others."
        )
    return of_edges, pair, of_atoms


def receive(
    vectors: Array,  # (e, 3)
    g: Array,  # (e, 3)
    sender: Array,  # (e,)
    receiver: Array,  # (e,)
    n: int,
) -> tuple[Array, Array]:  # (n, 3), (n, 3, 3)
    """Give forces and virials of the atoms.

    Args:
        vectors: As in `measure`, which has checked the atoms.
        g: Derivatives of the energy in the vectors.
        sender: As in `measure`.
        receiver: As there.
        n: Number of atoms.
    """
    forces, virials = np.zeros((n, 3), g.dtype), np.zeros((n, 3, 3), g.dtype)
    _receive(vectors, g, sender, receiver, forces, virials)
    return forces, virials


def collect(
    vectors: Array,  # (e, 3)
    receiver: Array,  # (e,)
    of_edges: Array,  # (6, e)
    of_atoms: Array,  # (2, n)
    weights: Array,  # (e,)
    g: Array,  # (e, m)
    y: Array,  # (e, m)
    out: Array,  # (e, 3), added to
) -> None:
    """Add the derivatives along the edges to those in their directions.

    Args:
        vectors: As in `measure`.
        receiver: As there.
        of_edges: Its first result.
        of_atoms: Derivatives in the sum of envelopes, and the share of the repulsion.
        weights: Derivatives in the levelled lengths.
        g: Derivatives in the harmonics times envelopes.
        y: The harmonics.
        out: Derivatives in the vectors.
    """
    given = vectors, receiver, of_edges, of_atoms, weights, g, y, out
    _bridge.spread(lambda a, b: _collect(*given, a, b), len(receiver), _GRAIN)
