"""Energies and forces of a trained `Gaunt` without autograd: the reverse pass is written out.

What depends on the weights alone is made once: coefficients of the many-body terms, features of
lone atoms, what the first layer sees of an element, and tables of the radial networks
(`PairWeights`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from tensornet.kernels import harmonics, harmonics_gradient
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
from tensornet.models.gaunt_layers import Composition, Kept, LayerReverse, ReadoutReverse
from tensornet.models.gaunt_pairs import Edges, PairTerms
from tensornet.models.gaunt_radial import PairWeights
from tensornet.models.potential import Inferred, Potential
from tensornet.so3 import dim

log = logging.getLogger(__name__)

# What is written out below: a model with anything else in it is evaluated by autograd.
_MODULES = {
    Gaunt, ManyBody, EquivariantLinear, EdgeConvolution, RadialMLP, DensityPowers, BindingShift,
    SymmetricContraction, ScalarReadout, BesselBasis, GaussianBasis, ZBL,
    nn.ModuleList, nn.ParameterList, nn.Sequential, nn.Linear, nn.SiLU,
}  # fmt: skip
_SETTINGS = {
    "name", "cutoff", "channels", "layers", "basis", "n_basis", "basis_decay", "radial_hidden",
    "pair_species", "repulsion", "contact", "l_max", "l_features", "order", "path_rank", "coupling",
}  # fmt: skip
_AGREE = {torch.float32: 1e-4, torch.float64: 1e-9}  # of the largest number


class GauntInference:
    """Evaluates a `Gaunt` on a CPU without autograd.

    Where weights have changed since the last evaluation, in place or by `load_state_dict`, all that
    was made of them is made again. (Changes through ``.data`` cannot be seen.)

    Args:
        model: The model, in evaluation mode.
        tables: Whether tables may stand for the radial networks. Without them results are those of
            the model up to rounding.

    Attributes:
        weights: The radial weights; its `certificates` say how good the tables are.
    """

    def __init__(self, model: Gaunt, *, tables: bool = True) -> None:
        self.model, self.tables = model, tables
        self._prepare()

    def _prepare(self) -> None:
        model = self.model
        self.weights = PairWeights(model, tables=self.tables)
        self.scale = float(model.scale)
        self._pairs = PairTerms(model)
        with torch.no_grad():
            self._readouts = [ReadoutReverse(cast(ScalarReadout, r)) for r in model.readouts]
            self._layers: list[LayerReverse] = []
            x: Tensor = model.embedding.detach()[:, None, :]
            lone, everyone = [], Composition(torch.arange(len(x)))
            first: Tensor | None = x
            for layer in model.layers:
                self._layers.append(LayerReverse(cast(ManyBody, layer), first))
                x, first = self._layers[-1].keep(x, everyone), None
                lone.append(x[:, 0])
            said = [readout.forward(x) for readout, x in zip(self._readouts, lone, strict=True)]
            self._lone_output = cast(Tensor, sum(out for _, out in said))
            self._lone_layer = torch.cat([last for last, _ in said], 1)
        self._atoms: Composition | None = None
        self._seen = [
            (held, name, x, x._version)
            for module in model.modules()
            for held in (module._parameters, module._buffers)
            for name, x in held.items()
            if x is not None and not x.is_inference()
        ]

    def _is_stale(self) -> bool:
        for held, name, x, version in self._seen:
            if held.get(name) is not x or x._version != version:
                return True
        return False

    def _composition(self, species: Tensor) -> Composition:
        """That of the last call, where atoms are the same."""
        if self._atoms is None or not torch.equal(self._atoms.species, species):
            self._atoms = Composition(species.clone())
        return self._atoms

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
        if self._is_stale():
            self._prepare()
        with torch.no_grad():
            return self._evaluate(species, edge_index, vectors, of)

    def _evaluate(
        self, species: Tensor, edge_index: Tensor, vectors: Tensor, of: Tensor | None
    ) -> Inferred:
        atoms = self._composition(species)
        edges = self._pairs.measure(species, edge_index, vectors)
        angular = harmonics(vectors, dim(self.model.l_max))
        y = angular * edges.envelope[:, None]
        weights = self.weights(edges.pair, edges.level)
        share = vectors.new_ones(len(species)) if of is None else of.to(vectors.dtype)
        kept: list[Kept] = []
        x: Tensor | None = None
        for t, layer in enumerate(self._layers):
            kept.append(layer.forward(x, atoms, y, weights.layer(t), edges.sender, edges.receiver))
            x = kept[-1].x
        said = [r.forward(k.x[:, 0]) for r, k in zip(self._readouts, kept, strict=True)]
        output = cast(Tensor, sum(out for _, out in said))
        energies = self.scale * (output - self._lone_output[species])
        last = torch.cat([last for last, _ in said], 1) - self._lone_layer[species]
        gy, gw = self._back(kept, share, atoms, y, edges)
        bound = self._pairs.add(energies, species, edges)
        gradients = harmonics_gradient(vectors, gy * edges.envelope[:, None])
        self._pairs.collect(
            gradients, vectors, edges, torch.stack([bound * share, share]), weights.slope(gw),
            gy, angular,
        )  # fmt: skip
        return Inferred(energies, last, gradients, *self._pairs.receive(gradients, vectors, edges))

    def _back(
        self,
        kept: Sequence[Kept],
        share: Tensor,  # (n,)
        atoms: Composition,
        y: Tensor,  # (e, j)
        edges: Edges,
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
            gx, more, of_weights = layer.back(gx, k, atoms, y, edges.sender, edges.receiver)
            gy += more
            gw.insert(0, of_weights)
        return gy, gw


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
