"""A whole fit of a functional Tucker or CP model: starts, sweeps, and when they end."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tensornet.formats.cp_fit import cp
from tensornet.functional.funbat_checks import checked_ranks, per_mode
from tensornet.functional.funbat_fit import Inference, Mode, start
from tensornet.functional.funbat_moments import Moments, packed
from tensornet.functional.matern import Matern

_HELD = 3  # sweeps in which the noise stays
_TRIAL = 12  # sweeps of every start
_LENGTHS = (0.3, 0.1, 1.0)  # of the extent of the coordinates, at the starts in turn
_WINDOW = 5  # sweeps over which the bound is watched


@dataclass
class Outcome:
    """What a fit found.

    Args:
        inference: The approximate posterior of scaled values.
        shift: Mean of the values.
        scale: Standard deviation of the values.
        converged: Whether the bound came to rest.
        message: How the fit ended.
        bounds: Of every sweep.
    """

    inference: Inference
    shift: float
    scale: float
    converged: bool
    message: str
    bounds: tuple[float, ...]

    @property
    def constant(self) -> float:
        """What is added to the core times the factors, in the units of the values."""
        return self.shift + self.scale * self.inference.offset


def run(
    where: str, x: Tensor, y: Tensor, ranks: Sequence[int], diagonal: bool,
    settings: Mapping[str, Any], progress: Callable[[int, float], None] | None,
) -> Outcome:  # fmt: skip
    """Fit a model.

    Args:
        where: Name of the class, for messages.
        x: Coordinates, (n, K).
        y: Values, (n,).
        ranks: Of each mode.
        diagonal: Whether the core is its superdiagonal.
        settings: Those of the class.
        progress: Called after each sweep.
    """
    distinct = [torch.unique(column, return_inverse=True) for column in x.mT]
    points, index = [t for t, _ in distinct], [place for _, place in distinct]
    checked_ranks(where, ranks, [len(t) for t in points], diagonal)
    shift, scale = float(y.mean()), float(y.std(correction=0))
    values = (y - shift) / scale
    moments = Moments(index, ranks, diagonal)
    with torch.no_grad():
        trials = []
        for trial in range(settings["restarts"]):
            trials.append(_started(trial, where, moments, points, values, settings))
        best = max(trials, key=lambda one: one[1][-1])
        inference, bounds = best
        converged = False
        while len(bounds) < settings["max_sweeps"] and not converged:
            bounds.append(inference.sweep())
            if progress is not None:
                progress(len(bounds), bounds[-1] / len(y))
            rise = abs(bounds[-1] - bounds[-1 - _WINDOW]) if len(bounds) > _HELD + _WINDOW else 1e9
            converged = rise < settings["tolerance"] * len(y)
    return Outcome(
        inference, shift, scale, converged, _told(inference, bounds, converged, settings),
        tuple(bounds),
    )  # fmt: skip


def _started(
    trial: int, where: str, moments: Moments, points: list[Tensor], values: Tensor,
    settings: Mapping[str, Any],
) -> tuple[Inference, list[float]]:  # fmt: skip
    """Do the first sweeps of one start."""
    order = len(points)
    nus = per_mode(where, "nu", settings["nu"], order)
    given = per_mode(where, "length_scales", settings["length_scales"], order)
    part = _LENGTHS[trial % len(_LENGTHS)]
    kernels = [
        Matern(nu, part * float(t[-1] - t[0]) if length is None else length)
        for nu, length, t in zip(nus, given, points, strict=True)
    ]
    learn = [g is None for g in given]
    generator = torch.Generator().manual_seed(settings["seed"] * 1009 + trial)
    ranks, damping, prior = moments.ranks, settings["damping"], settings["noise_prior"]
    sweeps = min(_TRIAL, settings["max_sweeps"])
    if moments.diagonal and order > 1:
        most = max(1, int(200 ** (1 / order)))
        ranks = tuple(min(r, most, len(t)) for r, t in zip(ranks, points, strict=True))
        whole = Moments(moments.index, ranks, False)
        modes = start(points, list(ranks), kernels, learn, generator)
        first = Inference(whole, modes, values, damping, prior)
        for sweep in range(sweeps):
            first.sweep(sweep < _HELD)
        inference = Inference(moments, _split(first, moments.ranks[0]), values, damping, prior)
        inference.shape, inference.rate = first.shape, first.rate
    else:
        modes = start(points, list(ranks), kernels, learn, generator)
        inference = Inference(moments, modes, values, damping, prior)
    return inference, [inference.sweep(sweep < _HELD) for sweep in range(sweeps)]


def _split(tucker: Inference, rank: int) -> list[Mode]:
    """Begin a CP model at the CP decomposition of the core of a Tucker model."""
    found = cp(tucker.core.mean, rank, max_iterations=200).value
    modes = []
    for mode, matrix in zip(tucker.modes, found.factors, strict=True):
        mean = mode.mean @ matrix
        mean = mean / mean.square().mean(0).sqrt().clamp(min=1e-12)
        second = packed(mean[:, :, None] * mean[:, None])
        modes.append(Mode(mode.coordinates, mode.kernel, mean, second, mode.learn))
    return modes


def _told(
    inference: Inference, bounds: list[float], converged: bool, settings: Mapping[str, Any]
) -> str:
    n, last = inference.moments.n, len(bounds)
    explained = 1 - inference.residual / inference.square
    if converged:
        text = (
            f"Converged after {last} sweeps: over the last {_WINDOW} the bound rose by less than "
            f"{settings['tolerance']:g} per observation."
        )
    else:
        rise = (bounds[-1] - bounds[max(0, last - 1 - _WINDOW)]) / n
        text = f"Not converged after {last} sweeps (`max_sweeps`)"
        text += f": the bound still rose by {rise:.1e} per observation over the last {_WINDOW}."
        if not math.isfinite(rise):
            text = f"Not converged after {last} sweeps (`max_sweeps`)."
    if explained < 0.05:
        text += (
            " The model explains next to nothing beyond the mean of the values: they are noise to "
            "it, or the ranks or length scales do not suit them."
        )
    return text
