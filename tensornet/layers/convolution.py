"""The convolution of an equivariant network, as a module: one fused pass over the edges."""

import math

import torch
from torch import Tensor

from tensornet import _check
from tensornet.kernels import edge_convolution, sparse_coupling
from tensornet.products.base import Constants
from tensornet.products.coupling import Path, block
from tensornet.so3 import dim, wigner_3j


class EdgeConvolution(Constants):
    """Features of neighbours times harmonics of edges, a weight per path and channel, summed up.

    The weights come from outside, usually from a network of the distance. Degrees of the features
    that are sent, of the harmonics and of the result may differ. No message is stored: a kernel
    gathers, multiplies and sums in one pass. Features that are white, with harmonics in component
    normalisation and weights of unit size, make white messages: path (l1, l2, l3) is scaled by
    sqrt(2 l3 + 1), over the root of the number of paths that end in l3.

    Args:
        l_max: Highest degree of the features.
        l_max_edge: Of the harmonics; by default `l_max`.
        l_max_out: Of the result; by default `l_max`.
        odd_paths: Whether paths of odd l1 + l2 + l3 are kept, which only SO(3) allows.

    Raises:
        ValueError: If a degree is negative.

    Derivatives:
        Any order, in features, harmonics and weights.

    References:
        Thomas et al., Tensor field networks (2018), section 4.1; Batzner et al., NequIP (2022),
        equation 3.

    Examples:
        >>> layer = EdgeConvolution(1)
        >>> layer.paths
        ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0))
        >>> x, y = torch.randn(2, 4, 3), torch.randn(1, 4)
        >>> sender, receiver = torch.tensor([0]), torch.tensor([1])
        >>> layer(x, y, torch.ones(1, 4, 3), sender, receiver).shape
        torch.Size([2, 4, 3])
    """

    def __init__(
        self,
        l_max: int,
        l_max_edge: int | None = None,
        l_max_out: int | None = None,
        *,
        odd_paths: bool = False,
    ) -> None:
        super().__init__()
        edge = l_max if l_max_edge is None else l_max_edge
        out = l_max if l_max_out is None else l_max_out
        _check.at_least("EdgeConvolution", 0, l_max=l_max, l_max_edge=edge, l_max_out=out)
        self.l_max, self.l_max_edge, self.l_max_out = l_max, edge, out
        self.paths: tuple[Path, ...] = tuple(
            (a, b, c)
            for a in range(l_max + 1)
            for b in range(edge + 1)
            for c in range(abs(a - b), min(out, a + b) + 1)
            if odd_paths or (a + b + c) % 2 == 0
        )
        listed = [self._path(p, path) for p, path in enumerate(self.paths)]
        columns = [torch.cat(parts) for parts in zip(*listed, strict=True)]
        for name, column in zip(("at_i", "at_j", "at_k", "at_p", "values"), columns, strict=True):
            self._constant(name, column)

    at_i: Tensor
    at_j: Tensor
    at_k: Tensor
    at_p: Tensor
    values: Tensor

    def _path(self, p: int, path: Path) -> tuple[Tensor, ...]:
        """The numbers of one path and where they stand."""
        same_end = sum(other[2] == path[2] for other in self.paths)
        scale = math.sqrt((2 * path[2] + 1) / same_end)
        *at, zero, values = sparse_coupling(wigner_3j(*path)[None])
        starts = [s.start for s in block(path)]
        return *(x + start for x, start in zip(at, starts, strict=True)), zero + p, scale * values

    def forward(
        self,
        x: Tensor,  # (n, i, c)
        harmonics: Tensor,  # (e, j)
        weight: Tensor,  # (e, p, c)
        sender: Tensor,  # (e,)
        receiver: Tensor,  # (e,)
        n_receivers: int | None = None,
    ) -> Tensor:  # (v, k, c)
        """Sum the messages at every receiver.

        Args:
            x: Features, (l_max + 1)² components.
            harmonics: Of the edges, (l_max_edge + 1)² components.
            weight: One per edge, path (in the order of `paths`) and channel.
            sender: For each edge the node it comes from.
            receiver: For each edge the node it goes to. Edges sorted by receiver are fastest.
            n_receivers: Number of nodes that receive; by default all n.

        Returns:
            One row per receiver, (l_max_out + 1)² components, zero where no edge ends.

        Raises:
            TypeError: If dtypes differ.
            ValueError: If shapes do not fit.
            IndexError: If a node is out of range.
        """
        _check.shapes(
            "EdgeConvolution",
            x=(x, f"n {dim(self.l_max)} c"),
            harmonics=(harmonics, f"e {dim(self.l_max_edge)}"),
            weight=(weight, f"e {len(self.paths)} c"),
        )
        v = x.shape[0] if n_receivers is None else n_receivers
        coupling = self.at_i, self.at_j, self.at_k, self.at_p, self.values
        ends = sender, receiver
        return edge_convolution(x, harmonics, weight, *ends, *coupling, v, dim(self.l_max_out))

    def extra_repr(self) -> str:
        """Say the degrees in `print(model)`."""
        degrees = f"{self.l_max}, l_max_edge={self.l_max_edge}, l_max_out={self.l_max_out}"
        return f"l_max={degrees}, paths={len(self.paths)}"
