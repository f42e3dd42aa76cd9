"""Powers of a function on the sphere as sparse polynomials in its coefficients."""

import itertools
import math
from collections import Counter
from functools import cache

import torch
from torch import Tensor

from tensornet import _check
from tensornet.so3 import gauss_legendre_grid, spherical_harmonics


def gaunt_polynomials(
    l_max: int, order: int, l_out: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:  # (t, q), (t,), (t,)
    """List the monomials of all powers of a function on the sphere, cut at `l_out`.

    With f the function of coefficients x in orthonormal harmonics up to `l_max`, coefficient k of
    its power of degree q is the sum over the monomials of degree q with that k of ``values[t]``
    times the product of ``x[monomials[t]]``. What `GauntPower` makes on a grid, in the form that
    `kernels.symmetric_polynomial` takes: cheaper than the grid where degrees are low, and where
    only few degrees come out.

    Args:
        l_max: Highest degree of the function.
        order: Highest power, from one on.
        l_out: Highest degree of the powers; by default `l_max`.

    Returns:
        The components of each monomial, sorted, with (l_max + 1)² for none; the component k of the
        power; and the numbers, float64.

    Raises:
        TypeError: If an argument is no whole number.
        ValueError: If a degree is negative, `order` below one, or the list would be too long.

    References:
        Luo et al., Gaunt tensor products (2024): many-body interactions; Dusson et al., Atomic
        cluster expansion (2022), for the symmetry of the sum.

    Examples:
        >>> monomials, at_k, values = gaunt_polynomials(1, 2, 0)
        >>> monomials.tolist()  # the power one of degree zero, then the mean of the square
        [[0, 4], [0, 0], [1, 1], [2, 2], [3, 3]]
        >>> (values[1:] * (4 * torch.pi) ** 0.5).round(decimals=12).tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    l_out = l_max if l_out is None else l_out
    _check.at_least("gaunt_polynomials", 0, l_max=l_max, l_out=l_out)
    _check.at_least("gaunt_polynomials", 1, order=order)
    n = math.comb((l_max + 1) ** 2 + order - 1, order)
    if n > 200_000:
        raise ValueError(
            f"`gaunt_polynomials(l_max=..., order=...)` must have at most 200,000 products of "
            f"components. Got {n} for {l_max} and {order}. (Take `GauntPower`, on a grid.)"
        )
    monomials, at_k, values = _polynomials(l_max, order, l_out)
    return monomials.clone(), at_k.clone(), values.clone()


@cache
def _polynomials(l_max: int, order: int, l_out: int) -> tuple[Tensor, Tensor, Tensor]:
    points, weights = gauss_legendre_grid(order * l_max + l_out)
    top = max(l_max, l_out)
    Y = spherical_harmonics(points, top, normalization="integral")
    inputs, outputs = Y[:, : (l_max + 1) ** 2], weights[:, None] * Y[:, : (l_out + 1) ** 2]
    none = inputs.shape[1]
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for degree in range(1, order + 1):
        sets = list(itertools.combinations_with_replacement(range(none), degree))
        many = torch.tensor([_orders(s) for s in sets], dtype=torch.float64)
        listed = torch.tensor(sets)
        for part, times in zip(listed.split(4096), many.split(4096), strict=True):
            integrals = times[:, None] * (inputs[:, part].prod(-1).mT @ outputs)
            t, k = (integrals.abs() > 1e-12).nonzero(as_tuple=True)
            padded = torch.nn.functional.pad(part[t], (0, order - degree), value=none)
            found.append((padded, k, integrals[t, k]))
    monomials, at_k, values = (torch.cat(parts) for parts in zip(*found, strict=True))
    return monomials, at_k, values


def _orders(indices: tuple[int, ...]) -> int:
    """In how many orders the indices can be written."""
    same = math.prod(math.factorial(n) for n in Counter(indices).values())
    return math.factorial(len(indices)) // same
