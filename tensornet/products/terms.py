"""Products whose coupling is stored in CP format, as a sum of terms."""

from __future__ import annotations

import torch
from torch import Tensor

from tensornet.kernels import cp_product, cp_scaled
from tensornet.products.base import Cost, Product, one_batch


class TermProduct(Product):
    """A product in r terms, out = Cᵀ ((A x1) * (B x2)); subclasses register A, B and C.

    Arguments, shapes and weights are those of `Product`.
    """

    A: Tensor  # (r, i)
    B: Tensor  # (r, j)
    C: Tensor  # (r, k)

    def prepare(
        self,
        x2: Tensor,  # (..., j, c) or (..., j, 1)
    ) -> Tensor:  # (..., j, c) or (..., r, 1)
        """Take a second input of one channel to the terms. One of many stays as it is."""
        return self.B @ x2 if x2.shape[-1] == 1 else x2

    def multiply(self, x1: Tensor, prepared: Tensor, expanded: Tensor | None) -> Tensor:
        """Take the inputs to the terms, multiply there, and come back: terms stay in the cache."""
        x1, other, batch = one_batch(self._on_input(x1, expanded), prepared)
        if other.shape[-1] == 1:
            out = cp_scaled(x1, other.squeeze(-1), self.A, self.C)
        else:
            out = cp_product(x1, other, self.A, self.B, self.C)
        return self._on_output(out.reshape(*batch, *out.shape[-2:]), expanded)

    def to_dense(self) -> Tensor:  # (i, j, k)
        """Sum the terms up."""
        return torch.einsum("ri,rj,rk->ijk", self.A, self.B, self.C)

    def cost(self, n: int, channels: int) -> Cost:
        """Count the three small matrix products and the product of terms."""
        terms = len(self.A)
        multiplies = n * terms * (channels * (2 * self.dim + 1) + self.dim)
        return Cost(multiplies, self._traffic(n, channels) + 8 * n * terms)
