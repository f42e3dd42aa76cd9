r"""Potential, energy and forces of many point charges, in range-separated Chebyshev-Tucker form.

The kernel, 1 / r for charges, is parted by `range_separation`. The long range of all charges is one
function of the box in Chebyshev-Tucker form, whose ranks do not grow with the number of charges;
the short range is summed over near charges. Units are those of the kernel: charges² / length.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tensornet import _check
from tensornet.formats import ChebyshevTucker
from tensornet.formats.chebyshev_box import Box, checked_box, scaled_points
from tensornet.functional.charges_cost import best_cutoff
from tensornet.functional.charges_mode import Mode, common_basis
from tensornet.functional.charges_near import polynomial, short_range, with_images
from tensornet.functional.charges_smooth import SmoothKernel, narrow_enough
from tensornet.functional.splitting import RangeSeparation, range_separation

_GOAL = 5.0  # error of the long range between two charges, over tolerance / longest side
_FAR = 30.0  # reach of the kernel in a periodic box, over its longest side


@dataclass(frozen=True, eq=False)
class ChargeField:
    """What charges do to each other.

    Args:
        energy: () half of the sum of charges times potentials.
        potentials: (n,) at each charge, of all others (and of its own images).
        forces: (n, 3) minus the gradient of the energy.
    """

    energy: Tensor
    potentials: Tensor
    forces: Tensor


class ChargeSum:
    """Sum of a radial kernel over charges of a box: made once, evaluated for many sets of charges.

    Args:
        box: Lower and upper end of each coordinate.
        periodic: Whether the box is a cell of a crystal. Then charges must add up to zero, only
            ``"coulomb"`` is taken, and the average of the potential is zero, as in Ewald's sum
            with conducting surroundings.
        kind: ``"coulomb"``, ``"yukawa"`` or ``"dispersion"``, as in `range_separation`.
        screening: Inverse length of ``"yukawa"``.
        tolerance: Aim for the error of forces, relative to their root mean square, for charges that
            are spread over the box. The error of the kernel between two charges is certified
            (beyond the cutoff) and measured (its Tucker form), see `error`.
        cutoff: Where the short range ends. By default, or from `sigma`, that which makes
            evaluations fast for `n_charges`.
        sigma: Width of the sharpest Gaussian of the long range, instead of the cutoff.
        n_charges: How many charges are expected.
        dtype: Type of the numbers.
        device: Where they are to be.

    Raises:
        ValueError: If the box is none, a length or number is out of range, or periodic with a
            kernel other than ``"coulomb"``.

    References:
        Benner, Khoromskij, Khoromskaia & Sun, arXiv 2503.01696.

    Examples:
        >>> salt = ChargeSum([(0, 1)] * 3, periodic=True, cutoff=0.4, tolerance=1e-8)
        >>> grid = torch.cartesian_prod(*[torch.tensor([0.0, 0.5]).double()] * 3)
        >>> charges = 1 - 2 * (2 * grid.sum(1) % 2)
        >>> round(float(salt.evaluate(grid, charges).potentials[0]) / 2, 6)  # Madelung's constant
        -1.747565
    """

    def __init__(
        self,
        box: Sequence[Sequence[float]] | Tensor,
        *,
        periodic: bool = False,
        kind: str = "coulomb",
        screening: float = 0.0,
        tolerance: float = 1e-6,
        cutoff: float | None = None,
        sigma: float | None = None,
        n_charges: int = 1000,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        where = "ChargeSum"
        self.box: Box = checked_box(where, box)
        if len(self.box) != 3:
            raise ValueError(f"`{where}(box=...)` must have three sides. Got {len(self.box)}.")
        if periodic and (kind != "coulomb" or screening):
            raise ValueError(
                f"`{where}(kind=...)` must be coulomb in a periodic box. Got {kind!r}."
            )
        if not (isinstance(tolerance, int | float) and 1e-12 <= tolerance <= 0.1):
            raise ValueError(
                f"`{where}(tolerance=...)` must be from 1e-12 to 0.1. Got {tolerance!r}."
            )
        _check.at_least(where, 0, n_charges=n_charges)
        if not dtype.is_floating_point:
            raise TypeError(f"`{where}(dtype=...)` must be a floating type. Got {dtype}.")
        self.periodic, self.tolerance = bool(periodic), float(tolerance)
        self.dtype, self.device = dtype, torch.device(device)
        lengths = [high - low for low, high in self.box]
        reach = _FAR * max(lengths) if periodic else math.hypot(*lengths)
        if cutoff is None and sigma is None:
            cutoff = best_cutoff(lengths, tolerance, n_charges, periodic)
        self.parts = range_separation(
            kind,
            reach=reach,
            cutoff=cutoff,
            sigma=sigma,
            tolerance=0.6 * tolerance,
            screening=screening,
        )
        self.kernel = _smooth_kernel(self.parts, self.box, self.periodic, tolerance).to(
            dtype, self.device
        )
        self._near = polynomial(self.parts, 0.01 * tolerance).to(dtype)

    def __repr__(self) -> str:
        """Say what it is."""
        return (
            f"ChargeSum(box={self.box}, periodic={self.periodic}, kind={self.parts.kind!r}, "
            f"cutoff={self.parts.cutoff:.4g}, ranks={self.ranks})"
        )

    @property
    def ranks(self) -> tuple[int, int, int]:
        """Sizes of the bases of the long range, whatever the charges."""
        x, y, z = (mode.rank for mode in self.kernel.modes)
        return x, y, z

    @property
    def error(self) -> float:
        """Largest error of the kernel between two charges of the box: certified plus measured.

        The certified part is that at the cutoff, `parts.error` / cutoff; it falls off as 1 / r.
        """
        power = 6 if self.parts.kind == "dispersion" else 1
        return self.parts.error / self.parts.cutoff**power + self.kernel.error

    def evaluate(self, positions: Tensor, charges: Tensor) -> ChargeField:  # (n, 3), (n,)
        """Compute energy, potentials and forces of charges, without a record for autograd.

        Args:
            positions: In the box; with a period, anywhere.
            charges: The charges.

        Returns:
            Energy, potentials and forces.

        Raises:
            TypeError: If the dtypes are not that of this sum.
            ValueError: If shapes do not fit, numbers are not finite, positions are outside of the
                box, two charges coincide, or the charges of a periodic box do not add up to zero.
        """
        with torch.no_grad():
            x, q = self._checked("ChargeSum.evaluate", positions, charges)
            if not len(q):
                return ChargeField(q.sum(), q.clone(), x.clone())
            value, slope = self.kernel.field(self.kernel.core(x, q), x)
            near, push, touching = self._short(x, torch.arange(len(x), device=x.device), x, q)
            if touching:
                raise ValueError(
                    "`ChargeSum.evaluate(positions=...)` must not hold two charges at the same "
                    f"place. Got {touching // 2} such pair(s)."
                )
            own = float(self.parts.long.weights.sum())
            potentials = value + near - own * q
            return ChargeField(0.5 * (q @ potentials), potentials, -q[:, None] * (slope + push))

    def energy(self, positions: Tensor, charges: Tensor) -> Tensor:  # (n, 3), (n,) -> ()
        """Compute the energy, differentiable once: forces and potentials come with it.

        Args:
            positions: In the box; with a period, anywhere.
            charges: The charges.

        Returns:
            The energy, without axes.

        Raises:
            TypeError: If the dtypes are not that of this sum.
            ValueError: As `evaluate`.

        Derivatives:
            First order, in positions and charges.
        """
        found: Tensor = _Energy.apply(positions, charges, self)  # type: ignore[no-untyped-call]
        return found

    def potential(
        self,
        points: Tensor,  # (n, 3)
        positions: Tensor,  # (m, 3)
        charges: Tensor,  # (m,)
    ) -> tuple[Tensor, Tensor]:  # (n,), (n, 3)
        """Compute the potential of charges, and its gradient, at other points.

        Args:
            points: In the box; with a period, anywhere.
            positions: Of the charges.
            charges: The charges.

        Returns:
            The potential (n,) and its gradient (n, 3), detached.

        Raises:
            TypeError: If the dtypes are not that of this sum.
            ValueError: As `evaluate`, or if a point is at the place of a charge.
        """
        with torch.no_grad():
            x, q = self._checked("ChargeSum.potential", positions, charges)
            core = self.kernel.core(x, q)
            return self._at("ChargeSum.potential", points, x, q, core)

    def long_range(self, positions: Tensor, charges: Tensor) -> ChebyshevTucker:
        """Give the long range of charges as a function of the box.

        Args:
            positions: In the box; with a period, anywhere.
            charges: The charges.

        Returns:
            A function with the ranks of the bases. ``round(tolerance=...)`` lowers them to those
            that these charges need.

        Raises:
            TypeError: If the dtypes are not that of this sum.
            ValueError: As `evaluate`.
        """
        with torch.no_grad():
            x, q = self._checked("ChargeSum.long_range", positions, charges)
            return self.kernel.function(self.kernel.core(x, q))

    def _at(
        self, where: str, points: Tensor, x: Tensor, q: Tensor, core: Tensor
    ) -> tuple[Tensor, Tensor]:
        at = self._inside(where, "points", points)
        value, slope = self.kernel.field(core, at)
        nobody = torch.full((len(at),), -1, dtype=torch.int64, device=at.device)
        near, push, touching = self._short(at, nobody, x, q)
        if touching:
            raise ValueError(
                f"`{where}(points=...)` must not be at the places of charges. Got {touching} there."
            )
        return value + near, slope + push

    def _short(
        self, targets: Tensor, same: Tensor, x: Tensor, q: Tensor
    ) -> tuple[Tensor, Tensor, int]:
        if self.periodic:
            x, q = with_images(x, q, self.box, self.parts.cutoff)
        return short_range(self.parts, self._near, targets, same, x, q)

    def _checked(self, where: str, positions: Tensor, charges: Tensor) -> tuple[Tensor, Tensor]:
        _check.one_kind(where, positions=positions, charges=charges)
        _check.shapes(where, positions=(positions, "n 3"), charges=(charges, "n"))
        x, q = self._inside(where, "positions", positions), charges.detach()
        if not bool(q.isfinite().all()):
            raise ValueError(f"`{where}(charges=...)` must be finite. Got NaN or infinite ones.")
        total, size = float(q.double().sum()), float(q.double().abs().sum())
        if self.periodic and abs(total) > 1e-3 * torch.finfo(q.dtype).eps ** 0.5 * size:
            raise ValueError(
                f"`{where}(charges=...)` must add up to zero in a periodic box. Got {total:.3g}. "
                "(The energy of a charged crystal is infinite.)"
            )
        return x, q

    def _inside(self, where: str, name: str, points: Tensor) -> Tensor:
        """Points of the box, those of a periodic box folded back."""
        _check.shapes(where, **{name: (points, "n 3")})
        x = points.detach()
        if x.dtype != self.dtype or x.device.type != self.device.type:
            raise TypeError(
                f"`{where}({name}=...)` must be {self.dtype} on {self.device}, as the sum is. Got "
                f"{x.dtype} on {x.device}."
            )
        if not bool(x.isfinite().all()):
            raise ValueError(f"`{where}({name}=...)` must be finite. Got NaN or infinite ones.")
        if self.periodic:
            ends = torch.tensor(self.box, dtype=x.dtype, device=x.device)
            low, length = ends[:, 0], ends[:, 1] - ends[:, 0]
            return low + torch.remainder(x - low, length)
        scaled_points(x, self.box, f"{where}({name}=...)")
        return x


class _Energy(torch.autograd.Function):
    """The energy; its derivatives are computed with it."""

    @staticmethod
    def forward(ctx: Any, positions: Tensor, charges: Tensor, plan: ChargeSum) -> Tensor:
        field = plan.evaluate(positions, charges)
        ctx.save_for_backward(field.forces, field.potentials)
        return field.energy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, None]:
        forces, potentials = ctx.saved_tensors
        return -g * forces, g * potentials, None


def _smooth_kernel(
    parts: RangeSeparation, box: Box, periodic: bool, tolerance: float
) -> SmoothKernel:
    """Bases of all coordinates; equal sides share theirs."""
    weights, exponents = parts.long.weights, parts.long.exponents
    lengths = [high - low for low, high in box]
    if periodic:  # terms that are constant add nothing where charges add up to zero
        seen = [any(narrow_enough(length, e) for length in lengths) for e in exponents.tolist()]
        weights, exponents = weights[torch.tensor(seen)], exponents[torch.tensor(seen)]
    power = 6 if parts.kind == "dispersion" else 1
    goal = _GOAL * tolerance / max(lengths) ** power / 3
    known: dict[float, Mode] = {}
    modes = []
    for (low, high), length in zip(box, lengths, strict=True):
        if length not in known:
            period = length if periodic else None
            known[length] = common_basis(0.0, length, weights, exponents, goal, period=period)
            if known[length].error > 10 * goal:
                raise ValueError(
                    "`ChargeSum(tolerance=...)` must be above what rounding leaves. Got "
                    f"{tolerance}. (Take a larger tolerance or cutoff.)"
                )
        modes.append(known[length].moved(low, high))
    return SmoothKernel(tuple(weights.flip(0).tolist()), (modes[0], modes[1], modes[2]))
