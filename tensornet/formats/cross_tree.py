"""The state of a cross approximation: pivots of every bond, and the blocks of entries they select.

The tensor is seen as a comb. Node k is joined to node k+1 by a chain bond and to its mode by a
leaf bond, so that not every index of a mode must be asked for in every block:

    x[i_1, ..., i_d]  =  product over k of  sum over m of  U[k][i_k, m] W[k][a, m, a']

    I[k]  left pivots of chain bond k: indices of modes 1..k      M[k]  pivots of mode k
    J[k]  right pivots: indices of modes k+1..d                   C[k]  fibres along mode k
    S[k]  block: entries at I[k] x M[k] x J[k+1]                  F[k]  fibres: entries at C[k]
    W[k]  weights S[k] P^-1, P = entries at I[k+1] x J[k+1], by which rows follow from pivot rows
    U[k]  leaf F[k] F[k][M[k]]^-1, by which the mode follows from its pivots

Sets are only added to, so that every entry of a block stays useful to the end.
"""

from __future__ import annotations

import numpy as np

from tensornet.formats.cross_entries import Entries, Integers, Numbers

# Modes up to this size are not compressed: finding their pivots costs more than it spares.
SHORT = 3


class Tree:
    """Pivots, blocks and weights, beginning with the cross through one entry.

    Args:
        entries: The black box.
        start: Index (d,) of an entry that is not zero.
        most: Largest number of pivots of a chain bond.
    """

    def __init__(self, entries: Entries, start: Integers, most: int) -> None:
        self.entries, self.shape, self.most = entries, entries.shape, most
        self.order = d = len(self.shape)
        self.I = [start[None, :k].copy() for k in range(d + 1)]
        self.J = [start[None, k:].copy() for k in range(d + 1)]
        # At the ends of the chain, mode and bond are two sides of one matrix: no leaf is needed.
        self.M = [
            np.arange(n) if n <= SHORT or k in (0, d - 1) else start[k : k + 1].copy()
            for k, n in enumerate(self.shape)
        ]
        self.C = [start[None].copy() for _ in range(d)]
        self.F = [self.fibre(k, start)[:, None] for k in range(d)]
        self.S = [self._block(k, self.I[k], self.M[k], self.J[k + 1]) for k in range(d)]
        self.W: list[Numbers] = [np.ones((1, 1, 1))] * d
        self.U: list[Numbers] = [np.ones((1, 1))] * d
        for k in range(d):
            self._refresh_leaf(k)
            self._refresh(k)

    def ranks(self) -> list[int]:
        """Ranks of the chain, with the outer ones."""
        return [len(x) for x in self.I]

    def size(self) -> int:
        """Number of entries in the blocks, which grows with every pivot."""
        return sum(x.size for x in self.S)

    def short(self, k: int) -> bool:
        """Say whether all of mode k is in every block."""
        return len(self.M[k]) == self.shape[k]

    def fibre(self, k: int, point: Integers) -> Numbers:  # (n,)
        """Evaluate the fibre along mode k through a point (d,)."""
        n = self.shape[k]
        out = np.repeat(point[None], n, 0)
        out[:, k] = np.arange(n)
        return self.entries(out)

    def _block(self, k: int, left: Integers, middle: Integers, right: Integers) -> Numbers:
        a, m, b = len(left), len(middle), len(right)
        out = np.empty((a, m, b, self.order), np.int64)
        out[..., :k] = left[:, None, None, :]
        out[..., k] = middle[None, :, None]
        out[..., k + 1 :] = right[None, None, :, :]
        return self.entries(out.reshape(-1, self.order)).reshape(a, m, b)

    def _square(self, left: Integers, right: Integers) -> Numbers:
        a, b = len(left), len(right)
        both = [np.repeat(left, b, 0), np.tile(right, (a, 1))]
        return self.entries(np.concatenate(both, 1)).reshape(a, b)

    def _refresh(self, k: int) -> None:
        """Compute the weights of node k."""
        if k + 1 < self.order:
            rows = self.S[k].reshape(-1, self.S[k].shape[2])
            pivots = self._square(self.I[k + 1], self.J[k + 1])
            self.W[k] = weights(rows, pivots).reshape(*self.S[k].shape[:2], -1)

    def _refresh_leaf(self, k: int) -> None:
        """Compute the leaf of mode k."""
        if self.short(k):
            self.U[k] = np.eye(self.shape[k])[:, self.M[k]]
        else:
            self.U[k] = weights(self.F[k], self.F[k][self.M[k]])

    def add(self, k: int, left: Integers, right: Integers) -> None:
        """Add a pivot to chain bond k, 0 < k < d, unless one of its halves is a pivot already.

        Args:
            k: Number of the bond.
            left: Indices of the first k modes.
            right: Indices of the others.
        """
        if (self.I[k] == left).all(1).any() or (self.J[k] == right).all(1).any():
            return  # its residual is round-off
        column = self._block(k - 1, self.I[k - 1], self.M[k - 1], right[None])
        row = self._block(k, left[None], self.M[k], self.J[k + 1])
        self.I[k] = np.concatenate([self.I[k], left[None]])
        self.J[k] = np.concatenate([self.J[k], right[None]])
        self.S[k - 1] = np.concatenate([self.S[k - 1], column], 2)
        self.S[k] = np.concatenate([self.S[k], row], 0)
        self._refresh(k - 1)
        self._refresh(k)

    def add_leaf(self, k: int, index: int, point: Integers) -> None:
        """Add a pivot to mode k, unless it is one already.

        Args:
            k: Number of the mode.
            index: The pivot.
            point: Any point of the fibre that tells it apart from the others.
        """
        if index in self.M[k]:
            return
        fibre = self.fibre(k, point)
        new = self._block(k, self.I[k], np.array([index]), self.J[k + 1])
        self.M[k] = np.append(self.M[k], index)
        self.C[k] = np.concatenate([self.C[k], point[None]])
        self.F[k] = np.concatenate([self.F[k], fibre[:, None]], 1)
        self.S[k] = np.concatenate([self.S[k], new], 1)
        self._refresh_leaf(k)
        self._refresh(k)

    def insert_leaf(self, k: int, point: Integers, threshold: float) -> float:
        """Add the fibre through a point where the leaf does not predict it; give its residual."""
        if self.short(k):
            return 0.0
        fibre = self.fibre(k, point)
        rest = np.abs(fibre - self.U[k] @ fibre[self.M[k]])
        size = float(rest.max())
        if size > threshold:
            self.add_leaf(k, int(rest.argmax()), point)
        return size

    def insert(self, point: Integers, threshold: float) -> None:
        """Add a point to the pivots of every bond that does not predict it.

        Args:
            point: The index (d,).
            threshold: Residuals below it are left as they are.
        """
        value = self.entries(point[None])[0]
        for k in range(self.order):
            self.insert_leaf(k, point, threshold)
        for k in range(1, self.order):
            left, right = point[:k], point[k:]
            row = self._square(left[None], self.J[k])
            column = self._square(self.I[k], right[None])[:, 0]
            w = weights(row, self._square(self.I[k], self.J[k]))[0]
            if abs(value - w @ column) > threshold and len(self.I[k]) < self.most:
                self.add(k, left, right)

    def cores(self) -> list[Numbers]:
        """Multiply weights and leaves: the cores (r, n, r') of the train."""
        last = self.order - 1
        blocks = [*self.W[:last], self.S[last]]
        return [np.einsum("nm,amb->anb", u, w) for u, w in zip(self.U, blocks, strict=True)]


def weights(
    rows: Numbers,  # (n, b)
    pivots: Numbers,  # (a, b)
) -> Numbers:  # (n, a)
    """Find how rows follow from pivot rows: rows pivots^-1, also where pivots are nearly singular.

    Both are first written in one orthonormal basis of their columns, in which the pivot rows are
    well conditioned when they were chosen well, however small the last singular values are.

    Args:
        rows: The rows to predict.
        pivots: The rows to predict them from.
    """
    both = np.concatenate([rows, pivots])
    scale = np.abs(both).max(0)
    basis, s, _ = np.linalg.svd(both / np.where(scale > 0, scale, 1), full_matrices=False)
    basis = basis[:, s > 1e-15 * s[0]]
    out, *_ = np.linalg.lstsq(basis[len(rows) :].T, basis[: len(rows)].T, rcond=1e-10)
    return np.ascontiguousarray(out.T)
