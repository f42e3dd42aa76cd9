"""Features in e3nn's order, and in ours."""

from typing import Any

import torch
from torch import Tensor

from tensornet import _check
from tensornet.interop.e3nn.instructions import Irreps, ProductError
from tensornet.so3 import dim


def from_e3nn(
    x: Tensor,  # (..., irreps.dim)
    irreps: Any,
) -> Tensor:  # (..., m, c), m = (l_max + 1)²
    """Take features from e3nn's order to ours: degrees flattened in order, channels last.

    Args:
        x: Features whose rows hold, block by block, the components of each channel.
        irreps: What they are: one block per degree 0, 1, ... l_max, of equal multiplicity c. Any
            parities.

    Returns:
        The same numbers, a component per row.

    Raises:
        ValueError: If `irreps` are others, or `x` has another last axis.

    Derivatives:
        Any order; the map is linear and orthogonal.

    Examples:
        >>> from_e3nn(torch.arange(8.0), "2x0e + 2x1o")
        tensor([[0., 1.],
                [2., 5.],
                [3., 6.],
                [4., 7.]])
    """
    l_max, channels = _uniform("from_e3nn", irreps)
    _check.shapes("from_e3nn", x=(x, f"... {channels * dim(l_max)}"))
    sizes = [channels * (2 * l + 1) for l in range(l_max + 1)]
    parts = [part.unflatten(-1, (channels, -1)).mT for part in x.split(sizes, -1)]
    return torch.cat(parts, -2)


def to_e3nn(
    x: Tensor,  # (..., m, c), m = (l_max + 1)²
    irreps: Any = None,
) -> Tensor:  # (..., irreps.dim)
    """Take features from our order to e3nn's, as `from_e3nn` back.

    Args:
        x: Features, degrees flattened in order, channels last.
        irreps: What the result shall be; by default what fits. Only checked.

    Returns:
        The same numbers, in rows.

    Raises:
        ValueError: If `irreps` are not one block per degree 0, 1, ... l_max of equal multiplicity,
            or do not fit `x`.

    Derivatives:
        Any order; the map is linear and orthogonal.

    Examples:
        >>> to_e3nn(torch.arange(8.0).view(4, 2))
        tensor([0., 1., 2., 4., 6., 3., 5., 7.])
    """
    if x.ndim < 2 or x.shape[-2] < 1 or round(x.shape[-2] ** 0.5) ** 2 != x.shape[-2]:
        raise ProductError(
            f"`to_e3nn(x=...)` must have shape (..., (l_max + 1)², channels). Got {tuple(x.shape)}."
        )
    if irreps is not None:
        l_max, channels = _uniform("to_e3nn", irreps)
        _check.shapes("to_e3nn", x=(x, f"... {dim(l_max)} {channels}"))
    n_l = round(x.shape[-2] ** 0.5)
    parts = x.split([2 * l + 1 for l in range(n_l)], -2)
    return torch.cat([part.mT.flatten(-2) for part in parts], -1)


def _uniform(where: str, irreps: Any) -> tuple[int, int]:
    """Highest degree and multiplicity, where all degrees up to it are there once."""
    read = Irreps(irreps)
    muls = {block.mul for block in read}
    if len(muls) != 1 or 0 in muls or [block.ir.l for block in read] != list(range(len(read))):
        raise ProductError(
            f"`{where}(irreps=...)` must have one block per degree 0, 1, ... l_max, of equal "
            f"multiplicity. Got {read}."
        )
    return len(read) - 1, int(read[0].mul)
