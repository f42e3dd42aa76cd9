"""Choice of new pivots in a cross approximation, where the residual of a bond is large.

A bond is a matrix: of chain bond k, rows I[k-1] x M[k-1] and columns M[k] x J[k+1]; of a leaf
bond, rows the mode and columns I x J. Its residual at one entry costs one evaluation, and along a
row or a column as many as there are; the blocks need these anyway once the pivot is taken. The
walk is that of rook pivoting, but it turns only towards clearly larger residuals, since a line
that is left again was asked for in vain.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from tensornet.formats.cross_entries import Integers, Numbers
from tensornet.formats.cross_tree import Tree

# Entries tested at random before a bond is taken to be good enough.
FRESH = 4
# How much larger the residual along a row must be for its column to be asked for.
WORTH = 1.5
# Largest residuals of tested entries that are remembered.
REMEMBERED = 256
# Places of rows and columns must stay what they are while sets grow: none outgrows this stride.
_STRIDE = 1 << 20


class Bond(ABC):
    """A bond of the tree, and the entries of its matrix that were tested.

    Args:
        tree: The state that pivots are added to.
        k: Number of the bond.
        most: Largest number of pivots.
    """

    def __init__(self, tree: Tree, k: int, most: int) -> None:
        self.tree, self.k, self.most = tree, k, most
        self.rows: Integers = np.zeros(0, np.int64)
        self.columns: Integers = np.zeros(0, np.int64)
        self.values: Numbers = np.zeros(0, tree.entries.numbers)

    @abstractmethod
    def points(self, rows: Integers, columns: Integers) -> Integers:
        """Give the indices (n, d) of entries."""

    @abstractmethod
    def residual(self, rows: Integers, columns: Integers, values: Numbers) -> Numbers:
        """Subtract from entries what the other pivots predict."""

    @abstractmethod
    def lines(self) -> tuple[Integers, Integers]:
        """Give the places of all rows and of all columns."""

    @abstractmethod
    def rank(self) -> int:
        """Number of pivots."""

    @abstractmethod
    def take(self, row: int, column: int) -> None:
        """Make an entry a pivot."""

    def capped(self) -> bool:
        """Say whether there are as many pivots as are allowed."""
        return self.rank() >= self.most

    def full(self) -> bool:
        """Say whether every row or every column is a pivot."""
        return self.rank() >= min(map(len, self.lines()))

    def search(self, generator: np.random.Generator, threshold: float) -> float:
        """Take a pivot where a residual is above the threshold; give the largest residual seen.

        Args:
            generator: Source of the random tests.
            threshold: Residuals below it are left as they are.
        """
        if self.full():
            return 0.0
        rows, columns = self.lines()
        size, row, column = self._worst()
        if size <= threshold:
            self._test(generator.choice(rows, FRESH), generator.choice(columns, FRESH))
            size, row, column = self._worst()
        if size > threshold and not self.capped():
            size, row, column = self._walk(size, row, column)
            self.take(row, column)
        return size

    def cover(self, generator: np.random.Generator) -> float:
        """Test every row and every column at one entry; give the largest residual seen.

        Pivots gather where the tensor has much to tell, and so do these tests.

        Args:
            generator: Source of the pairs.
        """
        rows, columns = (generator.permutation(x) for x in self.lines())
        n = max(len(rows), len(columns))
        if not self.full():
            self._test(np.resize(rows, n), np.resize(columns, n))
        return self._worst()[0]

    def _walk(self, size: float, row: int, column: int) -> tuple[float, int, int]:
        rows, columns = self.lines()
        for _ in range(3):
            found = self._test(rows, np.full(len(rows), column))
            best = int(found.argmax())
            row, size = int(rows[best]), float(found[best])
            found = self._test(np.full(len(columns), row), columns)
            best = int(found.argmax())
            if found[best] <= WORTH * size:
                break
            column, size = int(columns[best]), float(found[best])
        return size, row, column

    def _test(self, rows: Integers, columns: Integers) -> Numbers:
        """Ask for entries, remember them, and give the absolute residuals."""
        values = self.tree.entries(self.points(rows, columns))
        self.rows = np.append(self.rows, rows)
        self.columns = np.append(self.columns, columns)
        self.values = np.append(self.values, values)
        return np.abs(self.residual(rows, columns, values))

    def _worst(self) -> tuple[float, int, int]:
        """Give the largest residual of tested entries, its row and column; forget small ones."""
        if len(self.rows) == 0:
            return 0.0, 0, 0
        size = np.abs(self.residual(self.rows, self.columns, self.values))
        kept = np.argsort(-size, kind="stable")[:REMEMBERED]
        self.rows, self.columns = self.rows[kept], self.columns[kept]
        self.values = self.values[kept]
        return float(size[kept[0]]), int(self.rows[0]), int(self.columns[0])


class ChainBond(Bond):
    """Bond k of the chain, 0 < k < d, between node k-1 and node k."""

    def points(self, rows: Integers, columns: Integers) -> Integers:
        """Give the indices of entries."""
        t, k = self.tree, self.k
        a, m = np.divmod(rows, _STRIDE)
        b, n = np.divmod(columns, _STRIDE)
        parts = (t.I[k - 1][a], t.M[k - 1][m, None], t.M[k][n, None], t.J[k + 1][b])
        return np.concatenate(parts, 1)

    def residual(self, rows: Integers, columns: Integers, values: Numbers) -> Numbers:
        """Subtract what the pivot rows predict."""
        t, k = self.tree, self.k
        a, m = np.divmod(rows, _STRIDE)
        b, n = np.divmod(columns, _STRIDE)
        predicted = np.einsum("tr,rt->t", t.W[k - 1][a, m], t.S[k][:, n, b])
        return np.asarray(values - predicted)

    def lines(self) -> tuple[Integers, Integers]:
        """Places of prefixes with an index of the mode, and of an index with suffixes."""
        a, m, _ = self.tree.S[self.k - 1].shape
        _, n, b = self.tree.S[self.k].shape
        return _places(a, m), _places(b, n)

    def rank(self) -> int:
        """Rank of the train at this bond."""
        return len(self.tree.I[self.k])

    def take(self, row: int, column: int) -> None:
        """Add the two halves of the entry's index to the pivots."""
        point = self.points(np.array([row]), np.array([column]))[0]
        self.tree.add(self.k, point[: self.k], point[self.k :])


