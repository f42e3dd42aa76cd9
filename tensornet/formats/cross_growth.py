"""The course of a cross approximation: pivots bond by bond, looks at the whole, a final test."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tensornet.formats.cross_entries import Entries, Integers, Numbers
from tensornet.formats.cross_pivots import Bond, ChainBond, LeafBond
from tensornet.formats.cross_search import Reals, Sampler, ascend, evaluate, near_diagonal, spread
from tensornet.formats.cross_tree import Tree
from tensornet.formats.decomposition import BudgetError

# Points of the final test, which are never used for pivots.
HELD = 200
# Points at which the whole is looked at between rounds of pivots.
LOOKS = 24
# Walks to large entries, and to large residuals in each round, where entries differ a lot.
WALKS = 8
# A median entry this far below the largest one says that they do.
PEAKED = 1e-2
ROUNDS = 40
# Residuals below this many units of round-off of the largest entry are not looked into.
ROUND_OFF = 20


@dataclass
class Outcome:
    """A train, and the points at which it was compared with the black box.

    Args:
        cores: The train.
        seen: Points used for pivots or searches, (n, d).
        held: Points never used for pivots, (n, d).
        weights: By which means over the held points are means over all indices.
        reason: Why no more pivots were taken; empty if all tests were passed.
        n_sweeps: Sweeps over all bonds.
    """

    cores: list[Numbers]
    seen: Integers
    held: Integers
    weights: Reals
    reason: str
    n_sweeps: int


def errors(
    entries: Entries,
    cores: list[Numbers],
    points: Integers,
    weights: Reals,
) -> tuple[float, Reals]:
    """Estimate the Frobenius error relative to the norm, and give the residuals at the points.

    Args:
        entries: The black box.
        cores: A train.
        points: Indices (n, d).
        weights: Their weights, as `Sampler.draw` gives them.

    Returns:
        The estimate and the absolute residuals (n,).
    """
    rms = Sampler(cores).rms
    rest = np.abs(entries(points) - evaluate(cores, points))
    scale = float(rest.max())
    if scale == 0:
        return 0.0, rest
    mean = scale * float(np.sqrt(np.mean(weights * (rest / scale) ** 2)))
    return (mean / rms if rms > 0 else np.inf), rest


@dataclass
class Growth:
    """One run.

    Args:
        entries: The black box.
        tolerance: Relative error to reach, above round-off.
        most: Largest number of pivots of a bond.
        generator: Source of all draws.
        starts: Points that must become pivots, (n, d).
    """

    entries: Entries
    tolerance: float
    most: int
    generator: np.random.Generator
    starts: Integers
    n_sweeps: int = 0
    peaked: bool = False
    sharpness: float = 0.3  # threshold of a bond over tolerance times largest entry
    cores: list[Numbers] = field(default_factory=list)

    def __post_init__(self) -> None:
        d = len(self.entries.shape)
        self.points: Integers = np.zeros((0, d), np.int64)  # looked at, with their weights
        self.weights: Reals = np.zeros(0)

    def run(self) -> Outcome:
        """Take pivots until the tests are passed or nothing more can be done."""
        reason = ""
        try:
            self._begin()
            for _ in range(ROUNDS):
                reason = self._round()
                if reason != "again":
                    break
        except BudgetError:
            reason = "the allowed evaluations are used up"
            self.cores = self.cores or [np.zeros((1, n, 1)) for n in self.entries.shape]
        return self._outcome(reason)

    def threshold(self) -> float:
        """Residual below which a bond is left as it is."""
        return max(self.sharpness * self.tolerance, self.floor()) * self.entries.largest

    def floor(self) -> float:
        """Residual over the largest entry below which all is round-off."""
        return ROUND_OFF * self.entries.epsilon

    def _begin(self) -> None:
        """Find large entries, and begin with the crosses through them."""
        entries, generator = self.entries, self.generator
        points = np.concatenate([self.starts, spread(entries.shape, 8, generator)])
        sizes = np.abs(entries(points))
        order = np.argsort(-sizes, kind="stable")
        best = self._walk(points[order[:1]])[0]
        if entries.largest == 0:
            best = self._anything()
        self.tree = Tree(entries, best, self.most)
        self.bonds: list[Bond] = []
        for k in range(self.tree.order):
            if k > 0:
                self.bonds.append(ChainBond(self.tree, k, self.most))
            self.bonds.append(LeafBond(self.tree, k, self.most**2))
        self.cores = self.tree.cores()
        self.peaked = bool(np.median(sizes) <= PEAKED * entries.largest)
        for point in self.starts:
            self.tree.insert(point, self.threshold())
        for point in points[order[1:3]]:
            self.tree.insert(point, self.threshold())
        if self.peaked:
            for point in self._walk(spread(entries.shape, WALKS // 2, generator)):
                self.tree.insert(point, self.threshold())

    def _anything(self) -> Integers:
        """Look for an entry that is not zero where the first samples all were."""
        points = spread(self.entries.shape, 16 * WALKS, self.generator)
        self.entries(points)
        if self.entries.largest == 0:
            self._walk(points[:WALKS])
        return self.entries.where

    def _walk(self, points: Integers) -> Integers:
        """Walk to large entries."""
        return ascend(self.entries, self.entries.shape, points, 3, self.generator)

    def _round(self) -> str:
        """Take pivots until no bond asks for one, then look at the whole."""
        before = self.tree.size()
        self._sweeps()
        grown = self.tree.size() > before
        self.cores = self.tree.cores()
        sampler = Sampler(self.cores)
        if self.entries.largest == 0:
            return ""
        self._look(*sampler.draw(LOOKS, self.generator))
        size, rest = self._error()
        points, found = self._walks(rest)
        if max(size, found.max() / self.entries.largest) <= 0.7 * self.tolerance:
            missed = max(bond.cover(self.generator) for bond in self.bonds)
            if missed > max(0.7 * self.tolerance, self.floor()) * self.entries.largest:
                return "again"
            held, weights = sampler.draw(HELD, self.generator)
            self.held, self.held_weights = held, weights
            error, away = errors(self.entries, self.cores, held, weights)
            if max(error, away.max() / self.entries.largest) <= self.tolerance:
                return ""
            # What has been used to decide where to go on is no longer independent.
            del self.held, self.held_weights
            self._look(held, weights)
            size, rest = self._error()
            points = np.concatenate([points, self.points])
            found = np.concatenate([found, rest])
        return self._improve(size, points, found, grown)

    def _improve(self, size: float, points: Integers, found: Reals, grown: bool) -> str:
        before = self.tree.size()
        for at in np.argsort(-found, kind="stable")[:3]:
            if found[at] > self.threshold():
                self.tree.insert(points[at], self.threshold())
        same = self.tree.size() == before
        if not same and size <= self.tolerance:
            return "again"
        chain = [bond for bond in self.bonds if isinstance(bond, ChainBond)]
        capped = any(bond.capped() for bond in chain)
        stuck = not grown and self.sharpness * self.tolerance <= self.floor()
        whole = all(self.tree.short(k) for k in range(self.tree.order))
        if all(bond.capped() or (whole and bond.full()) for bond in chain) or (stuck and same):
            return "the largest rank is reached" if capped else "no pivot makes it smaller"
        goal = 0.7 * self.tolerance / max(size, found.max() / self.entries.largest)
        self.sharpness *= min(max(goal, 0.2), 0.7)
        return "again"

    def _sweeps(self) -> None:
        """Visit the bonds there and back until none takes a pivot."""
        while True:
            before = self.tree.size()
            for bond in self.bonds[:: 1 if self.n_sweeps % 2 == 0 else -1]:
                bond.search(self.generator, self.threshold())
            self.n_sweeps += 1
            if self.tree.size() == before:
                return
            self.cores = self.tree.cores()  # what remains if the evaluations run out
            if self.n_sweeps == 4:  # how the typical entry compares with the largest
                typical = 3 * Sampler(self.cores).rms / max(self.entries.largest, 1e-300)
                self.sharpness = min(max(typical, 0.1), 0.3)

    def _look(self, points: Integers, weights: Reals) -> None:
        self.entries(points)
        self.points = np.concatenate([self.points, points])
        self.weights = np.concatenate([self.weights, weights])

    def _error(self) -> tuple[float, Reals]:
        return errors(self.entries, self.cores, self.points, self.weights)

    def _walks(self, rest: Reals) -> tuple[Integers, Reals]:
        """Walk to large residuals from the worst points and from new ones."""
        worst = self.points[np.argsort(-rest, kind="stable")[:1]]
        more = spread(self.entries.shape, WALKS // 2, self.generator)
        more = more if self.peaked else more[:3]
        corners = np.array([[0] * len(self.entries.shape), self.entries.shape]) - [[0], [1]]
        starts = np.concatenate([worst, more, corners, self.starts])
        shape, sweeps = self.entries.shape, 1 if self.peaked else 2
        ends = ascend(self._residual, shape, starts, sweeps, self.generator, thin=not self.peaked)
        alike = near_diagonal(self.entries.shape, LOOKS, self.generator)
        points = np.concatenate([ends, alike, self.points])
        return points, np.abs(self._residual(points))

    def _residual(self, points: Integers) -> Numbers:
        return np.asarray(self.entries(points) - evaluate(self.cores, points))

    def _outcome(self, reason: str) -> Outcome:
        if reason == "again":
            reason = "it still grew in the last round"
        if not hasattr(self, "held"):
            self.held, self.held_weights = Sampler(self.cores).draw(HELD, self.generator)
        seen = np.concatenate([self.points, self.entries.where[None]])
        return Outcome(
            self.cores, seen, self.held, self.held_weights, reason, self.n_sweeps
        )  # fmt: skip
