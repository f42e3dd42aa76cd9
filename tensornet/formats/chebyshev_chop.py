"""Where a Chebyshev series may be chopped."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def chop(
    coefficients: Tensor,  # (m,) or (m, r)
    tolerance: float,
    scale: float | None = None,
) -> int:
    """Find how many leading coefficients to keep; all of them where the series is not resolved.

    A series is resolved where its envelope has fallen to the tolerance and stays on a plateau, as
    rounding errors do; for several series the largest magnitudes count. Short series, below 17,
    are held to have a plateau where the last two magnitudes are below the tolerance.

    Args:
        coefficients: Coefficients along the first axis.
        tolerance: What may be left out, relative to `scale`.
        scale: By default the largest coefficient.

    Returns:
        A number from one to m. The number m says that the series goes on.

    References:
        Aurentz & Trefethen, Chopping a Chebyshev series, ACM Trans. Math. Softw. 43, 33 (2017).

    Examples:
        >>> chop(torch.tensor([1.0, 0.1, 0.0, 0.0, 0.0]), 1e-6)
        2
    """
    size = coefficients.detach().abs().to(torch.float64)
    size = size if size.ndim == 1 else size.amax(1)
    m = len(size)
    envelope = size.flip(0).cummax(0).values.flip(0)
    top = float(envelope[0]) if scale is None else scale
    if top == 0 or float(envelope[0]) <= tolerance * top:
        return 1
    tolerance = max(tolerance * top / float(envelope[0]), 1e-16)
    envelope = envelope / envelope[0]
    below = int((envelope > tolerance).sum())
    if m < 17:
        return min(max(below, 1), m) if below <= m - 2 else m
    log = [math.log10(e) if e > 0 else -math.inf for e in envelope.tolist()]
    goal = math.log10(tolerance)
    for j in range(2, m + 1):
        j2 = round(1.25 * j + 5)
        if j2 > m:
            return m
        e1, e2 = log[j - 1], log[j2 - 1]
        if e1 == -math.inf or 10 ** (e2 - e1) > 3 * (1 - e1 / goal):
            break
    if log[j - 2] == -math.inf:
        return j - 1
    last = sum(e >= 7 / 6 * goal for e in log)
    if last < j2:
        j2 = last + 1
        log[j2 - 1] = 7 / 6 * goal
    tilt = [log[i] - goal / 3 * i / max(j2 - 1, 1) for i in range(j2)]
    return max(tilt.index(min(tilt)), 1)
