"""The matrix product: features are matrices of a small spin, and matrices are multiplied."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tensornet.products.base import Cost, Product
from tensornet.so3 import wigner_3j


class MatrixProduct(Product):
    """The product of matrices on which rotations act by conjugation: all paths, few numbers.

    Features are coefficients of an orthonormal basis of n by n matrices, n = 2 s + 1 for the
    smallest whole spin s that holds degree `l_max`; the product is that of the matrices, cut at
    `l_max`. Even paths come from half the anticommutator, odd ones from half the commutator. All
    paths are there up to degree four; from five on a few are zero, as `interactability` tells.

    Args:
        l_max: Highest degree.
        path_weights: ``"none"``, ``"shared"`` or ``"separable"``, as in `Product`.
        odd_paths: Whether the commutator is kept. Without it both orders are multiplied.

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
        self._constant("basis", transposed.flatten(0, 1))  # (b a, m)

    basis: Tensor

    def prepare(
        self,
        x2: Tensor,  # (..., j, c) or (..., j, 1)
    ) -> Tensor:  # (..., n n, c) or (..., n n, 1)
        """Make matrices of the second input."""
        return self.basis @ x2

    def multiply(self, x1: Tensor, prepared: Tensor, expanded: Tensor | None) -> Tensor:
        """Make matrices, multiply them, and read the product's coefficients."""
        X = (self.basis @ self._on_input(x1, expanded)).unflatten(-2, (self.n, self.n))
        Y = prepared.unflatten(-2, (self.n, self.n))
        product = _matmul(Y, X)
        if not self.odd_paths:
            # The other order is the transpose of the product of transposes.
            other = _matmul(Y.transpose(-3, -2), X.transpose(-3, -2))
            product = (product + other.transpose(-3, -2)) / 2
        return self._on_output(self.basis.mT @ product.flatten(-3, -2), expanded)

    def to_dense(self) -> Tensor:  # (i, j, k)
        """Multiply all pairs of basis matrices."""
        B = self.basis.mT.unflatten(-1, (self.n, self.n))
        tensor = torch.einsum("iba,jcb,kca->ijk", B, B, B)
        return tensor if self.odd_paths else (tensor + tensor.transpose(0, 1)) / 2

    def cost(self, n: int, channels: int) -> Cost:
        """Count what sparse conversions and the product of matrices multiply.

        A basis matrix has few numbers, repeated with both signs, so a component is multiplied by
        each of them once. (The torch code multiplies by zeros and repetitions too; kernels skip
        them.)
        """
        conversion = self.n_conversion
        matmul = self.n**3 * (1 if self.odd_paths else 2)
        multiplies = n * (channels * (2 * conversion + matmul) + conversion)
        return Cost(multiplies, self._traffic(n, channels) + 8 * n * self.n**2)

    @property
    def n_conversion(self) -> int:
        """Number of multiplications that make a matrix of a feature."""
        rounded = (self._exact["basis"].abs() * 1e12).round()
        return sum(len(column[column > 0].unique()) for column in rounded.T)


def _matmul(
    Y: Tensor,  # (..., a, b, c) or (..., a, b, 1)
    X: Tensor,  # (..., b, d, c)
) -> Tensor:  # (..., a, d, c)
    """Multiply matrices, channels last."""
    if Y.shape[-1] == 1:
        out: Tensor = (Y[..., 0] @ X.flatten(-2)).unflatten(-1, X.shape[-2:])
        return out
    product = Y[..., :, 0, None, :] * X[..., None, 0, :, :]
    for b in range(1, X.shape[-3]):
        product = product + Y[..., :, b, None, :] * X[..., None, b, :, :]
    return product
