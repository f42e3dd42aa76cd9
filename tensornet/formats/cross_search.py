"""Points at which a cross approximation is looked at: starts, ascents, random samples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tensornet.formats.cross_entries import Integers, Numbers

Reals = NDArray[np.float64]
# Fibres longer than this are searched from coarse to fine.
LONG = 128
# Entries of a fibre that a thin walk looks at.
THIN = 7


def spread(
    shape: tuple[int, ...],
    n: int,
    generator: np.random.Generator,
) -> Integers:  # (2 n, d)
    """Draw n points, spread evenly over each mode, and their mirror images.

    Args:
        shape: Sizes of the modes.
        n: Number of points before mirroring.
        generator: Source of the draw.
    """
    sizes = np.array(shape)
    strata = np.stack([generator.permutation(n) for _ in shape], 1)
    first = ((strata + generator.random(strata.shape)) / n * sizes).astype(np.int64)
    first = np.minimum(first, sizes - 1)
    return np.stack([first, sizes - 1 - first], 1).reshape(2 * n, len(shape))


def near_diagonal(
    shape: tuple[int, ...],
    n: int,
    generator: np.random.Generator,
) -> Integers:  # (n, d)
    """Draw points with nearly the same place in every mode, the two corners among them.

    Where all indices are small, or all large, even draws hardly ever look, and functions of
    sums, distances or extremes of their variables have much to tell.

    Args:
        shape: Sizes of the modes.
        n: Number of points, two or more.
        generator: Source of the draw.
    """
    place = np.linspace(0, 1, n)[:, None]
    jitter = 0.1 * generator.standard_normal((n, len(shape)))
    jitter[[0, -1]] = 0
    sizes = np.array(shape)
    points: Integers = ((place + jitter) * sizes).astype(np.int64).clip(0, sizes - 1)
    return points


def ascend(
    values: Callable[[Integers], Numbers],
    shape: tuple[int, ...],
    points: Integers,  # (w, d)
    sweeps: int,
    generator: np.random.Generator,
    *,
    thin: bool = False,
) -> Integers:  # (w, d)
    """Walk to larger absolute values, one mode after the other, to the largest of each fibre.

    All walks go at once, so that few calls ask for many values. One that meets another after a
    pass over the modes goes no further.

    Args:
        values: Gives values at indices (n, d).
        shape: Sizes of the modes.
        points: Where to begin.
        sweeps: Largest number of passes over the modes.
        generator: Order of the modes, and where to go in a fibre of zeros.
        thin: Whether to look at a few entries of each fibre only: ends, neighbours, some others.
    """
    points = points.copy()
    moving = np.arange(len(points))
    for _ in range(sweeps):
        before = points.copy()
        for k in generator.permutation(len(shape)).tolist():
            n, walkers = shape[k], points[moving]
            if thin and n > 2 * THIN:
                some = generator.integers(0, n, (len(walkers), THIN - 3))
                some[:, 0], some[:, 1] = 0, n - 1
                near = (walkers[:, k, None] + np.arange(-1, 2)).clip(0, n - 1)
                best, size = _best(values, walkers, k, np.concatenate([some, near], 1))
            else:
                best, size = _largest(values, walkers, k, n)
            points[moving, k] = np.where(size > 0, best, generator.integers(0, n, len(best)))
        _, first = np.unique(points, axis=0, return_index=True)
        moved = (points != before).any(1)
        moving = np.array([i for i in moving if moved[i] and i in first], np.int64)
        if len(moving) == 0:
            break
    return points


def _largest(
    values: Callable[[Integers], Numbers], walkers: Integers, k: int, n: int
) -> tuple[Integers, Reals]:
    """Find the largest value on the fibre along mode k through each point."""
    low, high = np.zeros(len(walkers), np.int64), np.full(len(walkers), n)
    while n > LONG:
        steps = np.linspace(0, 1, LONG // 2)
        grid = low[:, None] + (steps * (high - low - 1)[:, None]).astype(np.int64)
        best, _ = _best(values, walkers, k, grid)
        step = (high - low) // (LONG // 2 - 1) + 1
        low, high = np.maximum(low, best - step), np.minimum(high, best + step + 1)
        n = int((high - low).max())
    grid = np.minimum(low[:, None] + np.arange(n), high[:, None] - 1)
    return _best(values, walkers, k, grid)


def _best(
    values: Callable[[Integers], Numbers],
    walkers: Integers,  # (w, d)
    k: int,
    grid: Integers,  # (w, c)
) -> tuple[Integers, Reals]:
    fibres = np.repeat(walkers[:, None], grid.shape[1], 1)
    fibres[:, :, k] = grid
    sizes = np.abs(values(fibres.reshape(-1, walkers.shape[1]))).reshape(grid.shape)
    at, rows = sizes.argmax(1), np.arange(len(grid))
    return grid[rows, at], sizes[rows, at]


def evaluate(cores: list[Numbers], indices: Integers) -> Numbers:
    """Evaluate a train of cores (r, n, r') at indices (n, d)."""
    row: Numbers = cores[0][:, indices[:, 0]].transpose(1, 0, 2)
    for k, core in enumerate(cores[1:], 1):
        row = row @ core[:, indices[:, k]].transpose(1, 0, 2)
    return row[:, 0, 0]


class Sampler:
    """Draws indices half evenly, half with the squared entries of a train as probabilities.

    Even points alone never see a train that is large in a small part of the indices.

    Args:
        cores: The train.
    """

    def __init__(self, cores: list[Numbers]) -> None:
        # Divided by sqrt(n), squared norms are means over the indices; with orthonormal rows from
        # the right, squares of partial products are marginal probabilities.
        self.cores: list[Numbers] = []
        carry = np.ones((1, 1))
        for core in cores[::-1]:
            r, n, _ = core.shape
            matrix = np.tensordot(core, carry, 1).reshape(r, -1) / np.sqrt(n)
            q, triangle = np.linalg.qr(matrix.conj().T)
            self.cores.insert(0, q.conj().T.reshape(-1, n, carry.shape[1]))
            carry = triangle.conj().T
        self.rms = float(np.abs(carry[0, 0]))  # root of the mean square of all entries

    def draw(self, n: int, generator: np.random.Generator) -> tuple[Integers, Reals]:
        """Draw points with weights, by which means over draws are means over all indices.

        Args:
            n: Number of points.
            generator: Source of the draw.

        Returns:
            Indices (n, d) and weights (n,).
        """
        even = n - n // 2
        shape = [core.shape[1] for core in self.cores]
        points = np.stack([generator.integers(0, s, n) for s in shape], 1)
        if self.rms == 0:
            return points, np.ones(n)
        row = np.ones((n - even, 1))
        for k, core in enumerate(self.cores):
            rows = np.einsum("ta,amb->tmb", row, core)
            p = (np.abs(rows) ** 2).sum(2).cumsum(1)
            at = (p <= generator.random((n - even, 1)) * p[:, -1:]).sum(1)
            points[even:, k] = np.minimum(at, shape[k] - 1)
            row = rows[np.arange(n - even), points[even:, k]]
            size = np.sqrt((np.abs(row) ** 2).sum(1, keepdims=True))
            row = row / np.where(size > 0, size, 1)
        unscaled = [core * np.sqrt(s) for core, s in zip(self.cores, shape, strict=True)]
        density = np.abs(evaluate(unscaled, points)) ** 2  # over the mean
        return points, 2 / (1 + density)
