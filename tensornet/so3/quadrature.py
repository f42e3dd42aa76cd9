"""Quadrature on the unit sphere: points and weights that integrate polynomials exactly."""

import math

import numpy as np
import torch
from torch import Tensor

from tensornet import _check


def gauss_legendre_grid(degree: int) -> tuple[Tensor, Tensor]:  # (g, 3), (g,)
    """Give the product rule of Gauss-Legendre heights and uniform longitudes.

    Exact for every polynomial up to `degree`; the smallest product rule that is.

    Args:
        degree: Highest total degree, such as 3 L for a product of three harmonics of degree L.

    Returns:
        Points on the unit sphere and positive weights that sum to 4 pi, in float64.

    Raises:
        TypeError: If `degree` is no whole number.
        ValueError: If `degree` is negative.

    Examples:
        >>> points, weights = gauss_legendre_grid(3)
        >>> len(weights), round(float(weights @ points[:, 2] ** 2 * 3 / (4 * math.pi)), 12)
        (8, 1.0)
    """
    _check.at_least("gauss_legendre_grid", 0, degree=degree)
    n_heights, n_longitudes = degree // 2 + 1, degree + 1
    y, w = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(n_heights))
    phi = 2 * math.pi * torch.arange(n_longitudes, dtype=torch.float64) / n_longitudes
    around = torch.stack([phi.sin(), torch.zeros_like(phi), phi.cos()], -1)
    points = (1 - y * y).sqrt()[:, None, None] * around
    points[..., 1] = y[:, None]
    weights = (w * (2 * math.pi / n_longitudes))[:, None].expand(n_heights, n_longitudes)
    return points.reshape(-1, 3), weights.reshape(-1).contiguous()
