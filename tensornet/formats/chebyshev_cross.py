"""Tucker cross approximation of a function by fibres, on Chebyshev grids that grow.

For each variable k, fibres of the function (all Chebyshev nodes of that variable, the others
fixed) span a basis. Interpolation at r_k of the nodes, the pivots, brings a function into that
basis; done in all variables it gives the approximation, whose core is the function on the grid of
pivots. Each further fibre adds one pivot, where interpolation of the fibre fails most, so the core
only grows and no evaluation is lost. New fibres go through the points of largest residual.

Nodes of 2 m - 1 points contain those of m points, so that a variable is refined by evaluating the
new nodes on its fibres only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tensornet.formats import chebyshev
from tensornet.formats.chebyshev_chop import chop
from tensornet.formats.chebyshev_jet import contract, jet
from tensornet.formats.chebyshev_samples import Samples

_FIRST = 17  # nodes of a variable to begin with
_STALE = 3  # fibres in a row that taught nothing, before a variable is left in peace


class FibreCross:
    """The growing approximation.

    Args:
        samples: The function.
        d: Number of variables.
        tolerance: Largest error, relative to the largest magnitude of the function.
        max_degree: Largest degree in any variable.
        generator: For random choices.
    """

    def __init__(
        self,
        samples: Samples,
        d: int,
        tolerance: float,
        max_degree: int,
        generator: torch.Generator,
    ) -> None:
        self.samples, self.d, self.tolerance = samples, d, tolerance
        self.max_degree, self.generator = max_degree, generator
        first = min(_FIRST, max_degree + 1)
        self.sizes = [first] * d
        self.fibres = [torch.empty(first, 0, dtype=torch.float64) for _ in range(d)]
        self.through = [torch.empty(0, d, dtype=torch.float64) for _ in range(d)]
        self.pivots: list[list[int]] = [[] for _ in range(d)]
        self.cardinal = [f.clone() for f in self.fibres]
        self.core = torch.empty([0] * d, dtype=torch.float64)
        self.stale = [0] * d
        self.missed = [0.0] * d  # by interpolation in one variable, in the last round
        self.largest = 0.0  # residual in the last round

    @property
    def coefficients(self) -> list[Tensor]:
        """Chebyshev coefficients of the bases in which the core is given."""
        return [chebyshev.to_coefficients(c) for c in self.cardinal]

    def value(self, points: Tensor) -> Tensor:  # (n, d) -> (n,)
        """Evaluate the approximation."""
        if self.core.numel() == 0:
            return points.new_zeros(len(points))
        return jet(self.core, self.coefficients, points, 0)[()]

    def discover(self, points: Tensor, values: Tensor) -> None:  # (s, d), (s,)
        """Find the degrees, from fibres through points; the fibres begin the bases."""
        for k in range(self.d):
            self._accept(k, points, self._fibres(k, points, values))
        self._extend_core()

    def improve(self, points: Tensor, values: Tensor) -> bool:  # (s, d), (s,)
        """Climb from points to larger residuals along fibres, and learn the fibres.

        Returns:
            Whether a basis has grown.
        """
        points, grown = points.clone(), False
        learnt = []
        self.largest = 0.0
        self.missed = [0.0] * self.d
        for k in torch.randperm(self.d, generator=self.generator).tolist():
            if self.stale[k] >= _STALE:
                continue
            fibres = self._fibres(k, points, values)  # (m, s)
            residual = (fibres - self._along(k, points)).abs()
            learnt.append((k, points.clone(), fibres, self.sizes[k]))
            top = residual.max(0)
            self.largest = max(self.largest, float(top.values.max()))
            points[:, k] = self._nodes(k)[top.indices]
            values = fibres.gather(0, top.indices[None])[0]
        for k, through, fibres, size in learnt:
            if self.sizes[k] > size:
                fibres = self._sampled(k, through, self._nodes(k))
            before = len(self.pivots[k])
            self._accept(k, through, fibres)
            learnt_nothing = len(self.pivots[k]) == before
            self.stale[k] = self.stale[k] + 1 if learnt_nothing else 0
            grown = grown or not learnt_nothing
        if grown:
            self._extend_core()
        return grown

    def on_pivots(self, points: Tensor) -> Tensor:  # (s, d)
        """Move about half of the coordinates to pivots.

        Where the error at a point comes from fibres through pivots, this finds them.
        """
        points = points.clone()
        for k, pivots in enumerate(self.pivots):
            if pivots:
                choice = torch.randint(len(pivots), (len(points),), generator=self.generator)
                nodes = self._nodes(k)[torch.tensor(pivots)[choice]]
                move = torch.rand(len(points), generator=self.generator) < 0.5
                points[:, k] = torch.where(move, nodes, points[:, k])
        return points

    def near_pivots(self, n: int) -> Tensor:  # (n, d)
        """Draw points between nodes, close to pivots: these are dense where the function varies."""
        columns = []
        for k, pivots in enumerate(self.pivots):
            nodes = self._nodes(k)
            least = torch.tensor(pivots or [0])
            low = least[torch.randint(len(least), (n,), generator=self.generator)]
            low = low.clamp(max=len(nodes) - 2)
            part = torch.rand(n, generator=self.generator, dtype=torch.float64)
            columns.append(nodes[low] + part * (nodes[low + 1] - nodes[low]))
        return torch.stack(columns, 1)

    def tails(self) -> list[float]:
        """Largest of the last two coefficients of the fibres of each variable, over the scale."""
        scale = max(self.samples.scale, 1e-300)
        found = []
        for fibres in self.fibres:
            last = chebyshev.to_coefficients(fibres)[-2:]
            found.append(float(last.abs().max()) / scale if last.numel() else 0.0)
        return found

    def _nodes(self, k: int) -> Tensor:
        return chebyshev.points(self.sizes[k], dtype=torch.float64)

    def _sampled(self, k: int, through: Tensor, nodes: Tensor) -> Tensor:  # (m, s)
        points = through.expand(len(nodes), *through.shape).clone()
        points[:, :, k] = nodes[:, None]
        return self.samples(points)

    def _fibres(self, k: int, through: Tensor, values: Tensor) -> Tensor:
        """Evaluate fibres through points, and refine the variable until they are resolved.

        They are where the coefficients have fallen off, and interpolation meets the known values
        of the function at the points: coefficients alone cannot see what is aliased.
        """
        fibres = self._sampled(k, through, self._nodes(k))
        while self._unresolved(k, through, values, fibres):
            if 2 * (self.sizes[k] - 1) > self.max_degree:
                break
            fibres = self._refine(k, through, fibres)
        return fibres

    def _unresolved(self, k: int, through: Tensor, values: Tensor, fibres: Tensor) -> bool:
        coefficients = chebyshev.to_coefficients(fibres)
        scale = max(self.samples.scale, 1e-300)
        rows = chebyshev.rows(through[:, k].contiguous(), len(fibres))
        missed = float(((rows * coefficients).sum(0) - values).abs().max()) / scale
        self.missed[k] = missed
        if missed > max(self.tolerance, 1e-13):
            return True
        goal = max(0.1 * self.tolerance, 1e-16)
        last = coefficients[-max(2, len(fibres) // 8) :]
        return float(last.abs().max()) > goal * scale and (
            chop(coefficients, goal, scale) == len(fibres)
        )

    def _refine(self, k: int, through: Tensor, fibres: Tensor) -> Tensor:
        known = torch.cat([self.fibres[k], fibres], 1)
        nodes = chebyshev.points(2 * self.sizes[k] - 1, dtype=torch.float64)
        new = self._sampled(k, torch.cat([self.through[k], through]), nodes[1::2])
        finer = known.new_empty(len(nodes), known.shape[1])
        finer[::2], finer[1::2] = known, new
        n = self.fibres[k].shape[1]
        self.sizes[k], self.fibres[k] = len(nodes), finer[:, :n]
        self.pivots[k] = [2 * p for p in self.pivots[k]]
        self._rebuild(k)
        return finer[:, n:]

    def _rebuild(self, k: int) -> None:
        """Functions that are one at their pivot and zero at the others."""
        if self.pivots[k]:
            Q = torch.linalg.qr(self.fibres[k]).Q
            self.cardinal[k] = torch.linalg.solve(Q[self.pivots[k]], Q, left=False)
        else:
            self.cardinal[k] = self.fibres[k]

    def _along(self, k: int, points: Tensor) -> Tensor:  # (m, s)
        """Evaluate the approximation on fibres."""
        if self.core.numel() == 0:
            return points.new_zeros(self.sizes[k], len(points))
        x = self.core.movedim(k, -1)[None]
        for l in (l for l in range(self.d) if l != k):
            rows = chebyshev.evaluate(
                points[:, l].contiguous(), chebyshev.to_coefficients(self.cardinal[l])
            )
            x = contract(rows, x)
        x = x.expand(len(points), -1)
        return self.cardinal[k] @ x.T

    def _accept(self, k: int, through: Tensor, fibres: Tensor) -> None:
        """Take the fibres that the basis does not interpolate yet, the worst one first."""
        allowed = max(0.2 * self.tolerance, 4e-16) * self.samples.scale
        residual = fibres - self.cardinal[k] @ fibres[self.pivots[k]]
        for _ in range(fibres.shape[1]):
            worst = int(residual.abs().amax(0).argmax())
            pivot = int(residual[:, worst].abs().argmax())
            if abs(float(residual[pivot, worst])) <= allowed:
                break
            self.fibres[k] = torch.cat([self.fibres[k], fibres[:, worst : worst + 1]], 1)
            self.through[k] = torch.cat([self.through[k], through[worst : worst + 1]])
            self.pivots[k].append(pivot)
            self._rebuild(k)
            residual = fibres - self.cardinal[k] @ fibres[self.pivots[k]]

    def _extend_core(self) -> None:
        """Evaluate the function at the pivots where that has not been done."""
        old, ranks = self.core.shape, [len(p) for p in self.pivots]
        new = torch.ones(ranks, dtype=torch.bool)
        new[tuple(slice(r) for r in old)] = False
        index = new.nonzero()
        points = torch.stack([self._nodes(k)[p][index[:, k]] for k, p in enumerate(self.pivots)], 1)
        values = self.samples(points)
        core = torch.empty(ranks, dtype=torch.float64)
        core[tuple(slice(r) for r in old)] = self.core
        core[new] = values
        self.core = core
