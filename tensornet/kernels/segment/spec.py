"""What the kernels of segments compute; each is the derivative of the other."""

import torch
from torch import Tensor

from tensornet.kernels._registry import kernel


@kernel("e c, e<n, =n -> n c")
def segment_sum(
    x: Tensor,  # (e, c)
    receiver: Tensor,  # (e,)
    n: int,
) -> Tensor:  # (n, c)
    """Sum the rows of edges at their receivers.

    Edges may come in any order; they are added in that order, so that a result is the same to the
    last bit each time and for any number of threads.

    Args:
        x: One row per edge.
        receiver: For each edge the node it goes to, 0 to n - 1.
        n: Number of receivers.

    Returns:
        One row per receiver, zero where no edge goes.

    Raises:
        TypeError: If the receivers are not of int64.
        ValueError: If the shapes or devices differ from what is said above.
        IndexError: If a receiver is out of range. On a GPU the result is NaN instead.

    Derivatives:
        Any order, in x.

    Examples:
        >>> segment_sum(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([2, 0, 2]), 3)
        tensor([[2.],
                [0.],
                [4.]])
    """
    return torch.index_add(x.new_zeros(n, x.shape[1]), 0, receiver, x)


@kernel("n c, e<n -> e c")
def segment_rows(
    x: Tensor,  # (n, c)
    receiver: Tensor,  # (e,)
) -> Tensor:  # (e, c)
    """Give each edge the row of its receiver, the adjoint of `segment_sum`.

    Args:
        x: One row per receiver.
        receiver: For each edge the node it goes to, 0 to n - 1.

    Returns:
        One row per edge.

    Raises:
        TypeError: If the receivers are not of int64.
        ValueError: If the shapes or devices differ from what is said above.
        IndexError: If a receiver is out of range. On a GPU CUDA stops with an assertion.

    Derivatives:
        Any order, in x.

    Examples:
        >>> segment_rows(torch.tensor([[1.0], [2.0]]), torch.tensor([1, 0, 1]))
        tensor([[2.],
                [1.],
                [2.]])
    """
    return torch.index_select(x, 0, receiver)


@segment_sum.vjp
def _sum_vjp(
    needs: tuple[bool, ...], g: Tensor, x: Tensor, receiver: Tensor, n: int
) -> tuple[Tensor | None, ...]:
    return segment_rows(g, receiver), None, None


@segment_rows.vjp
def _rows_vjp(
    needs: tuple[bool, ...], g: Tensor, x: Tensor, receiver: Tensor
) -> tuple[Tensor | None, ...]:
    return segment_sum(g, receiver, x.shape[0]), None


segment_sum.offer("numba_cpu", device="cpu", at="tensornet.kernels.segment.cpu:total")
segment_sum.offer("numba_cuda", device="cuda", at="tensornet.kernels.segment.cuda:total")
segment_rows.offer("numba_cpu", device="cpu", at="tensornet.kernels.segment.cpu:rows")
for _kernel in (segment_sum, segment_rows):
    _kernel.case("no edges", e=0, n=3, c=2)
    _kernel.case("no columns", e=3, n=3, c=0)
    _kernel.case("one of each", e=1, n=1, c=1)
    _kernel.case("three edges", e=3, n=4, c=5)
    _kernel.case("few columns", e=50, n=7, c=4)
    _kernel.case("a vector and a rest", e=40, n=9, c=21)
    _kernel.case("whole vectors", e=30, n=5, c=32)
