"""The short range of charges: what is left of the kernel within a cutoff."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from numpy.polynomial import chebyshev as series
from torch import Tensor

from tensornet.functional.splitting import KINDS, RangeSeparation

_SAMPLES = 57  # of the long range within the cutoff
_DENSE = 2**22  # distances at once, where no kernel is compiled


def polynomial(parts: RangeSeparation, precision: float) -> Tensor:
    """Give the long range within the cutoff as a polynomial of 2 r² / cutoff² - 1.

    Args:
        parts: The kernel.
        precision: Largest error, relative to the sum of the weights.

    Returns:
        Coefficients in float64, the highest first.
    """
    nodes = torch.cos(math.pi * (torch.arange(_SAMPLES, dtype=torch.float64) + 0.5) / _SAMPLES)
    values = parts.long.value(parts.cutoff * (0.5 * (nodes + 1)).clamp(min=0).sqrt())
    found = series.chebfit(nodes.numpy(), values.numpy(), _SAMPLES - 1)
    size = np.abs(found) > precision * float(parts.long.weights.sum())
    degree = int(np.flatnonzero(size)[-1]) if size.any() else 0
    return torch.from_numpy(series.cheb2poly(found[: degree + 2])[::-1].copy())


def with_images(
    positions: Tensor,  # (n, 3)
    charges: Tensor,  # (n,)
    box: tuple[tuple[float, float], ...],
    cutoff: float,
) -> tuple[Tensor, Tensor]:  # (m, 3), (m,)
    """Append the images of charges that are within a cutoff of a periodic box.

    Args:
        positions: In the box.
        charges: What is there.
        box: Lower and upper ends.
        cutoff: How far from the box.
    """
    ends = torch.tensor(box, dtype=positions.dtype, device=positions.device)
    low, high = ends[:, 0] - cutoff, ends[:, 1] + cutoff
    lengths = [b - a for a, b in box]
    ranges = [range(-math.ceil(cutoff / x), math.ceil(cutoff / x) + 1) for x in lengths]
    all_positions, all_charges = [positions], [charges]
    for shift in itertools.product(*ranges):
        if any(shift):
            steps = [s * x for s, x in zip(shift, lengths, strict=True)]
            moved = positions + positions.new_tensor(steps)
            there = ((moved >= low) & (moved <= high)).all(1)
            all_positions.append(moved[there])
            all_charges.append(charges[there])
    return torch.cat(all_positions), torch.cat(all_charges)


def short_range(
    parts: RangeSeparation,
    coefficients: Tensor,  # (k,)
    targets: Tensor,  # (n, 3)
    same: Tensor,  # (n,)
    sources: Tensor,  # (m, 3)
    charges: Tensor,  # (m,)
) -> tuple[Tensor, Tensor, int]:  # (n,), (n, 3)
    """Sum the short range of charges at targets.

    Args:
        parts: The kernel.
        coefficients: From `polynomial`.
        targets: Points.
        same: For each target the charge that is left out, or -1.
        sources: Where the charges are.
        charges: The charges.

    Returns:
        Potentials, their gradients, and how many pairs have no distance.
    """
    if not len(targets) or not len(sources):
        return targets.new_zeros(len(targets)), torch.zeros_like(targets), 0
    if targets.device.type != "cpu":
        return _dense(parts, coefficients, targets, same, sources, charges)
    from tensornet.kernels.near.cpu import near

    x, own, y, q, c = (t.detach().numpy() for t in (targets, same, sources, charges, coefficients))
    kind = KINDS.index(parts.kind)
    if kind == 1 and not parts.screening:
        kind = 0
    value, slope, touching = near(x, own, y, q, parts.cutoff, kind, parts.screening, c)
    return torch.from_numpy(value.copy()), torch.from_numpy(slope.copy()), touching


def _dense(
    parts: RangeSeparation,
    coefficients: Tensor,
    targets: Tensor,
    same: Tensor,
    sources: Tensor,
    charges: Tensor,
) -> tuple[Tensor, Tensor, int]:
    """All pairs, some targets at a time."""
    step = max(1, _DENSE // len(sources))
    limit = parts.cutoff**2
    values, slopes, touching = [], [], 0
    index = torch.arange(len(sources), device=sources.device)
    for x, own in zip(targets.split(step), same.split(step), strict=True):
        d = x[:, None] - sources
        square = d.square().sum(-1)
        near = (square < limit) & (index != own[:, None])
        touching += int((near & (square == 0)).sum())
        safe = torch.where(near, square, torch.full_like(square, limit))
        r = safe.sqrt()
        z = 2 / limit * safe - 1
        long, rate = torch.zeros_like(z), torch.zeros_like(z)
        for c in coefficients.tolist():
            rate = rate * z + long
            long = long * z + c
        s, e = parts.screening if parts.kind == "yukawa" else 0.0, parts.kernel(r)
        rates = 3 * e if parts.kind == "dispersion" else 0.5 * e * (s * r + 1)
        by_square = torch.where(near, -rates / safe - rate * (2 / limit), 0.0)
        values.append(torch.where(near, e - long, 0.0) @ charges)
        slopes.append(2 * torch.einsum("nm,nmk,m->nk", by_square, d, charges))
    return torch.cat(values), torch.cat(slopes), touching
