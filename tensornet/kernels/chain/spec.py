"""What the kernels of the chain of cores compute, and their derivatives.

Two kernels are adjoint to each other: `chain_step` takes one vector per point through a core,
`chain_moments` sums outer products at the points into a core.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tensornet import _check
from tensornet.kernels._registry import kernel

Gradients = tuple[Tensor | None, ...]


@kernel("n r, r d q, n<d -> n q")
def chain_step(
    left: Tensor,  # (n, r)
    core: Tensor,  # (r, d, q)
    index: Tensor,  # (n,)
) -> Tensor:  # (n, q)
    """Multiply one row vector per point by the slice of a core that its index names.

    ``out[n, q] = sum over r of left[n, r] core[r, index[n], q]``. The slices are not copied: points
    of one index are multiplied together.

    Args:
        left: Row vectors.
        core: Core of a tensor train.
        index: Whole numbers from 0 to d - 1.

    Returns:
        One row vector per point.

    Raises:
        TypeError: If the dtypes differ, or the index is not of int64.
        ValueError: If the shapes or devices differ from what is said above.
        IndexError: If an index is out of range. On a GPU the row is NaN instead.

    Derivatives:
        Any order, in the vectors and in the core.

    Examples:
        >>> core = torch.tensor([[[1.0], [10.0]]])
        >>> chain_step(torch.ones(3, 1), core, torch.tensor([1, 0, 1]))
        tensor([[10.],
                [ 1.],
                [10.]])
    """
    return torch.einsum("nr,rnq->nq", left, core.index_select(1, index))


@kernel("n r, n q, n<d, =d -> r d q")
def chain_moments(
    left: Tensor,  # (n, r)
    right: Tensor,  # (n, q)
    index: Tensor,  # (n,)
    d: int,
) -> Tensor:  # (r, d, q)
    """Sum outer products of two vectors per point into the slice that the point's index names.

    ``out[r, d, q] = sum over n with index[n] = d of left[n, r] right[n, q]``. On a GPU the order of
    the sum, and with it the last digit, is not always the same.

    Args:
        left: Row vectors.
        right: Row vectors.
        index: Whole numbers from 0 to d - 1.
        d: Number of slices.

    Returns:
        The gradient of a core.

    Raises:
        TypeError: If the dtypes differ, or the index is not of int64.
        ValueError: If the shapes or devices differ from what is said above.
        IndexError: If an index is out of range. On a GPU the point is left out instead.

    Derivatives:
        Any order, in the vectors.

    Examples:
        >>> chain_moments(torch.ones(3, 1), torch.ones(3, 1), torch.tensor([1, 0, 1]), 2)
        tensor([[[1.],
                 [2.]]])
    """
    products = torch.einsum("nr,nq->rnq", left, right)
    zero = products.new_zeros(left.shape[1], d, right.shape[1])
    return zero.index_add(1, index, products)


def chain(
    cores: Sequence[Tensor],  # each (r, d, r'), outer ranks 1
    index: Tensor,  # (n, order)
) -> Tensor:  # (n,)
    """Entries of a tensor train at many indices.

    Args:
        cores: Cores of the train.
        index: One row per entry, a whole number from 0 to d - 1 for each core.

    Returns:
        The entries.

    Raises:
        TypeError: If the dtypes differ, or the index is no tensor of int64.
        ValueError: If the cores do not fit together, or have no column of the index each.
        IndexError: If an index is out of range. On a GPU the entry is NaN instead.

    Derivatives:
        Any order, in the cores.

    Examples:
        >>> ones = torch.ones(1, 3, 2), torch.ones(2, 3, 1)
        >>> chain(ones, torch.tensor([[0, 1], [2, 2]]))
        tensor([2., 2.])
    """
    if not isinstance(index, Tensor):
        raise TypeError(f"`chain(index=...)` must be a torch.Tensor. Got {type(index).__name__}.")
    if not cores:
        raise ValueError("`chain(cores=...)` must hold one core per mode. Got none.")
    _check.shapes("chain", index=(index, "n order"))
    if index.shape[1] != len(cores):
        raise ValueError(
            f"`chain(index=...)` must have one column per core, {len(cores)}. Got {index.shape[1]}."
        )
    if cores[0].shape[0] != 1 or cores[-1].shape[-1] != 1:
        raise ValueError(
            "`chain(cores=...)` must begin and end with rank 1. "
            f"Got {cores[0].shape[0]} and {cores[-1].shape[-1]}."
        )
    row = cores[0].new_ones(index.shape[0], 1)
    for core, column in zip(cores, index.unbind(1), strict=True):
        row = chain_step(row, core, column)
    return row[:, 0]


@chain_step.vjp
def _step_vjp(
    needs: tuple[bool, ...], g: Tensor, left: Tensor, core: Tensor, index: Tensor
) -> Gradients:
    g_left = chain_step(g, core.conj().transpose(0, 2), index) if needs[0] else None
    g_core = chain_moments(left.conj(), g, index, core.shape[1]) if needs[1] else None
    return g_left, g_core, None


@chain_moments.vjp
def _moments_vjp(
    needs: tuple[bool, ...], g: Tensor, left: Tensor, right: Tensor, index: Tensor, d: int
) -> Gradients:
    g_left = chain_step(right.conj(), g.transpose(0, 2), index) if needs[0] else None
    g_right = chain_step(left.conj(), g, index) if needs[1] else None
    return g_left, g_right, None, None


for _kernel, _name in ((chain_step, "step"), (chain_moments, "moments")):
    _kernel.offer("numba_cpu", device="cpu", at=f"tensornet.kernels.chain.cpu:{_name}")
    _kernel.offer("numba_cuda", device="cuda", at=f"tensornet.kernels.chain.cuda:{_name}")
    _kernel.case("no points", n=0, r=2, d=3, q=4)
    _kernel.case("no rank", n=3, r=0, d=2, q=4)
    _kernel.case("one of each", n=1, r=1, d=1, q=1)
    _kernel.case("few points", n=4, r=2, d=5, q=3)
    _kernel.case("full vectors", n=40, r=5, d=3, q=16)
    _kernel.case("a real size", n=2000, r=24, d=20, q=23)
