"""The lowest Fourier modes of real fields on grids, and fields of given modes, as adjoints."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


def kept_modes(n_modes: Sequence[int], *grids: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Give the frequencies that modes and grids have in common, per axis, first and one past last.

    Modes ``m`` of every axis but the last are the frequencies -(m // 2) to (m + 1) // 2 - 1, and
    those of the last 0 to m - 1, since the others are their conjugates. A grid of N points has the
    frequencies -(N // 2) to (N + 1) // 2 - 1, and along the last axis 0 to N // 2.

    Args:
        n_modes: Number of modes per axis.
        grids: Sizes of the grids.

    Examples:
        >>> kept_modes((8, 5), (64, 64)), kept_modes((8, 5), (64, 64), (5, 6))
        (((-4, 4), (0, 5)), ((-2, 3), (0, 4)))
    """
    leading = [
        (max(-(n // 2) for n in sizes), min((n + 1) // 2 for n in sizes))
        for sizes in zip(n_modes[:-1], *(grid[:-1] for grid in grids), strict=True)
    ]
    last = min(n_modes[-1], *(grid[-1] // 2 + 1 for grid in grids))
    return (*leading, (0, last))


def analyse(
    x: Tensor,  # (n, c, *grid)
    kept: tuple[tuple[int, int], ...],
) -> Tensor:  # (*modes, n, c)
    """Give Fourier coefficients, the mean being that of frequency zero.

    Args:
        x: Real fields.
        kept: Frequencies per axis, as `kept_modes` gives them.

    Derivatives:
        Any order.
    """
    found: Tensor = _Analysis.apply(x, kept)  # type: ignore[no-untyped-call]
    return found


def synthesise(
    y: Tensor,  # (*modes, n, c)
    kept: tuple[tuple[int, int], ...],
    grid: Sequence[int],
) -> Tensor:  # (n, c, *grid)
    """Give the real fields that Fourier coefficients make.

    That is the real part of the sum over the given modes, those of the last axis twice whose
    conjugates are not among them: an imaginary mean, for example, gives nothing.

    Args:
        y: Coefficients.
        kept: Their frequencies per axis.
        grid: Sizes of the grid.

    Derivatives:
        Any order.
    """
    found: Tensor = _Synthesis.apply(y, kept, tuple(grid))  # type: ignore[no-untyped-call]
    return found


class _Analysis(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kept: tuple[tuple[int, int], ...]) -> Tensor:
        ctx.kept, ctx.grid = kept, tuple(x.shape[2:])
        if x.numel() == 0:
            shape = [high - low for low, high in kept] + list(x.shape[:2])
            return torch.zeros(shape, dtype=x.dtype.to_complex(), device=x.device)
        half: Tensor = torch.fft.rfft(x, dim=-1, norm="forward")[..., : kept[-1][1]]
        leading = list(range(2, x.ndim - 1))
        if leading:
            half = torch.fft.fftn(half, dim=leading, norm="forward")
        to_modes = (*range(2, x.ndim), 0, 1)
        out = half.new_empty([high - low for low, high in kept] + list(x.shape[:2]))
        for modes, waves in _blocks(kept, ctx.grid):
            out[modes] = half[(slice(None), slice(None), *waves)].permute(to_modes)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        share = _multiplicities(grads[0], ctx.kept, ctx.grid) * math.prod(ctx.grid)
        return synthesise(grads[0] / share, ctx.kept, ctx.grid), None


class _Synthesis(Function):
    @staticmethod
    def forward(
        ctx: Any, y: Tensor, kept: tuple[tuple[int, int], ...], grid: tuple[int, ...]
    ) -> Tensor:
        ctx.kept, ctx.grid = kept, grid
        n, c = y.shape[-2:]
        if y.numel() == 0:
            return y.real.new_zeros((n, c, *grid))
        order = len(grid)
        half = y.new_zeros((n, c, *grid[:-1], kept[-1][1]))
        to_fields = (order, order + 1, *range(order))
        for modes, waves in _blocks(kept, grid):
            half[(slice(None), slice(None), *waves)] = y[modes].permute(to_fields)
        leading = list(range(2, order + 1))
        if leading:
            half = torch.fft.ifftn(half, dim=leading, norm="forward")
        for k in _own_conjugates(kept, grid):
            half[..., k].imag.zero_()
        fields: Tensor = torch.fft.irfft(half, n=grid[-1], dim=-1, norm="forward")
        return fields

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        found = analyse(grads[0], ctx.kept)
        share = _multiplicities(found, ctx.kept, ctx.grid) * math.prod(ctx.grid)
        return found * share, None, None


def _multiplicities(y: Tensor, kept: tuple[tuple[int, int], ...], grid: Sequence[int]) -> Tensor:
    """Say how often a mode of the last axis stands in the sum, as (modes, 1, 1)."""
    often = torch.full((kept[-1][1], 1, 1), 2.0, dtype=y.real.dtype, device=y.device)
    for k in _own_conjugates(kept, grid):
        often[k] = 1
    return often


def _own_conjugates(kept: tuple[tuple[int, int], ...], grid: Sequence[int]) -> list[int]:
    """Give the modes of the last axis whose conjugates are among them."""
    highest, odd = divmod(grid[-1], 2)
    return [0] if odd or highest >= kept[-1][1] else [0, highest]


def _blocks(
    kept: tuple[tuple[int, int], ...], grid: Sequence[int]
) -> list[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Pair places among the modes, sorted by frequency, with places in the order of an FFT."""
    per_axis = []
    for (low, high), n in zip(kept[:-1], grid, strict=False):
        pairs = [(slice(-low, high - low), slice(0, high))]
        if low < 0:
            pairs.append((slice(0, -low), slice(n + low, n)))
        per_axis.append(pairs)
    per_axis.append([(slice(0, kept[-1][1]), slice(0, kept[-1][1]))])
    return [
        (tuple(modes for modes, _ in pairs), tuple(waves for _, waves in pairs))
        for pairs in itertools.product(*per_axis)
    ]
