"""Rotations of real harmonics about two axes, and the order in which aligned products keep them.

Harmonics stand degree by degree, m from -l to l, the polar axis is y, and degree one is (x, y, z).
A turn about y mixes m and -m; one about x mixes m of one sign. So a vector is turned into the plane
x = 0, where m >= 0 and m < 0 are apart, and then to the polar axis.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from tensornet import _check

Array = np.ndarray[Any, Any]


@cache
def generators(l: int) -> Array:  # (3, 2 l + 1, 2 l + 1)
    """Give the matrices that turn harmonics of a degree about x, y and z, to first order.

    Args:
        l: Degree.

    Returns:
        Antisymmetric matrices: ``1 + t G[a]`` is a turn by a small angle t about axis a.

    Examples:
        >>> generators(1)[1].round(12) + 0.0
        array([[ 0.,  0.,  1.],
               [ 0.,  0.,  0.],
               [-1.,  0.,  0.]])
    """
    m = np.arange(-l, l + 1)
    raised = np.diag(np.sqrt((l - m[:-1]) * (l + m[:-1] + 1.0)), -1)
    momenta = (raised + raised.T) / 2, (raised - raised.T) / 2j, np.diag(m).astype(complex)
    real = np.zeros((2 * l + 1, 2 * l + 1), complex)  # rows are real harmonics
    real[l, l] = 1
    for k in range(1, l + 1):
        sign, root = (-1) ** k, math.sqrt(0.5)
        real[l + k, [l + k, l - k]] = sign * root, root
        real[l - k, [l + k, l - k]] = -1j * sign * root, 1j * root
    # The usual polar axis is z: what is called y, z, x here is z, x, y there.
    usual = [(real.conj() @ (-1j * j) @ real.T).real for j in momenta]
    return np.stack([usual[1], usual[2], usual[0]])


@dataclass(frozen=True, eq=False)
class Tables:
    """Whole numbers and constants for one highest degree.

    A row of a block is one harmonic. "By degree": degrees after each other, in each m = 0, 1, .. l
    and then -1, .. -l. "By order": |m| after each other, in each the m of all degrees, and then the
    -m of all degrees.
    """

    l_max: int
    by_degree: Array  # (d,): the harmonic at each place
    by_order: Array  # (d,)
    order_of: Array  # (d,): the place by order of each place by degree
    tilts: Array  # (cells, 2 l_max + 1): blocks in cos(n b), n <= l_max, and sin(n b)
    cores: Array  # (cells,): of the numbers q of a core, the one at each cell of the blocks
    signs: Array  # (cells,): its sign
    turned: Array  # (q,): of the numbers of a transposed core, the one of the core
    turned_signs: Array  # (q,)
    pairs: Array  # (2, t): places by order that turns about x and z mix
    pair_values: Array  # (t,): by how much
    about_x: int  # how many of them x mixes; they stand first


@cache
def tables(l_max: int) -> Tables:
    """Make the tables of a degree.

    Args:
        l_max: Highest degree.

    Returns:
        The tables.
    """
    by_degree = [l * l + l + m for l in range(l_max + 1) for m in _orders(l)]
    ranks = range(l_max + 1)
    by_order = [
        l * l + l + sign * m for m in ranks for sign in ((1, -1) if m else (1,)) for l in ranks[m:]
    ]
    place = {harmonic: k for k, harmonic in enumerate(by_order)}
    tilts = [cells for l in ranks for cells in _tilt(l, l_max)]
    numbers = core_numbers(l_max)
    index = {number: k for k, number in enumerate(numbers)}
    cores, signs = [], []
    for m in ranks:
        for out in (1, -1) if m else (1,):
            for l3 in ranks[m:]:
                for given in (1, -1) if m else (1,):
                    for l1 in ranks[m:]:
                        same = given == out
                        cores.append(index[l1, l3, m if same else -m])
                        signs.append(1.0 if same or out > 0 else -1.0)
    turned = [index[l3, l1, m] for l1, l3, m in numbers]
    pairs: list[list[tuple[int, int, float]]] = [[], []]
    for l in ranks:
        for found, generator in zip(pairs, generators(l)[[0, 2]], strict=True):
            for i, k in zip(*np.nonzero(np.triu(abs(generator) > 1e-9)), strict=True):
                found.append((place[l * l + int(i)], place[l * l + int(k)], generator[i, k]))
    mixed = np.array(pairs[0] + pairs[1]).reshape(-1, 3)
    return Tables(
        l_max, np.array(by_degree), np.array(by_order),
        np.array([place[harmonic] for harmonic in by_degree]),
        np.concatenate(tilts), np.array(cores), np.array(signs),
        np.array(turned), np.array([-1.0 if m < 0 else 1.0 for _, _, m in numbers]),
        mixed[:, :2].T.astype(np.int64), mixed[:, 2].copy(), len(pairs[0]),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Plan:
    """Small matrix products, one after the other, on rows of a work array.

    Rows of the work, d each: features by degree and by order, their products by order, slopes by
    order, and their products; then a weight and its slope; then cos and sin of tilts, the cells of
    tilts, and three numbers per order for turns about the axis.
    """

    lines: Array  # (lines, 7): height, size, first cell, steps of row and column, given, made
    stops: tuple[int, ...]  # features forth, core, back; slopes forth, core, back
    places: Array  # (places,): where the rows that are given and made stand
    rows: int


@cache
def plan(l_max: int, width: int) -> Plan:
    """Plan the products of one item.

    Args:
        l_max: Highest degree.
        width: Of a row of the work array.

    Returns:
        The products in the order in which they are made.
    """
    of, d = tables(l_max), (l_max + 1) ** 2
    n_rows = 5 * d + 2 + 2 * l_max + 1 + len(of.tilts) + 3 * l_max
    # places: the rows as they are; then, in the order of degrees, those by order, four times
    places = np.concatenate([np.arange(n_rows), *(of.order_of + k * d for k in range(1, 5))])
    lines: list[tuple[int, ...]] = []
    stops = []
    for features, cores in ((0, (d, 2 * d)), (2, (3 * d, 4 * d))):
        for forth in (True, None, False):
            if forth is None:
                lines += _core_lines(l_max, *cores, forth=features == 0)
            else:
                order = n_rows + (features + (0 if forth else 1)) * d
                lines += _tilt_lines(l_max, width, order, forth=forth)
            stops.append(len(lines))
    return Plan(np.array(lines, np.int64), tuple(stops), places * width, n_rows)


def _tilt_lines(l_max: int, width: int, order: int, *, forth: bool) -> list[tuple[int, ...]]:
    lines: list[tuple[int, ...]] = []
    row = cell = 0
    for size in (size for l in range(l_max + 1) for size in (l + 1, l)):
        steps = (size * width, width) if forth else (width, size * width)
        given, made = (row, order + row) if forth else (order + row, row)
        lines += _tiles(size, cell * width, steps, given, made)
        row += size
        cell += size * size
    return lines


def _core_lines(l_max: int, given: int, made: int, *, forth: bool) -> list[tuple[int, ...]]:
    lines: list[tuple[int, ...]] = []
    row = cell = 0
    for m in range(l_max + 1):
        size = (l_max + 1 - m) * (2 if m else 1)
        lines += _tiles(size, cell, (size, 1) if forth else (1, size), given + row, made + row)
        row += size
        cell += size * size
    return lines


def _tiles(
    size: int, cell: int, steps: tuple[int, int], given: int, made: int
) -> list[tuple[int, ...]]:
    lines: list[tuple[int, ...]] = []
    done = 0
    while done < size:
        left = size - done
        height = {1: 1, 2: 2, 3: 3, 4: 4, 5: 3, 7: 4, 8: 4}.get(left, 6)
        lines.append((height, size, cell + done * steps[0], *steps, given, made + done))
        done += height
    return lines


def core_numbers(l_max: int) -> list[tuple[int, int, int]]:
    """List what a core holds: degree of the input, of the result, and m from -l to l of the lower.

    For m >= 0 the number couples orders m with m, and -m with -m; for m < 0 it couples -m with m,
    and m with -m with the other sign.

    Args:
        l_max: Highest degree.

    Returns:
        One triple per number, in the order in which a core holds them.

    Raises:
        TypeError: If `l_max` is no whole number.
        ValueError: If it is negative.

    Examples:
        >>> core_numbers(1)
        [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, -1), (1, 1, 0), (1, 1, 1)]
    """
    _check.at_least("core_numbers", 0, l_max=l_max)
    degrees = range(l_max + 1)
    return [
        (l1, l3, m)
        for l1 in degrees
        for l3 in degrees
        for m in range(-min(l1, l3), min(l1, l3) + 1)
    ]


def _orders(l: int) -> list[int]:
    return [*range(l + 1), *range(-1, -l - 1, -1)]


def _tilt(l: int, l_max: int) -> list[Array]:
    """The two blocks of a turn by b about x, from y to z, row by row, as Fourier series in b."""
    values, vectors = np.linalg.eigh(1j * generators(l)[0])
    series = np.zeros((2 * l_max + 1, 2 * l + 1, 2 * l + 1))
    for value, vector in zip(values.round().astype(int), vectors.T, strict=True):
        projector = np.outer(vector, vector.conj())  # times exp(i n b), as b goes with minus
        n = int(value)
        series[abs(n)] += projector.real
        if n:
            series[l_max + abs(n)] -= math.copysign(1, n) * projector.imag
    halves = [l + np.arange(l + 1), l - np.arange(1, l + 1)]
    return [series[:, h[:, None], h].reshape(2 * l_max + 1, -1).T for h in halves]
