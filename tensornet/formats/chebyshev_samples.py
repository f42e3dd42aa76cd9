"""Samples of a black box on a box: counted, checked, and within a budget."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tensornet.formats.chebyshev_box import Box
from tensornet.formats.decomposition import BudgetError

Function = Callable[[Tensor], Tensor]


class Samples:
    """Ask a function on a box for values at points scaled to [-1, 1]^d.

    Args:
        function: The black box, points (n, d) to values (n,).
        box: Its box.
        device: Where the points are to be.
        most: Largest number of evaluations.
    """

    def __init__(self, function: Function, box: Box, device: torch.device, most: int) -> None:
        self.function = function
        self.device = device
        self.most = most
        self.n_evaluations = 0
        self.scale = 0.0
        ends = torch.tensor(box, dtype=torch.float64)
        self.low, self.high = ends[:, 0], ends[:, 1]

    def __call__(self, scaled: Tensor) -> Tensor:  # (..., d) -> (...)
        """Evaluate, and remember the largest magnitude.

        Args:
            scaled: Points in [-1, 1]^d, float64.

        Raises:
            BudgetError: If that would be too many. Nothing is evaluated then.
        """
        shape, scaled = scaled.shape[:-1], scaled.reshape(-1, scaled.shape[-1])
        if self.n_evaluations + len(scaled) > self.most:
            raise BudgetError
        t = 0.5 * (1 + scaled)
        points = (self.low + (self.high - self.low) * t).clamp(self.low, self.high).to(self.device)
        with torch.no_grad():
            values = self._asked(points)
        self.n_evaluations += len(scaled)
        values = values.to(device="cpu", dtype=torch.float64)
        if len(values):
            self.scale = max(self.scale, float(values.abs().max()))
        return values.reshape(shape)

    def _asked(self, points: Tensor) -> Tensor:
        where = "`chebyshev_tucker(function=...)` must"
        try:
            values = self.function(points)
        except Exception as error:
            point = self._culprit(points).tolist()
            raise RuntimeError(
                f"{where} accept points of the box. It raised {type(error).__name__}: {error} at "
                f"the point {point}."
            ) from error
        if not isinstance(values, Tensor):
            raise TypeError(
                f"{where} return a torch.Tensor. Got {type(values).__name__} for points of shape "
                f"{tuple(points.shape)}."
            )
        if values.shape != points.shape[:1]:
            raise ValueError(
                f"{where} return one value per point, shape ({len(points)},). Got "
                f"{tuple(values.shape)} for points of shape {tuple(points.shape)}, the first at "
                f"{points[0].tolist()}."
            )
        if values.is_complex():
            raise TypeError(f"{where} return real values. Got {values.dtype}.")
        bad = ~values.detach().isfinite()
        if bool(bad.any()):
            first = int(bad.nonzero()[0])
            raise ValueError(
                f"{where} return finite values. Got {float(values[first])} at the point "
                f"{points[first].tolist()}, and {int(bad.sum())} such of {len(points)}."
            )
        return values.detach()

    def _culprit(self, points: Tensor) -> Tensor:
        """Find a point that alone makes the function raise; the first where none does."""
        few = points
        while len(few) > 1:
            half = few[: len(few) // 2]
            try:
                self.function(half)
            except Exception:
                few = half
            else:
                few = few[len(half) :]
        return few[0]
