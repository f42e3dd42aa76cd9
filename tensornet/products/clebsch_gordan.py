"""The Clebsch-Gordan product by its dense definition: the oracle of the room."""

import torch
from torch import Tensor

from tensornet.products.base import Cost, Product
from tensornet.products.coupling import block


class ClebschGordanProduct(Product):
    """The sum over all paths of the coupling of degrees, written as it is defined.

    Slow and never optimised; every other product of the room is tested against it. Arguments,
    shapes and weights are those of `Product`.

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
        if path_weights == "path":
            blocks = torch.zeros(len(self.paths()), *target.shape, dtype=torch.float64)
            for p, path in enumerate(self.paths()):
                blocks[p][block(path)] = target[block(path)]
            target = blocks
        self._constant("tensor", target)

    tensor: Tensor

    def prepare(self, x2: Tensor) -> Tensor:
        """Leave the second input as it is."""
        return x2

    def multiply(self, x1: Tensor, prepared: Tensor, expanded: Tensor | None) -> Tensor:
        """Sum over all pairs of components."""
        pairs = self._on_input(x1, expanded)[..., :, None, :] * prepared[..., None, :, :]
        if self.path_weights == "path":
            assert expanded is not None
            blocks = torch.einsum("pijk,...ijc->...pkc", self.tensor, pairs)
            return (blocks * expanded[..., :, None, :]).sum(-3)
        return self._on_output(torch.einsum("ijk,...ijc->...kc", self.tensor, pairs), expanded)

    def to_dense(self) -> Tensor:  # (i, j, k)
        """Give the coupling itself."""
        return self.tensor.sum(0) if self.path_weights == "path" else self.tensor

    def cost(self, n: int, channels: int) -> Cost:
        """Count the dense definition: all pairs, then all of the tensor."""
        multiplies = n * channels * (self.dim**2 + self.tensor.numel())
        return Cost(multiplies, self._traffic(n, channels))
