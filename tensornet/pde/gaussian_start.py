"""Kernels to begin with, from the spectrum of what is known: the source, or scattered values."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tensornet.pde.gaussian_kernel import SpectralMixture
from tensornet.pde.grid import Grid

_FINER = 8  # frequencies looked at per one that the grid tells apart
_FAINT = 1e-6  # variance of components that nothing in the spectrum asks for
_LOST = 0.01  # share of a source in waves too short for the grid, above which it is refused
_CHECKS = 4  # points per cell at which a source is looked at for such waves


def peaks(
    power: Tensor,  # (m,)
    frequencies: Tensor,  # (m,)
    most: int,
) -> tuple[Tensor, Tensor]:  # (k,), (k,)
    """Give the largest peaks of a spectrum, to parts of its spacing, and their powers.

    Args:
        power: At equal steps of frequency.
        frequencies: Of each.
        most: Number of peaks at most.
    """
    middle = power[1:-1]
    top = (middle > power[:-2]) & (middle >= power[2:]) & (middle > 1e-20 * power.max())
    places = top.nonzero()[:, 0] + 1
    places = places[power[places].argsort(descending=True, stable=True)][:most]
    a, b, c = (power[places + k].clamp_min(1e-300).log() for k in (-1, 0, 1))
    shift = ((a - c) / (2 * (a - 2 * b + c)).clamp_max(-1e-12)).clamp(-0.5, 0.5)
    return frequencies[places] + shift * (frequencies[1] - frequencies[0]), power[places]


def grid_spectrum(field: Tensor, axis: int, spacing: float) -> tuple[Tensor, Tensor]:
    """Power of a field along an axis, summed over the others, through Hann's window.

    Args:
        field: On the grid.
        axis: Along which.
        spacing: Of the grid.
    """
    rows = field.movedim(axis, -1).reshape(-1, field.shape[axis])
    n = rows.shape[1]
    window = torch.hann_window(n + 2, periodic=False, dtype=field.dtype)[1:-1]
    waves = torch.fft.rfft((rows - rows.mean(1, keepdim=True)) * window, _FINER * n)
    step = 2 * math.pi / (_FINER * n * spacing)
    return waves.abs().square().sum(0), step * torch.arange(waves.shape[1], dtype=field.dtype)


def scattered_spectrum(x: Tensor, values: Tensor, length: float) -> tuple[Tensor, Tensor]:
    """Power of values at scattered coordinates.

    Args:
        x: Coordinates, (n,).
        values: There, (n,).
        length: Of the box.
    """
    step = 2 * math.pi / (_FINER * length)
    frequencies = step * torch.arange(_FINER * max(len(x) // 2, 4), dtype=x.dtype)
    angles = frequencies[:, None] * x
    centred = values - values.mean()
    return (angles.cos() @ centred).square() + (angles.sin() @ centred).square(), frequencies


def begin(
    spectrum: tuple[Tensor, Tensor] | None,
    symbol: Callable[[Tensor], Tensor],
    components: int,
    length: float,
    spacing: float,
    family: str,
) -> SpectralMixture:
    """Make a mixture with a component at each peak, and one of frequency zero.

    Args:
        spectrum: Power at frequencies, or none.
        symbol: What the observed operator multiplies a wave's variance by.
        components: Number of components.
        length: Of the box.
        spacing: Of the grid.
        family: Of the components.

    Returns:
        The mixture, its weights adding up to one.
    """
    slowest, fastest = 1 / length, math.pi / spacing
    found = torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
    if spectrum is not None and float(spectrum[0].max()) > 0:
        found = peaks(*spectrum, components - 1)
    frequencies = found[0].clamp(slowest, fastest)
    least = float(symbol(torch.full((1,), slowest, dtype=torch.float64)))
    weights = found[1] / symbol(frequencies).clamp_min(least)
    weights = weights / weights.sum().clamp_min(1e-300)
    faint = components - 1 - len(frequencies)
    more = torch.linspace(slowest, fastest / 2, faint + 1, dtype=torch.float64)[:faint]
    frequencies = torch.cat([torch.zeros(1, dtype=torch.float64), frequencies, more])
    tail = torch.full((faint,), _FAINT, dtype=torch.float64)
    weights = torch.cat([torch.full((1,), 0.1, dtype=torch.float64), weights, tail])
    weights = weights.clamp_min(1e-12)
    return SpectralMixture(
        weights / weights.sum(), torch.full_like(weights, length), frequencies, family
    )


def check_resolved(grid: Grid, source: Callable[..., Tensor], where: str) -> None:
    """Refuse a source with waves that are too short for the grid.

    Args:
        grid: The grid.
        source: A function of the coordinates.
        where: Name of the public argument, for messages.

    Raises:
        ValueError: If there are such waves; it says how many cells there must be.
    """
    for k, n in enumerate(grid.shape):
        points = list(grid.axes())
        h = grid.spacing[k] / _CHECKS
        fine = torch.arange(_CHECKS * n, dtype=torch.float64)
        points[k] = grid.origin[k] + (fine + 0.5) * h
        field = grid.evaluated(source, torch.meshgrid(*points, indexing="ij"), where, "source")
        if field.ndim != grid.dim:
            continue
        power, frequencies = grid_spectrum(field, k, h)
        far = frequencies > math.pi / grid.spacing[k]
        if float(power[far].sum()) > _LOST * float(power.sum()):
            fastest = float(frequencies[far][power[far].argmax()])
            least = math.ceil(fastest * grid.lengths[k] / math.pi)
            raise ValueError(
                f"`{where}(source=...)` must vary no faster than the grid tells apart, frequency "
                f"{math.pi / grid.spacing[k]:.4g} along axis {k}. Got {fastest:.4g} or above. "
                f"(Take more than {least} cells there; twice as many are comfortable.)"
            )
