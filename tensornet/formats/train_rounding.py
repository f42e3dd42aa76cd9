"""Rounding: bring the ranks of a train, or of a sum of trains, down to what a tolerance needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tensornet import _check
from tensornet.formats import train_parts, train_sketch, train_sweeps
from tensornet.formats.decomposition import Decomposition
from tensornet.formats.format import HALF, check_kind, check_limits
from tensornet.formats.tensor_train import TensorTrain
from tensornet.formats.train_cut import Budget, cut
from tensornet.linalg.truncation import METHODS

# From this rank on a sketch is worth trying, and up to this share of the rank it pays.
_LARGE_RANK = 48
_SHARE = 0.6


def round_train(
    x: TensorTrain,
    *,
    tolerance: float = 0.0,
    max_rank: int | None = None,
    method: str = "auto",
    seed: int = 0,
) -> Decomposition[TensorTrain]:
    """Lower the ranks of a train to the smallest that a tolerance allows.

    Args:
        x: The train.
        tolerance: Largest error, relative to the norm. Zero keeps all but round-off.
        max_rank: Largest rank to keep.
        method: ``"svd"`` orthogonalizes all cores by QR, then truncates; ``"gram"`` uses Gram
            matrices instead of QR, faster and blind below the square root of round-off;
            ``"randomized"`` orthogonalizes a random sketch that grows until the tolerance is met,
            several times faster where the ranks come down by a factor, then truncates; ``"auto"``
            sketches large ranks if there is a tolerance, and uses QR where that does not pay.
            Trains that require gradients are always orthogonalized by QR.
        seed: Seed of the sketch.

    Returns:
        The train, and its relative error without round-off: exact for ``"svd"``, from the singular
        values that were dropped (in ``"gram"`` the part that it can see), and for a sketch an
        upper bound that a held-out part of the sketch estimates (it fails in about one of a
        thousand cases).

    Raises:
        TypeError: If `x` is no train.
        ValueError: If a core is not finite, the tolerance is negative, `max_rank` below one, or the
            method unknown. In the backward pass, if singular values on both sides of a cut are
            equal.

    Derivatives:
        First order, by projectors on the kept directions: finite where singular values coincide.

    References:
        Oseledets, SIAM J. Sci. Comput. 33, 2295 (2011), algorithm 2; Al Daas et al., SIAM J. Sci.
        Comput. 45, A74 (2023) for the sketch.

    Examples:
        >>> x = TensorTrain((torch.ones(1, 2, 3), torch.ones(3, 2, 3), torch.ones(3, 2, 1)))
        >>> round_train(x, tolerance=1e-5).value.ranks
        (1, 1, 1, 1)
    """
    check_kind("round_train", "x", x, TensorTrain)
    check_limits("round_train", tolerance, max_rank)
    _check.one_of("round_train", METHODS, method=method)
    if x.dtype in HALF:
        found = round_train(
            x.to(torch.float32), tolerance=tolerance, max_rank=max_rank, method=method, seed=seed
        )
        return replace(found, value=found.value.to(x.dtype))
    _check_finite("round_train", "x", x.cores)
    return _round([x], [x.cores], x.log_scale, tolerance, max_rank, method, seed)


def round_sum(
    trains: Sequence[TensorTrain],
    weights: Sequence[float | complex] | Tensor | None = None,  # (n,)
    *,
    tolerance: float = 0.0,
    max_rank: int | None = None,
    method: str = "auto",
    seed: int = 0,
) -> Decomposition[TensorTrain]:
    """Add trains up with weights and lower the ranks, without forming the sum.

    The sum has the sum of the ranks; a sketch of it is the sum of sketches, so that the cost grows
    with the number of trains and not with its cube.

    Args:
        trains: Trains of one shape.
        weights: One number per train. By default ones.
        tolerance: Largest error, relative to the norm of the sum.
        max_rank: Largest rank to keep.
        method: As in `round_train`; all but the sketch form the sum.
        seed: Seed of the sketch.

    Returns:
        As `round_train`.

    Raises:
        ValueError: If there is no train, shapes differ, the weights are not as many, or a core or a
            weight is not finite.
        TypeError: If one is no train, or the dtypes differ.

    Derivatives:
        First order, as `round_train`; the sum is then formed.

    Examples:
        >>> x = TensorTrain((torch.ones(1, 2, 1), torch.ones(1, 3, 1)))
        >>> round_sum([x, x], [1.0, 2.0], tolerance=1e-5).value.ranks
        (1, 1, 1)
    """
    check_limits("round_sum", tolerance, max_rank)
    _check.one_of("round_sum", METHODS, method=method)
    if not trains:
        raise ValueError("`round_sum(trains=...)` must hold one train at least. Got none.")
    for k, train in enumerate(trains):
        check_kind("round_sum", f"trains[{k}]", train, TensorTrain)
        trains[0]._same(train, "+")
    factors: list[Any] = [1.0] * len(trains) if weights is None else list(weights)
    if len(factors) != len(trains):
        raise ValueError(
            f"`round_sum(weights=...)` must hold one number for each of {len(trains)} trains. Got "
            f"{len(factors)}."
        )
    if trains[0].dtype in HALF:
        found = round_sum(
            [x.to(torch.float32) for x in trains], weights,
            tolerance=tolerance, max_rank=max_rank, method=method, seed=seed,
        )  # fmt: skip
        return replace(found, value=found.value.to(trains[0].dtype))
    for k, (x, w) in enumerate(zip(trains, factors, strict=True)):
        _check_finite("round_sum", f"trains[{k}]", x.cores)
        if not bool(torch.as_tensor(w).detach().isfinite()):
            raise ValueError(f"`round_sum(weights[{k}]=...)` must be finite. Got {w}.")
    scaled = [x * w for x, w in zip(trains, factors, strict=True)]
    top = torch.stack([x.log_scale for x in scaled]).amax().detach()
    parts = [tuple(train_parts.spread(x.cores, x.log_scale - top)) for x in scaled]
    return _round(scaled, parts, top, tolerance, max_rank, method, seed)


def _check_finite(where: str, name: str, cores: Sequence[Tensor]) -> None:
    sums = torch.stack([core.detach().sum() for core in cores])
    if not bool(sums.isfinite().all()):
        for k, core in enumerate(cores):
            _check.dense(where, f"{name}.cores[{k}]", core)


def _round(
    trains: Sequence[TensorTrain],
    parts: Sequence[tuple[Tensor, ...]],
    log_scale: Tensor,
    tolerance: float,
    max_rank: int | None,
    method: str,
    seed: int,
) -> Decomposition[TensorTrain]:
    """Round the sum of `parts`, which are `trains` over exp(log_scale)."""
    rank = sum(max(train.ranks) for train in trains)
    frozen = not any(core.requires_grad for cores in parts for core in cores)
    sketch = method == "randomized"
    if method == "auto" and tolerance > 0 and rank >= _LARGE_RANK:
        sketch = max_rank is None or max_rank < 0.4 * rank
    found = None
    if sketch and frozen and len(parts[0]) > 1:
        alike: dict[tuple[int, ...], list[tuple[Tensor, ...]]] = {}
        for train, cores in zip(trains, parts, strict=True):
            alike.setdefault(train.ranks, []).append(cores)
        operands = [train_sketch.Sum(group) for group in alike.values()]
        largest = None if method == "randomized" else int(_SHARE * rank)
        found = sketched(operands, parts[0][0], tolerance, max_rank, seed, largest=largest)
    if found is None:
        whole: Sequence[Tensor] = parts[0]
        if len(trains) > 1:
            total = trains[0]
            for train in trains[1:]:
                total = total + train
            whole, log_scale = total.cores, total.log_scale
        found = _exact(whole, tolerance, max_rank, gram=method == "gram")
    new, e, error = found
    value = TensorTrain(tuple(new), train_sweeps.log_of(e, log_scale))
    eps = torch.finfo(log_scale.dtype).eps
    reached = error <= max(tolerance, 100 * eps)
    message = f"Relative error {error:.1e} at ranks up to {max(value.ranks)}" + (
        "." if reached else f", above the tolerance {tolerance:.1e}: allow higher ranks."
    )
    return Decomposition(value, error, reached, message, 1, 0)


def sketched(
    operands: Sequence[train_sketch.Operand],
    like: Tensor,
    tolerance: float,
    max_rank: int | None,
    seed: int,
    *,
    largest: int | None = None,
) -> tuple[list[Tensor], Tensor | int, float] | None:
    """Sketch a sum of operands and truncate; give cores, exponent and bound on the error.

    Args:
        operands: Trains or products, whose sum it is.
        like: A tensor of their dtype and device.
        tolerance: Largest error, relative to the norm.
        max_rank: Largest rank to keep.
        seed: Seed of the sketch.
        largest: Most columns of the sketch, by default any number.
    """
    eps = torch.finfo(like.dtype).eps
    wanted = max(tolerance, 100 * eps) if tolerance > 0 or max_rank is None else 0.0
    found = train_sketch.compress(operands, like, wanted, max_rank, seed, largest=largest)
    if found is None:
        return None
    cores, e, error = found
    left = math.sqrt(max(tolerance**2 - error**2, 0.0))
    cores, dropped = train_sketch.truncate_back(cores, max(left, 2 * eps), max_rank)
    return cores, e, math.hypot(error, dropped)


def _exact(
    cores: Sequence[Tensor], tolerance: float, max_rank: int | None, *, gram: bool
) -> tuple[list[Tensor], int, float]:
    """Project on the leading directions of every cut, the first mode first.

    Returns:
        Cores, the exponent of their common factor, and the relative error.
    """
    L, e_tail = train_sweeps.tails(cores, gram=gram)
    norm, e_norm = float(torch.linalg.vector_norm(L[0].detach())), e_tail[0]
    budget = Budget(max(tolerance, 2 * torch.finfo(L[0].dtype).eps), len(cores) - 1)
    m, e_head, new = cores[0].reshape(-1, cores[0].shape[2]), 0, []
    for k, core in enumerate(cores[:-1]):
        scale = norm * 2.0 ** min(e_norm - e_head - e_tail[k + 1], 900)  # norm of all, as seen here
        basis, weight = cut(m @ L[k + 1], budget.next() * scale, max_rank)
        budget.spend(weight / (scale * scale) if scale > 0 else 0.0)
        new.append(basis.reshape(-1, core.shape[1], basis.shape[1]))
        following = cores[k + 1]
        m = (basis.mH @ m) @ following.reshape(following.shape[0], -1)
        m, more = train_sweeps.split_scale(m.reshape(-1, following.shape[2]))
        e_head += int(more)
    new.append(m.reshape(-1, cores[-1].shape[1], 1))
    return new, e_head, math.sqrt(budget.spent)
