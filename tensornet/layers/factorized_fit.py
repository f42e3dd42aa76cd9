"""Compress a dense matrix into the parts of a factorised layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tensornet.formats import cp, tensor_train, tucker


@dataclass(frozen=True)
class Fitted:
    """Parts of a format, and their ranks.

    Args:
        parts: The parts, in the order of the layer.
        ranks: As `ranks_of` gives them.
    """

    parts: tuple[Tensor, ...]
    ranks: tuple[int, ...]


def fitted(
    kind: str,
    weight: Tensor,  # (out_features, in_features)
    out_shape: Sequence[int],
    in_shape: Sequence[int],
    ranks: Sequence[int],
    tolerance: float | None,
) -> Fitted:
    """Compress a matrix, to ranks or to a tolerance.

    Args:
        kind: ``"cp"``, ``"tucker"`` or ``"tensor_train"``.
        weight: The matrix.
        out_shape: How its rows are split.
        in_shape: How its columns are split.
        ranks: Ranks, for where there is no tolerance.
        tolerance: Largest relative error.

    Raises:
        ValueError: If a tolerance is given for CP of more than two modes.
    """
    dense = weight.detach().double()
    n = len(out_shape)
    x = dense.reshape(*out_shape, *in_shape)
    if kind == "cp" and x.ndim == 2:
        return _low_rank(dense, ranks[0], tolerance)
    if kind == "cp":
        if tolerance is not None:
            raise ValueError(
                "`FactorizedLinear.from_linear(tolerance=...)` must not be given for cp, whose "
                f"rank no decomposition tells. Got {tolerance}. (Give a rank.)"
            )
        value = cp(x, ranks[0]).value
        return Fitted(value.factors, (value.rank,))
    if kind == "tucker":
        core = tucker(
            x, ranks=None if tolerance is not None else ranks, tolerance=tolerance, sweeps=2
        ).value
        return Fitted((core.core, *core.factors), core.ranks)
    pairs = [axis for k in range(n) for axis in (k, n + k)]
    merged = x.permute(pairs).reshape([o * i for o, i in zip(out_shape, in_shape, strict=True)])
    around = None if tolerance is not None else (1, *ranks, 1)
    train = tensor_train(merged, ranks=around, tolerance=tolerance).value
    factor = torch.exp(train.log_scale / n)
    sizes = zip(train.cores, out_shape, in_shape, strict=True)
    cores = tuple((core * factor).unflatten(1, (o, i)) for core, o, i in sizes)
    return Fitted(cores, tuple(train.ranks[1:-1]))


def _low_rank(x: Tensor, rank: int, tolerance: float | None) -> Fitted:
    """Cut the singular value decomposition; both factors have columns of equal norms."""
    u, s, v = torch.linalg.svd(x, full_matrices=False)
    if tolerance is not None:
        left = s.flip(0).square().cumsum(0).sqrt()  # norms of the last 1, 2, ... values
        dropped = int((left <= tolerance * left[-1]).sum())
        rank = max(1, len(s) - dropped)
    root = s[:rank].sqrt()
    return Fitted((u[:, :rank] * root, v[:rank].mT * root), (rank,))
