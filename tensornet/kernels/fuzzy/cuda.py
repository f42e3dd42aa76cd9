"""The fuzzy product on a GPU: conversions by torch, the product by the sparse kernel."""

import torch
from torch import Tensor

from tensornet.kernels.sparse.cuda import KERNELS as KERNELS
from tensornet.kernels.sparse.cuda import product


def fuzzy(
    x: Tensor, y: Tensor, basis: Tensor, i: Tensor, j: Tensor, k: Tensor, values: Tensor
) -> Tensor:
    """`fuzzy_product`."""
    X, Y = (torch.einsum("mi,nic->nmc", basis, t).contiguous() for t in (x, y))
    Z = product(X, Y, i, j, k, values, len(basis))
    return torch.einsum("mi,nmc->nic", basis, Z).contiguous()
