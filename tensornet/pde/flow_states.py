"""Random fields to begin with."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tensornet.pde.grid import Grid


def random_field(
    batch: tuple[int, ...], grid: Grid, peak: float, inverse: int, generator: torch.Generator
) -> Tensor:  # (*batch, *shape)
    """Draw fields whose energy spectrum is ``k^4 exp(-2 (k / peak)^2)``.

    Args:
        batch: Shape of the batch.
        grid: The grid, as if periodic.
        peak: Wave number where the spectrum is largest, in waves per longest side.
        inverse: Divide the amplitudes by this power of the wave number (1 for a stream function).
        generator: Of the random numbers.
    """
    rows = [torch.randn(grid.shape, generator=generator, dtype=torch.float64)
            for _ in range(math.prod(batch))]  # fmt: skip
    noise = torch.stack(rows) if rows else torch.zeros(0, *grid.shape, dtype=torch.float64)
    axes = tuple(range(1, grid.dim + 1))
    longest = max(grid.lengths)
    waves = [torch.fft.fftfreq(n, d=h / longest, dtype=torch.float64)
             for n, h in zip(grid.shape, grid.spacing, strict=True)]  # fmt: skip
    n = grid.shape[-1]
    waves[-1] = torch.fft.rfftfreq(n, d=grid.spacing[-1] / longest, dtype=torch.float64)
    k = torch.stack(torch.meshgrid(*waves, indexing="ij")).square().sum(0).sqrt()
    safe = torch.where(k > 0, k, torch.ones_like(k))
    spectrum = safe**4 * torch.exp(-2 * (safe / peak) ** 2)
    amplitude = (spectrum / safe ** (grid.dim - 1)).sqrt() / safe**inverse
    amplitude = torch.where(k > 0, amplitude, torch.zeros_like(k))
    made: Tensor = torch.fft.irfftn(
        torch.fft.rfftn(noise, dim=axes) * amplitude, s=grid.shape, dim=axes
    )
    return made.reshape(*batch, *grid.shape)


def window(axes: Sequence[Tensor], grid: Grid, rings: Sequence[bool]) -> Tensor:  # (*shape)
    """A field that is flat zero at sides that are not periodic: products of squared sines.

    Args:
        axes: Coordinates along each axis.
        grid: The grid.
        rings: Which axes are periodic.
    """
    parts = []
    for x, x0, length, ring in zip(axes, grid.origin, grid.lengths, rings, strict=True):
        parts.append(torch.ones_like(x) if ring else torch.sin(math.pi * (x - x0) / length) ** 2)
    found = parts[0]
    for part in parts[1:]:
        found = found[..., None] * part
    return found
