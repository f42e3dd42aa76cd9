r"""The long range of many charges on a box, without a grid and without a sum over terms per charge.

In the common basis p_a of each coordinate, every Gaussian of the kernel is a small matrix. The
charges enter only by their moments, sum over i of q_i p_a(x_i) p_b(y_i) p_c(z_i), which cost the
same for one term and for twenty. Applying the terms to the moments gives the core of the potential
in Chebyshev-Tucker form. On the panels of each coordinate the basis is a polynomial of degree 15,
so that a charge costs 16³ multiplications whatever the ranks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tensornet.formats import ChebyshevTucker, chebyshev
from tensornet.functional.charges_mode import LOCAL, Mode
from tensornet.kernels import cell_moments, cell_slopes


@dataclass(frozen=True, eq=False)
class SmoothKernel:
    """A sum of Gaussians of the distance between points of a box.

    Args:
        weights: Weights of the terms, the sharpest first.
        modes: One basis per coordinate, with the terms in it.
    """

    weights: tuple[float, ...]
    modes: tuple[Mode, Mode, Mode]

    @property
    def error(self) -> float:
        """Largest error between two points of the box, measured coordinate by coordinate."""
        return sum(mode.error for mode in self.modes)

    def core(self, positions: Tensor, charges: Tensor) -> Tensor:  # (n, 3), (n,) -> (a, b, c)
        """Sum up the moments of the charges and apply the kernel to them.

        Args:
            positions: Points of the box.
            charges: What is there.
        """
        return self.apply(self.moments(positions, charges))

    def moments(self, positions: Tensor, charges: Tensor) -> Tensor:  # (n, 3), (n,) -> (a, b, c)
        """Sum the products of the basis functions over the charges, slab by slab.

        Args:
            positions: Points of the box.
            charges: What is there.
        """
        x, y, z = self.modes
        total = positions.new_zeros(x.rank, y.rank, z.rank)
        for p, chosen, cell, rows in self._slabs(positions):
            u, v, w = (r.mT for r in rows)
            sums = cell_moments(
                charges[chosen, None] * u, v.contiguous(), w.contiguous(), cell, y.panels * z.panels
            )
            a = LOCAL
            sums = sums.reshape(y.panels, z.panels, a, a, a).permute(2, 0, 3, 1, 4)
            sums = sums.reshape(a * y.panels * a, z.panels * a) @ z.local.flatten(0, 1)
            sums = y.local.flatten(0, 1).mT @ sums.reshape(a, y.panels * a, z.rank)
            total += (x.local[p].mT @ sums.reshape(a, -1)).reshape(total.shape)
        return total

    def apply(self, moments: Tensor) -> Tensor:  # (a, b, c) -> (a, b, c)
        """Apply all terms, narrowing the bases on the way to the smoother ones, and widen again.

        Args:
            moments: Moments of charges in the bases.
        """
        done: list[Tensor] = []
        for k, weight in enumerate(self.weights):
            steps = [mode.narrowings[k] for mode in self.modes]
            moments = _transformed(moments, [None if s is None else s.mT for s in steps])
            done.append(weight * _transformed(moments, [mode.terms[k] for mode in self.modes]))
        core = done.pop()
        for k in range(len(done), 0, -1):
            core = _transformed(core, [mode.narrowings[k] for mode in self.modes]) + done.pop()
        return core

    def field(
        self,
        core: Tensor,  # (a, b, c)
        positions: Tensor,  # (n, 3)
    ) -> tuple[Tensor, Tensor]:  # (n,), (n, 3)
        """Evaluate potential and gradient at points, slab by slab.

        Args:
            core: Of the potential.
            positions: Points of the box.
        """
        value, slope = positions.new_empty(len(positions)), torch.empty_like(positions)
        derivative = _derivative(positions)
        x, y, z = self.modes
        a = LOCAL
        for p, chosen, cell, rows in self._slabs(positions):
            part = (x.local[p] @ core.reshape(x.rank, -1)).reshape(a, y.rank, z.rank)
            part = (y.local.flatten(0, 1) @ part).reshape(-1, z.rank) @ z.local.flatten(0, 1).mT
            part = part.reshape(a, y.panels, a, z.panels, a).permute(1, 3, 0, 2, 4)
            u, v, w = vectors = [r.mT.contiguous() for r in rows]
            slopes = cell_slopes(part.reshape(-1, a, a, a), u, v, w, cell).split(a, 1)
            value[chosen] = (slopes[0] * vectors[0]).sum(1)
            for k, mode in enumerate(self.modes):
                scale = 2 * mode.panels / (mode.high - mode.low)
                slope[chosen, k] = scale * ((slopes[k] @ derivative) * vectors[k]).sum(1)
        return value, slope

    def function(self, core: Tensor) -> ChebyshevTucker:
        """Give the potential as a function of the whole box.

        Args:
            core: Of the potential.
        """
        box = tuple((mode.low, mode.high) for mode in self.modes)
        return ChebyshevTucker(core, tuple(mode.coefficients for mode in self.modes), box)

    def to(self, dtype: torch.dtype, device: torch.device) -> SmoothKernel:
        """Give the same with other numbers.

        Args:
            dtype: Type of the numbers.
            device: Where they are to be.
        """
        x, y, z = (mode.to(dtype, device) for mode in self.modes)
        return SmoothKernel(self.weights, (x, y, z))

    def _slabs(
        self, positions: Tensor
    ) -> Iterator[tuple[int, Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]]:
        """Points of each panel of the first coordinate: which, their cells, their polynomials."""
        x, y, z = self.modes
        places = [mode.place(p) for mode, p in zip(self.modes, positions.unbind(1), strict=True)]
        cell = places[1][0] * z.panels + places[2][0]
        order = (places[0][0] * (y.panels * z.panels) + cell).argsort(stable=True)
        counts = torch.bincount(places[0][0], minlength=x.panels).tolist()
        for p, chosen in enumerate(order.split(counts)):
            if len(chosen):
                u, v, w = (chebyshev.rows(t[chosen], LOCAL) for _, t in places)
                yield p, chosen, cell[chosen], (u, v, w)


def _transformed(x: Tensor, matrices: list[Tensor | None]) -> Tensor:
    """Multiply matrices into the three modes of a tensor."""
    a, b, c = matrices
    if a is not None:
        x = (a @ x.flatten(1)).reshape(len(a), *x.shape[1:])
    if b is not None:
        x = b @ x
    return x if c is None else x @ c.mT


def _derivative(like: Tensor) -> Tensor:
    """The matrix D with T_k' = sum over j of D[k, j] T_j."""
    eye = torch.eye(LOCAL, dtype=like.dtype, device=like.device)
    return chebyshev.pad(chebyshev.derivative(eye), LOCAL).mT.contiguous()


def narrow_enough(length: float, exponent: float) -> bool:
    """Whether a Gaussian that is summed over images at a distance differs from a constant.

    Args:
        length: The distance of images.
        exponent: Of the Gaussian.
    """
    return (math.pi / length) ** 2 / exponent < 44.0
