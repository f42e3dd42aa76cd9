"""Energies and forces of a trained `Gaunt` without autograd: the reverse pass is written out.

What depends on the weights alone is made once: coefficients of the many-body terms, features of
lone atoms, what the first layer sees of an element, and tables of the radial networks
(`PairWeights`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from tensornet.kernels._bridge import empty
from tensornet.kernels.harmonics.cpu import gradient_of_arrays, values_of_arrays
from tensornet.kernels.pairs.cpu import Edges
from tensornet.layers import (
    ZBL,
    BesselBasis,
    BindingShift,
    DensityPowers,
    EdgeConvolution,
    EquivariantLinear,
    GaussianBasis,
    RadialMLP,
    ScalarReadout,
    SymmetricContraction,
)
from tensornet.models.gaunt import Gaunt, ManyBody
from tensornet.models.gaunt_layers import (
    Array,
    Composition,
    LayerMemory,
    LayerReverse,
    ReadoutReverse,
    filled,
)
from tensornet.models.gaunt_pairs import PairTerms
from tensornet.models.gaunt_radial import PairWeights, Weights
from tensornet.models.long_range import LongRange
from tensornet.models.potential import Inferred, Potential

log = logging.getLogger(__name__)

# What is written out below: a model with anything else in it is evaluated by autograd.
_MODULES = {
    Gaunt, ManyBody, EquivariantLinear, EdgeConvolution, RadialMLP, DensityPowers, BindingShift,
    SymmetricContraction, ScalarReadout, BesselBasis, GaussianBasis, ZBL,
    nn.ModuleList, nn.ParameterList, nn.Sequential, nn.Linear, nn.SiLU, LongRange,
}  # fmt: skip
_SETTINGS = {
    "name", "cutoff", "channels", "layers", "basis", "n_basis", "basis_decay", "radial_hidden",
    "pair_species", "repulsion", "contact", "l_max", "l_features", "order", "path_rank", "coupling",
    "long_range",  # it is added by the potential, where charges are fixed
}  # fmt: skip
_KEPT = 2**30  # bytes that stay allocated between evaluations
_AGREE = {torch.float32: 1e-4, torch.float64: 1e-9}  # of the largest number


class _Memory:
    """Memory of an evaluation of n atoms and up to e edges."""

    def __init__(self, layers: Sequence[LayerReverse], n: int, e: int) -> None:
        dtype, m = layers[0].dtype, layers[0].sizes[1]
        self.layers = [LayerMemory(layer, n, e) for layer in layers]
        self.edges = Edges(n, e, m, dtype)
        self.gy, self.more = (empty((len(self.edges.y), m), dtype) for _ in range(2))
        most = empty((max(x.w.size for x in self.layers),), dtype)
        self.gw = [most[: x.w.size].reshape(x.w.shape) for x in self.layers]

    def fits(self, n: int, e: int) -> bool:
        """Whether there is room, and not too much of it."""
        return self.edges.sums.shape[1] == n and self.edges.room // 2 <= e <= self.edges.room

    @property
    def size(self) -> int:
        """Bytes, about."""
        return 2 * sum(x.w.nbytes for x in self.layers)


class _Frozen:
    """All that is made of the weights of a model, and what is kept from one evaluation to the next.

    Args:
        model: The model.
        tables: As in `GauntInference`.
    """

    def __init__(self, model: Gaunt, tables: bool) -> None:
        self.model, self.scale = model, float(model.scale)
        self.weights = PairWeights(model, tables=tables)
        self._pairs = PairTerms(model)
        self._readouts = [ReadoutReverse(cast(ScalarReadout, r)) for r in model.readouts]
        self._layers: list[LayerReverse] = []
        n = len(model.elements)
        everyone = Composition(np.arange(n), n)
        x = filled(model.embedding, 1)[:, None]
        first: Array | None = x
        self._lone_output, lone_layer = np.zeros(n, x.dtype), []
        for layer, readout in zip(model.layers, self._readouts, strict=True):
            self._layers.append(LayerReverse(cast(ManyBody, layer), first))
            lone = np.empty((n, self._layers[-1].sizes[2], x.shape[2]), x.dtype)
            self._layers[-1].keep(x, everyone, lone)
            x, first = lone, None
            lone_layer.append(readout.read(x, everyone, self._lone_output)[0])
        self._lone_layer = np.concatenate(lone_layer, 1)
        self._atoms: Composition | None = None
        self._spare: list[_Memory] = []
        self._seen = [
            (held, name, x, x._version)
            for module in model.modules()
            for held in (module._parameters, module._buffers)
            for name, x in held.items()
            if x is not None and not x.is_inference()
        ]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_spare": []}

    def is_stale(self) -> bool:
        """Whether weights have changed."""
        for held, name, x, version in self._seen:
            if held.get(name) is not x or x._version != version:
                return True
        return False

    def _composition(self, species: Array) -> Composition:
        """That of the last call, where atoms are the same."""
        atoms = self._atoms
        if atoms is None or not np.array_equal(atoms.species, species):
            atoms = self._atoms = Composition(species, len(self.model.elements))
        return atoms

    def evaluate(
        self,
        species: Array,  # (n,)
        edge_index: Array,  # (2, e)
        vectors: Array,  # (e, 3) float64
        share: Array,  # (n,)
    ) -> tuple[Array, ...]:
        """Give the fields of `Inferred`."""
        n, e = len(species), len(vectors)
        try:  # no other thread gets the same
            memory = self._spare.pop()
        except IndexError:
            memory = None
        if memory is None or not memory.fits(n, e):
            memory = _Memory(self._layers, n, e + e // 16)
        self._pairs.measure(species, edge_index, vectors, memory.edges)
        if memory.edges.total:
            found = self._evaluate(self._composition(species), share, e, memory)
        else:
            shapes = (n,), (n, self._lone_layer.shape[1]), (e, 3), (n, 3), (n, 3, 3)
            found = tuple(np.zeros(shape, share.dtype) for shape in shapes)
        if memory.size <= _KEPT and not self._spare:
            self._spare.append(memory)
        return found

    def _evaluate(
        self, atoms: Composition, share: Array, e: int, memory: _Memory
    ) -> tuple[Array, ...]:
        edges, species = memory.edges, atoms.species
        n, total = len(species), edges.total
        values_of_arrays(edges.vectors, total, edges.angular)
        envelope = edges.numbers[3, :total, None]
        np.multiply(edges.angular[:total], envelope, out=edges.y[:total])
        weights = self.weights(edges.pair[:total], edges.numbers[1, :total])
        x: Array | None = None
        output, said = np.zeros(n, share.dtype), []
        for t, (layer, m) in enumerate(zip(self._layers, memory.layers, strict=True)):
            weights.layer(t, m.w)
            layer.forward(x, atoms, edges, m)
            x = m.x
            said.append(self._readouts[t].read(x, atoms, output))
        of_level = self._back([slope for _, slope in said], share, atoms, weights, memory)
        more, bound = self._pairs.energies(species, edges)
        energies = self.scale * (output - self._lone_output[species]) + more
        last = np.concatenate([last for last, _ in said], 1) - self._lone_layer[species]
        edges.collect(np.stack([bound * share, share]), of_level, memory.gy)
        gradient_of_arrays(edges.vectors, total, memory.gy, edges.across)
        return energies, last, *edges.receive(n, e)

    def _back(
        self,
        slopes: Sequence[Array],  # of (n, c)
        share: Array,  # (n,)
        atoms: Composition,
        weights: Weights,
        memory: _Memory,
    ) -> Array:  # (e,)
        """Derivatives in the lengths that the networks see; those in harmonics stay in `memory`."""
        scale = (self.scale * share)[:, None]
        of_level = np.zeros(memory.edges.total, share.dtype)
        g = np.zeros_like(memory.layers[-1].x)
        for t in reversed(range(len(self._layers))):
            g[:, 0] += slopes[t] * scale
            gy = memory.gy if t == len(self._layers) - 1 else memory.more
            layer, m, gw = self._layers[t], memory.layers[t], memory.gw[t]
            g = layer.back(g, atoms, memory.edges, m, gy, gw)
            if gy is memory.more:
                memory.gy[: len(of_level)] += gy[: len(of_level)]
            of_level += weights.slope(t, gw)
        return of_level


class GauntInference:
    """Evaluates a `Gaunt` on a CPU without autograd.

    Where weights have changed since the last evaluation, in place or by `load_state_dict`, all that
    was made of them is made again. (Changes through ``.data`` cannot be seen.) Threads may call it
    at once; what it gives is the caller's own.

    Args:
        model: The model, in evaluation mode.
        tables: Whether tables may stand for the radial networks. Without them results are those of
            the model up to rounding.
    """

    def __init__(self, model: Gaunt, *, tables: bool = True) -> None:
        self.model, self.tables = model, tables
        with torch.no_grad():
            self._frozen = _Frozen(model, tables)

    @property
    def weights(self) -> PairWeights:
        """The radial weights; its `certificates` say how good the tables are."""
        return self._frozen.weights

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
            vectors: From receiver to sender, Å. Those that are longer than the cutoff count for
                nothing.
            of: The atoms whose energies are differentiated; by default all.
        """
        with torch.no_grad(), np.errstate(all="ignore"):  # the caller looks for what is no number
            frozen = self._frozen
            if frozen.is_stale():
                frozen = self._frozen = _Frozen(self.model, self.tables)
            n, dtype = len(species), frozen._lone_output.dtype
            share = np.ones(n, dtype) if of is None else of.numpy().astype(dtype)
            given = species.numpy(), edge_index.numpy(), vectors.double().numpy()
            return Inferred(*(torch.from_numpy(x) for x in frozen.evaluate(*given, share)))


