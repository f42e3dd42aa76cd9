"""Checks of matrix-product states at their public doors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def site_of(where: str, site: int, order: int) -> int:
    """Check a site, and count it from zero.

    Args:
        where: Name of the public call with its argument, for messages.
        site: The site; negative ones count from the end.
        order: Number of sites.

    Returns:
        The site, not negative.

    Raises:
        TypeError: If it is no whole number.
        IndexError: If there is no such site.
    """
    if isinstance(site, bool) or not isinstance(site, int):
        raise TypeError(f"`{where}` must be a whole number. Got {site!r}.")
    if not -order <= site < order:
        raise IndexError(f"`{where}` must be a site of a chain of {order}. Got {site}.")
    return site % order


def check_bond(method: str, bond: int, order: int) -> None:
    """Check that there is a bond between a site and the next one.

    Args:
        method: Name of the method, for the message.
        bond: The left one of the two sites.
        order: Number of sites.

    Raises:
        IndexError: If there is none.
    """
    if not 0 <= bond < order - 1:
        bonds = f"in 0 to {order - 2}" if order > 1 else "of two sites or more"
        raise IndexError(f"`MPS.{method}(bond=...)` must be {bonds}. Got {bond}.")


def refuse_zero(method: str, is_zero: Tensor) -> None:
    """Refuse the state zero.

    Args:
        method: Name of the method, for the message.
        is_zero: Whether it is zero, ().

    Raises:
        ValueError: If it is.
    """
    if bool(is_zero):
        raise ValueError(f"`MPS.{method}` must have a state that is not zero. Got zero.")


def check_gauge(cores: Sequence[Tensor], k: int) -> None:
    """Check that cores are orthonormal towards core k.

    Args:
        cores: Of a matrix-product state.
        k: The centre.

    Raises:
        ValueError: If one is not, to round-off.
    """
    for j, core in enumerate(cores):
        if j == k:
            continue
        left = j < k
        matrix = core.detach().flatten(0, 1) if left else core.detach().flatten(1, 2).mH
        gram = matrix.mH @ matrix
        gram.diagonal().sub_(1)
        limit = 1e3 * torch.finfo(core.dtype).eps * math.sqrt(len(matrix))
        error = float(torch.linalg.vector_norm(gram))
        if not error <= limit:
            raise ValueError(
                f"`MPS(center={k})` must have cores orthonormal towards it. Got core {j} that "
                f"is off by {error:.1e} from the {'left' if left else 'right'}. (Leave the "
                "centre out, and call `canonical`.)"
            )
