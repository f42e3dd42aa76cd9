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

    It is found from the harmonics themselves, as the solution of Y(rotation r) = D Y(r) on enough
    directions r to determine it, so that it cannot disagree with their conventions. Improper
    rotations are allowed, and give each degree its natural parity (-1)^l.

    Args:
        l_max: Highest degree.
        rotation: Orthogonal, determinant 1 or -1.

    Returns:
        A block-diagonal orthogonal matrix, in float64, on the device of `rotation`.

    Raises:
        TypeError: If `rotation` is no tensor, or `l_max` no whole number.
        ValueError: If `rotation` is not an orthogonal 3 by 3 matrix, or `l_max` is negative.

    Derivatives:
        Any order, in `rotation`.

    Examples:
        >>> wigner_d(1, -torch.eye(3)).diagonal().round()
        tensor([ 1., -1., -1., -1.], dtype=torch.float64)
    """
    _check.at_least("wigner_d", 0, l_max=l_max)
    if not isinstance(rotation, Tensor):
        raise TypeError(
            f"`wigner_d(rotation=...)` must be a torch.Tensor. Got {type(rotation).__name__}."
        )
    _check.shapes("wigner_d", rotation=(rotation, "3 3"))
    rotation = rotation.to(torch.float64)
    given = rotation.detach()
    eye = torch.eye(3, dtype=torch.float64, device=given.device)
    defect = float((given @ given.mT - eye).abs().max())
    if not defect < 1e-6:
        raise ValueError(
            "`wigner_d(rotation=...)` must be orthogonal. Got a matrix whose product with its "
            f"transpose is off the identity by {defect:.1e}."
        )
    generator = torch.Generator().manual_seed(20260117)
    r = torch.randn(4 * dim(l_max), 3, dtype=torch.float64, generator=generator).to(given.device)
    before, after = spherical_harmonics(r, l_max), spherical_harmonics(r @ rotation.mT, l_max)
    blocks = []
    for l in range(l_max + 1):
        block = slice(l * l, (l + 1) ** 2)
        blocks.append(torch.linalg.lstsq(before[:, block], after[:, block]).solution.mT)
    out: Tensor = torch.block_diag(*blocks)
    return out
