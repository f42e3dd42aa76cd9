"""Checks of the settings and the data of functional Tucker and CP models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from tensornet import _check
from tensornet.functional.matern import Matern, Numbers, checked_series

_LARGEST_CORE = 3000  # entries; their covariance then takes 72 MB


def checked_settings(where: str, settings: Mapping[str, Any]) -> None:
    """Check what can be checked without data.

    Args:
        where: Name of the class, for messages.
        settings: Its arguments.

    Raises:
        TypeError: If a setting is no number.
        ValueError: If one is out of its range.
    """
    for name in ("max_sweeps", "restarts"):
        _check.at_least(where, 1, **{name: settings[name]})
    _check.at_least(where, 0, seed=settings["seed"])
    _check.tolerance(where, tolerance=settings["tolerance"], damping=settings["damping"])
    if settings["damping"] >= 1:
        raise ValueError(
            f"`{where}(damping=...)` must be below one. Got {settings['damping']}. (At one no "
            "message would ever change.)"
        )
    ranks = settings["ranks"]
    for rank in ranks if isinstance(ranks, Sequence) else [ranks]:
        _check.at_least(where, 1, ranks=rank)
    scales = settings["length_scales"]
    for scale in [] if scales is None else scales if isinstance(scales, Sequence) else [scales]:
        if isinstance(scale, bool) or not isinstance(scale, int | float):
            raise TypeError(f"`{where}(length_scales=...)` must be numbers. Got {scale!r}.")
        if not 0 < scale < math.inf:
            raise ValueError(
                f"`{where}(length_scales=...)` must be positive and finite. Got {scale}."
            )
    nu = settings["nu"]
    for one in nu if isinstance(nu, Sequence) else [nu]:
        Matern(one)
    prior = settings["noise_prior"]
    if len(prior) != 2 or not all(0 < number < math.inf for number in prior):
        raise ValueError(f"`{where}(noise_prior=...)` must be two positive numbers. Got {prior}.")


def checked_data(where: str, coordinates: Numbers, values: Numbers) -> tuple[Tensor, Tensor]:
    """Give observations as float64 tensors.

    Args:
        where: Name of the class, for messages.
        coordinates: (n, K).
        values: (n,).

    Raises:
        TypeError: If they hold no real numbers.
        ValueError: If shapes do not fit, numbers are not finite, or values or coordinates do not
            differ.
    """
    x = checked_series(f"{where}.fit", "coordinates", coordinates)
    y = checked_series(f"{where}.fit", "values", values)
    if x.ndim != 2 or y.ndim != 1 or len(x) != len(y):
        raise ValueError(
            f"`{where}.fit(coordinates=..., values=...)` must have shapes (n, K) and (n,). Got "
            f"{tuple(x.shape)} and {tuple(y.shape)}."
        )
    if len(y) < 2:
        raise ValueError(f"`{where}.fit(values=...)` must hold two observations or more. Got 1.")
    if bool((y == y[0]).all()):
        raise ValueError(
            f"`{where}.fit(values=...)` must differ. Got {len(y)} times {float(y[0])}."
        )
    for k in range(x.shape[1]):
        if bool((x[:, k] == x[0, k]).all()):
            raise ValueError(
                f"`{where}.fit(coordinates=...)` must differ in every mode. Got only "
                f"{float(x[0, k])} in mode {k}. (Leave that column out.)"
            )
    return x, y


def per_mode(where: str, name: str, value: Any, order: int, single: bool = False) -> list[Any]:
    """Give one setting per mode.

    Args:
        where: Name of the class, for messages.
        name: Name of the setting.
        value: One for all, or one per mode.
        order: Number of modes.
        single: Whether it must be one for all.

    Raises:
        ValueError: If there are others than modes.
    """
    if not isinstance(value, Sequence):
        return [value] * order
    if single and len(set(value)) > 1:
        raise ValueError(f"`{where}({name}=...)` must be one number of terms. Got {tuple(value)}.")
    if len(value) != order:
        raise ValueError(
            f"`{where}({name}=...)` must be one number, or one for each of the {order} modes. Got "
            f"{len(value)}."
        )
    return list(value)


def checked_ranks(where: str, ranks: Sequence[int], sizes: Sequence[int], diagonal: bool) -> None:
    """Check that data can bear the ranks.

    Args:
        where: Name of the class, for messages.
        ranks: Of each mode.
        sizes: Distinct coordinates of each mode.
        diagonal: Whether the core is its superdiagonal.

    Raises:
        ValueError: If a rank is larger than the number of coordinates or than the product of the
            other ranks, or the core is too large.
    """
    for k, (rank, size) in enumerate(zip(ranks, sizes, strict=True)):
        others = math.prod(ranks) // rank
        if not diagonal and rank > size:
            raise ValueError(
                f"`{where}(ranks=...)` must not exceed the number of distinct coordinates, {size} "
                f"in mode {k}. Got {rank}."
            )
        if not diagonal and len(ranks) > 1 and rank > others:
            raise ValueError(
                f"`{where}(ranks=...)` must not exceed the product of the others, {others} for "
                f"mode {k}. Got {rank}."
            )
    if diagonal and ranks[0] > max(sizes):
        raise ValueError(
            f"`{where}(ranks=...)` must not exceed the largest number of distinct coordinates in a "
            f"mode, {max(sizes)}. Got {ranks[0]}."
        )
    if not diagonal and math.prod(ranks) > _LARGEST_CORE:
        raise ValueError(
            f"`{where}(ranks=...)` must give a core of at most {_LARGEST_CORE} entries, since "
            f"their covariance is computed. Got {math.prod(ranks)}. (Use `FunctionalCP`.)"
        )
