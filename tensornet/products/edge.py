"""The exact product with the harmonics of an edge: contract the edge first."""

import torch
from torch import Tensor

from tensornet.products.base import Cost, Product
from tensornet.products.coupling import block


class EdgeProduct(Product):
    """The Clebsch-Gordan product with a one-channel second input, as a small matrix per edge.

    The harmonics of an edge are the same for all channels, so they are contracted with the
    coupling once, to a matrix of size (l_max + 1)², and the channels only meet that matrix:
    (l_max + 1)⁴ multiplications per edge and channel instead of a sum over the coupling.
    Layers that share edges share the matrix, from `prepare`.

    Arguments, shapes, weights and errors are those of `Product`; `x2` has one channel.

    Derivatives:
        Any order, to all inputs.

    Examples:
        >>> product = EdgeProduct(1).double()
        >>> x, y = torch.ones(4, 2, dtype=torch.float64), torch.ones(4, 1, dtype=torch.float64)
        >>> product(x, y)[0]
        tensor([2.7321, 2.7321], dtype=torch.float64)
    """

    def __init__(self, l_max: int, path_weights: str = "none", *, odd_paths: bool = True) -> None:
        super().__init__(l_max, path_weights, odd_paths=odd_paths)
        target = self.target()
        if path_weights != "path":
            self._constant("unfolded", target.permute(1, 2, 0).flatten(1))  # (j, k i)
            return
        # One row per path and component of the output: the paths stay apart until weighted.
        rows, path_of_row, gather = [], [], []
        for p, path in enumerate(self.paths()):
            only = torch.zeros_like(target)
            only[block(path)] = target[block(path)]
            outputs = torch.arange(path[2] ** 2, (path[2] + 1) ** 2)
            rows.append(only[:, :, outputs].permute(1, 2, 0))
            path_of_row.append(torch.full_like(outputs, p))
            gather.append(torch.eye(self.dim, dtype=target.dtype)[:, outputs])
        self._constant("unfolded", torch.cat(rows, 1).flatten(1))  # (j, row i)
        self.register_buffer("path_of_row", torch.cat(path_of_row), persistent=False)
        self._constant("gather", torch.cat(gather, 1))  # (k, row)

    unfolded: Tensor
    path_of_row: Tensor
    gather: Tensor

    def prepare(
        self,
        x2: Tensor,  # (..., j, 1)
    ) -> Tensor:  # (..., k, i), or (..., row, i) with a weight per path
        """Contract the edge harmonics with the coupling: the matrices of the edges.

        Raises:
            ValueError: If `x2` has more than one channel.
        """
        self._check_one_channel(x2)
        out: Tensor = (x2[..., 0] @ self.unfolded).unflatten(-1, (-1, self.dim))
        return out

    def expand(
        self,
        weight: Tensor,  # (..., *weight_shape)
    ) -> Tensor:  # (..., c), (..., 2, k, c) or (..., row, c)
        """Repeat weights for the components or rows they act on."""
        if self.path_weights == "path":
            return weight.index_select(-2, self.path_of_row)
        return super().expand(weight)

    def multiply(self, x1: Tensor, prepared: Tensor, expanded: Tensor | None) -> Tensor:
        """Multiply features by the matrices of their edges.

        Path weights that all channels share go into the matrix, and cost nothing per channel.
        """
        if self.path_weights != "path":
            return self._on_output(prepared @ self._on_input(x1, expanded), expanded)
        assert expanded is not None
        if expanded.shape[-1] == 1:
            return (self.gather @ (prepared * expanded)) @ x1
        return self.gather @ ((prepared @ x1) * expanded)

    def to_dense(self) -> Tensor:  # (i, j, k)
        """Give the coupling, read back from what is stored."""
        stored: Tensor = self.unfolded.unflatten(-1, (-1, self.dim)).permute(2, 0, 1)
        if self.path_weights != "path":
            return stored
        return stored @ self.gather.mT

    def cost(self, n: int, channels: int) -> Cost:
        """Count the matrix of each edge and its product with the channels."""
        rows = self.unfolded.shape[1] // self.dim
        multiplies = n * rows * self.dim * (self.dim + channels)
        return Cost(multiplies, self._traffic(n, channels) + 8 * n * rows * self.dim)
