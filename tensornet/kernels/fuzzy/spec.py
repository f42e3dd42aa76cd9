"""What the kernel of the fuzzy product computes, and its derivatives.

With a basis B the form ``sum over t of values[t] (B x)[i[t]] (B y)[j[t]] (B g)[k[t]]`` is the same
for its three arguments, but for the places in the list; the product is its slope in g.
"""

import torch
from torch import Tensor

from tensornet.kernels._registry import kernel
from tensornet.kernels.sparse import sparse_product

Gradients = tuple[Tensor | None, ...]


@kernel("n i c, n i c, m i, t<m, t<m, t<m, t -> n i c")
def fuzzy_product(
    x: Tensor,  # (n, i, c)
    y: Tensor,  # (n, i, c)
    basis: Tensor,  # (m, i)
    at_i: Tensor,  # (t,)
    at_j: Tensor,  # (t,)
    at_k: Tensor,  # (t,)
    values: Tensor,  # (t,)
) -> Tensor:  # (n, i, c)
    """Multiply two features channel by channel in another basis, where the product is sparse.

    ``out = basisᵀ z`` with ``z[k] = sum over t with at_k[t] = k of values[t] (basis x)[at_i[t]]
    (basis y)[at_j[t]]``. Where the basis holds matrices and the list multiplies them, this is the
    product on a fuzzy sphere. Zeros of the basis cost nothing.

    Args:
        x: First input.
        y: Second input, of as many channels.
        basis: What the components of a feature are in the other basis, mostly zeros.
        at_i: Places of the first input there, one per number of the list.
        at_j: Places of the second input.
        at_k: Places of the result.
        values: Numbers of the list.

    Returns:
        The product.

    Raises:
        TypeError: If the dtypes differ, or indices are not of int64.
        ValueError: If the shapes or devices differ from what is said above.
        IndexError: If an index is out of range. On a GPU the numbers it concerns are NaN instead.

    Derivatives:
        Any order, in the inputs, the basis and the values.

    Examples:
        >>> x, basis = torch.tensor([[[1.0], [2.0]]]), torch.tensor([[1.0, 1.0], [1.0, -1.0]])
        >>> at = torch.tensor([0, 1])
        >>> fuzzy_product(x, x, basis, at, at, at, torch.ones(2)).flatten()
        tensor([10.,  8.])
    """
    X, Y = (torch.einsum("mi,nic->nmc", basis, t) for t in (x, y))
    pairs = X.index_select(1, at_i) * Y.index_select(1, at_j) * values[:, None]
    Z = pairs.new_zeros(X.shape).index_add(1, at_k, pairs)
    return torch.einsum("mi,nmc->nic", basis, Z).contiguous()


@fuzzy_product.vjp
def _fuzzy_vjp(
    needs: tuple[bool, ...], h: Tensor, x: Tensor, y: Tensor, basis: Tensor,
    i: Tensor, j: Tensor, k: Tensor, values: Tensor,
) -> Gradients:  # fmt: skip
    x, y, c, B = x.conj(), y.conj(), values.conj(), basis.conj()
    gx = gy = gb = gc = None
    if needs[0]:
        gx = fuzzy_product(h, y, B, k, j, i, c)
    if needs[1]:
        gy = fuzzy_product(x, h, B, i, k, j, c)
    if needs[2] or needs[6]:  # kept fixed by models
        X, Y, H = B @ x, B @ y, B @ h
        if needs[2]:
            m = len(basis)
            Z = sparse_product(X, Y, i, j, k, c, m)
            gb = torch.einsum("nmc,nic->mi", sparse_product(H, Y, k, j, i, c, m), x)
            gb = gb + torch.einsum("nmc,nic->mi", sparse_product(X, H, i, k, j, c, m), y)
            gb = gb + torch.einsum("nmc,nic->mi", Z, h)
        if needs[6]:
            pairs = X.index_select(1, i) * Y.index_select(1, j) * H.index_select(1, k)
            gc = pairs.sum((0, 2))
    return gx, gy, gb, None, None, None, gc


fuzzy_product.offer("numba_cpu", device="cpu", at="tensornet.kernels.fuzzy.cpu:fuzzy")
fuzzy_product.offer("numba_cuda", device="cuda", at="tensornet.kernels.fuzzy.cuda:fuzzy")
fuzzy_product.case("no rows", n=0, i=2, m=2, t=2, c=2)
fuzzy_product.case("no numbers", n=2, i=2, m=3, t=0, c=2)
fuzzy_product.case("one of each", n=1, i=1, m=1, t=1, c=1)
fuzzy_product.case("two rows", n=2, i=2, m=3, t=4, c=2)
fuzzy_product.case("one channel, many rows", n=53, i=4, m=5, t=30, c=1)
fuzzy_product.case("a vector and a rest", n=5, i=4, m=9, t=60, c=19)
fuzzy_product.case("many channels", n=3, i=9, m=16, t=300, c=64)
