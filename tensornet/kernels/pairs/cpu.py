"""Lengths, levelled lengths, envelopes and repulsion of edges in Numba, for inference.

Each is a few operations on a few hundred numbers: done one by one in torch they would take longer
than all else in a small molecule. They are those of `tensornet.layers`: `level_out`,
`polynomial_envelope` with its power of six, and `ZBL`.
"""

import math
from math import exp, sqrt
from typing import Any

import numpy as np

from tensornet.kernels import _bridge
from tensornet.kernels._index import check_range
from tensornet.kernels._tile import BYTES


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
def _length(v, e):  # type: ignore[no-untyped-def]
    x, y, z = float(v[e, 0]), float(v[e, 1]), float(v[e, 2])
    return sqrt(x * x + y * y + z * z)


@_bridge.jit
def _choose(vectors, sender, receiver, n, cutoff, chosen, starts):  # type: ignore[no-untyped-def]
    """Sort edges that are short enough by receiver: how many; less than none for wrong ends."""
    for a in range(n + 1):
        starts[a] = 0
    for e in range(len(sender)):
        s, r = sender[e], receiver[e]
        if s < 0 or s >= n or r < 0 or r >= n:
            return -1
        if not _length(vectors, e) >= cutoff:  # what is no number is kept, and noticed
            starts[r] += 1
    total = 0
    for a in range(n + 1):
        count = starts[a]
        starts[a] = total
        total += count
    for e in range(len(sender)):
        if not _length(vectors, e) >= cutoff:
            r = receiver[e]
            chosen[starts[r]] = e
            starts[r] += 1
    for a in range(n, 0, -1):
        starts[a] = starts[a - 1]
    starts[0] = 0
    return total


@_bridge.jit
def _measure(  # type: ignore[no-untyped-def]
    vectors, sender, receiver, species, pairs, terms, flat, cutoff,
    chosen, starts, ends, v, of_edges, pair, of_atoms,
):  # fmt: skip
    """Fill in what is known of edges and sum it up at atoms; how many edges there are."""
    n, n_species = len(species), int(sqrt(len(pairs) + 0.5))
    for a in range(n):
        if species[a] < 0 or species[a] >= n_species:
            return -1
        of_atoms[0, a] = of_atoms[1, a] = 0
    total = _choose(vectors, sender, receiver, n, cutoff, chosen, starts)
    for q in range(total):
        e = chosen[q]
        s, r = sender[e], receiver[e]
        p = species[s] * n_species + species[r]
        ends[0, q], ends[1, q], pair[q] = s, r, p
        for k in range(3):
            v[q, k] = vectors[e, k]
        d = _length(v, q)
        level, slope = _level(d, pairs[p, 0], flat)
        envelope, fall = _envelope(level / cutoff)
        of_edges[0, q], of_edges[1, q], of_edges[2, q] = d, level, slope
        of_edges[3, q], of_edges[4, q], of_edges[5, q] = envelope, fall / cutoff, 0
        of_atoms[0, r] += envelope
        if d < pairs[p, 1]:
            value, push = _repulsion(d, pairs[p, 1], pairs[p, 2], pairs[p, 3], terms)
            of_atoms[1, r] += 0.5 * value
            of_edges[5, q] = 0.5 * push
    return total


@_bridge.jit
def _collect(  # type: ignore[no-untyped-def]
    vectors, receiver, of_edges, of_atoms, weights, g, y, out, start, stop
):
    """Write the derivatives along the edges from start to stop."""
    for e in range(start, stop):
        r = receiver[e]
        total = of_atoms[0, r]
        for j in range(g.shape[1]):
            total += g[e, j] * y[e, j]
            g[e, j] *= of_edges[3, e]
        along = (weights[e] + total * of_edges[4, e]) * of_edges[2, e]
        along = (along + of_edges[5, e] * of_atoms[1, r]) / of_edges[0, e]
        for k in range(3):
            out[e, k] = along * vectors[e, k]


@_bridge.jit
def _receive(  # type: ignore[no-untyped-def]
    total, vectors, along, across, ends, chosen, gradients, forces, virials
):
    """Add derivatives along and across edges, and sum forces and virials up at the atoms."""
    for e in range(total):
        s, r = ends[0, e], ends[1, e]
        for a in range(3):
            along[e, a] += across[e, a]
        for a in range(3):
            g = along[e, a]
            gradients[chosen[e], a] = g
            forces[r, a] += g
            forces[s, a] -= g
            for b in range(3):
                quarter = (vectors[e, a] * along[e, b] + vectors[e, b] * g) / 4
                virials[r, a, b] += quarter
                virials[s, a, b] += quarter


