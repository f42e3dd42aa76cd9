"""The fuzzy product on a GPU: conversions by torch, the product by the sparse kernel."""

from torch import Tensor

from tensornet.kernels.sparse.cuda import KERNELS as KERNELS
from tensornet.kernels.sparse.cuda import product


def fuzzy(
    x: Tensor, y: Tensor, basis: Tensor, i: Tensor, j: Tensor, k: Tensor, values: Tensor
) -> Tensor:
    """`fuzzy_product`."""
    X, Y = (basis @ x).contiguous(), (basis @ y).contiguous()
    return (basis.mT @ product(X, Y, i, j, k, values, len(basis))).contiguous()
