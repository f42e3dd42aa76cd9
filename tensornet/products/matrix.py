"""The matrix product: features are matrices of a small spin, and matrices are multiplied."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tensornet.kernels import fuzzy_product
from tensornet.products.base import Cost, Product, one_batch
from tensornet.so3 import wigner_3j

ZERO = 1e-13  # of a basis of numbers around one: what is smaller is rounding


class MatrixProduct(Product):
    """The product of matrices on which rotations act by conjugation: all paths, n³ multiplications.

    Features are coefficients in an orthonormal basis of n by n matrices, n = 2 s + 1 for the
    smallest whole spin s that holds degree `l_max`; the product is that of the matrices, cut at
    `l_max`. Even paths come from half the anticommutator, odd ones from half the commutator. All
    paths are there up to degree four; from five on a few are zero, as `interactability` tells.

    Args:
        l_max: Highest degree.
        path_weights: ``"none"``, ``"shared"`` or ``"separable"``, as in `Product`.
        odd_paths: Whether the commutator is kept. Without it the product is the mean of both
            orders of multiplication.

    Raises:
        ValueError: If weights per path are asked for.

    Derivatives:
        Any order, to all inputs.

    References:
        Hoppe, Quantum theory of a massless relativistic surface (1982); Varshalovich, Moskalev &
        Khersonskii, Quantum Theory of Angular Momentum, 2.4 (polarisation operators).

    Examples:
        >>> product = MatrixProduct(1).double()
        >>> x = torch.tensor([[0.0], [1.0], [0.0], [0.0]], dtype=torch.float64)
        >>> y = torch.tensor([[0.0], [0.0], [1.0], [0.0]], dtype=torch.float64)
        >>> product(x, y)[:, 0].abs()  # two vectors at right angles: the third is left
        tensor([0.0000, 0.0000, 0.0000, 0.3536], dtype=torch.float64)
    """

    kind = "matrix"

    def __init__(self, l_max: int, path_weights: str = "none", *, odd_paths: bool = True) -> None:
        super().__init__(l_max, path_weights, odd_paths=odd_paths)
        if path_weights == "path":
            raise ValueError(
                "`MatrixProduct(path_weights=...)` must be none, shared or separable, since a "
                "product of matrices has no paths. Got 'path'. (Take `ClebschGordanProduct` or "
                "`EdgeProduct`.)"
            )
        spin = math.ceil(l_max / 2)
        self.n = 2 * spin + 1
        columns = [
            math.sqrt(2 * l + 1) * wigner_3j(spin, spin, l).flatten(0, 1) for l in range(l_max + 1)
        ]
        # Matrices are stored transposed, so (XY)ᵀ = YᵀXᵀ has the channels of X last without a copy.
        transposed = torch.cat(columns, 1).unflatten(0, (self.n, self.n)).transpose(0, 1)
        basis = transposed.flatten(0, 1)
        self._constant("basis", torch.where(basis.abs() > ZERO, basis, 0.0))  # (b a, m)
        a, b, c = torch.cartesian_prod(*[torch.arange(self.n)] * 3).T
        first, second, result = b * self.n + a, c * self.n + b, c * self.n + a
        if not odd_paths:  # half of both orders
            first, second, result = (
                torch.cat(two) for two in ((first, second), (second, first), (result, result))
            )
        for name, places in (("at_i", first), ("at_j", second), ("at_k", result)):
            self._constant(name, places)
        half = 1.0 if odd_paths else 0.5
        self._constant("values", torch.full((len(first),), half, dtype=torch.float64))

    basis: Tensor
    at_i: Tensor
    at_j: Tensor
    at_k: Tensor
    values: Tensor

    def prepare(
        self,
        x2: Tensor,  # (..., j, c) or (..., j, 1)
    ) -> Tensor:  # (..., j, c) or (..., n n, 1)
        """Make matrices of a second input of one channel; leave any other as it is."""
        return self.basis @ x2 if x2.shape[-1] == 1 else x2

    def multiply(self, x1: Tensor, prepared: Tensor, expanded: Tensor | None) -> Tensor:
        """Make matrices, multiply them, and read the product's coefficients."""
        x1 = self._on_input(x1, expanded)
        if prepared.shape[-1] == 1:
            return self._on_output(self._edges(x1, prepared), expanded)
        x, y, batch = one_batch(x1, prepared)
        out = fuzzy_product(x, y, self.basis, self.at_i, self.at_j, self.at_k, self.values)
        return self._on_output(out.reshape(*batch, *out.shape[-2:]), expanded)

    def _edges(self, x1: Tensor, prepared: Tensor) -> Tensor:
        """Multiply all channels by the same matrices, which is a product of larger matrices."""
        X = (self.basis @ x1).unflatten(-2, (self.n, self.n))
        Y = prepared[..., 0].unflatten(-1, (self.n, self.n))
        product = (Y @ X.flatten(-2)).unflatten(-1, X.shape[-2:])
        if not self.odd_paths:
            # The other order is the transpose of the product of transposes.
            other = (Y.mT @ X.transpose(-3, -2).flatten(-2)).unflatten(-1, X.shape[-2:])
            product = (product + other.transpose(-3, -2)) / 2
        out: Tensor = self.basis.mT @ product.flatten(-3, -2)
        return out

    def to_dense(self) -> Tensor:  # (i, j, k)
        """Multiply all pairs of basis matrices."""
        B = self.basis.mT.unflatten(-1, (self.n, self.n))
        tensor = torch.einsum("iba,jcb,kca->ijk", B, B, B)
        return tensor if self.odd_paths else (tensor + tensor.transpose(0, 1)) / 2

    def cost(self, n: int, channels: int) -> Cost:
        """Count the conversions, without zeros, and the product of matrices.

        (A second input of one channel is converted once. There torch multiplies by the zeros of
        the basis too; the kernel for many channels skips them.)
        """
        conversion = int((self.basis != 0).sum())
        matmul = self.n**3 * (1 if self.odd_paths else 2)
        multiplies = n * (channels * (2 * conversion + matmul) + conversion)
        return Cost(multiplies, self._traffic(n, channels) + 8 * n * self.n**2)
