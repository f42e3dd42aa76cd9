"""Pairs of components that meet the same numbers, up to signs."""

from collections import Counter
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Ends = tuple[int, int, int, int]


def find_units(
    pair: Array, row: Array, values: Array, n_j: int
) -> tuple[Array, Array, Array, Array, Array]:
    """Join pairs that meet the same rows with the same numbers up to signs.

    Args:
        pair: Of each term, ascending: component i times `n_j` plus component j.
        row: Of each term, ascending for each pair.
        values: Of each term.
        n_j: Number of components j.

    Returns:
        Units: i and the other i, j and the other j. Their sizes: 1; 2, with the sum and difference
        of ``x[i] y[j]`` and ``x[other i] y[other j]``; or 4, with those of ``x[i] y[other j]`` and
        ``x[other i] y[j]`` too. Then the terms that are left, their products, as 4 times the unit
        and a number below its size, and their values.
    """
    names, first = np.unique(pair, return_index=True)
    parts = list(zip(first.tolist(), [*first[1:].tolist(), len(pair)], strict=True))
    rounded = _rounded(values)
    alike: dict[bytes, list[int]] = {}
    for q, (a, b) in enumerate(parts):
        key = row[a:b].tobytes() + rounded[a:b].tobytes()
        alike.setdefault(key, []).append(q)
    ends = [divmod(int(name), n_j) for name in names]
    twos = _twos(list(alike.values()), ends)
    singles = [q for members in alike.values() for q in members]
    units: list[Ends] = [(ends[q][0], ends[q][0], ends[q][1], ends[q][1]) for q in singles]
    made = [(q, q, 4 * u) for u, q in enumerate(singles)]
    sizes = [1] * len(units)
    for group in _fours(twos, ends):
        for n, (a, b) in enumerate(group):
            made.append((a, b, 4 * len(units) + 2 * n))
        a, b = group[0]
        units.append((ends[a][0], ends[b][0], ends[a][1], ends[b][1]))
        sizes.append(2 * len(group))
    kept, product, numbers = [], [], []
    for a, b, code in made:
        v, w = values[slice(*parts[a])], values[slice(*parts[b])]
        kept.append(np.arange(*parts[a]))
        product.append(code + (v * w < 0))
        numbers.append(v if a == b else np.copysign((np.abs(v) + np.abs(w)) / 2, v))
    return (
        np.array(units, np.int64), np.array(sizes, np.int64), np.concatenate(kept),
        np.concatenate(product).astype(np.int64), np.concatenate(numbers).astype(values.dtype),
    )  # fmt: skip


def _twos(alike: list[list[int]], ends: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join alike pairs two and two, as often as can be those whose ends are met elsewhere too."""
    met: Counter[tuple[int, int, int]] = Counter()
    for members in alike:
        if len(members) == 2:
            for side in (0, 1):
                a, b = (ends[q][side] for q in members)
                met.update([(side, a, b), (side, b, a)])
    twos = []
    for members in alike:
        left = list(members)
        while len(left) > 1:
            a = left.pop(0)
            b = max(left, key=lambda q: min(met[s, ends[a][s], ends[q][s]] for s in (0, 1)))
            left.remove(b)
            twos.append((a, b))
        members[:] = left
    return twos


def _fours(twos: list[tuple[int, int]], ends: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Join twos that hold all pairs of two i and two j; each first has the i of the first."""
    groups: dict[Ends, list[tuple[int, int]]] = {}
    alone = []
    for a, b in twos:
        (i, j), (i2, j2) = ends[a], ends[b]
        if i == i2 or j == j2:
            alone.append([(a, b)])
            continue
        key = min(i, i2), max(i, i2), min(j, j2), max(j, j2)
        groups.setdefault(key, []).append((a, b) if i < i2 else (b, a))
    return [*alone, *groups.values()]


def _rounded(values: Array) -> Array:
    """Sizes as whole numbers, so that numbers that differ by rounding are the same."""
    mantissa, exponent = np.frexp(np.abs(values))
    bits = 20 if values.dtype == np.float32 else 44
    whole: Array = np.round(mantissa * 2.0**bits).astype(np.int64)
    whole += exponent.astype(np.int64) << 48
    return whole
