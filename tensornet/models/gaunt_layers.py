"""The layers of `Gaunt` with frozen weights, and their derivatives, written out.

What a layer computes stands in `LayerReverse.forward`, and in `LayerReverse.back` in reverse.
Channels are filled up with zeros to whole vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from tensornet.kernels._bridge import empty
from tensornet.kernels._tile import BYTES
from tensornet.kernels.contraction.cpu import polynomial_arrays
from tensornet.kernels.contraction.plan import plan as contraction_plan
from tensornet.kernels.convolution.cpu import convolve_arrays
from tensornet.kernels.convolution.cpu_gradients import slopes_of_arrays
from tensornet.kernels.convolution.gradient_plan import gradient_plan
from tensornet.kernels.convolution.plan import plan as convolution_plan
from tensornet.kernels.nodes.cpu import multiply, readout
from tensornet.kernels.pairs.cpu import Edges
from tensornet.layers import DensityPowers, EquivariantLinear, ScalarReadout, SymmetricContraction
from tensornet.models.gaunt import ManyBody
from tensornet.so3 import dim

Array = np.ndarray[Any, Any]


class Composition:
    """Which atoms are of which element.

    Args:
        species: Element of each atom, (n,).
        n_species: How many elements the model knows.

    Attributes:
        order: The atoms in the order of their elements.
        starts: Where each element starts.
        ends: Where all atoms start and end.
    """

    def __init__(self, species: Array, n_species: int) -> None:
        self.species = species.copy()
        self.order = np.argsort(species, kind="stable")
        counts = np.bincount(species, minlength=n_species)
        self.starts = np.concatenate([[0], counts.cumsum()])
        self.ends = np.array([0, len(species)])


class ReadoutReverse:
    """A `ScalarReadout` and its derivative."""

    def __init__(self, layer: ScalarReadout) -> None:
        self.channels = layer.out.weight.shape[1]
        self.inwards = filled(layer.hidden.weight.T, 2)
        self.bias, self.out = filled(layer.hidden.bias, 1), filled(layer.out.weight[0], 1)

    def read(
        self,
        x: Array,  # (n, m, c)
        atoms: Composition,
        output: Array,  # (n,), added to
    ) -> tuple[Array, Array]:  # (n, c), (n, c)
        """Give the last layer, and the derivative of the output in the scalars."""
        last, slope = readout(atoms.order, x, self.inwards, self.bias, self.out, output)
        return last[:, : self.channels], slope


class LayerMemory:
    """Memory for one layer in an evaluation of n atoms and up to e edges."""

    def __init__(self, layer: LayerReverse, n: int, e: int) -> None:
        def new(*shape: int) -> Array:
            return empty(shape, layer.dtype)

        i, j, k, p = layer.sizes
        self.sent, self.x, self.left = (new(n, m, layer.width) for m in (i, k, k))
        self.sums, self.density = new(n, j, layer.width), new(n, j, layer.wide)
        self.made, self.of_density = new(n, k, layer.wide), new(n, j, layer.wide)
        self.gx, self.of_x = (new(n, i, layer.width) for _ in range(2))
        self.w = new(e, p, layer.width)


class LayerReverse:
    """A `ManyBody` and its derivative.

    Args:
        layer: The layer.
        x: Features of each element, where they depend on it alone: (elements, 1, c).
    """

    def __init__(self, layer: ManyBody, x: Array | None) -> None:
        self.up, self.density, self.down = (
            _matrices(linear) for linear in (layer.up, layer.density, layer.down)
        )
        self.density *= float(layer.factor)
        self.of_elements = filled(layer.keep, 2)
        backwards = self.up, self.density, self.down, self.of_elements
        self.up_back, self.density_back, self.down_back, self.elements_back = (
            np.ascontiguousarray(matrices.transpose(0, 2, 1)) for matrices in backwards
        )
        self.dtype, self.width, self.wide = self.up.dtype, self.up.shape[2], self.down.shape[1]
        c = layer.convolution
        self.sizes = dim(layer.l_in), dim(c.l_max_out), dim(layer.l_out), len(c.paths)
        self.common = dim(min(layer.l_in, layer.l_out))
        i, j, k, p = self.sizes
        at, values = (c.at_i, c.at_j, c.at_k, c.at_p), c.values.detach()
        self._convolution = convolution_plan("edge_convolution", (i, j, j, p), at, values)
        self._slopes = gradient_plan("edge_slopes", (i, j, j, p), at, values, self.width, 1)
        terms = layer.many_body
        if isinstance(terms, DensityPowers):
            coefficients = terms.weight.index_select(1, terms.of_weight) * terms.values
        else:
            assert isinstance(terms, SymmetricContraction)
            coefficients = torch.matmul(terms.coupling, terms.weight)
        self._coefficients = filled(coefficients, 1)
        self._terms = contraction_plan("symmetric_polynomial", j, k, terms.monomials, terms.at_k)
        self.first: tuple[Array, Array] | None = None
        if x is not None:
            atoms = Composition(np.arange(len(x)), len(x))
            sent, left = (np.empty((len(x), m, self.width), self.dtype) for m in (i, k))
            multiply(atoms.order, atoms.ends, x, self.up, sent)
            self.keep(x, atoms, left)
            self.first = sent, left

    def keep(self, x: Array, atoms: Composition, out: Array) -> None:  # (n, i, c), (n, k, c)
        """Write what a layer leaves of the features before it."""
        out[:, self.common :] = 0
        multiply(atoms.order, atoms.starts, x, self.of_elements, out, self.common)

    def forward(self, x: Array | None, atoms: Composition, edges: Edges, m: LayerMemory) -> None:
        """Make the features of the next layer; without features, they are those of elements."""
        if x is None:
            assert self.first is not None
            for rows, out in zip(self.first, (m.sent, m.left), strict=True):
                rows.take(atoms.species, 0, out, "clip")
        else:
            multiply(atoms.order, atoms.ends, x, self.up, m.sent)
            self.keep(x, atoms, m.left)
        m.sums.fill(0)
        convolve_arrays(
            self._convolution, m.sent, edges.y, m.w, edges.ends[0], edges.places, edges.starts,
            m.sums,
        )  # fmt: skip
        multiply(atoms.order, atoms.ends, m.sums, self.density, m.density)
        self._polynomial(None, atoms, m, m.made)
        multiply(atoms.order, atoms.ends, m.made, self.down, m.x)
        m.x += m.left

    def back(
        self,
        g: Array,  # (n, k, c)
        atoms: Composition,
        edges: Edges,
        m: LayerMemory,
        gy: Array,  # (e, j), written to
        gw: Array,  # (e, p, c), written to
    ) -> Array:  # (n, i, c), which means nothing in the first layer
        """Derivatives in the features, the harmonics and the weights."""
        multiply(atoms.order, atoms.ends, g, self.down_back, m.made)
        self._polynomial(m.made, atoms, m, m.of_density)
        multiply(atoms.order, atoms.ends, m.of_density, self.density_back, m.sums)
        m.gx.fill(0)
        given = m.sent, edges.y, m.w, m.sums, edges.ends[0]
        slopes_of_arrays(self._slopes, given, edges.places, edges.starts, (m.gx, gy, gw))
        if self.first is None:
            multiply(atoms.order, atoms.ends, m.gx, self.up_back, m.of_x)
            n = self.common
            multiply(atoms.order, atoms.starts, g, self.elements_back, m.gx, n)
            m.of_x[:, :n] += m.gx[:, :n]
        return m.of_x

    def _polynomial(self, g: Array | None, atoms: Composition, m: LayerMemory, out: Array) -> None:
        """The many-body terms, or their slope."""
        given = self._terms, m.density, self._coefficients, g
        polynomial_arrays(*given, atoms.order, atoms.starts, out)


def filled(x: Tensor, n: int) -> Array:
    """With zeros behind the last n axes, so that they are whole vectors."""
    lanes = BYTES // x.itemsize
    more = [(0, 0)] * (x.ndim - n) + [(0, -size % lanes) for size in x.shape[x.ndim - n :]]
    return np.pad(x.detach().numpy(), more)


def _matrices(linear: EquivariantLinear) -> Array:  # (m, c, c')
    """One matrix per component."""
    return filled(linear.weight.detach().index_select(0, linear.degrees), 2)
