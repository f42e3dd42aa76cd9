"""Draws from the squared entries of a matrix-product state."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def drawn(
    cores: Sequence[Tensor],  # (r, d, r') each
    n: int,
    generator: torch.Generator,
) -> Tensor:  # (n, order), whole numbers
    """Draw site by site: what is still to come is orthonormal, so partial products tell all.

    Args:
        cores: Of a state that is not zero, orthonormal from the right but for the first.
        n: How many.
        generator: Source of the draws.

    Returns:
        Indices with the probabilities of their squared entries.

    References:
        Ferris & Vidal, Phys. Rev. B 85, 165146 (2012).
    """
    m = cores[0].new_ones(n, 1)
    found = []
    for core in cores:
        a, d, b = core.shape
        moved = (m @ core.reshape(a, d * b)).view(n, d, b)
        index = torch.multinomial(moved.abs().square().sum(2), 1, generator=generator)
        found.append(index[:, 0])
        m = moved.gather(1, index[:, :, None].expand(n, 1, b))[:, 0]
        m = m / torch.linalg.vector_norm(m, dim=1, keepdim=True)
    return torch.stack(found, 1)
