"""A tensor seen from one mode: its product with a matrix, its unfolding, and their Gram matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from tensornet import _check


def mode_product(
    x: Tensor,  # (d_1, ..., d_k, ..., d_n)
    matrix: Tensor,  # (r, d_k)
    mode: int,
) -> Tensor:  # (d_1, ..., r, ..., d_n)
    """Multiply one mode of a tensor by a matrix.

    ``y[..., a, ...] = sum over i of matrix[a, i] x[..., i, ...]``, as matrix products of views: no
    mode of a contiguous tensor is moved.

    Args:
        x: Tensor of order one or more.
        matrix: What the mode is multiplied by.
        mode: Which mode, from zero; negative ones count from the end.

    Returns:
        A tensor of the same order.

    Raises:
        ValueError: If there is no such mode, or the sizes do not fit.
        TypeError: If the dtypes differ.

    Derivatives:
        All orders.

    Examples:
        >>> import torch
        >>> mode_product(torch.ones(2, 3, 4), torch.ones(5, 3), 1).shape
        torch.Size([2, 5, 4])
    """
    _check.one_kind("mode_product", x=x, matrix=matrix)
    return mode_multiplied(x, matrix, checked_mode("mode_product", x.shape, matrix, mode))


def checked_mode(where: str, shape: Sequence[int], matrix: Tensor, mode: int) -> int:
    """Check that a matrix can multiply a mode, and count the mode from zero.

    Args:
        where: Name of the public call, for messages.
        shape: Shape of the tensor.
        matrix: What the mode is multiplied by.
        mode: Which mode; negative ones count from the end.

    Returns:
        The mode, not negative.

    Raises:
        TypeError: If `matrix` is no tensor.
        ValueError: If there is no such mode, or the sizes do not fit.
    """
    if not -len(shape) <= mode < len(shape):
        raise ValueError(
            f"`{where}(mode=...)` must be a mode of a tensor of order {len(shape)}. Got {mode}."
        )
    mode %= len(shape)
    _check.one_kind(where, matrix=matrix)
    if matrix.ndim != 2 or matrix.shape[1] != shape[mode]:
        raise ValueError(
            f"`{where}(matrix=...)` must have shape (r, {shape[mode]}), with the size of mode "
            f"{mode}. Got {tuple(matrix.shape)}."
        )
    return mode


def mode_multiplied(x: Tensor, matrix: Tensor, mode: int) -> Tensor:
    """Do what `mode_product` does, without its checks."""
    shape = list(x.shape)
    before, d, after = math.prod(shape[:mode]), shape[mode], math.prod(shape[mode + 1 :])
    shape[mode] = matrix.shape[0]
    if after == 1:
        return (x.reshape(before, d) @ matrix.mT).reshape(shape)
    if before == 1:
        return (matrix @ x.reshape(d, after)).reshape(shape)
    return (matrix @ x.reshape(before, d, after)).reshape(shape)


def gram(x: Tensor, mode: int) -> Tensor:  # (d_k, d_k)
    """Multiply an unfolding by its adjoint, without moving modes where that is cheap.

    Args:
        x: Tensor of order one or more.
        mode: Which mode, from zero.
    """
    d = x.shape[mode]
    after = math.prod(x.shape[mode + 1 :])
    if 0 < mode < x.ndim - 1 and d <= after:
        blocks = x.reshape(-1, d, after)
        return (blocks @ blocks.mH).sum(0)
    matrix = unfolded(x, mode)
    return matrix @ matrix.mH


def unfolded(x: Tensor, mode: int) -> Tensor:  # (d_k, product of the others)
    """Give the matrix whose rows are one mode; a view for the first and the last mode.

    Args:
        x: Tensor of order one or more.
        mode: Which mode becomes the rows, from zero.

    Examples:
        >>> import torch
        >>> unfolded(torch.ones(2, 3, 4), 1).shape
        torch.Size([3, 8])
    """
    d = x.shape[mode]
    if mode == x.ndim - 1:
        return x.reshape(-1, d).mT
    return x.movedim(mode, 0).reshape(d, -1)
