"""Rounding: bring the ranks of a train down to what a tolerance needs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tensornet import _check
from tensornet.formats import train_sweeps
from tensornet.formats.decomposition import Decomposition
from tensornet.formats.tensor_train import TensorTrain
from tensornet.linalg.truncation import n_kept, truncate

METHODS = ("auto", "svd", "gram", "randomized")


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
    method: str = "svd",
) -> tuple[Tensor, float]:  # (d1, r), dropped squared
    """Give an orthonormal basis of the leading left directions of a matrix."""
    if x.requires_grad:
        found = truncate(x, rank=max_rank, tolerance=allowed, scale=1.0, method="svd")
        return found.left, found.weight
    if method == "gram" and x.shape[0] <= x.shape[1]:
        values, U = torch.linalg.eigh(x @ x.mH)
        squares, U = values.flip(0).clamp(min=0), U.flip(1)
        r = n_kept(squares, max_rank, allowed)
        return U[:, :r], float(squares[r:].sum())
    q = None
    if x.shape[0] > 1.2 * x.shape[1]:
        q, x = torch.linalg.qr(x)
    elif x.shape[1] > 1.2 * x.shape[0]:
        x = train_sweeps.left_factor(x)
    U, s, _ = torch.linalg.svd(x, full_matrices=False)
    squares = s.square()
    r = n_kept(squares, max_rank, allowed)
    return U[:, :r] if q is None else q @ U[:, :r], float(squares[r:].sum())


def _exact(
    cores: Sequence[Tensor], tolerance: float, max_rank: int | None, method: str
) -> tuple[list[Tensor], int, float]:
    """Project on the leading directions of every cut, the first mode first.

    Returns:
        Cores, the exponent of their common factor, and the relative error.
    """
    L, e_tail = train_sweeps.tails(cores)
    norm, e_norm = float(torch.linalg.vector_norm(L[0].detach())), e_tail[0]
    budget = Budget(tolerance, len(cores) - 1)
    m, e_head, new = cores[0].reshape(-1, cores[0].shape[2]), 0, []
    for k, core in enumerate(cores[:-1]):
        scale = norm * 2.0 ** min(e_norm - e_head - e_tail[k + 1], 900)  # norm of all, as x has it
        basis, weight = cut(m @ L[k + 1], budget.next() * scale, max_rank, method)
        budget.spend(weight / (scale * scale) if scale > 0 else 0.0)
        new.append(basis.reshape(-1, core.shape[1], basis.shape[1]))
        following = cores[k + 1]
        m = (basis.mH @ m) @ following.reshape(following.shape[0], -1)
        m, more = train_sweeps.split_scale(m.reshape(-1, following.shape[2]))
        e_head += int(more)
    new.append(m.reshape(-1, cores[-1].shape[1], 1))
    return new, e_head, math.sqrt(budget.spent)


def round_train(
    x: TensorTrain,
    *,
    tolerance: float = 0.0,
    max_rank: int | None = None,
    method: str = "auto",
) -> Decomposition[TensorTrain]:
    """Lower the ranks of a train."""
    _check.tolerance("round_train", tolerance=tolerance)
    if max_rank is not None:
        _check.at_least("round_train", 1, max_rank=max_rank)
    _check.one_of("round_train", METHODS, method=method)
    cores, e, error = _exact(x.cores, tolerance, max_rank, "svd")
    value = TensorTrain(tuple(cores), train_sweeps.log_of(e, x.log_scale))
    return Decomposition(value, error, error <= tolerance, "", 1, 0)
