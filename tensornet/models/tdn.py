"""TDN, the tensor decomposition network: an equivariant transformer over atoms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Self

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tensornet.layers import (
    DegreeEmbedding,
    Edges,
    EquivariantLinear,
    EquivariantNorm,
    GatedLinear,
    GraphAttention,
    ScalarReadout,
)
from tensornet.models.network import Network, NetworkConfig
from tensornet.products import ClebschGordanProduct, CPProduct, EdgeProduct, Product
from tensornet.so3 import dim, spherical_harmonics

# With more edges than this, forces are computed with the blocks run a second time, one by one,
# instead of keeping what all of them computed: 0.7 of the memory for a third more time.
LARGE = 100_000


class TDNConfig(NetworkConfig):
    """Settings of `TDN`. The defaults differ from the paper where its card says so."""

    name: Literal["tdn"] = "tdn"
    l_max: int = Field(2, ge=0, le=8, description="highest degree of the features")
    heads: PositiveInt = Field(4, description="heads of attention; divides channels")
    product: Literal["edge", "cp", "clebsch_gordan"] = Field(
        "edge", description="format of the product: exact edge matrix, CP, or sparse coupling"
    )
    rank: PositiveInt | None = Field(
        None, description="rank of the CP; by default the smallest exact one"
    )
    path_weights: Literal["shared", "factored", "path"] = Field(
        "factored",
        description="radial weights: per channel for all paths (paper); times one per path for "
        "all channels; or one per path and channel",
    )
    symmetry: Literal["O(3)", "SO(3)"] = Field(
        "O(3)", description="SO(3) keeps the odd paths, as the paper does"
    )
    linear: Literal["per_degree", "shared"] = Field(
        "per_degree", description="one matrix per degree, or one for all (paper)"
    )
    norm: Literal["rms", "layer"] = Field("rms", description="layer is the paper's")
    dropout: float = Field(0.0, ge=0, lt=1, description="of attention weights")
    forces: Literal["conservative", "direct"] = Field(
        "conservative", description="minus the gradient of the energy, or a head of their own"
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.channels % self.heads:
            raise ValueError(
                f"channels = {self.channels} must be a multiple of heads = {self.heads}"
            )
        if self.rank is not None and self.product != "cp":
            raise ValueError(f"rank = {self.rank} needs product: cp, not {self.product}")
        if self.product == "cp" and self.path_weights != "shared":
            raise ValueError("product: cp mixes the paths and needs path_weights: shared")
        if self.forces == "direct" and self.l_max == 0:
            raise ValueError("forces: direct needs l_max of at least 1")
        if self.forces == "direct" and self.long_range is not None:
            raise ValueError("long_range needs forces: conservative")
        return self


class TDN(Network):
    """Tensor decomposition network: pre-norm transformer blocks on equivariant features.

    Species and a degree embedding make the first features; each block adds attention over the
    neighbours and a gated feed-forward layer; the scalars of the last give the energy of an atom.
    From it the energy of the same atom without neighbours is subtracted, so that a free atom has
    exactly its reference energy.

    Args:
        config: Settings.
        elements: Atomic numbers.
        reference_energies: Energy of the free atom per atomic number, eV.
        scale: Unit of the network's energies, eV.
        shift: Mean interaction energy of a bound atom per atomic number, eV.
        n_neighbours: Mean number of neighbours within the cutoff.
        closest: Shortest distances in the training data, as in `Network`.

    References:
        Lin et al., Tensor Decomposition Networks for accelerated machine learning force fields,
        arXiv 2507.01131 (2025). Differences are listed in ``models/README.md``.
    """

    def __init__(
        self,
        config: TDNConfig,
        *,
        elements: Sequence[int],
        reference_energies: Mapping[int, float],
        scale: float = 1.0,
        shift: Mapping[int, float] | None = None,
        n_neighbours: float = 1.0,
        closest: Mapping[tuple[int, int], float] | None = None,
    ) -> None:
        super().__init__(
            config,
            elements=elements,
            reference_energies=reference_energies,
            scale=scale,
            shift=shift,
            closest=closest,
        )
        c, l_max = config.channels, config.l_max
        shared = config.linear == "shared"
        self.conservative = config.forces == "conservative"
        self.l_max, self.dim = l_max, dim(l_max)
        self.degree = DegreeEmbedding(l_max, c, self.n_radial, config.radial_hidden, n_neighbours)
        self.product = make_product(config)

        def attention() -> GraphAttention:
            return GraphAttention(
                self.product,
                c,
                config.heads,
                self.n_radial,
                config.radial_hidden,
                weights=config.path_weights,
                shared=shared,
                dropout=config.dropout,
            )

        self.blocks = nn.ModuleList(
            Block(attention(), l_max, c, norm=config.norm, shared=shared)
            for _ in range(config.layers)
        )
        self.norm = EquivariantNorm(l_max, c, config.norm)
        self.readout = ScalarReadout(c)
        self.force_head = None
        if not self.conservative:
            self.force_head = nn.ModuleList(
                [attention(), EquivariantLinear(l_max, c, 1, shared=shared)]
            )

    @property
    def n_hops(self) -> int:
        """How many edges lie between an atom and the furthest that its energy depends on."""
        return super().n_hops + 1  # the degree embedding is a message too

    def _with_last_layer(
        self, species: Tensor, edge_index: Tensor, vectors: Tensor
    ) -> tuple[Tensor, Tensor]:
        edges, distances = self._edges(species, edge_index, vectors)
        features = self._features(species, edges)
        read = [(self.readout, features[:, 0])]
        return self._energies(read, species, edge_index, edges.envelope, distances)

    def direct_forces(
        self,
        species: Tensor,  # (n,)
        edge_index: Tensor,  # (2, e)
        vectors: Tensor,  # (e, 3)
    ) -> tuple[Tensor, Tensor]:  # (n,), (n, 3)
        """Give energies, and the forces of the head, which are not the derivative of any energy."""
        assert self.force_head is not None
        edges, distances = self._edges(species, edge_index, vectors)
        features = self._features(species, edges)
        read = [(self.readout, features[:, 0])]
        energies, _ = self._energies(read, species, edge_index, edges.envelope, distances)
        attention, linear = self.force_head
        forces = linear(attention(features, edges))[: len(species), 1:4, 0]
        return energies, self.scale * forces

    def _edges(self, species: Tensor, edge_index: Tensor, vectors: Tensor) -> tuple[Edges, Tensor]:
        radial, envelope, distances = self._radial(species, edge_index, vectors)
        harmonics = spherical_harmonics(vectors, self.l_max)
        prepared = self.product.prepare(harmonics[..., None])
        edges = Edges(edge_index[0], edge_index[1], harmonics, envelope, radial, prepared)
        return edges, distances

    def _features(self, species: Tensor, edges: Edges) -> Tensor:
        """Features of the atoms, and behind them of the lone atoms."""
        everyone = self._everyone(species)
        scalars = self.embedding[everyone][:, None, :]
        rest = scalars.new_zeros(len(everyone), self.dim - 1, scalars.shape[-1])
        x = torch.cat([scalars, rest], 1) + self.degree(edges, len(everyone))
        large = len(edges.sender) > LARGE and not self.training
        for block in self.blocks:
            x = checkpoint(block, x, edges, use_reentrant=False) if large else block(x, edges)
        out: Tensor = self.norm(x)
        return out


class Block(nn.Module):
    """Attention, then a gated feed-forward layer, each added to what came in.

    Args:
        attention: The attention of this block.
        l_max: Highest degree.
        channels: Channels.
        norm: Kind of `EquivariantNorm` in front of both.
        shared: One matrix for all degrees.
    """

    def __init__(
        self, attention: GraphAttention, l_max: int, channels: int, *, norm: str, shared: bool
    ) -> None:
        super().__init__()
        self.norm1 = EquivariantNorm(l_max, channels, norm)
        self.attention = attention
        self.norm2 = EquivariantNorm(l_max, channels, norm)
        self.hidden = GatedLinear(l_max, channels, channels, shared=shared)
        self.out = EquivariantLinear(l_max, channels, channels, shared=shared)

    def forward(
        self,
        x: Tensor,  # (n, m, c)
        edges: Edges,
    ) -> Tensor:  # (n, m, c)
        """Apply both halves."""
        x = x + self.attention(self.norm1(x), edges)
        out: Tensor = x + self.out(self.hidden(self.norm2(x)))
        return out


def make_product(config: TDNConfig) -> Product:
    """Make the product with edges that a configuration asks for.

    Args:
        config: Settings of the model.

    Returns:
        The product, with the odd paths if the symmetry is SO(3).
    """
    odd = config.symmetry == "SO(3)"
    if config.product == "cp":
        return CPProduct(config.l_max, config.rank, odd_paths=odd)
    kind = EdgeProduct if config.product == "edge" else ClebschGordanProduct
    weights = "none" if config.path_weights == "shared" else "path"
    return kind(config.l_max, weights, odd_paths=odd)