def infer(model: Potential, *, tables: bool = True) -> bool:
    """Let a potential be evaluated without autograd, where there is a way for it.

    There is for `Gaunt` in evaluation mode on a CPU. Models with parts or settings that are not
    written out here are left as they are, and so is one that does not agree with autograd on a
    handful of atoms.

    Args:
        model: Any; changed.
        tables: As in `GauntInference`.

    Returns:
        Whether there is.
    """
    if type(model) is not Gaunt or model.device.type != "cpu" or model.training:
        return False
    with torch.inference_mode(False):
        why = _unknown(model) or ("" if _agrees(model) else "other numbers than autograd gives")
    if why:
        log.warning("a gaunt model is evaluated by autograd, which is slow: %s", why)
        return False
    model.inference = GauntInference(model, tables=tables)
    return True


def _unknown(model: Gaunt) -> str:
    """What there is in a model that is not written out here, if anything."""
    settings = sorted({*model.config} - _SETTINGS)
    modules = sorted({type(m).__name__ for m in model.modules() if type(m) not in _MODULES})
    more = {
        "hooks": any(m._forward_hooks or m._forward_pre_hooks for m in model.modules()),
        str(model.dtype): model.dtype not in _AGREE,
        "predicted charges": model.long_range is not None and model.long_range.predicted,
        "tensors of inference mode": any(x.is_inference() for x in model.state_dict().values()),
    }
    return ", ".join([*settings, *modules, *(what for what, there in more.items() if there)])


