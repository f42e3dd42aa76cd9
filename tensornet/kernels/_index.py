"""Whole numbers that name places: refusing those out of range, and sorting by the others.

Kernels sum over what has the same index without atomics: sorted first, then in a fixed order.
"""

from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from tensornet.kernels import _bridge

Array = np.ndarray[Any, Any]


def refuse(name: str, argument: str, index: Any, n: int) -> NoReturn:
    """Say that an index, of which there is at least one number, is not within 0 to n - 1.

    Args:
        name: Of the kernel, for the message.
        argument: Its argument.
        index: A tensor or an array.
        n: How many places there are.

    Raises:
        IndexError: Always.
    """
    raise IndexError(
        f"`{name}({argument}=...)` must be from 0 to {n - 1}. "
        f"Got {int(index.min())} to {int(index.max())}."
    )


@_bridge.jit
def _inside(index, n):  # type: ignore[no-untyped-def]  # Numba infers them
    """Whether all are from 0 to n - 1."""
    low, high = 0, -1
    for e in range(len(index)):
        low, high = min(low, index[e]), max(high, index[e])
    return low >= 0 and high < n


def check_range(name: str, argument: str, index: Array, n: int) -> None:
    """Refuse an index unless all its numbers are from 0 to n - 1; arguments as of `refuse`.

    Raises:
        IndexError: If one is not.
    """
    if not _inside(index, n):
        refuse(name, argument, index, n)


@_bridge.jit
def counting_sort(index, order, starts):  # type: ignore[no-untyped-def]
    """Places in the order of their index, and where each index starts; whether all are in range."""
    n = len(starts) - 1
    for s in range(n + 1):
        starts[s] = 0
    for k in range(len(index)):
        if index[k] < 0 or index[k] >= n:
            return False
        starts[index[k]] += 1
    total = 0
    for s in range(n + 1):
        count = starts[s]
        starts[s] = total
        total += count
    for k in range(len(index)):
        order[starts[index[k]]] = k
        starts[index[k]] += 1
    for s in range(n, 0, -1):
        starts[s] = starts[s - 1]
    starts[0] = 0
    return True


def sorted_places(name: str, argument: str, index: Tensor, n: int) -> tuple[Array, Array]:
    """Sort on the CPU, in linear time; places of the same index keep their order.

    Args:
        name: Of the kernel, for the message.
        argument: Its argument.
        index: Numbers from 0 to n - 1.
        n: How many there may be.

    Returns:
        Places in the order of their index, and where each of the n begins, (n + 1,).

    Raises:
        IndexError: If a number is out of range.
    """
    order, starts = np.empty(len(index), np.int64), np.empty(n + 1, np.int64)
    if not counting_sort(*_bridge.arrays(index), order, starts):
        refuse(name, argument, index, n)
    return order, starts


def order_and_starts(index: Tensor, n: int) -> tuple[Tensor, Tensor]:  # (e,), (n + 1,)
    """Sort where the tensor is, without a look at its numbers, for which a GPU would have to wait.

    Args:
        index: Numbers from 0 to n - 1.
        n: How many there may be.

    Returns:
        As `sorted_places`. Negative numbers stand before the first start, those that are too large
        behind the last one.
    """
    ordered, order = torch.sort(index, stable=True)
    return order, torch.searchsorted(ordered, torch.arange(n + 1, device=index.device))
