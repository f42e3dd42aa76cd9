"""The layers of `Gaunt` with frozen weights, and their derivatives, written out.

What a layer computes stands in `LayerReverse.forward`, and in `LayerReverse.back` in reverse.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tensornet.kernels import (
    edge_convolution,
    edge_slopes,
    polynomial_slope,
    symmetric_polynomial,
)
from tensornet.layers import DensityPowers, EquivariantLinear, ScalarReadout, SymmetricContraction
from tensornet.models.gaunt import ManyBody
from tensornet.so3 import dim


class Kept(NamedTuple):
    """What the way back needs of a layer."""

    sent: Tensor  # (n, i, c)
    w: Tensor  # (e, p, c)
    density: Tensor  # (n, j, c')
    x: Tensor  # (n, k, c) result


class ReadoutReverse:
    """A `ScalarReadout` and its derivative."""

    def __init__(self, readout: ScalarReadout) -> None:
        self.weight, self.bias = readout.hidden.weight.detach(), readout.hidden.bias.detach()
        self.out = readout.out.weight.detach()[0]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # (n, c) -> (n, c), (n,)
        """Give last layer and output."""
        last = nn.functional.silu(torch.addmm(self.bias, x, self.weight.T))
        return last, last @ self.out

    def back(self, x: Tensor) -> Tensor:  # (n, c) -> (n, c)
        """Differentiate the output."""
        a = torch.addmm(self.bias, x, self.weight.T)
        s = torch.sigmoid(a)
        return (self.out * s * (1 + a * (1 - s))) @ self.weight


class LayerReverse:
    """A `ManyBody` and its derivative.

    Args:
        layer: The layer.
        x: Features of each element, where they depend on it alone: (elements, 1, c).
    """

    def __init__(self, layer: ManyBody, x: Tensor | None) -> None:
        self.l_in, self.l_out = layer.l_in, layer.l_out
        self.up = _matrices(layer.up)
        self.density = layer.factor.detach() * _matrices(layer.density)
        self.down = _matrices(layer.down)
        self.of_elements = layer.keep.detach()
        c = layer.convolution
        self.coupling = c.at_i, c.at_j, c.at_k, c.at_p, c.values
        self.n_density, self.n_out = dim(c.l_max_out), dim(self.l_out)
        self.common = dim(min(self.l_in, self.l_out))
        terms = layer.many_body
        if isinstance(terms, DensityPowers):
            coefficients = terms.weight.index_select(1, terms.of_weight) * terms.values
        else:
            assert isinstance(terms, SymmetricContraction)
            coefficients = torch.matmul(terms.coupling, terms.weight)
        self.coefficients = coefficients.detach().contiguous()
        self.terms = terms.monomials, terms.at_k
        self.first: tuple[Tensor, Tensor] | None = None
        if x is not None:
            self.first = _mix(x, self.up), self.keep(x, torch.arange(len(x)))

    def keep(self, x: Tensor, species: Tensor) -> Tensor:  # (n, i, c) -> (n, k, c)
        """What a layer leaves of the features before it."""
        out = x.new_zeros(len(x), self.n_out, x.shape[2])
        out[:, : self.common] = self._by_element(x[:, : self.common], species, self.of_elements)
        return out

    def _by_element(self, x: Tensor, species: Tensor, matrices: Tensor) -> Tensor:
        """Multiply the features of each atom by the matrix of its element."""
        present = torch.unique(species).tolist()
        if len(present) == 1:
            return x @ matrices[present[0]]
        out = torch.empty_like(x)
        for s in present:
            rows = torch.nonzero(species == s)[:, 0]
            out[rows] = x[rows] @ matrices[s]
        return out

    def forward(
        self, x: Tensor | None, species: Tensor, y: Tensor, w: Tensor, sender: Tensor,
        receiver: Tensor,
    ) -> Kept:  # fmt: skip
        """Give the features of the next layer; without features, they are those of elements."""
        if x is None:
            assert self.first is not None
            sent, left = (rows[species] for rows in self.first)
        else:
            sent, left = _mix(x, self.up), self.keep(x, species)
        n = len(species)
        sums = edge_convolution(sent, y, w, sender, receiver, *self.coupling, n, self.n_density)
        density = _mix(sums, self.density)
        made = symmetric_polynomial(density, self.coefficients, species, *self.terms, self.n_out)
        return Kept(sent, w, density, left + _mix(made, self.down))

    def back(
        self, g: Tensor, kept: Kept, species: Tensor, y: Tensor, sender: Tensor, receiver: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:  # (n, i, c), (e, j), (e, p, c)
        """Derivatives in the features, if there were any, in the harmonics and the weights."""
        of_terms = _mix(g, self.down.mT)
        of_density = polynomial_slope(
            kept.density, self.coefficients, of_terms, species, *self.terms
        )
        sums = _mix(of_density, self.density.mT)
        gx, gy, gw = edge_slopes(kept.sent, y, kept.w, sums, sender, receiver, *self.coupling)
        if self.first is None:
            gx = _mix(gx, self.up.mT)
            matrices = self.of_elements.mT
            gx[:, : self.common] += self._by_element(g[:, : self.common], species, matrices)
        return gx, gy, gw


def _matrices(linear: EquivariantLinear) -> Tensor:  # (m, c, c')
    """One matrix per component."""
    return linear.weight.detach().index_select(0, linear.degrees)


def _mix(
    x: Tensor,  # (n, m, c)
    matrices: Tensor,  # (m, c, c')
) -> Tensor:  # (n, m, c')
    out = x.new_empty(len(x), len(matrices), matrices.shape[2])
    torch.bmm(x.transpose(0, 1), matrices, out=out.transpose(0, 1))
    return out
