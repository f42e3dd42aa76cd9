"""The product on edges, summed at receivers, in one kernel, and products row by row."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tensornet.interop.e3nn.accelerate_swap import Swapped
from tensornet.interop.e3nn.convolution import TensorProductConv
from tensornet.interop.e3nn.instructions import of_module
from tensornet.interop.e3nn.product import TensorProduct, of_program
from tensornet.kernels import edge_convolution, sparse_product


def edges(n: int, like: Tensor) -> Tensor:  # (2, 6)
    """Some edges between `n` nodes, in no order."""
    rng = torch.Generator().manual_seed(0)
    return torch.randint(n, (2, 6), generator=rng).to(like.device)


def messages(product: Any, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Random features of four nodes, harmonics and weights of six edges."""
    sizes = (4, product.irreps_in1.dim), (6, product.irreps_in2.dim), (6, product.weight_numel)
    made = [like.new_empty(size).normal_().requires_grad_() for size in sizes]
    return made[0], made[1], made[2]


def summed(run: Any, x: Tensor, harmonics: Tensor, weight: Tensor, edge_index: Tensor) -> Tensor:
    """Multiply edge by edge, then sum: what is replaced."""
    products = run(x[edge_index[0]], harmonics, weight)
    zero = products.new_zeros(len(x), products.shape[1])
    sums: Tensor = zero.index_add(0, edge_index[1], products)
    return sums


class FusedProduct(Swapped):
    """An `e3nn.o3.TensorProduct` that gathers and sums as well, for callers that pass the edges."""

    how = "one kernel that gathers, multiplies and sums"
    kernel = edge_convolution

    def make(self) -> TensorProductConv:
        """Read the paths."""
        return TensorProductConv.from_product(self)

    def example(self, like: Tensor) -> tuple[Any, ...]:
        """Six edges."""
        return *messages(self, like), edges(4, like)

    def plain(self, *args: Any) -> Any:
        """Do it in three steps."""
        return summed(super().plain, *args)

    def forward(
        self,
        x: Tensor,  # (n, dim1)
        harmonics: Tensor,  # (e, dim2)
        weight: Tensor,  # (e, weights)
        edge_index: Tensor,  # (2, e)
    ) -> Tensor:  # (n, dim_out)
        """Multiply and sum."""
        return self.part(x)(x, harmonics, weight, edge_index)  # type: ignore[no-any-return]


class FastProduct(Swapped):
    """An `e3nn.o3.TensorProduct`, row by row."""

    how = "kernels of sparse products"
    kernel = sparse_product
    weight: Tensor
    internal_weights: bool
    shared_weights: bool
    weight_numel: int

    def make(self) -> TensorProduct:
        """Read the paths; the weights stay here."""
        return of_program(of_module(self), internal=False, shared=self.shared_weights)

    def example(self, like: Tensor) -> tuple[Any, ...]:
        """Some rows."""
        product: Any = self
        sizes = [(5, product.irreps_in1.dim), (5, product.irreps_in2.dim)]
        if self.weight_numel and not self.internal_weights:
            sizes.append((5,) * (not self.shared_weights) + (self.weight_numel,))  # type: ignore[arg-type]
        return tuple(like.new_empty(size).normal_().requires_grad_() for size in sizes)

    def forward(
        self,
        x: Tensor,  # (..., dim1)
        y: Tensor,  # (..., dim2)
        weight: Tensor | None = None,  # (weight_numel,) or (..., weight_numel)
    ) -> Tensor:  # (..., dim_out)
        """Multiply."""
        if weight is None and self.internal_weights:
            weight = self.weight
        return self.part(x)(x, y, weight)  # type: ignore[no-any-return]
