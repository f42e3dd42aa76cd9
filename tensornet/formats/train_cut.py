"""One cut of a train, and how much each of several may drop."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tensornet.formats.train_sweeps import left_factor
from tensornet.linalg.truncation import n_kept, truncate


class Budget:
    """How much each of several cuts may drop: what earlier ones left over goes to later ones.

    Args:
        allowed: Largest norm to drop in all cuts together.
        cuts: Number of cuts.
    """

    def __init__(self, allowed: float, cuts: int) -> None:
        self.square, self.cuts, self.spent = allowed * allowed, cuts, 0.0

    def next(self) -> float:
        """Largest norm the next cut may drop."""
        return math.sqrt(max(self.square - self.spent, 0.0) / max(self.cuts, 1))

    def spend(self, weight: float) -> None:
        """Tell the squared norm that a cut dropped."""
        self.spent += weight
        self.cuts -= 1


def cut(
    x: Tensor,  # (d1, d2)
    allowed: float,
    max_rank: int | None,
) -> tuple[Tensor, float]:  # (d1, r), dropped squared
    """Give an orthonormal basis of the leading left directions of a matrix."""
    if x.requires_grad:
        found = truncate(x, rank=max_rank, tolerance=allowed, scale=1.0, method="svd")
        return found.left, found.weight
    q = None
    if x.shape[0] > 1.2 * x.shape[1]:
        q, x = torch.linalg.qr(x)
    elif x.shape[1] > 1.2 * x.shape[0]:
        x = left_factor(x)
    U, s, _ = torch.linalg.svd(x, full_matrices=False)
    squares = s.square()
    r = n_kept(squares, max_rank, allowed)
    return U[:, :r] if q is None else q @ U[:, :r], float(squares[r:].sum())