class LeafBond(Bond):
    """The bond between node k and its mode."""

    def points(self, rows: Integers, columns: Integers) -> Integers:
        """Give the indices of entries."""
        t, k = self.tree, self.k
        a, b = np.divmod(columns, _STRIDE)
        return np.concatenate([t.I[k][a], rows[:, None], t.J[k + 1][b]], 1)

    def residual(self, rows: Integers, columns: Integers, values: Numbers) -> Numbers:
        """Subtract what the pivots of the mode predict."""
        t, k = self.tree, self.k
        a, b = np.divmod(columns, _STRIDE)
        predicted = np.einsum("tm,tm->t", t.U[k][rows], t.S[k][a, :, b])
        return np.asarray(values - predicted)

    def lines(self) -> tuple[Integers, Integers]:
        """Indices of the mode, and places of prefixes with suffixes."""
        a, _, b = self.tree.S[self.k].shape
        return np.arange(self.tree.shape[self.k]), _places(a, b)

    def rank(self) -> int:
        """Number of pivots of the mode."""
        return len(self.tree.M[self.k])

    def take(self, row: int, column: int) -> None:
        """Add the index to the pivots of the mode, and the fibre to its fibres."""
        point = self.points(np.array([row]), np.array([column]))[0]
        self.tree.add_leaf(self.k, row, point)

    def search(self, generator: np.random.Generator, threshold: float) -> float:
        """Search among the fibres between pivots, and beyond where these are too few.

        Where a neighbouring rank is one, pivots of the mode and of the bond are as many, and
        neither can lead to a new one. Then a fibre is tried that no pivot goes through.

        Args:
            generator: Source of the random tests.
            threshold: Residuals below it are left as they are.
        """
        t, k = self.tree, self.k
        if t.short(k):
            return 0.0
        a, m, b = t.S[k].shape
        if m < a * b or self.capped():
            return super().search(generator, threshold)
        point = t.C[k][generator.integers(m)].copy()
        for j in (k - 1, k + 1):
            if 0 <= j < t.order:
                point[j] = generator.integers(t.shape[j])
        return t.insert_leaf(k, point, threshold)


def _places(outer: int, inner: int) -> Integers:
    places: Integers = np.arange(outer)[:, None] * _STRIDE + np.arange(inner)
    return places.ravel()
