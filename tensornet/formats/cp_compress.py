"""Orthogonal compression of a tensor to the few directions its terms can use."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tensornet.linalg import truncate

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
        values, vectors = torch.linalg.eigh(_gram(x, k))
        basis = vectors[:, -rank:].flip(1)
        if float(values[-rank]) < _GRAM_FLOOR * float(values[-1]):
            basis = truncate(_unfold(x, k), rank=rank, method="svd").left
        else:
            ratio = max(ratio, float(values[-rank - 1]) / float(values[-rank]))
        bases[k] = basis
        x = project(x, basis, k)
    return x, bases, ratio


def project(x: Tensor, basis: Tensor, mode: int) -> Tensor:
    """Contract a mode with the transposed basis.

    Args:
        x: Tensor.
        basis: Orthonormal columns, (d_mode, r).
        mode: Which.
    """
    if mode == x.ndim - 1:
        return x @ basis
    if mode == 0:
        flat = basis.mT @ x.reshape(x.shape[0], -1)
        return flat.view(-1, *x.shape[1:])
    ahead, behind = x.shape[:mode], x.shape[mode + 1 :]
    flat = x.reshape(ahead.numel(), x.shape[mode], behind.numel())
    return (basis.mT @ flat).view(*ahead, basis.shape[1], *behind)


def project_all(x: Tensor, bases: Sequence[Tensor | None]) -> Tensor:
    """Contract every mode that has a basis.

    Args:
        x: Tensor.
        bases: One per mode.
    """
    for k in sorted(range(x.ndim), key=lambda k: -x.shape[k]):
        basis = bases[k]
        x = x if basis is None else project(x, basis, k)
    return x


def expand(factors: Sequence[Tensor], bases: Sequence[Tensor | None]) -> list[Tensor]:
    """Take factors of the core to factors of the tensor.

    Args:
        factors: Those of the core.
        bases: One per mode.
    """
    pairs = zip(factors, bases, strict=True)
    return [f if basis is None else basis @ f for f, basis in pairs]


def _gram(x: Tensor, k: int) -> Tensor:  # (d_k, d_k)
    if k == x.ndim - 1:
        flat = x.reshape(-1, x.shape[-1])
        return flat.mT @ flat
    if k == 0:
        flat = x.reshape(x.shape[0], -1)
        return flat @ flat.mT
    flat = x.reshape(x.shape[:k].numel(), x.shape[k], -1)
    return torch.einsum("aib,ajb->ij", flat, flat)


def _unfold(x: Tensor, k: int) -> Tensor:
    return x.movedim(k, 0).reshape(x.shape[k], -1)
