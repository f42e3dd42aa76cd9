"""Quantized trains: a mode of size 2^k as k modes of size two."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tensornet import _check
from tensornet.formats import train_sweeps
from tensornet.formats.decomposition import Decomposition
from tensornet.formats.format import check_kind
from tensornet.formats.tensor_train import TensorTrain
from tensornet.formats.train_cut import cut
from tensornet.formats.train_matrix import TTMatrix
from tensornet.formats.train_rounding import round_train
from tensornet.formats.train_svd import tensor_train


def quantize(
    x: Tensor | TensorTrain,  # (b^k_1, ..., b^k_n)
    *,
    base: int = 2,
    tolerance: float | None = None,
) -> Decomposition[TensorTrain]:  # (b, b, ..., b), k_1 + ... + k_n modes
    """Split every mode into modes of size `base`, the slowest digit first, as a train.

    Values of smooth functions on b^k points have small ranks then, and k n cores instead of b^k
    numbers. The new train is that of ``x.reshape(b, b, ...)``.

    Args:
        x: A dense tensor (a vector of values, say) or a train; sizes are powers of `base`.
        base: Size of the new modes.
        tolerance: Largest error relative to the norm. By default round-off.

    Returns:
        The train and its relative error, as from `tensor_train` or `round_train`.

    Raises:
        TypeError: If `x` is neither a train nor a tensor of floating or complex numbers.
        ValueError: If a size is no power of `base`, or `x` is empty or not finite.

    Derivatives:
        First order.

    References:
        Khoromskij, Constructive Approximation 34, 257 (2011).

    Examples:
        >>> quantize(torch.arange(16.0), tolerance=1e-5).value.ranks
        (1, 2, 2, 2, 1)
    """
    _check.at_least("quantize", 2, base=base)
    _check.tolerance("quantize", tolerance=tolerance)
    if not isinstance(x, TensorTrain):
        _check.dense("quantize", "x", x)
    digits = [_digits("quantize(x=...)", d, base) for d in x.shape]
    if isinstance(x, Tensor):
        return tensor_train(x.reshape([base] * sum(digits)), tolerance=tolerance)
    cores = [part for c, k in zip(x.cores, digits, strict=True) for part in _split(c, base, k)]
    return round_train(TensorTrain(tuple(cores), x.log_scale), tolerance=tolerance or 0.0)


def dequantize(
    x: TensorTrain,
    shape: Sequence[int],
) -> TensorTrain:
    """Join neighbouring modes to the sizes of `shape`, the inverse of `quantize`.

    Args:
        x: A train.
        shape: Sizes, each the product of some modes of `x` that follow each other.

    Returns:
        A train of this shape, exactly the same numbers.

    Raises:
        TypeError: If `x` is no train.
        ValueError: If the modes cannot be joined so.

    Derivatives:
        As those of a `TensorTrain`.

    Examples:
        >>> x = quantize(torch.arange(16.0), tolerance=1e-5).value
        >>> dequantize(x, (4, 4)).shape
        (4, 4)
    """
    check_kind("dequantize", "x", x, TensorTrain)
    rest, cores = list(x.cores), []
    for d in shape:
        joined = rest.pop(0) if rest else None
        while joined is not None and joined.shape[1] < d and rest:
            core = rest.pop(0)
            joined = (
                joined.reshape(-1, joined.shape[2]) @ core.reshape(core.shape[0], -1)
            ).reshape(joined.shape[0], -1, core.shape[2])
        if joined is None or joined.shape[1] != d:
            raise ValueError(
                f"`dequantize(shape=...)` must join modes of {x.shape}. Got {tuple(shape)}."
            )
        cores.append(joined)
    if rest:
        raise ValueError(
            f"`dequantize(shape=...)` must join all modes of {x.shape}. Got {tuple(shape)}."
        )
    return TensorTrain(tuple(cores), x.log_scale)


def quantize_matrix(
    A: TTMatrix,
    *,
    base: int = 2,
    tolerance: float | None = None,
) -> TTMatrix:
    """Split every pair of modes of a matrix into pairs of size `base`.

    Args:
        A: A matrix whose sizes are powers of `base`, the same for rows and columns of each core.
        base: Size of the new modes.
        tolerance: Largest error relative to the Frobenius norm. By default round-off.

    Returns:
        A matrix of ``k_1 + ... + k_n`` cores (r, base, base, r'), the slowest digits first.

    Raises:
        TypeError: If `A` is no TT-matrix.
        ValueError: If sizes are no powers of `base`, or rows and columns differ in them.

    Examples:
        >>> quantize_matrix(TTMatrix.identity((8,)), tolerance=1e-5).ranks
        (1, 1, 1, 1)
    """
    check_kind("quantize_matrix", "A", A, TTMatrix)
    _check.at_least("quantize_matrix", 2, base=base)
    _check.tolerance("quantize_matrix", tolerance=tolerance)
    cores: list[Tensor] = []
    for core in A.cores:
        r, o, i, after = core.shape
        k = _digits("quantize_matrix(A=...)", o, base)
        if i != o:
            raise ValueError(
                f"`quantize_matrix(A=...)` must have square cores. Got {o} and {i} in one."
            )
        order = [0, *(1 + p + k * s for p in range(k) for s in range(2)), 2 * k + 1]
        pairs = core.reshape(r, *[base] * (2 * k), after).permute(order)
        cores += _split(pairs.reshape(r, -1, after), base * base, k)
    train = round_train(TensorTrain(tuple(cores), A.log_scale), tolerance=tolerance or 0.0).value
    new = [c.reshape(c.shape[0], base, base, c.shape[2]) for c in train.cores]
    return TTMatrix(tuple(new), train.log_scale)


def _digits(where: str, d: int, base: int) -> int:
    k = max(1, round(math.log(d, base)))
    if base**k != d:
        raise ValueError(f"`{where}` must have sizes that are powers of {base}. Got {d}.")
    return k


def _split(core: Tensor, base: int, k: int) -> list[Tensor]:
    """Split a core (r, base^k, r') into k, exactly to round-off."""
    found, r, after = [], core.shape[0], core.shape[2]
    m, e = train_sweeps.split_scale(core.reshape(r * base, -1))
    for _ in range(k - 1):
        basis, _ = cut(m, 2 * torch.finfo(m.dtype).eps, None)
        found.append(basis.reshape(r, base, -1))
        r = basis.shape[1]
        m = (basis.mH @ m).reshape(r * base, -1)
    last = m.reshape(r, base, after)
    return [*found, last * torch.exp2(e.to(train_sweeps.real_dtype(m.dtype)))]
