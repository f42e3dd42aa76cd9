"""Boxes: their check, and the way to [-1, 1]."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

Box = tuple[tuple[float, float], ...]


def checked_box(where: str, box: Any) -> Box:
    """Give the box as pairs of numbers.

    Args:
        where: Name of the public call, for the message.
        box: Lower and upper ends, a tensor or array (d, 2) or sequence of pairs.

    Raises:
        ValueError: If it is no box, or a side is not finite or has no length.
    """
    try:
        sides = tuple((float(low), float(high)) for low, high in box)
    except (TypeError, ValueError):
        sides = ()
    if not sides or not all(math.isfinite(b - a) and a < b for a, b in sides):
        raise ValueError(
            f"`{where}(box=...)` must have shape (d, 2), finite lower ends below upper ends. Got "
            f"{box}."
        )
    return sides


def scaled_points(points: Tensor, box: Box, argument: str) -> Tensor:
    """Bring points of the box to [-1, 1]^d.

    Args:
        points: Points (n, d).
        box: The box.
        argument: Name of the public call with its argument, for the message.

    Raises:
        ValueError: If points lie outside, or are not numbers.
    """
    ends = torch.tensor(box, dtype=points.dtype, device=points.device)
    low, high = ends[:, 0], ends[:, 1]
    inside = ((points.detach() >= low) & (points.detach() <= high)).all(1)
    outside = len(points) - int(inside.sum())
    if outside:
        raise ValueError(
            f"`{argument}` must lie in the box {box}. Got {outside} of {len(points)} points "
            "outside."
        )
    return (2 * points - low - high) / (high - low)
