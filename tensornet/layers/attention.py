"""Messages along edges, weighted by attention over the neighbours of an atom."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tensornet import _check
from tensornet.layers.equivariant import EquivariantLinear
from tensornet.products import Product
from tensornet.so3 import degrees

WEIGHTS = ("shared", "factored", "path")


@dataclass(frozen=True)
class Edges:
    """What layers need to know of the edges, computed once per structure.

    Args:
        sender: Atom at the far end, (e,).
        receiver: Atom that collects, (e,).
        harmonics: Of the direction from receiver to sender, (e, m).
        envelope: From one to zero at the cutoff, (e,).
        radial: Radial basis times envelope, then the species of both ends, (e, r).
        prepared: The harmonics as the second input of the product, from its `prepare`.
    """

    sender: Tensor
    receiver: Tensor
    harmonics: Tensor
    envelope: Tensor
    radial: Tensor
    prepared: Tensor


def sum_to_receivers(
    x: Tensor,  # (e, ...)
    receiver: Tensor,  # (e,)
    n: int,
) -> Tensor:  # (n, ...)
    """Add up what the edges bring to each atom.

    Args:
        x: One row per edge.
        receiver: Index of the atom each row goes to.
        n: Number of atoms.

    Returns:
        A row per atom, zero where no edge ends.
    """
    return x.new_zeros((n, *x.shape[1:])).index_add(0, receiver, x)


def smooth_attention(
    logits: Tensor,  # (e, h)
    envelope: Tensor,  # (e,)
    receiver: Tensor,  # (e,)
    n: int,
) -> Tensor:  # (e, h)
    """Softmax over the neighbours of each atom that lets them enter and leave smoothly.

    Each exponential is multiplied by the envelope, and an absent neighbour of logit zero stands
    in the denominator: f exp(s) / (1 + sum of f exp(s)). So a lone neighbour's weight goes to
    zero with its envelope, where a plain softmax would keep it at one.

    Args:
        logits: Score per edge and head.
        envelope: From one to zero at the cutoff.
        receiver: Index of the atom that each edge goes to.
        n: Number of atoms.

    Returns:
        Weights that sum to less than one over the neighbours of an atom.

    Derivatives:
        Any order: the maximum only guards against overflow and cancels.
    """
    index = receiver[:, None].expand_as(logits)
    top = logits.new_zeros(n, logits.shape[1])  # zero is the absent neighbour's logit
    top = top.scatter_reduce(0, index, logits.detach(), "amax")
    weights = envelope[:, None] * torch.exp(logits - top[receiver])
    total = torch.exp(-top) + sum_to_receivers(weights, receiver, n)
    return weights / total[receiver]


class RadialMLP(nn.Module):
    """A small network from the radial features of an edge to weights of several shapes.

    Args:
        n_in: Radial features.
        hidden: Width of the two hidden layers.
        shapes: Shape of each output per edge.
        expand: For each output a linear map that repeats weights for the components they act on,
            or none. It is applied to the last layer's matrix, so that one matrix product gives
            all weights, repeated, at once.
    """

    def __init__(
        self,
        n_in: int,
        hidden: int,
        shapes: Sequence[tuple[int, ...]],
        expand: Sequence[Callable[[Tensor], Tensor] | None],
    ) -> None:
        super().__init__()
        self.expand = tuple(expand)
        self.net = nn.Sequential(
            nn.Linear(n_in, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU()
        )
        # The first row of each is the bias.
        self.last = nn.ParameterList(
            torch.cat([torch.zeros(1, *shape), torch.randn(hidden, *shape) / math.sqrt(hidden)])
            for shape in shapes
        )

    def forward(
        self,
        radial: Tensor,  # (e, r)
    ) -> list[Tensor]:  # each (e, ...)
        """Evaluate on every edge."""
        last = [
            weight if expand is None else expand(weight)
            for weight, expand in zip(self.last, self.expand, strict=True)
        ]
        flat = [weight.flatten(1) for weight in last]
        matrix = flat[0] if len(flat) == 1 else torch.cat(flat, 1)
        out = torch.addmm(matrix[0], self.net(radial), matrix[1:])
        parts = out.split([weight[0].numel() for weight in last], 1)
        return [x.unflatten(1, weight.shape[1:]) for x, weight in zip(parts, last, strict=True)]


class DegreeEmbedding(nn.Module):
    """First features above degree zero: what the neighbours look like, without their features.

    Args:
        l_max: Highest degree.
        channels: Channels.
        n_radial: Radial features of an edge.
        hidden: Width of the radial network.
        n_neighbours: Mean number of neighbours; its square root divides the sum.
    """

    def __init__(
        self, l_max: int, channels: int, n_radial: int, hidden: int, n_neighbours: float
    ) -> None:
        super().__init__()
        self.register_buffer("degrees", degrees(l_max), persistent=False)
        self.degrees: Tensor
        self.radial = RadialMLP(n_radial, hidden, [(l_max + 1, channels)], [self._expand])
        # A buffer, so that it goes into model files with the weights.
        self.register_buffer("factor", torch.tensor(max(n_neighbours, 1.0) ** -0.5))
        self.factor: Tensor

    def _expand(self, weight: Tensor) -> Tensor:
        return weight.index_select(-2, self.degrees)

    def forward(self, edges: Edges, n: int) -> Tensor:  # (n, m, c)
        """Sum the weighted harmonics of all edges."""
        angular = edges.harmonics * edges.envelope[:, None]
        (weight,) = self.radial(edges.radial)
        values = angular[..., None] * weight
        return self.factor * sum_to_receivers(values, edges.receiver, n)


class GraphAttention(nn.Module):
    """The attention of TDN: two products with the edge, a score in between.

    message = product(source + target, edge); its scalars give the score of each head, its gated
    form is multiplied with the edge once more; the weighted sum goes through a linear map.

    Args:
        product: The product with the harmonics of edges, shared by layers. Its `path_weights` are
            ``"none"`` if `weights` is ``"shared"``, and else ``"path"``.
        channels: Channels, a multiple of `heads`.
        heads: Heads of attention.
        n_radial: Radial features of an edge.
        hidden: Width of the radial networks.
        weights: ``"shared"``: one function of the distance per channel for all paths, as in the
            paper. ``"factored"``: besides, one per path for all channels; their product weighs a
            path in a channel. ``"path"``: one per path and channel.
        shared: One matrix for all degrees in linear maps, as in the paper.
        dropout: Of the attention weights, in training.

    Raises:
        TypeError: If a size is no whole number.
        ValueError: If a size is below one, heads do not divide the channels, `weights` is unknown,
            or the product does not take such weights.

    References:
        Lin et al., Tensor Decomposition Networks (2025), section 4; Liao & Smidt, Equiformer
        (2023), section 4.3.
    """

    def __init__(
        self,
        product: Product,
        channels: int,
        heads: int,
        n_radial: int,
        hidden: int,
        *,
        weights: str = "shared",
        shared: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        _check.at_least("GraphAttention", 1, channels=channels, heads=heads)
        _check.one_of("GraphAttention", WEIGHTS, weights=weights)
        needed = "none" if weights == "shared" else "path"
        if product.path_weights != needed:
            raise ValueError(
                f"`GraphAttention(product=...)` must have path_weights={needed!r} for "
                f"weights={weights!r}. Got {product.path_weights!r}."
            )
        if channels % heads:
            raise ValueError(
                f"`GraphAttention(channels=...)` must be a multiple of heads = {heads}. "
                f"Got {channels}."
            )
        l_max = product.l_max
        self.product, self.heads = product, heads
        self.ends = EquivariantLinear(l_max, channels, 2 * channels, shared=shared)
        # Both products take their weights from one network: per channel, then per path.
        self.per_channel, self.per_path = weights != "path", weights != "shared"
        shapes: list[tuple[int, ...]] = [(channels,)] * (2 * self.per_channel)
        width = channels if weights == "path" else 1
        shapes += [(len(product.paths()), width)] * (2 * self.per_path)
        expand = [None] * (2 * self.per_channel) + [product.expand] * (2 * self.per_path)
        self.radial = RadialMLP(n_radial, hidden, shapes, expand)
        if self.per_path:
            with torch.no_grad():
                for weight in self.radial.last[-2:]:
                    weight[0] = 1  # the paths start alike
        self.scalars = nn.Linear(channels, 2 * channels)
        self.query = nn.Parameter(torch.randn(heads, channels // heads) * (heads / channels) ** 0.5)
        self.value = nn.Parameter(torch.randn(channels, channels) / math.sqrt(channels))
        self.out = EquivariantLinear(l_max, channels, channels, shared=shared)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,  # (n, m, c)
        edges: Edges,
    ) -> Tensor:  # (n, m, c)
        """Collect messages from the neighbours.

        Attention, gate and the weight per channel are scalars per edge and channel, and the
        second product is linear, so they are multiplied in one go before it.
        """
        n = x.shape[0]
        weights = self.radial(edges.radial)
        source, target = self.ends(x).chunk(2, -1)
        message = source.index_select(0, edges.sender) + target.index_select(0, edges.receiver)
        if self.per_channel:
            message = message * weights[0][:, None, :]
        first, second = weights[-2:] if self.per_path else (None, None)
        message = self.product.multiply(message, edges.prepared, first)
        score, gate = self.scalars(message.select(1, 0)).chunk(2, -1)
        score = smooth_leaky_relu(score).unflatten(-1, (self.heads, -1))
        logits = (score * self.query).sum(-1)
        attention = smooth_attention(logits, edges.envelope, edges.receiver, n)
        attention = self.dropout(attention)[..., None]
        gate = (torch.sigmoid(gate).unflatten(-1, (self.heads, -1)) * attention).flatten(1)
        if self.per_channel:
            gate = gate * weights[1]
        value = (message @ self.value) * gate[:, None, :]
        value = self.product.multiply(value, edges.prepared, second)
        out: Tensor = self.out(sum_to_receivers(value, edges.receiver, n))
        return out


def smooth_leaky_relu(
    x: Tensor,  # (...)
    slope: float = 0.2,
) -> Tensor:  # (...)
    """A leaky rectifier without a kink: slope x + (1 - slope) x sigmoid(x).

    Args:
        x: Any tensor.
        slope: Slope far on the negative side.

    Returns:
        Its values.

    References:
        Liao & Smidt, Equiformer (2023), appendix.
    """
    return slope * x + (1 - slope) * nn.functional.silu(x)
