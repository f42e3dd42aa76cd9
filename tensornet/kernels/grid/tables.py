"""Numbers of a grid on the sphere: heights by Gauss-Legendre, equal steps of longitude.

The grid has no point on the equator, and none where a sine or cosine of longitude is zero by
symmetry. So its points come in eights: both signs of the height times four quadrants. Sums over
even and odd degrees, and over cosines and sines of even and odd orders, are taken once and serve
all eight.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
TALL, WIDE, HIGH = 4, 6, 8  # most rows of a tile: to heights and around rings; down; and back


class Degree(NamedTuple):
    """What one degree needs on a grid, in the order in which the tiles read it.

    Args:
        l_max: The degree.
        slots: Where the cosine of each order stands among the orders of a ring, then the sine.
            Cosines of even and odd orders alternate, and then sines; one place may be empty.
        components: For each order its components, of l - m even and odd by turns; if the last odd
            one is missing, something else stands there.
        up: Harmonics at heights: order, tile of heights, component, height of the tile.
        down: The same with weights: order, parity, tile of components, height, component.
        around: Cosines and sines: tile of longitudes, slot, longitude of the tile.
        back: The same: kind, tile of slots, longitude, slot.
    """

    l_max: int
    slots: Array
    components: Array
    up: Array
    down: Array
    around: Array
    back: Array


class Grid(NamedTuple):
    """Sizes of a grid, and what each of the degrees needs on it."""

    n_heights: int
    n_quads: int
    degrees: tuple[Degree, ...]


class Tables(NamedTuple):
    """A grid as the CPU reads it.

    Args:
        n_heights: Rings.
        n_quads: Points of a ring, over four.
        whole: For each degree eight whole numbers (itself, and where its parts begin in `whole` and
            `numbers`), and then its slots and components.
        numbers: All other parts.
    """

    n_heights: int
    n_quads: int
    whole: Array
    numbers: Array


@cache
def tables(degrees: tuple[int, ...], single: bool) -> Tables:
    """The grid of these degrees in two arrays.

    Args:
        degrees: Of each factor.
        single: Whether the numbers are of float32.

    Returns:
        The arrays.
    """
    found = grid(degrees)
    whole, numbers, n_whole, n_numbers = [], [], 8 * len(degrees), 0
    for degree in found.degrees:
        line = [degree.l_max]
        for part in (degree.slots, degree.components):
            line.append(n_whole)
            n_whole += len(part)
        for part in (degree.up, degree.down, degree.around, degree.back):
            line.append(n_numbers)
            n_numbers += len(part)
            numbers.append(part)
        whole.append(np.array([*line, 0]))
    parts = [part for d in found.degrees for part in (d.slots, d.components)]
    return Tables(
        found.n_heights,
        found.n_quads,
        np.concatenate([*whole, *parts]),
        np.concatenate(numbers).astype(np.float32 if single else np.float64),
    )


def degree_of(name: str, **components: int) -> list[int]:
    """Give the highest degree of numbers of components.

    Args:
        name: Of the function that is called.
        components: Numbers of components, by the name of the argument.

    Returns:
        The degrees.

    Raises:
        ValueError: If a number is not a square.
    """
    found = []
    for argument, n in components.items():
        if math.isqrt(n) ** 2 != n:
            raise ValueError(
                f"`{name}({argument}=...)` must have (l_max + 1)² components. Got {n}."
            )
        found.append(math.isqrt(n) - 1)
    return found


def meridian(l_max: int, height: Array) -> Array:  # (h, l, m)
    """Orthonormal harmonics on the meridian where the cosine of the longitude is one.

    Args:
        l_max: Highest degree.
        height: Cosines of the angle from the pole.

    Returns:
        One harmonic per height, degree and order; zero where the order is above the degree.

    References:
        Holmes & Featherstone, A unified approach to the Clenshaw summation (2002), for the
        recursion that does not overflow.
    """
    sine = np.sqrt(1 - height * height)
    P = np.zeros((len(height), l_max + 1, l_max + 1))
    P[:, 0, 0] = math.sqrt(1 / (4 * math.pi))
    for m in range(1, l_max + 1):
        ratio = (2 * m + 1) / (2 * m) * (2 if m == 1 else 1)
        P[:, m, m] = math.sqrt(ratio) * sine * P[:, m - 1, m - 1]
    for m in range(l_max):
        P[:, m + 1, m] = math.sqrt(2 * m + 3) * height * P[:, m, m]
        for l in range(m + 2, l_max + 1):
            a = math.sqrt((4 * l * l - 1) / (l * l - m * m))
            b = math.sqrt(((l - 1) ** 2 - m * m) / (4 * (l - 1) ** 2 - 1))
            P[:, l, m] = a * (height * P[:, l - 1, m] - b * P[:, l - 2, m])
    return P


@cache
def points(l_max: int, degree: int) -> tuple[Array, Array]:  # (g, m), (g,)
    """Harmonics at the points of the plainest grid that is exact, and its weights.

    Args:
        l_max: Highest degree of the harmonics.
        degree: Of the polynomials that are to be integrated exactly.

    Returns:
        One row per point, and the weights of the points.
    """
    height, weight = np.polynomial.legendre.leggauss(degree // 2 + 1)
    n = degree + 1
    longitude = 2 * np.pi * np.arange(n) / n
    P = meridian(l_max, height)
    Y = np.empty((len(height), n, (l_max + 1) ** 2))
    for l in range(l_max + 1):
        for m in range(l + 1):
            middle = l * l + l
            Y[:, :, middle + m] = P[:, l, m, None] * np.cos(m * longitude)
            if m:
                Y[:, :, middle - m] = P[:, l, m, None] * np.sin(m * longitude)
    weights = np.repeat(weight * 2 * np.pi / n, n)
    return Y.reshape(-1, (l_max + 1) ** 2), weights


@cache
def grid(degrees: tuple[int, ...]) -> Grid:
    """The grid that is exact for a product of functions of these degrees.

    Args:
        degrees: Of each factor.

    Returns:
        The grid.
    """
    total = sum(degrees)
    n_heights = 2 * (total // 4 + 1)
    n_quads = total // 4 + 1
    height, weight = np.polynomial.legendre.leggauss(n_heights)
    height, weight = height[: n_heights // 2], weight[: n_heights // 2] * 2 * np.pi / (4 * n_quads)
    longitude = 2 * np.pi * (np.arange(n_quads) + 0.5) / (4 * n_quads)
    made = tuple(_degree(l_max, height, weight, longitude) for l_max in degrees)
    return Grid(n_heights, n_quads, made)


def _degree(l_max: int, height: Array, weight: Array, longitude: Array) -> Degree:
    P = meridian(l_max, height)
    P = np.concatenate([P, np.zeros_like(P[:, :1])], 1)  # a degree too many is zero
    slots = np.zeros(2 * (l_max + 1), np.int64)
    around = np.zeros((2 * l_max + 2, len(longitude)))
    kinds = _kinds(l_max)
    for kind, (sine, orders) in enumerate(kinds):
        for place, m in enumerate(orders):
            slot = 2 * place + kind % 2 + (2 * len(kinds[0][1]) if sine else 0)
            slots[sine * (l_max + 1) + m] = slot
            around[slot] = (np.sin if sine else np.cos)(m * longitude)
    slots[l_max + 1] = slots[0]  # order zero has no sine, and writes its cosine twice
    components, up, down = [], [], []
    for m in range(l_max + 1):
        pairs = (l_max - m) // 2 + 1
        degrees = np.arange(m, m + 2 * pairs)
        exist = np.minimum(degrees, l_max)
        components += list(exist * exist + exist + m)
        up += [P[rows][:, degrees, m].T for rows in _tiles(len(height), TALL)]
        for parity in (0, 1):
            weighted = P[:, m + parity : l_max + 1 : 2, m] * weight[:, None]  # (height, component)
            down += [weighted[:, rows] for rows in _tiles(weighted.shape[1], WIDE)]
    back = []
    for kind, (sine, orders) in enumerate(kinds):
        first = kind % 2 + (2 * len(kinds[0][1]) if sine else 0)
        mine = around[first::2][: len(orders)]
        back += [mine[rows].T for rows in _tiles(len(orders), HIGH)]
    return Degree(
        l_max,
        slots,
        np.array(components),
        _flat(up),
        _flat(down),
        _flat([around[:, rows] for rows in _tiles(len(longitude), TALL)]),
        _flat(back),
    )


def _kinds(l_max: int) -> list[tuple[int, range]]:
    """Cosines of even and odd orders, then sines: is it a sine, and its orders."""
    n = l_max + 1
    return [(0, range(0, n, 2)), (0, range(1, n, 2)), (1, range(2, n, 2)), (1, range(1, n, 2))]


def _tiles(n: int, height: int) -> list[slice]:
    return [slice(start, min(start + height, n)) for start in range(0, n, height)]


def _flat(tables: list[Array]) -> Array:
    return np.concatenate([np.zeros(0), *(table.ravel() for table in tables)])
