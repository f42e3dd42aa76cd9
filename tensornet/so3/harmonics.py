"""Real spherical harmonics, in e3nn's order and axes, differentiable to any order."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tensornet import _check
from tensornet.kernels.harmonics.spec import harmonics

# By normalisation: the sum of the squares of the harmonics of degree l in one direction.
SQUARED_NORM: dict[str, Callable[[int], float]] = {
    "component": lambda l: 2 * l + 1.0,
    "integral": lambda l: (2 * l + 1) / (4 * math.pi),
    "norm": lambda l: 1.0,
}


def dim(l_max: int) -> int:
    """Give the number of harmonics of degrees 0 to `l_max`: (l_max + 1)².

    Args:
        l_max: Highest degree.

    Returns:
        Their number.

    Raises:
        TypeError: If `l_max` is no whole number.
        ValueError: If `l_max` is negative.

    Examples:
        >>> dim(2)
        9
    """
    _check.at_least("dim", 0, l_max=l_max)
    return (l_max + 1) ** 2


def degrees(l_max: int) -> Tensor:  # (m,)
    """Give the degree l of each flattened harmonic (l, m).

    Args:
        l_max: Highest degree.

    Returns:
        Whole numbers, each degree l repeated 2l + 1 times.

    Raises:
        TypeError: If `l_max` is no whole number.
        ValueError: If `l_max` is negative.

    Examples:
        >>> degrees(1)
        tensor([0, 1, 1, 1])
    """
    _check.at_least("degrees", 0, l_max=l_max)
    each = torch.arange(l_max + 1)
    return torch.repeat_interleave(each, 2 * each + 1)


def spherical_harmonics(
    vectors: Tensor,  # (..., 3)
    l_max: int,
    *,
    normalization: str = "component",
) -> Tensor:  # (..., m), m = (l_max + 1)²
    r"""Evaluate the real harmonics of degrees 0 to `l_max` in the directions of `vectors`.

    Degree l stands at the places l² to (l + 1)² - 1, with orders m from -l to l; the polar axis is
    y and degree one is (x, y, z), as in e3nn. Where a vector is zero its direction is undefined:
    all harmonics above degree zero are zero there, and so are all derivatives. A vector with a NaN
    or an infinite component gives a row of NaN.

    Args:
        vectors: Any length: only the direction counts.
        l_max: Highest degree.
        normalization: ``"component"`` (squares of a degree sum to 2l + 1), ``"integral"``
            (orthonormal on the sphere) or ``"norm"`` (squares sum to 1).

    Returns:
        The harmonics, in the dtype of `vectors`.

    Raises:
        TypeError: If `vectors` is no tensor of floating numbers, or `l_max` no whole number.
        ValueError: If the last axis is not 3, `l_max` is negative, or the normalisation unknown.

    Derivatives:
        Any order; first and second by kernels of their own.

    References:
        Varshalovich, Moskalev & Khersonskii, Quantum Theory of Angular Momentum, 5.6 (products of
        harmonics); conventions: e3nn 0.6, ``o3.spherical_harmonics``.

    Examples:
        >>> spherical_harmonics(torch.tensor([0.0, 2.0, 0.0]), 1).abs()
        tensor([1.0000, 0.0000, 1.7321, 0.0000])
    """
    where = "spherical_harmonics"
    if not isinstance(vectors, Tensor) or not vectors.is_floating_point():
        _check.one_kind(where, vectors=vectors)
    if vectors.shape[-1:] != (3,):
        _check.shapes(where, vectors=(vectors, "... 3"))
    if type(l_max) is not int or l_max < 0:
        _check.at_least(where, 0, l_max=l_max)
    if normalization not in SQUARED_NORM:
        _check.one_of(where, tuple(SQUARED_NORM), normalization=normalization)
    n_harmonics = (l_max + 1) ** 2
    flat = vectors if vectors.ndim == 2 else vectors.reshape(-1, 3)
    Y = harmonics(flat, n_harmonics)
    if flat is not vectors:
        Y = Y.reshape(*vectors.shape[:-1], n_harmonics)
    if normalization == "component":
        return Y
    scale = [SQUARED_NORM[normalization](l) / (2 * l + 1) for l in range(l_max + 1)]
    return Y * Y.new_tensor(scale).sqrt()[degrees(l_max).to(Y.device)]
