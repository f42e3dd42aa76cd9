"""Linear functionals of a Gaussian process, and their covariances from distinct distances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tensornet.pde.gaussian_kernel import SpectralMixture

Term = tuple[tuple[int, ...], Tensor]
"""Orders of a derivative along the axes, and its coefficient at each point, (n,) or ()."""
_DIGITS = 11  # of a distance over the largest one, to tell distances apart


@dataclass(frozen=True, eq=False)
class Functionals:
    """Values of a differential operator at points.

    Args:
        points: Where, (n, dim).
        terms: What is added up.
    """

    points: Tensor
    terms: tuple[Term, ...]

    def __len__(self) -> int:
        return len(self.points)


class Covariance:
    """Covariances of functionals with others, for any kernel.

    Kernels are evaluated at each distinct distance once: on a uniform grid, where the matrix of
    an axis is Toeplitz, at as many as there are points, whose number squared is that of entries.

    Args:
        rows: Functionals.
        columns: Others.
    """

    def __init__(self, rows: Functionals, columns: Functionals) -> None:
        self.rows, self.columns = rows, columns
        dim = rows.points.shape[1]
        self.pairs = [
            (a, b, (-1.0) ** sum(b), left, right)
            for a, left in rows.terms
            for b, right in columns.terms
        ]
        self.axes = []
        for k in range(dim):
            away = rows.points[:, None, k] - columns.points[None, :, k]
            orders = sorted({a[k] + b[k] for a, b, *_ in self.pairs})
            self.axes.append((*_distinct(away), orders))

    def __call__(self, kernels: Sequence[SpectralMixture]) -> Tensor:  # (n, m)
        """Evaluate.

        Args:
            kernels: One per axis.

        Derivatives:
            Any order, in the kernels.
        """
        tables = [
            dict(zip(orders, kernel(distances, orders), strict=True))
            for kernel, (distances, _, orders) in zip(kernels, self.axes, strict=True)
        ]
        total = torch.zeros((), dtype=torch.float64)
        for a, b, sign, left, right in self.pairs:
            factors = [
                table[p + q][places]
                for table, (_, places, _), p, q in zip(tables, self.axes, a, b, strict=True)
            ]
            total = (
                total + sign * left[..., None] * math.prod(factors[1:], start=factors[0]) * right
            )
        return total


def variances(rows: Functionals, kernels: Sequence[SpectralMixture]) -> Tensor:  # (n,)
    """Variances of functionals before anything is observed.

    Args:
        rows: Functionals.
        kernels: One per axis.
    """
    zero = torch.zeros(1, dtype=torch.float64)
    total = torch.zeros(len(rows), dtype=torch.float64)
    for a, left in rows.terms:
        for b, right in rows.terms:
            if all((p + q) % 2 == 0 for p, q in zip(a, b, strict=True)):
                parts = [k(zero, (p + q,))[0] for k, p, q in zip(kernels, a, b, strict=True)]
                total = total + (-1.0) ** sum(b) * left * right * math.prod(
                    parts[1:], start=parts[0]
                )
    return total


def _distinct(away: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct distances, and which of them each entry has."""
    unit = float(away.abs().max()) or 1.0
    keys = torch.round(away / unit * 10.0**_DIGITS)
    distinct, places = torch.unique(keys, return_inverse=True)
    distances = torch.zeros_like(distinct).scatter_(0, places.flatten(), away.flatten())
    return distances, places
