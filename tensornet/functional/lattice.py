r"""Charges of a finite lattice: many replicas of a cell, in the form of one.

A Gaussian of the kernel is a product over coordinates, and so is its sum over the replicas of a
charge: the sum over all of them is done in each coordinate by itself. The canonical rank is that of
one cell, whatever the number of replicas.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tensornet import _check
from tensornet.formats import ChebyshevTucker, from_separable
from tensornet.formats.chebyshev_box import scaled_points
from tensornet.functional.charges_near import polynomial, short_range
from tensornet.functional.splitting import range_separation


class LatticeSum:
    """Electrostatics of the replicas of a cell, in free space.

    The box is that of all cells, from the origin on. For an endless lattice, see ``periodic`` of
    `ChargeSum`. Units are those of the kernel 1 / r: charges² / length.

    Args:
        positions: (n, 3) of the charges of one cell, from zero to its lengths, float64.
        charges: (n,) the charges of one cell.
        lengths: Of the cell.
        repeats: How many cells there are in each direction.
        tolerance: Largest error of the kernel beyond the cutoff, relative to 1 / r, and of the
            long range, relative to its norm.
        cutoff: Where the short range ends; by default twice the longest side of the cell.
        sigma: Width of the sharpest Gaussian of the long range, instead of the cutoff.

    Attributes:
        positions: (N, 3) of all charges.
        charges: (N,) all charges.
        potentials: (N,) at each charge, of all others.
        energy: () half of the sum of charges times potentials.
        long_range: The long range as a function of the box.
        parts: The kernel.

    Raises:
        TypeError: If dtypes are not float64.
        ValueError: If shapes do not fit, numbers are not finite or out of range, or charges are
            outside of the cell or at the same place.

    Derivatives:
        None: results are detached. `gradient` gives that of the potential.

    References:
        Khoromskaia & Khoromskij, Comput. Phys. Commun. 185, 3162 (2014), lattice sums of rank one.

    Examples:
        >>> one = torch.full((1, 3), 0.5).double()
        >>> row = LatticeSum(one, torch.ones(1).double(), (1, 1, 1), (3, 1, 1), tolerance=1e-7)
        >>> round(float(row.energy), 5)  # 1 + 1 + 1 / 2
        2.5
    """

    def __init__(
        self,
        positions: Tensor,
        charges: Tensor,
        lengths: Sequence[float],
        repeats: Sequence[int],
        *,
        tolerance: float = 1e-7,
        cutoff: float | None = None,
        sigma: float | None = None,
    ) -> None:
        where = "LatticeSum"
        a, n = _checked(where, positions, charges, lengths, repeats)
        positions, charges = positions.detach(), charges.detach()
        box = [(0.0, x * k) for x, k in zip(a, n, strict=True)]
        reach = math.hypot(*(x for _, x in box))
        if cutoff is None and sigma is None:
            cutoff = min(2 * max(a), 0.6 * reach)
        self.parts = range_separation(reach=reach, cutoff=cutoff, sigma=sigma, tolerance=tolerance)
        weights, exponents = self.parts.long.weights, self.parts.long.exponents

        def side(k: int) -> Callable[[Tensor], Tensor]:
            centers = positions[:, k] + a[k] * torch.arange(n[k], dtype=torch.float64)[:, None]

            def values(x: Tensor) -> Tensor:  # (m,) -> (m, terms n)
                square = (x[:, None, None] - centers).square()  # (m, replicas, n)
                sums = [torch.exp(-e * square).sum(1) for e in exponents.tolist()]
                return torch.stack(sums, 1).flatten(1)

            return values

        terms = (weights[:, None] * charges).flatten()
        found = from_separable(
            [side(k) for k in range(3)],
            torch.tensor(box, dtype=torch.float64),
            weights=terms,
            tolerance=tolerance,
            max_degree=4096,
        )
        self.long_range: ChebyshevTucker = found.value
        shifts = torch.cartesian_prod(
            *(x * torch.arange(k).double() for x, k in zip(a, n, strict=True))
        )
        self.positions = (shifts.reshape(-1, 1, 3) + positions).reshape(-1, 3)
        self.charges = charges.repeat(math.prod(n))
        self._near = polynomial(self.parts, 0.01 * tolerance)
        everyone = torch.arange(len(self.positions))
        inside = self.positions.minimum(torch.tensor([x for _, x in box], dtype=torch.float64))
        near, _, touching = self._short(inside, everyone)
        if touching:
            raise ValueError(
                f"`{where}(positions=...)` must not hold two charges at the same place, also not "
                "at opposite faces of the cell."
            )
        own = float(weights.sum()) * self.charges
        self.potentials = self.long_range.value(inside) + near - own
        self.energy = 0.5 * (self.charges @ self.potentials)

    def potential(self, points: Tensor) -> Tensor:  # (n, 3) -> (n,)
        """Compute the potential of all charges.

        Args:
            points: In the box.

        Returns:
            The potential, (n,).

        Raises:
            TypeError: If their dtype is not float64.
            ValueError: If points are outside of the box, or at the place of a charge.
        """
        near, _ = self._at("potential", points)
        return self.long_range.value(points.detach()) + near

    def gradient(self, points: Tensor) -> Tensor:  # (n, 3) -> (n, 3)
        """Compute the gradient of the potential, minus the electric field.

        Args:
            points: In the box.

        Returns:
            The gradient, (n, 3).

        Raises:
            TypeError: If their dtype is not float64.
            ValueError: If points are outside of the box, or at the place of a charge.
        """
        _, push = self._at("gradient", points)
        return self.long_range.gradient(points.detach()) + push

    def _at(self, method: str, points: Tensor) -> tuple[Tensor, Tensor]:
        """What the short range adds to the potential at points, and to its gradient."""
        where = f"LatticeSum.{method}"
        _check.one_kind(where, positions=self.positions, points=points)
        _check.shapes(where, points=(points, "n 3"))
        scaled_points(points, self.long_range.box, f"{where}(points=...)")
        nobody = torch.full((len(points),), -1, dtype=torch.int64)
        near, push, touching = self._short(points.detach(), nobody)
        if touching:
            raise ValueError(
                f"`{where}(points=...)` must not be at the places of charges. Got {touching} there."
            )
        return near, push

    def _short(self, targets: Tensor, same: Tensor) -> tuple[Tensor, Tensor, int]:
        return short_range(self.parts, self._near, targets, same, self.positions, self.charges)


def _checked(
    where: str, positions: Tensor, charges: Tensor, lengths: Sequence[float], repeats: Sequence[int]
) -> tuple[list[float], list[int]]:
    _check.one_kind(where, positions=positions, charges=charges)
    _check.shapes(where, positions=(positions, "n 3"), charges=(charges, "n"))
    for name, x in (("positions", positions), ("charges", charges)):
        _check.dense(where, name, x)
        if x.dtype != torch.float64:
            raise TypeError(f"`{where}({name}=...)` must be torch.float64. Got {x.dtype}.")
    a, n = [float(x) for x in lengths], list(repeats)
    if len(a) != 3 or not all(0 < x < math.inf for x in a):
        raise ValueError(f"`{where}(lengths=...)` must be three positive lengths. Got {lengths}.")
    if len(n) != 3:
        raise ValueError(f"`{where}(repeats=...)` must be three numbers. Got {repeats}.")
    for k in n:
        _check.at_least(where, 1, repeats=k)
    outside = ((positions < 0) | (positions > torch.tensor(a, dtype=torch.float64))).any(1)
    if bool(outside.any()):
        raise ValueError(
            f"`{where}(positions=...)` must be from zero to the lengths of the cell, {a}. Got "
            f"{int(outside.sum())} of {len(positions)} outside."
        )
    return a, n
