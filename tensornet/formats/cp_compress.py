"""Orthogonal compression of a tensor to the few directions its terms can use."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tensornet.linalg.mode_product import gram, mode_multiplied, unfolded
from tensornet.linalg.truncation import truncate

# Below this ratio of squared singular values, the Gram matrix no longer sees the smaller one.
_GRAM_FLOOR = 1e-12


def compress(x: Tensor, rank: int) -> tuple[Tensor, list[Tensor | None], float]:
    """Cut every mode to at most `rank` directions, one mode after the other.

    Args:
        x: Tensor.
        rank: Largest size to keep.

    Returns:
        The core, an orthonormal basis (d_k, rank) per mode or none where nothing was cut, and
        the largest ratio of a dropped to the last kept squared singular value.

    References:
        Vannieuwenhoven, Vandebril & Meerbergen, SIAM J. Sci. Comput. 34, A1027 (2012).
    """
    bases: list[Tensor | None] = [None] * x.ndim
    ratio = 0.0
    for k in sorted(range(x.ndim), key=lambda k: -x.shape[k]):
        if x.shape[k] <= rank:
            continue
        values, vectors = torch.linalg.eigh(gram(x, k))
        basis = vectors[:, -rank:].flip(1)
        if float(values[-rank]) < _GRAM_FLOOR * float(values[-1]):
            basis = truncate(unfolded(x, k), rank=rank, method="svd").left
        else:
            ratio = max(ratio, float(values[-rank - 1]) / float(values[-rank]))
        bases[k] = basis
        x = mode_multiplied(x, basis.mT, k)
    return x, bases, ratio


def project_all(x: Tensor, bases: Sequence[Tensor | None]) -> Tensor:
    """Contract every mode that has a basis.

    Args:
        x: Tensor.
        bases: One per mode.
    """
    for k in sorted(range(x.ndim), key=lambda k: -x.shape[k]):
        basis = bases[k]
        x = x if basis is None else mode_multiplied(x, basis.mT, k)
    return x


def expand(factors: Sequence[Tensor], bases: Sequence[Tensor | None]) -> list[Tensor]:
    """Take factors of the core to factors of the tensor.

    Args:
        factors: Those of the core.
        bases: One per mode.
    """
    pairs = zip(factors, bases, strict=True)
    return [f if basis is None else basis @ f for f, basis in pairs]
