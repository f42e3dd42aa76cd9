"""Electrostatics of a fixed set of charges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from tensornet import _check
from tensornet.formats import ChebyshevTucker
from tensornet.functional.charges import ChargeSum


class RangeSeparated:
    """Electrostatics of a fixed set of charges: a function of the box, and what they do.

    Args:
        positions: (n, 3) of the charges.
        charges: (n,) the charges.
        box: Lower and upper ends, by default the smallest box that holds the charges. Needed with
            a period, and where the potential is wanted outside of that.
        options: As of `ChargeSum`: ``periodic``, ``tolerance``, ``cutoff``, ``sigma``, ``kind``,
            ``screening``.

    Raises:
        TypeError: If the dtypes differ or are no floating type.
        ValueError: As `ChargeSum` and its `evaluate`.

    Examples:
        >>> import torch
        >>> x = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 2.0]]).double()
        >>> pair = RangeSeparated(x, torch.tensor([1.0, -1.0]).double(), tolerance=1e-8)
        >>> round(float(pair.energy), 6), round(float(pair.forces[0, 2]), 6)
        (-0.5, 0.25)
    """

    def __init__(
        self,
        positions: Tensor,  # (n, 3)
        charges: Tensor,  # (n,)
        *,
        box: Sequence[Sequence[float]] | Tensor | None = None,
        **options: Any,
    ) -> None:
        where = "RangeSeparated"
        _check.one_kind(where, positions=positions, charges=charges)
        _check.shapes(where, positions=(positions, "n 3"), charges=(charges, "n"))
        if box is None:
            if options.get("periodic"):
                raise ValueError(
                    f"`{where}(box=...)` must be the cell of a periodic sum. Got None."
                )
            box = _bounding_box(where, positions)
        self.sum = ChargeSum(
            box, n_charges=len(charges), dtype=positions.dtype, device=positions.device, **options
        )
        self.positions, self.charges = self.sum._checked(where, positions, charges)
        field = self.sum.evaluate(positions, charges)
        self.energy, self.potentials, self.forces = field.energy, field.potentials, field.forces
        self._core = self.sum.kernel.core(self.positions, self.charges)

    @property
    def long_range(self) -> ChebyshevTucker:
        """The long range as a function of the box."""
        return self.sum.kernel.function(self._core)

    def potential(self, points: Tensor) -> Tensor:  # (n, 3) -> (n,)
        """Compute the potential of all charges.

        Args:
            points: In the box; with a period, anywhere.

        Returns:
            The potential, (n,), detached.

        Raises:
            TypeError: If their dtype is not that of the charges.
            ValueError: If points are outside of the box, or at the place of a charge.
        """
        where = "RangeSeparated.potential"
        return self.sum._at(where, points, self.positions, self.charges, self._core)[0]

    def gradient(self, points: Tensor) -> Tensor:  # (n, 3) -> (n, 3)
        """Compute the gradient of the potential, minus the electric field.

        Args:
            points: In the box; with a period, anywhere.

        Returns:
            The gradient, (n, 3), detached.

        Raises:
            TypeError: If their dtype is not that of the charges.
            ValueError: If points are outside of the box, or at the place of a charge.
        """
        where = "RangeSeparated.gradient"
        return self.sum._at(where, points, self.positions, self.charges, self._core)[1]


def _bounding_box(where: str, positions: Tensor) -> list[tuple[float, float]]:
    if not bool(positions.isfinite().all()):
        raise ValueError(f"`{where}(positions=...)` must be finite. Got NaN or infinite ones.")
    if not len(positions):
        return [(0.0, 1.0)] * 3
    low, high = positions.detach().amin(0).tolist(), positions.detach().amax(0).tolist()
    longest = max(b - a for a, b in zip(low, high, strict=True))
    least = 0.01 * longest if longest > 0 else 1.0
    sides = []
    for a, b in zip(low, high, strict=True):
        more = max(0.0, 0.5 * (least - (b - a)))
        sides.append((a - more, b + more))
    return sides
