"""The Clebsch-Gordan product: all paths, from the numbers of the coupling that are not zero."""

import torch
from torch import Tensor

from tensornet.kernels import edge_convolution, sparse_product, weighted_product
from tensornet.products.base import Cost, Product
from tensornet.products.coupling import block

ZERO = 1e-13  # of numbers of size one: what is smaller is rounding


class ClebschGordanProduct(Product):
    """The sum over all paths of the coupling of degrees, each with a weight of its own if wanted.

    Arguments, shapes, weights and errors are those of `Product`. Weights may be those of a layer,
    without batch axes, or belong to samples, as those of edges do. A second input of one channel is
    contracted with the coupling first, once for all channels.

    Derivatives:
        Any order, to all inputs.

    Examples:
        >>> product = ClebschGordanProduct(1).double()
        >>> x = torch.ones(4, 2, dtype=torch.float64)
        >>> product(x, x)[0, 0]  # 1 + the scalar product of two vectors over the square root of 3
        tensor(2.7321, dtype=torch.float64)
    """

    def __init__(self, l_max: int, path_weights: str = "none", *, odd_paths: bool = True) -> None:
        super().__init__(l_max, path_weights, odd_paths=odd_paths)
        target = self.target()
        places, values = [], []
        for p, path in enumerate(self.paths()):
            part = target[block(path)]
            at = (part.abs() > ZERO).nonzero()
            values.append(part[tuple(at.T)])
            corner = torch.tensor([l * l for l in path])
            places.append(torch.cat([at + corner, torch.full_like(at[:, :1], p)], 1))
        for name, index in zip("ijkp", torch.cat(places).T, strict=True):
            self._constant(f"at_{name}", index.contiguous())
        self._constant("values", torch.cat(values))
        if path_weights != "path":
            self._constant("unfolded", target.permute(1, 2, 0).flatten(1))  # (j, k i)

    unfolded: Tensor
    at_i: Tensor
    at_j: Tensor
    at_k: Tensor
    at_p: Tensor
    values: Tensor

    def prepare(
        self,
        x2: Tensor,  # (..., j, c) or (..., j, 1)
    ) -> Tensor:  # as x2
        """Leave the second input as it is."""
        return x2

    def multiply(self, x1: Tensor, prepared: Tensor, expanded: Tensor | None) -> Tensor:
        """Sum over the numbers of the coupling."""
        x1 = self._on_input(x1, expanded)
        w = expanded if self.path_weights == "path" else None
        batch = torch.broadcast_shapes(*(t.shape[:-2] for t in (x1, prepared, w) if t is not None))
        n, c = batch.numel(), x1.shape[-1]
        x = x1.expand(*batch, -1, -1).reshape(n, self.dim, c)
        y = prepared.expand(*batch, -1, -1).reshape(n, self.dim, prepared.shape[-1])
        if w is not None:
            w = w.expand(*w.shape[:-1], c)
            w = w[None] if w.ndim == 2 else w.expand(*batch, -1, -1).reshape(n, *w.shape[-2:])
        out = self._edges(x, y[..., 0], w) if y.shape[-1] != c else self._features(x, y, w)
        return self._on_output(out.reshape(*batch, self.dim, c), expanded)

    def _features(self, x: Tensor, y: Tensor, w: Tensor | None) -> Tensor:
        """Multiply channel by channel."""
        at = self.at_i, self.at_j, self.at_k
        if w is None:
            return sparse_product(x, y, *at, self.values, self.dim)
        return weighted_product(x, y, w, *at, self.at_p, self.values, self.dim)

    def _edges(self, x: Tensor, y: Tensor, w: Tensor | None) -> Tensor:
        """Multiply all channels by the same second input."""
        if w is None:
            matrices: Tensor = (y @ self.unfolded).unflatten(1, (self.dim, self.dim))
            return matrices @ x
        n = len(x)
        each = torch.arange(n, device=x.device)  # every sample is a node with one edge, to itself
        return edge_convolution(
            x, y, w.expand(n, -1, -1), each, each,
            self.at_i, self.at_j, self.at_k, self.at_p, self.values, n, self.dim,
        )  # fmt: skip

    def to_dense(self) -> Tensor:  # (i, j, k)
        """Give the coupling itself."""
        dense = self.values.new_zeros((self.dim,) * 3)
        return dense.index_put((self.at_i, self.at_j, self.at_k), self.values, accumulate=True)

    def cost(self, n: int, channels: int) -> Cost:
        """Count the coupling with the second input, and what every channel multiplies by that."""
        extra = {"none": 0, "shared": self.dim, "separable": 2 * self.dim}
        if self.path_weights != "path":
            once, each = self.dim**3, self.dim**2 + extra[self.path_weights]
        else:
            columns = self.at_p * self.dim + self.at_i  # weighted once each
            cells = (columns * self.dim + self.at_k).unique()
            once, each = len(self.values), len(cells) + len(columns.unique())
        return Cost(n * (once + channels * each), self._traffic(n, channels))
