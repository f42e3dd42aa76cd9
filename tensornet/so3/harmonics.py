"""Real spherical harmonics, in e3nn's order and axes, differentiable to any order."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tensornet import _check

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
    direction is undefined and all harmonics above degree zero are zero.

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
        Any order, away from the zero vector.

    References:
        Recurrence of the associated Legendre functions: DLMF 14.10.3; conventions: e3nn 0.6,
        ``o3.spherical_harmonics``.

    Examples:
        >>> spherical_harmonics(torch.tensor([0.0, 2.0, 0.0]), 1).abs()
        tensor([1.0000, 0.0000, 1.7321, 0.0000])
    """
    _check.shapes("spherical_harmonics", vectors=(vectors, "... 3"))
    _check.at_least("spherical_harmonics", 0, l_max=l_max)
    if normalization not in _SQUARED_NORM:
        raise ValueError(
            "`spherical_harmonics(normalization=...)` must be one of "
            f"{', '.join(_SQUARED_NORM)}. Got {normalization!r}."
        )
    squared = (vectors * vectors).sum(-1, keepdim=True)
    there = squared > 0
    unit = torch.where(there, vectors, 0.0) / torch.where(there, squared, 1.0).sqrt()
    # The textbook's axes (x, y, z) are e3nn's (z, x, y).
    y, z, x = unit.unbind(-1)
    one = there[..., 0].to(vectors.dtype)
    cosines, sines = [torch.ones_like(x)], [torch.zeros_like(x)]  # Re, Im of (x + iy)^m
    for _ in range(l_max):
        c, s = cosines[-1], sines[-1]
        cosines.append(c * x - s * y)
        sines.append(c * y + s * x)
    legendre: dict[tuple[int, int], Tensor] = {}
    for m in range(l_max + 1):
        # P_lm / sin^m: a polynomial in z, so that nothing is singular at the poles.
        legendre[m, m] = torch.full_like(z, float(math.prod(range(1, 2 * m, 2))))
        for l in range(m + 1, l_max + 1):
            below = legendre.get((l - 2, m))
            value = (2 * l - 1) * z * legendre[l - 1, m]
            if below is not None:
                value = value - (l + m - 1) * below
            legendre[l, m] = value / (l - m)
    columns = []
    for l in range(l_max + 1):
        norm = _SQUARED_NORM[normalization](l)
        for m in range(-l, l + 1):
            k = abs(m)
            factor = norm * (2 if k else 1) * math.factorial(l - k) / math.factorial(l + k)
            azimuth = sines[k] if m < 0 else cosines[k]
            value = math.sqrt(factor) * legendre[l, k] * azimuth
            columns.append(value if l == 0 else value * one)
    return torch.stack(columns, dim=-1)
