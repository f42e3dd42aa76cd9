"""The layers of `Gaunt` with frozen weights, and their derivatives, written out.

What a layer computes stands in `LayerReverse.forward`, and in `LayerReverse.back` in reverse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tensornet.kernels import (
    Kernel,
    edge_convolution,
    edge_slopes,
    polynomial_slope,
    symmetric_polynomial,
)
from tensornet.layers import DensityPowers, EquivariantLinear, ScalarReadout, SymmetricContraction
from tensornet.models.gaunt import ManyBody
from tensornet.so3 import dim

_KERNELS: tuple[Kernel[..., Any], ...] = (
    edge_convolution, symmetric_polynomial, edge_slopes, polynomial_slope
)  # fmt: skip
_FEW = 500_000  # numbers of matrices that are copied for each atom
_SMALL = 100_000  # numbers that are copied faster than multiplied one matrix after the other


class Composition:
    """Which atoms are of which element.

    Args:
        species: Element of each atom, (n,).
    """

    def __init__(self, species: Tensor) -> None:
        self.species = species
        present = torch.unique(species).tolist()
        self.rows = [(s, torch.nonzero(species == s)[:, 0]) for s in present]

    def multiply(
        self,
        x: Tensor,  # (n, m, c)
        matrices: Tensor,  # (elements, c, c')
    ) -> Tensor:  # (n, m, c')
        """Multiply the features of each atom by the matrix of its element."""
        if len(self.rows) == 1:
            return x @ matrices[self.rows[0][0]]
        if len(x) * matrices[0].numel() <= _FEW:
            return torch.bmm(x, matrices.index_select(0, self.species))
        out = x.new_empty(*x.shape[:2], matrices.shape[2])
        for s, rows in self.rows:
            out.index_copy_(0, rows, x.index_select(0, rows) @ matrices[s])
        return out


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
        backwards = self.up, self.density, self.down, self.of_elements
        self.up_back, self.density_back, self.down_back, self.elements_back = (
            matrices.mT.contiguous() for matrices in backwards
        )
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
        dtype = self.down.dtype
        self._direct: tuple[Callable[..., Any], ...] = tuple(
            kernel.implementation("cpu", dtype) for kernel in _KERNELS
        )
        self.first: tuple[Tensor, Tensor] | None = None
        if x is not None:
            self.first = _mix(x, self.up), self.keep(x, Composition(torch.arange(len(x))))

    def keep(self, x: Tensor, atoms: Composition) -> Tensor:  # (n, i, c) -> (n, k, c)
        """What a layer leaves of the features before it."""
        kept = atoms.multiply(x[:, : self.common], self.of_elements)
        more = self.n_out - self.common
        return nn.functional.pad(kept, (0, 0, 0, more)) if more else kept

    def _kernels(self, y: Tensor) -> tuple[Callable[..., Any], ...]:
        """Without checks, which take longer than small molecules, but where nothing is to do."""
        return self._direct if len(y) else _KERNELS

    def forward(
        self, x: Tensor | None, atoms: Composition, y: Tensor, w: Tensor, sender: Tensor,
        receiver: Tensor,
    ) -> Kept:  # fmt: skip
        """Give the features of the next layer; without features, they are those of elements."""
        convolution, polynomial, _, _ = self._kernels(y)
        species = atoms.species
        if x is None:
            assert self.first is not None
            sent, left = (rows.index_select(0, species) for rows in self.first)
        else:
            sent, left = _mix(x, self.up), self.keep(x, atoms)
        n = len(species)
        sums = convolution(sent, y, w, sender, receiver, *self.coupling, n, self.n_density)
        density = _mix(sums, self.density)
        made = polynomial(density, self.coefficients, species, *self.terms, self.n_out)
        return Kept(sent, w, density, _mix(made, self.down).add_(left))

    def back(
        self, g: Tensor, kept: Kept, atoms: Composition, y: Tensor, sender: Tensor,
        receiver: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:  # (n, i, c), (e, j), (e, p, c)  # fmt: skip
        """Derivatives in the features, if there were any, in the harmonics and the weights."""
        _, _, slopes, slope = self._kernels(y)
        of_terms = _mix(g, self.down_back)
        of_density = slope(kept.density, self.coefficients, of_terms, atoms.species, *self.terms)
        sums = _mix(of_density, self.density_back)
        gx, gy, gw = slopes(kept.sent, y, kept.w, sums, sender, receiver, *self.coupling)
        if self.first is None:
            gx = _mix(gx, self.up_back)
            gx[:, : self.common] += atoms.multiply(g[:, : self.common], self.elements_back)
        return gx, gy, gw


def _matrices(linear: EquivariantLinear) -> Tensor:  # (m, c, c')
    """One matrix per component."""
    return linear.weight.detach().index_select(0, linear.degrees)


def _mix(
    x: Tensor,  # (n, m, c)
    matrices: Tensor,  # (m, c, c')
) -> Tensor:  # (n, m, c')
    out = x.new_empty(len(x), len(matrices), matrices.shape[2])
    if out.numel() <= _SMALL:
        return out.copy_(torch.bmm(x.transpose(0, 1), matrices).transpose(0, 1))
    torch.bmm(x.transpose(0, 1), matrices, out=out.transpose(0, 1))
    return out
