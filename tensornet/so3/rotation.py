"""How harmonics turn with space."""

import torch
from torch import Tensor

from tensornet import _check
from tensornet.so3.harmonics import dim, spherical_harmonics


def wigner_d(
    l_max: int,
    rotation: Tensor,  # (3, 3)
) -> Tensor:  # (m, m), m = (l_max + 1)²
    """Give the matrix that rotates harmonics: Y(rotation r) = D Y(r).

    Found from the harmonics themselves, as the solution of Y(rotation r) = D Y(r) on directions
    r that determine it; so it cannot disagree with their conventions. Improper rotations are
    allowed, and give each degree its natural parity (-1)^l.

    Args:
        l_max: Highest degree.
        rotation: Orthogonal, determinant 1 or -1.

    Returns:
        A block-diagonal orthogonal matrix, in float64.

    Raises:
        ValueError: If `rotation` is not an orthogonal 3 by 3 matrix.

    Examples:
        >>> wigner_d(1, -torch.eye(3)).diagonal().round()
        tensor([ 1., -1., -1., -1.], dtype=torch.float64)
    """
    _check.shapes("wigner_d", rotation=(rotation, "3 3"))
    rotation = rotation.to(torch.float64)
    defect = float((rotation @ rotation.mT - torch.eye(3, dtype=torch.float64)).abs().max())
    if not defect < 1e-6:
        raise ValueError(
            "`wigner_d(rotation=...)` must be orthogonal. Got a matrix whose product with its "
            f"transpose is off the identity by {defect:.1e}."
        )
    generator = torch.Generator().manual_seed(20260117)
    r = torch.randn(4 * dim(l_max), 3, dtype=torch.float64, generator=generator)
    before, after = spherical_harmonics(r, l_max), spherical_harmonics(r @ rotation.mT, l_max)
    blocks = []
    for l in range(l_max + 1):
        block = slice(l * l, (l + 1) ** 2)
        blocks.append(torch.linalg.lstsq(before[:, block], after[:, block]).solution.mT)
    out: Tensor = torch.block_diag(*blocks)
    return out
