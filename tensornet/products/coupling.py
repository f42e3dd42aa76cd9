"""Third-order equivariant tensors: which harmonics of two inputs make which of the output."""

import math
from functools import cache

import torch
from torch import Tensor

from tensornet import _check
from tensornet.so3 import degrees, dim, gauss_legendre_grid, spherical_harmonics, wigner_3j

Path = tuple[int, int, int]
KINDS = ("clebsch_gordan", "gaunt", "poisson", "matrix")


def paths(l_max: int, *, odd_paths: bool = True) -> tuple[Path, ...]:
    """List the degrees (l1, l2, l3) that couple, all up to `l_max`.

    Args:
        l_max: Highest degree of inputs and output.
        odd_paths: Whether to list those of odd l1 + l2 + l3 too. They turn true vectors into
            pseudovectors, so features of natural parity (-1)^l go without them.

    Returns:
        The triples in lexicographic order, which is that of weights per path.

    Raises:
        TypeError: If `l_max` is no whole number.
        ValueError: If `l_max` is negative.

    Examples:
        >>> paths(1, odd_paths=False)
        ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0))
    """
    _check.at_least("paths", 0, l_max=l_max)
    return tuple(
        (a, b, c)
        for a in range(l_max + 1)
        for b in range(l_max + 1)
        for c in range(abs(a - b), min(l_max, a + b) + 1)
        if odd_paths or (a + b + c) % 2 == 0
    )


def block(path: Path) -> tuple[slice, slice, slice]:
    """Give the place of a path's block in a coupling tensor.

    Args:
        path: Degrees (l1, l2, l3) of the inputs and the output.

    Returns:
        A slice for each axis of a tensor (i, j, k).
    """
    first, second, third = (slice(l * l, (l + 1) ** 2) for l in path)
    return first, second, third


def coupling(kind: str, l_max: int) -> Tensor:  # (i, j, k), each of size (l_max + 1)²
    """Give an equivariant coupling as a dense tensor: the definition that products are held to.

    Args:
        kind: ``"clebsch_gordan"``: the sum of all `wigner_3j` blocks, weight one each (the target
            of TDN). ``"gaunt"``: integrals of three orthonormal harmonics. ``"poisson"``:
            integrals of r·(∇Y_i x ∇Y_j) Y_k, the odd paths. ``"matrix"``: products of the
            matrices that represent harmonics on a fuzzy sphere of the smallest integer spin.
        l_max: Highest degree on all three sides.

    Returns:
        Index order first input, second input, output; float64.

    Raises:
        TypeError: If `l_max` is no whole number.
        ValueError: If the kind is unknown or `l_max` negative.

    References:
        Lin et al., Tensor Decomposition Networks (2025), section 3; Luo et al., Gaunt tensor
        products (2024), section 3.1; Hoppe's fuzzy sphere for ``"matrix"``.

    Examples:
        >>> round(float(coupling("gaunt", 1).square().sum()), 10)
        0.7957747155
    """
    _check.one_of("coupling", KINDS, kind=kind)
    _check.at_least("coupling", 0, l_max=l_max)
    return _coupling(kind, l_max).clone()


def even_part(
    tensor: Tensor,  # (i, j, k), each of size (l_max + 1)²
) -> Tensor:  # (i, j, k)
    """Keep the paths of even l1 + l2 + l3, which features of natural parity can carry.

    Args:
        tensor: Any coupling with all degrees from zero on, on all three sides.

    Returns:
        The tensor with zeros on the other paths.
    """
    parity = [1 - 2 * (degrees(math.isqrt(d) - 1) % 2) for d in tensor.shape]
    sign = parity[0][:, None, None] * parity[1][:, None] * parity[2]
    return torch.where(sign.to(tensor.device) > 0, tensor, 0.0)


@cache
def _coupling(kind: str, l_max: int) -> Tensor:
    if kind == "clebsch_gordan":
        d = dim(l_max)
        tensor = torch.zeros(d, d, d, dtype=torch.float64)
        for path in paths(l_max):
            tensor[block(path)] = wigner_3j(*path)
        return tensor
    if kind == "matrix":
        return _matrix(l_max)
    points, weights = gauss_legendre_grid(3 * l_max)
    if kind == "gaunt":
        Y = spherical_harmonics(points, l_max, normalization="integral")
        return torch.einsum("g,gi,gj,gk->ijk", weights, Y, Y, Y)
    Y, gradients = with_gradients(points, l_max)
    crossed = torch.linalg.cross(gradients[:, :, None, :], gradients[:, None, :, :], dim=-1)
    return torch.einsum("g,gijx,gx,gk->ijk", weights, crossed, points, Y)


def with_gradients(
    points: Tensor,  # (g, 3)
    l_max: int,
) -> tuple[Tensor, Tensor]:  # (g, m), (g, m, 3)
    """Give orthonormal harmonics and their gradients, tangential since only directions count.

    Args:
        points: Points on the unit sphere.
        l_max: Highest degree.
    """

    def harmonics(r: Tensor) -> Tensor:
        return spherical_harmonics(r, l_max, normalization="integral")

    jacobian = torch.func.vmap(torch.func.jacfwd(harmonics))(points)
    return harmonics(points), jacobian


def _matrix(l_max: int) -> Tensor:
    spin = math.ceil(l_max / 2)
    basis = torch.cat(
        [math.sqrt(2 * l + 1) * wigner_3j(spin, spin, l).permute(2, 0, 1) for l in range(l_max + 1)]
    )
    return torch.einsum("iab,jbc,kac->ijk", basis, basis, basis)