Array = np.ndarray[Any, Any]
_GRAIN = 10_000  # edges worth a thread


class Edges:
    """Memory for what is known of edges, sorted by receiver.

    Args:
        n: Number of atoms.
        e: Largest number of edges.
        m: Number of harmonics.
        dtype: Of the numbers.

    Attributes:
        total: How many edges there are.
        chosen: (e,) where each stands among those that were given.
        starts: (n + 1,) where those of each receiver start.
        ends: (2, e) senders and receivers.
        places: (e,) whole numbers in order.
        vectors: (e, 3).
        numbers: (6, e) length, levelled length and its slope, envelope and its slope in that, and
            half of the slope of the repulsion.
        pair: (e,) species of the sender, times their number, and of the receiver.
        sums: (2, n) at the atoms: of envelopes, of half repulsions.
        angular: (e, m) room for harmonics.
        y: (e, m) the same times envelopes.
        along: (e, 3) derivatives along the edges.
        across: (e, 3) room for those across them.
    """

    def __init__(self, n: int, e: int, m: int, dtype: Any) -> None:
        rows = max(e, BYTES // np.dtype(dtype).itemsize)  # harmonics come in whole vectors
        self.total, self.room = 0, e
        self.chosen, self.pair = np.empty(e, np.int64), np.empty(e, np.int64)
        self.starts, self.ends = np.empty(n + 1, np.int64), np.empty((2, e), np.int64)
        self.places = np.arange(e)
        self.vectors = np.zeros((rows, 3), dtype)
        self.numbers, self.sums = np.empty((6, e), dtype), np.empty((2, n), dtype)
        self.angular, self.y = (_bridge.empty((rows, m), dtype) for _ in range(2))
        self.along, self.across = (np.empty((rows, 3), dtype) for _ in range(2))

    def measure(
        self,
        vectors: Array,  # (e, 3)
        sender: Array,  # (e,) int64
        receiver: Array,  # (e,) int64
        species: Array,  # (n,) int64
        pairs: Array,  # (species², 4) float64
        terms: Array,  # (k, 2) float64
        flat: float,
        cutoff: float,
    ) -> None:
        """Measure edges, but for those that are too long.

        Args:
            vectors: Of the edges, Å.
            sender: Atoms where they begin.
            receiver: Atoms where they end.
            species: Of the atoms.
            pairs: For each pair of species, sender first: where lengths begin to level out, up to
                where the pair repels (zero for never), its charges in eV Å, its screening in 1/Å.
            terms: Coefficients and exponents of the screening.
            flat: Of the length where levelling begins: there it ends.
            cutoff: Where envelopes and edges end, Å.

        Raises:
            IndexError: If an end of an edge or a species is out of range.
        """
        self.total = _measure(
            vectors, sender, receiver, species, pairs, terms, flat, cutoff, self.chosen,
            self.starts, self.ends, self.vectors, self.numbers, self.pair, self.sums,
        )  # fmt: skip
        if self.total < 0:
            check_range("measure", "sender", sender, len(species))
            check_range("measure", "receiver", receiver, len(species))
            check_range("measure", "species", species, math.isqrt(len(pairs)))

    def collect(
        self,
        of_atoms: Array,  # (2, n)
        weights: Array,  # (e,)
        g: Array,  # (e, m)
    ) -> None:
        """Write the derivatives along the edges; `g` becomes that in the harmonics.

        Args:
            of_atoms: Derivatives in the sum of envelopes, and the share of the repulsion.
            weights: Derivatives in the levelled lengths.
            g: Derivatives in the harmonics times envelopes.
        """
        given = self.vectors, self.ends[1], self.numbers, of_atoms, weights, g
        _bridge.spread(
            lambda a, b: _collect(*given, self.angular, self.along, a, b), self.total, _GRAIN
        )

    def receive(self, n: int, e: int) -> tuple[Array, Array, Array]:  # (e, 3), (n, 3), (n, 3, 3)
        """Sum up the derivatives: those in the edges that were given, forces, and virials.

        Args:
            n: Number of atoms.
            e: Number of edges that were given.

        Returns:
            Derivatives in the vectors of the edges, zero for those that are too long; forces of
            the atoms; and their virials, of which each end of an edge takes a half.
        """
        shapes = (e, 3), (n, 3), (n, 3, 3)
        gradients, forces, virials = (np.zeros(shape, self.along.dtype) for shape in shapes)
        _receive(
            self.total, self.vectors, self.along, self.across, self.ends, self.chosen,
            gradients, forces, virials,
        )  # fmt: skip
        return gradients, forces, virials
