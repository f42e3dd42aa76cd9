"""Nested index sets of a tensor train, and the train that interpolates entries at them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tensornet.formats import TensorTrain

# Weights of interpolation above this are lowered by swapping a row in.
_DOMINANT = 1.01


class IndexSets:
    """Left and right index sets of every bond of a train, nested.

    Args:
        shape: Sizes of the modes.
        rows: Per inner bond k = 1..order-1, the places (r_k,) of its left set ``I_k`` in
            ``I_{k-1} x mode k``.
        columns: Per inner bond, the places (r_k,) of its right set ``J_k`` in
            ``mode k+1 x J_{k+1}``.

    Attributes:
        left: Left sets ``I_0 ... I_order``, each (r_k, k).
        right: Right sets ``J_0 ... J_order``, each (r_k, order - k).
    """

    def __init__(
        self, shape: Sequence[int], rows: Sequence[Tensor], columns: Sequence[Tensor]
    ) -> None:
        self.shape, self.rows = tuple(shape), tuple(rows)
        order, none = len(self.shape), torch.zeros(1, 0, dtype=torch.int64)
        self.left = [none]
        for k, places in enumerate(rows):
            n = self.shape[k]
            self.left.append(torch.cat([self.left[-1][places // n], (places % n)[:, None]], 1))
        self.right = [none]
        for k in reversed(range(1, order)):
            places, b = columns[k - 1], len(self.right[0])
            part = torch.cat([(places // b)[:, None], self.right[0][places % b]], 1)
            self.right.insert(0, part)
        # The outer sets hold nothing: one empty prefix on the left, one empty suffix on the right.
        self.ranks = (1, *(len(places) for places in rows), 1)
        self.right.insert(0, torch.zeros(0, order, dtype=torch.int64))
        self.left.append(torch.zeros(0, order, dtype=torch.int64))

    @cached_property
    def _unique(self) -> tuple[Tensor, Tensor]:
        fibres = [self._fibres(k) for k in range(len(self.shape))]
        unique, places = torch.unique(torch.cat(fibres), dim=0, return_inverse=True)
        return unique, places

    @property
    def indices(self) -> Tensor:  # (n, order)
        """All entries on fibres between the sets, each once."""
        return self._unique[0]

    def places(self) -> list[Tensor]:  # each (r, d, r')
        """Where in `indices` the entries of the fibres along each mode are."""
        sizes = [(self.ranks[k], n, self.ranks[k + 1]) for k, n in enumerate(self.shape)]
        parts = self._unique[1].split([a * n * b for a, n, b in sizes])
        return [part.reshape(size) for part, size in zip(parts, sizes, strict=True)]

    def _fibres(self, k: int) -> Tensor:  # (r d r', order)
        left, right, n = self.left[k], self.right[k + 1], self.shape[k]
        a, b = len(left), len(right)
        out = torch.empty(a, n, b, len(self.shape), dtype=torch.int64)
        out[..., :k] = left[:, None, None]
        out[..., k] = torch.arange(n)[None, :, None]
        out[..., k + 1 :] = right[None, None]
        return out.reshape(-1, len(self.shape))


def nested_sets(train: TensorTrain) -> IndexSets:
    """Choose index sets at which the entries of a train cross with nearly largest volume.

    Args:
        train: Its ranks are those of the sets.

    References:
        Goreinov, Oseledets, Savostyanov, Tyrtyshnikov & Zamarashkin, How to find a good
        submatrix (2010).
    """
    forward = _sweep(train.orthogonalize(0))
    backward = _sweep(train.orthogonalize(-1).reverse())
    columns = []
    for k, places in enumerate(reversed(backward)):  # of bond k+1: place in (J_{k+2}, mode k+2)
        n = train.shape[k + 1]
        b = train.ranks[k + 2]
        columns.append((places % n) * b + places // n)
    return IndexSets(train.shape, forward, columns)


def _sweep(train: TensorTrain) -> list[Tensor]:
    """Places of the left sets, of a train whose cores but the first are orthonormal."""
    carry: NDArray[Any] = np.ones((1, 1))
    found = []
    for core in train.cores[:-1]:
        data = core.detach().resolve_conj().cpu().numpy()
        matrix = np.tensordot(carry, data, 1).reshape(-1, data.shape[2])
        rows = dominant_rows(np.linalg.qr(matrix)[0])
        found.append(torch.from_numpy(rows))
        carry = matrix[rows]
        carry = carry / np.abs(carry).max()
    return found


def dominant_rows(
    Q: NDArray[Any],  # (m, r)
) -> NDArray[np.int64]:  # (r,)
    """Choose rows of nearly largest volume: no other row has a weight above 1.01 in them.

    Args:
        Q: Orthonormal columns.
    """
    import scipy.linalg

    r = Q.shape[1]
    rows = scipy.linalg.qr(Q.conj().T, mode="r", pivoting=True)[1][:r].astype(np.int64)
    weights = np.linalg.solve(Q[rows].T, Q.T).T
    for _ in range(50 * r):
        i, j = np.unravel_index(int(np.abs(weights).argmax()), weights.shape)
        if abs(weights[i, j]) <= _DOMINANT:
            break
        step = weights[i].copy()
        step[j] -= 1
        weights = weights - np.outer(weights[:, j] / weights[i, j], step)
        rows[j] = i
    return np.asarray(rows)


def interpolated(
    where: str,
    sets: IndexSets,
    values: Tensor,  # (n,)
) -> TensorTrain:
    """Make the train that takes values at the entries on the fibres.

    Args:
        where: Name of the public argument, for messages.
        sets: The index sets.
        values: One per row of ``sets.indices``.

    Raises:
        ValueError: If entries cross singularly.

    Derivatives:
        Any order. With ``C = Q R`` for the fibres C, the core is ``C R^-1 (C R^-1)[rows]^-1`` for
        any R, which therefore has no derivative; nothing badly conditioned is inverted but R.
    """
    wide = values.to(torch.complex128 if values.is_complex() else torch.float64)
    fibres = [wide[places.to(wide.device)] for places in sets.places()]
    cores = []
    for k, rows in enumerate(sets.rows):
        a, n, b = fibres[k].shape
        matrix = fibres[k].reshape(a * n, b)
        Q, R = torch.linalg.qr(matrix.detach())
        size = R.diagonal().abs()
        if not bool(size.min() > 4 * b * torch.finfo(wide.dtype).eps * size.max()):
            raise ValueError(
                f"`{where}` must have rank {b} between modes {k} and {k + 1}, as when its entries "
                f"were picked. Got fibres that are dependent to round-off. (Pick again.)"
            )
        if matrix.requires_grad:
            change = torch.linalg.solve_triangular(
                R, matrix - matrix.detach(), upper=True, left=False
            )
            Q = Q + change
        weights = torch.linalg.solve(Q[rows.to(Q.device)], Q, left=False)
        cores.append(weights.reshape(a, n, b))
    cores.append(fibres[-1])
    return TensorTrain(tuple(core.to(values.dtype) for core in cores))