def _agrees(model: Gaunt) -> bool:
    """Whether autograd gives the same energies and gradients, for a few atoms of every element."""
    inference = GauntInference(model, tables=False)
    n = len(model.elements)
    species = torch.arange(max(4, n)) % n
    # Places on a lattice, a little moved, so that no two atoms are on top of each other.
    places = torch.cartesian_prod(*[torch.arange(8.0, dtype=torch.float64)] * 3)
    places = places[torch.linalg.vector_norm(places - 3.4, dim=1).argsort()[: len(species)]]
    random = torch.Generator().manual_seed(0)
    places += 0.5 * torch.rand(places.shape, generator=random, dtype=torch.float64)
    for spacing in (0.25 * model.cutoff, 0.5 * model.cutoff):  # in contact, and apart
        near = torch.cdist(places, places) < model.cutoff / spacing
        edge_index = near.fill_diagonal_(False).nonzero().T.contiguous()
        vectors = spacing * (places[edge_index[0]] - places[edge_index[1]])
        vectors = vectors.to(model.dtype).requires_grad_()
        found = inference(species, edge_index, vectors.detach())
        with torch.enable_grad():
            energies, last = model._with_last_layer(species, edge_index, vectors)
            (gradients,) = torch.autograd.grad(energies.sum(), vectors)
        for x, y in zip(found[:3], (energies.detach(), last.detach(), gradients), strict=True):
            if not float((x - y).abs().max()) <= _AGREE[model.dtype] * float(y.abs().max()):
                return False
    return True
