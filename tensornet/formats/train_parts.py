"""Checks and scaling of the cores of a train."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tensornet import _check
from tensornet.formats.train_sweeps import real_dtype


def check_cores(kind: str, cores: tuple[Tensor, ...], modes: str) -> None:
    """Check that cores make a chain with outer ranks 1 and no empty axis.

    Args:
        kind: Name of the format, for messages.
        cores: The cores.
        modes: Letters of the modes of a core, ``"d"`` or ``"o i"``.
    """
    if not cores:
        raise ValueError(f"`{kind}(cores=...)` must have one core per mode. Got none.")
    names = [f"cores[{k}]" for k in range(len(cores))]
    _check.one_kind(kind, **dict(zip(names, cores, strict=True)))
    n, left = len(cores), 1
    for k, core in enumerate(cores):
        right = "1" if k == n - 1 else f"r{k + 1}"
        if (
            core.ndim != 2 + len(modes.split())
            or core.shape[0] != left
            or (k == n - 1 and core.shape[-1] != 1)
        ):
            beside = f", with r{k} = {left} as in `cores[{k - 1}]`" if k else ""
            spec = f"({f'r{k}' if k else '1'}, {', '.join(modes.split())}, {right})"
            raise ValueError(
                f"`{kind}(cores[{k}]=...)` must have shape {spec}{beside}. Got {tuple(core.shape)}."
            )
        if core.numel() == 0:
            raise ValueError(
                f"`{kind}(cores[{k}]=...)` must not be empty. Got shape {tuple(core.shape)}."
            )
        left = core.shape[-1]


def check_scale(kind: str, cores: tuple[Tensor, ...], log_scale: Tensor | None) -> Tensor:
    """Check the logarithm of a scale, or make it zero."""
    dtype = real_dtype(cores[0].dtype)
    if log_scale is None:
        return torch.zeros((), dtype=dtype, device=cores[0].device)
    if not isinstance(log_scale, Tensor) or log_scale.ndim != 0:
        raise ValueError(f"`{kind}(log_scale=...)` must be a tensor without axes. Got {log_scale}.")
    if log_scale.dtype != dtype:
        raise TypeError(
            f"`{kind}(log_scale=...)` must have the dtype {dtype}, real as absolute values of the "
            f"cores are. Got {log_scale.dtype}."
        )
    return log_scale


def spread(cores: tuple[Tensor, ...], logarithm: Tensor) -> list[Tensor]:
    """Multiply a train by exp(logarithm): the first core, or all alike where it is far from one.

    In one core it would put trains of different gauges out of each other's range.
    """
    size = float(logarithm.detach())
    if size == 0:
        return list(cores)
    if abs(size) < 5:
        return [cores[0] * logarithm.exp(), *cores[1:]]
    factor = (logarithm / len(cores)).exp()
    return [core * factor for core in cores]


def scaled(
    cores: tuple[Tensor, ...], log_scale: Tensor, factor: float | complex | Tensor
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Multiply by a number: its absolute value goes to the logarithm, its phase to a core."""
    k = min(range(len(cores)), key=lambda k: cores[k].numel())
    number = factor.detach().item() if isinstance(factor, Tensor) else factor
    size = abs(number)
    if not 0 < size < math.inf:
        phase: Any = factor
    elif isinstance(factor, Tensor):
        phase, log_scale = torch.sgn(factor), log_scale + factor.abs().to(log_scale).log()
    else:
        phase, log_scale = factor / size, log_scale + math.log(size)
    core = cores[k] if isinstance(phase, float | int) and phase == 1 else cores[k] * phase
    if core.dtype != cores[k].dtype:
        raise TypeError(
            f"A factor must not change the dtype {cores[k].dtype}. Got {factor!r}. (Move the value "
            "to a complex dtype first.)"
        )
    return (*cores[:k], core, *cores[k + 1 :]), log_scale
