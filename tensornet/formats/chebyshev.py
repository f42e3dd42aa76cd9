r"""Chebyshev series of one variable: points, transforms and calculus.

A series with coefficients c is sum over k of c_k T_k(x) on [-1, 1], T_k(cos t) = cos(k t). Every
function takes a matrix of coefficients (m, r), one series per column, or a vector (m,).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tensornet import _check
from tensornet.kernels import chebyshev_rows
from tensornet.kernels.chebyshev.spec import chebyshev_derivative


def points(
    m: int,
    low: float = -1.0,
    high: float = 1.0,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> Tensor:  # (m,)
    """Give the Chebyshev-Lobatto points, from `high` down to `low`.

    Every second of 2 m - 1 points is one of m points, so that samples can be refined. One point
    is the middle.

    Args:
        m: Number of points.
        low: Lower end.
        high: Upper end.
        dtype: Type of the numbers, by default torch's.
        device: Where they are to be.

    Raises:
        ValueError: If `m` is below one.

    Examples:
        >>> points(3, 0.0, 4.0)
        tensor([4., 2., 0.])
    """
    _check.at_least("points", 1, m=m)
    dtype = torch.get_default_dtype() if dtype is None else dtype
    k = torch.arange(m, dtype=torch.float64)
    # sin of a difference keeps the points symmetric to the last bit
    x = torch.sin(math.pi * (m - 1 - 2 * k) / (2 * max(m - 1, 1)))
    x = 0.5 * (low + high) + 0.5 * (high - low) * x
    if m > 1:
        x[0], x[-1] = high, low
    return x.to(dtype=dtype, device=device)


def to_coefficients(values: Tensor) -> Tensor:  # (m, ...) -> (m, ...)
    """Transform values at the Chebyshev points into coefficients of the interpolant (DCT-I).

    Args:
        values: Values at `points(m)` along the first axis.

    Returns:
        The coefficients of the polynomial of degree m - 1 through the values.

    Derivatives:
        Any order.

    Examples:
        >>> to_coefficients(points(4) ** 2).round(decimals=4) + 0.0
        tensor([0.5000, 0.0000, 0.5000, 0.0000])
    """
    m = values.shape[0]
    if m == 1 or values.numel() == 0:
        return values
    circle = torch.cat([values, values[1:-1].flip(0)])
    c = torch.fft.rfft(circle, dim=0).real / (m - 1)
    return torch.cat([0.5 * c[:1], c[1:-1], 0.5 * c[-1:]])


def to_values(coefficients: Tensor) -> Tensor:  # (m, ...) -> (m, ...)
    """Transform coefficients into the values at the Chebyshev points.

    Args:
        coefficients: Coefficients along the first axis.

    Derivatives:
        Any order.

    Examples:
        >>> to_values(torch.tensor([1.0, 1.0, 0.0]))
        tensor([2., 1., 0.])
    """
    m = coefficients.shape[0]
    if m == 1 or coefficients.numel() == 0:
        return coefficients
    inner = 0.5 * coefficients[1:-1]
    circle = torch.cat([coefficients[:1], inner, coefficients[-1:], inner.flip(0)])
    real: Tensor = torch.fft.rfft(circle, dim=0).real
    return real


def evaluate(
    x: Tensor,  # (n,)
    coefficients: Tensor,  # (m, r)
) -> Tensor:  # (n, r)
    """Evaluate all series at all points, by the kernel `chebyshev_rows`.

    Args:
        x: Points in [-1, 1].
        coefficients: One series per column.

    Raises:
        ValueError: If the shapes are others.
        TypeError: If the dtypes differ.

    Derivatives:
        Any order, in points and coefficients.

    Examples:
        >>> evaluate(torch.tensor([0.5]), torch.tensor([[1.0], [0.0], [2.0]]))
        tensor([[0.]])
    """
    _check.one_kind("evaluate", x=x, coefficients=coefficients)
    _check.shapes("evaluate", x=(x, "n"), coefficients=(coefficients, "m r"))
    return chebyshev_rows(x, coefficients)


def rows(x: Tensor, m: int) -> Tensor:  # (n,) -> (m, n)
    """Build T_0(x) .. T_{m-1}(x) by doubling: T_{k+j} = 2 T_k T_j - T_{k-j}.

    Args:
        x: Points in [-1, 1].
        m: Number of rows.

    Examples:
        >>> rows(torch.tensor([0.5]), 3).flatten()
        tensor([ 1.0000,  0.5000, -0.5000])
    """
    T = x.new_empty(m, len(x))
    T[0] = 1
    if m > 1:
        T[1] = x
    k = 1
    while k < m - 1:
        j = min(k, m - 1 - k)
        new = T[k + 1 : k + 1 + j]
        torch.mul(T[1 : 1 + j], 2 * T[k], out=new)
        new -= T[k - j : k].flip(0)
        k += j
    return T


def derivative(coefficients: Tensor) -> Tensor:  # (m, ...) -> (max(m - 1, 1), ...)
    """Differentiate series with respect to x in [-1, 1].

    Args:
        coefficients: Coefficients along the first axis.

    Derivatives:
        Any order.

    Examples:
        >>> derivative(torch.tensor([0.0, 0.0, 1.0]))  # T_2' = 4 T_1
        tensor([0., 4.])
    """
    m = len(coefficients)
    found = chebyshev_derivative(coefficients.reshape(m, -1))[: max(m - 1, 1)]
    return found.reshape(-1, *coefficients.shape[1:])


def integral(coefficients: Tensor) -> Tensor:  # (m, ...) -> (...)
    """Integrate series over [-1, 1].

    Args:
        coefficients: Coefficients along the first axis.

    Derivatives:
        Any order.

    Examples:
        >>> integral(torch.tensor([1.0, 5.0, 3.0]))
        tensor(0.)
    """
    k = torch.arange(0, len(coefficients), 2, device=coefficients.device)
    k = k.to(coefficients.dtype).reshape(-1, *[1] * (coefficients.ndim - 1))
    return (2 / (1 - k * k) * coefficients[::2]).sum(0)


def product(
    left: Tensor,  # (m, r)
    right: Tensor,  # (m', s)
) -> Tensor:  # (m + m' - 1, r, s)
    """Multiply every series of one matrix with every series of the other, exactly.

    Args:
        left: One series per column.
        right: One series per column.

    Derivatives:
        Any order.

    Examples:
        >>> x = torch.tensor([[0.0], [1.0]])
        >>> product(x, x).flatten()
        tensor([0.5000, 0.0000, 0.5000])
    """
    m = len(left) + len(right) - 1
    a, b = (to_values(pad(c, m)) for c in (left, right))
    return to_coefficients(a[:, :, None] * b[:, None, :])


def pad(coefficients: Tensor, m: int) -> Tensor:  # (m', ...) -> (m, ...)
    """Append zeros, or cut, so that there are `m` coefficients.

    Args:
        coefficients: Coefficients along the first axis.
        m: How many there are to be.

    Examples:
        >>> pad(torch.ones(1), 2)
        tensor([1., 0.])
    """
    more = m - len(coefficients)
    if more <= 0:
        return coefficients[:m]
    return torch.cat([coefficients, coefficients.new_zeros(more, *coefficients.shape[1:])])


def weighted(coefficients: Tensor, factor: float) -> Tensor:  # (m, ...) -> (m, ...)
    """Multiply the coefficients of T_0, as norms with the Chebyshev weight need it.

    Args:
        coefficients: Coefficients along the first axis.
        factor: The square root of two makes Frobenius norms those of L2 with the weight
            1 / sqrt(1 - x²), but for the constant sqrt(pi / 2).
    """
    return torch.cat([factor * coefficients[:1], coefficients[1:]])


def restrict(
    coefficients: Tensor,  # (m, r)
    low: float,
    high: float,
) -> Tensor:  # (m, r)
    """Give the series of the same polynomials on a part of [-1, 1], stretched to [-1, 1].

    Args:
        coefficients: One series per column.
        low: Lower end of the part.
        high: Upper end of the part.

    Derivatives:
        Any order in the coefficients.
    """
    x = points(len(coefficients), low, high, dtype=coefficients.dtype, device=coefficients.device)
    return to_coefficients(evaluate(x, coefficients))
