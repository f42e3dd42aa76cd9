"""Quadrature nodes on the sphere with as few points as symmetry gives."""

from torch import Tensor

from tensornet.so3 import gauss_legendre_grid


def sphere_rule(degree: int) -> tuple[Tensor, Tensor]:  # (g, 3), (g,)
    """Give the smallest rule known here that is exact for polynomials up to `degree`."""
    return gauss_legendre_grid(degree)
