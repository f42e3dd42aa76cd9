"""Real spherical harmonics, in e3nn's order and axes, differentiable to any order."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tensornet import _check
from tensornet.kernels.harmonics.spec import harmonics

_SQUARED_NORM: dict[str, Callable[[int], float]] = {
    "component": lambda l: 2 * l + 1.0,
    "integral": lambda l: (2 * l + 1) / (4 * math.pi),
    "norm": lambda l: 1.0,
}


def dim(l_max: int) -> int:
    """Give the number of harmonics of degrees 0 to `l_max`: (l_max + 1)².

    Examples:
        >>> dim(2)
        9
    """
    return (l_max + 1) ** 2


def degrees(l_max: int) -> Tensor:  # (m,)
    """Give the degree l of each flattened harmonic (l, m).

    Examples:
        >>> degrees(1)
        tensor([0, 1, 1, 1])
    """
    counts = 2 * torch.arange(l_max + 1) + 1
    return torch.repeat_interleave(torch.arange(l_max + 1), counts)


def spherical_harmonics(
    vectors: Tensor,  # (..., 3)
    l_max: int,
    *,
    normalization: str = "component",
) -> Tensor:  # (..., m), m = (l_max + 1)²
    r"""Evaluate the real harmonics of degrees 0 to `l_max` in the directions of `vectors`.

    They are the angular part of edges. Degree l stands at l² to (l + 1)², orders m from -l to l;
    the polar axis is y and degree one is (x, y, z), as in e3nn. Where a vector is zero its
    direction is undefined: all harmonics above degree zero are zero there, and all derivatives.
    A vector that is not a number, or infinite, gives a row that is not a number.

    Args:
        vectors: Any length: only the direction counts.
        l_max: Highest degree.
        normalization: ``"component"`` (squares of a degree sum to 2l + 1), ``"integral"``
            (orthonormal on the sphere) or ``"norm"`` (squares sum to 1).

    Returns:
        The harmonics, in the dtype of `vectors`.

    Raises:
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
    if not isinstance(vectors, Tensor) or vectors.shape[-1:] != (3,):
        _check.shapes("spherical_harmonics", vectors=(vectors, "... 3"))
    if type(l_max) is not int or l_max < 0:
        _check.at_least("spherical_harmonics", 0, l_max=l_max)
    if normalization not in _SQUARED_NORM:
        raise ValueError(
            "`spherical_harmonics(normalization=...)` must be one of "
            f"{', '.join(_SQUARED_NORM)}. Got {normalization!r}."
        )
    flat = vectors if vectors.ndim == 2 else vectors.reshape(-1, 3)
    Y = harmonics(flat, dim(l_max))
    if flat is not vectors:
        Y = Y.reshape(*vectors.shape[:-1], dim(l_max))
    if normalization == "component":
        return Y
    scale = [_SQUARED_NORM[normalization](l) / (2 * l + 1) for l in range(l_max + 1)]
    return Y * Y.new_tensor(scale).sqrt()[degrees(l_max).to(Y.device)]
