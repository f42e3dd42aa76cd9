"""Tensor trains from black boxes: a function of indices, of which few entries are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tensornet import _check
from tensornet.formats.cross_entries import Entries, Integers, Numbers
from tensornet.formats.cross_growth import HELD, ROUND_OFF, Growth, Outcome, errors
from tensornet.formats.cross_search import ascend, evaluate, spread
from tensornet.formats.decomposition import Decomposition
from tensornet.formats.tensor_train import TensorTrain

# Tensors with fewer entries are asked for whole.
SMALL = 512
# Evaluations left for the final test: the held-out points, and the ends of walks after rounding.
RESERVED = HELD + 48


def cross(
    function: Callable[[Tensor], Any],
    shape: Sequence[int],
    *,
    tolerance: float = 1e-8,
    max_rank: int = 100,
    seed: int = 0,
    max_evaluations: int | None = None,
    dtype: torch.dtype = torch.float64,
    start_points: Tensor | None = None,  # (k, order)
) -> Decomposition[TensorTrain]:
    """Approximate a function of indices by a tensor train from few of its entries.

    Pivots are found by rook pivoting on every bond, and each mode is replaced by as few of its
    indices as predict the others; pivots are only added, so that hardly an entry is asked for in
    vain, and none twice. Between rounds, the whole train is compared with the function at random
    points, half of them drawn evenly and half with the squared entries of the train as
    probabilities, and at the ends of walks to large residuals, one mode after the other. Where the
    first entries differ a lot, many walks to large entries begin at points spread over all modes.

    What cannot be guaranteed: a feature that no fibre through the points asked for can tell, as a
    single deviating entry, is not found, by this or any method that asks for few entries. Give
    `start_points` where such places are known.

    Args:
        function: Takes indices (n, order), int64, and gives n values as a tensor or an array. It
            must depend on each index alone, and is called in batches of very different sizes.
        shape: Sizes of the modes.
        tolerance: Relative error to reach, of both kinds below.
        max_rank: Largest rank of the train.
        seed: Seed of all random choices, not negative. The same seed gives the same train.
        max_evaluations: Largest number of entries to ask for. By default as many as it takes.
        dtype: Type of the cores. Computed in double precision.
        start_points: Indices at which something is known to happen.

    Returns:
        The train, on the CPU, rounded to low ranks that the tolerance allows. ``relative_error``
        is an estimate, the larger of two that the message tells: the Frobenius norm of the
        difference over that of the train, from 200 random points that were never used for pivots,
        drawn as above and weighted accordingly; and the largest residual at all points looked at,
        over the largest entry seen. Where the tensor is small enough to be asked for whole, it is
        the true Frobenius error. ``n_evaluations`` counts entries, ``n_iterations`` sweeps.

    Raises:
        TypeError: If the function gives no numbers, or complex ones for a real `dtype`, or an
            argument is of another type.
        ValueError: If the function gives another shape, NaN or infinite values, or if an argument
            is out of range.
        RuntimeError: If the function raises; its error is the cause.

    References:
        Oseledets & Tyrtyshnikov, Linear Algebra Appl. 432, 70 (2010); Núñez Fernández et al.,
        SciPost Phys. 18, 104 (2025), sections 2 to 4, of which this takes the rook search.

    Examples:
        >>> result = cross(lambda i: 1 / (1 + i.double().sum(1)), (20,) * 6)
        >>> result.converged, result.n_evaluations < 9000
        (True, True)
    """
    sizes, starts = _checked(shape, max_rank, seed, max_evaluations, dtype, start_points)
    _check.tolerance("cross", tolerance=tolerance)
    entries = Entries(function, sizes, dtype, max_evaluations)
    n_entries = math.prod(sizes)
    affordable = max_evaluations is None or n_entries <= max_evaluations
    if (n_entries <= SMALL or len(entries.shape) <= 1) and affordable:
        return _whole(entries, sizes, tolerance, max_rank)
    least = RESERVED + 32 + 4 * sum(sizes) + len(starts)
    if not affordable and max_evaluations is not None and max_evaluations < least:
        raise ValueError(
            f"`cross(max_evaluations=...)` must be at least {min(least, n_entries)} for the shape "
            f"{sizes}. Got {max_evaluations}."
        )
    if max_evaluations is not None:
        entries.most = max_evaluations - RESERVED
    growth = Growth(
        entries=entries,
        tolerance=tolerance,
        most=max_rank + max(2, max_rank // 4),  # the train is rounded to the largest rank later
        generator=np.random.default_rng(seed),
        starts=starts[:, entries.modes],
    )
    outcome = growth.run()
    entries.most = None
    return _finished(entries, sizes, outcome, tolerance, max_rank, seed)


def _checked(
    shape: Sequence[int],
    max_rank: int,
    seed: int,
    max_evaluations: int | None,
    dtype: torch.dtype,
    start_points: Tensor | None,
) -> tuple[tuple[int, ...], Integers]:
    sizes = tuple(shape)
    if not sizes:
        raise ValueError("`cross(shape=...)` must have at least one mode. Got none.")
    _check.at_least("cross", 1, **{f"shape[{k}]": n for k, n in enumerate(sizes)})
    _check.at_least("cross", 1, max_rank=max_rank)
    _check.at_least("cross", 0, seed=seed)
    if max_evaluations is not None:
        _check.at_least("cross", 1, max_evaluations=max_evaluations)
    if not (dtype.is_floating_point or dtype.is_complex):
        raise TypeError(f"`cross(dtype=...)` must be floating or complex. Got {dtype}.")
    if start_points is None:
        return sizes, np.zeros((0, len(sizes)), np.int64)
    if not isinstance(start_points, Tensor):
        raise TypeError(
            f"`cross(start_points=...)` must be a torch.Tensor. Got {type(start_points).__name__}."
        )
    if start_points.is_floating_point() or start_points.is_complex():
        raise TypeError(
            f"`cross(start_points=...)` must hold whole numbers. Got {start_points.dtype}."
        )
    points = start_points.detach().cpu().to(torch.int64).numpy()
    if points.ndim != 2 or points.shape[1] != len(sizes):
        raise ValueError(
            f"`cross(start_points=...)` must have shape (k, {len(sizes)}). Got {points.shape}."
        )
    if ((points < 0) | (points >= np.array(sizes))).any():
        raise ValueError(f"`cross(start_points=...)` must be indices of the shape {sizes}.")
    return sizes, points


def _train(entries: Entries, sizes: tuple[int, ...], cores: list[Numbers]) -> TensorTrain:
    """Make the train in double precision, with the modes of size one put back."""
    whole: list[Tensor] = []
    left = iter(cores)
    rank = 1
    for n in sizes:
        core = np.eye(rank)[:, None, :] if n == 1 else next(left)
        rank = core.shape[2]
        whole.append(torch.from_numpy(np.ascontiguousarray(core.astype(entries.numbers))))
    return TensorTrain(tuple(whole))


def _plain(train: TensorTrain) -> list[Numbers]:
    """Give the cores of the modes larger than one, the others and the scale multiplied in."""
    carry = train.log_scale.exp().reshape(1, 1).to(train.dtype)
    out: list[Numbers] = []
    for core in train.cores:
        core = torch.einsum("ab,bnc->anc", carry, core)
        if core.shape[1] == 1:
            carry = core[:, 0]
        else:
            out.append(core.numpy())
            carry = torch.eye(core.shape[2], dtype=core.dtype)
    if out:
        out[-1] = np.einsum("anb,bc->anc", out[-1], carry.numpy())
    return out


def _rounded(
    entries: Entries,
    sizes: tuple[int, ...],
    outcome: Outcome,
    tolerance: float,
    max_rank: int,
    seed: int,
) -> tuple[TensorTrain, float, float]:
    """Round as far as the errors allow; give the train, its Frobenius and its largest error."""
    reach = _reach(entries, tolerance)
    exact = _train(entries, sizes, outcome.cores)
    seen = np.concatenate([outcome.seen, outcome.held])
    for part in (0.7, 0.3, 0.1, 0.01, 0.0):
        value = exact.round(tolerance=part * tolerance, max_rank=max_rank, method="svd")
        value = value.to(entries.dtype)
        cores = _plain(value.to(exact.dtype))
        frobenius, _ = errors(entries, cores, outcome.held, outcome.weights)
        # Where rounding changes most can be searched for without asking the function.
        generator = np.random.default_rng(seed)
        change = partial(_change, outcome.cores, cores)
        starts = spread(entries.shape, 4, generator)
        ends = ascend(change, entries.shape, starts, 2, generator)
        seen = np.concatenate([seen, ends])
        largest = float(np.abs(entries(seen) - evaluate(cores, seen)).max()) / entries.largest
        if max(frobenius, largest) <= reach:
            break
    return value, frobenius, largest


def _change(old: list[Numbers], new: list[Numbers], points: Integers) -> Numbers:
    return np.asarray(evaluate(old, points) - evaluate(new, points))


def _reach(entries: Entries, tolerance: float) -> float:
    return max(tolerance, 10 * ROUND_OFF * entries.epsilon)


def _finished(
    entries: Entries,
    sizes: tuple[int, ...],
    outcome: Outcome,
    tolerance: float,
    max_rank: int,
    seed: int,
) -> Decomposition[TensorTrain]:
    """Round, and tell the errors of what came out."""
    entries(outcome.held)
    if entries.largest == 0:
        return _zero(entries, sizes, outcome.reason)
    value, frobenius, largest = _rounded(entries, sizes, outcome, tolerance, max_rank, seed)
    error = max(frobenius, largest)
    converged = error <= _reach(entries, tolerance)
    message = (
        f"Held-out error {frobenius:.1e} of the norm, largest residual found {largest:.1e} of the "
        f"largest entry, at ranks up to {max(value.ranks)}"
    )
    if not converged:
        reason = outcome.reason or "the largest rank is reached"
        message += f", above the tolerance {tolerance:.1e}: {reason}"
    elif error > tolerance:
        message += f"; the tolerance {tolerance:.1e} is below round-off"
    return Decomposition(
        value, error, converged, message + ".", outcome.n_sweeps, len(entries)
    )  # fmt: skip


def _zero(entries: Entries, sizes: tuple[int, ...], reason: str = "") -> Decomposition[TensorTrain]:
    cores = tuple(torch.zeros(1, n, 1, dtype=entries.dtype) for n in sizes)
    message = f"All {len(entries)} entries asked for are zero{reason and ', and ' + reason}."
    return Decomposition(TensorTrain(cores), 0.0, not reason, message, 0, len(entries))


def _whole(
    entries: Entries, sizes: tuple[int, ...], tolerance: float, max_rank: int
) -> Decomposition[TensorTrain]:
    """Ask for every entry, and round the train that holds them all."""
    shape = entries.shape
    indices = np.stack([x.ravel() for x in np.indices(shape)], 1) if shape else np.zeros((1, 0))
    values = entries(indices.astype(np.int64))
    if entries.largest == 0:
        return _zero(entries, sizes)
    cores: list[Numbers] = []
    for k, n in enumerate(shape[:-1]):
        r = math.prod(shape[:k])
        cores.append(np.eye(r * n).reshape(r, n, r * n))
    if shape:
        cores.append(values.reshape(-1, shape[-1], 1))
    exact = _train(entries, sizes, cores)
    if not shape:
        exact = exact * complex(values[0]) if exact.dtype.is_complex else exact * float(values[0])
    value = exact.round(tolerance=tolerance, max_rank=max_rank, method="svd").to(entries.dtype)
    dense = torch.from_numpy(values.reshape(sizes))
    error = float((value.to_dense().to(dense.dtype) - dense).norm() / dense.norm())
    converged = error <= _reach(entries, tolerance)
    message = f"Relative error {error:.1e} of all {len(values)} entries at ranks up to "
    message += f"{max(value.ranks)}"
    if not converged:
        message += f", above the tolerance {tolerance:.1e}: the largest rank is reached"
    return Decomposition(value, error, converged, message + ".", 0, len(entries))
