"""Energies and forces of a trained `Gaunt` without autograd: the reverse pass is written out.

Weights are frozen, so that what depends on them alone is made once: coefficients of the many-body
terms, features of lone atoms, what the first layer sees of an element, and tables of the radial
networks (`PairWeights`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from tensornet.kernels import (
    edge_convolution,
    edge_slopes,
    harmonics,
    harmonics_gradient,
    polynomial_slope,
    symmetric_polynomial,
)
from tensornet.layers import DensityPowers, EquivariantLinear, ScalarReadout, SymmetricContraction
from tensornet.layers.radial import envelope_jet
from tensornet.models.gaunt import Gaunt, ManyBody
from tensornet.models.gaunt_radial import PairWeights
from tensornet.models.potential import Inferred, Potential
from tensornet.so3 import dim


class GauntInference:
    """Evaluates a `Gaunt` whose weights no longer change, on a CPU.

    Args:
        model: The model, in evaluation mode. Later changes of its weights are not seen.
        tables: Whether tables may stand for the radial networks. Without them results are those of
            the model up to rounding.

    Attributes:
        weights: The radial weights; its `certificates` say how good the tables are.
    """

    def __init__(self, model: Gaunt, *, tables: bool = True) -> None:
        self.model = model
        self.weights = PairWeights(model, tables=tables)
        self.scale = float(model.scale)
        with torch.no_grad():
            readouts = [cast(ScalarReadout, readout) for readout in model.readouts]
            self._readouts = [_Readout(readout) for readout in readouts]
            self._layers: list[_Layer] = []
            x: Tensor = model.embedding.detach()[:, None, :]
            lone = []
            first: Tensor | None = x
            for layer in model.layers:
                self._layers.append(_Layer(cast(ManyBody, layer), first))
                x, first = self._layers[-1].keep(x, torch.arange(len(x))), None
                lone.append(x[:, 0])
            said = [readout.forward(x) for readout, x in zip(self._readouts, lone, strict=True)]
            self._lone_output = cast(Tensor, sum(out for _, out in said))
            self._lone_layer = torch.cat([last for last, _ in said], 1)

    def __call__(
        self,
        species: Tensor,  # (n,)
        edge_index: Tensor,  # (2, e)
        vectors: Tensor,  # (e, 3)
        of: Tensor | None = None,  # (n,) bool
    ) -> Inferred:
        """Evaluate energies and their derivatives.

        Args:
            species: Position of each atom's element in `elements`.
            edge_index: Rows sender and receiver.
            vectors: From receiver to sender, Å, shorter than the cutoff.
            of: The atoms whose energies are differentiated; by default all.
        """
        with torch.no_grad():
            return self._evaluate(species, edge_index, vectors, of)

    def _evaluate(
        self, species: Tensor, edge_index: Tensor, vectors: Tensor, of: Tensor | None
    ) -> Inferred:
        ends = edge_index[0].contiguous(), edge_index[1].contiguous()
        distances = torch.linalg.vector_norm(vectors, dim=1)
        envelope, fall = envelope_jet(distances / self.model.cutoff, 6, 1)
        angular = harmonics(vectors, dim(self.model.l_max))
        y = angular * envelope[:, None]
        weights = self.weights(species, edge_index, distances)
        share = vectors.new_ones(len(species)) if of is None else of.to(vectors.dtype)
        kept: list[_Kept] = []
        x: Tensor | None = None
        for t, layer in enumerate(self._layers):
            kept.append(layer.forward(x, species, y, weights.layer(t), *ends))
            x = kept[-1].x
        said = [r.forward(k.x[:, 0]) for r, k in zip(self._readouts, kept, strict=True)]
        output = cast(Tensor, sum(out for _, out in said))
        energies = self.scale * (output - self._lone_output[species])
        last = torch.cat([last for last, _ in said], 1) - self._lone_layer[species]
        gy, gw = self._back(kept, share, species, y, ends)
        along, g_envelope = self._pairs(energies, share, species, ends, distances, envelope)
        g_envelope = g_envelope + (gy * angular).sum(1)
        along += weights.slope(gw) + g_envelope * fall / self.model.cutoff
        gradients = harmonics_gradient(vectors, gy * envelope[:, None])
        gradients += (along / distances)[:, None] * vectors
        return Inferred(energies, last, gradients)

    def _back(
        self,
        kept: Sequence[_Kept],
        share: Tensor,  # (n,)
        species: Tensor,  # (n,)
        y: Tensor,  # (e, j)
        ends: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, list[Tensor]]:
        """Derivatives in harmonics and weights of the edges."""
        gx: Tensor | None = None
        gy = torch.zeros_like(y)
        gw: list[Tensor] = []
        for layer, readout, k in zip(
            reversed(self._layers), reversed(self._readouts), reversed(kept), strict=True
        ):
            read = readout.back(k.x[:, 0]) * (self.scale * share)[:, None]
            if gx is None:
                gx = nn.functional.pad(read[:, None], (0, 0, 0, k.x.shape[1] - 1))
            else:
                gx[:, 0] += read
            gx, more, of_weights = layer.back(gx, k, species, y, *ends)
            gy += more
            gw.insert(0, of_weights)
        return gy, gw

    def _pairs(
        self,
        energies: Tensor,  # (n,), added to
        share: Tensor,  # (n,)
        species: Tensor,  # (n,)
        ends: tuple[Tensor, Tensor],
        distances: Tensor,  # (e,)
        envelope: Tensor,  # (e,)
    ) -> tuple[Tensor, Tensor]:  # (e,), (e,)
        """Binding shift and repulsion: derivatives in distances and envelopes."""
        sender, receiver = ends
        neighbours = torch.zeros_like(energies).index_add_(0, receiver, envelope)
        shift, bound = self.model.binding.shift[species], torch.exp(-2 * neighbours)
        energies -= shift * torch.expm1(-2 * neighbours)
        g_envelope = (2 * shift * bound * share)[receiver]
        along = torch.zeros_like(distances)
        zbl: Any = self.model.repulsion
        if zbl is not None:
            s, r = species[sender], species[receiver]
            near = torch.nonzero(distances < zbl.range[s, r])[:, 0]
            if len(near):
                value, slope = zbl.pair(s[near], r[near], distances[near], 1)
                at = receiver[near]
                energies.index_add_(0, at, 0.5 * value)
                along.index_add_(0, near, 0.5 * slope * share[at])
        return along, g_envelope


class _Kept(NamedTuple):
    """What the way back needs of a layer."""

    sent: Tensor  # (n, i, c)
    w: Tensor  # (e, p, c)
    density: Tensor  # (n, j, c')
    x: Tensor  # (n, k, c) result


class _Readout:
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


class _Layer:
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
    ) -> _Kept:  # fmt: skip
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
        return _Kept(sent, w, density, left + _mix(made, self.down))

    def back(
        self, g: Tensor, kept: _Kept, species: Tensor, y: Tensor, sender: Tensor, receiver: Tensor
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


def infer(model: Potential, *, tables: bool = True) -> bool:
    """Let a potential be evaluated without autograd, where there is a way for its class.

    Args:
        model: In evaluation mode; its weights shall no longer change.
        tables: As in `GauntInference`.

    Returns:
        Whether there is: for `Gaunt` on a CPU.
    """
    if type(model) is not Gaunt or model.device.type != "cpu" or model.training:
        return False
    model.inference = GauntInference(model, tables=tables)
    return True
