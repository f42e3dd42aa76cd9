"""A Gaussian process on a grid of two axes: covariances that are sums of Kronecker products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tensornet.linalg import pcg
from tensornet.pde.axis import outer_sum
from tensornet.pde.gaussian_functionals import Functionals, Term, variances
from tensornet.pde.gaussian_kernel import SpectralMixture

LARGEST = 60_000_000  # cells times values at the boundary, of which a few matrices are made
JITTER = 1e-10  # variance added to every observation, over its variance beforehand
_FLOOR = 1e-12  # added to the eigenvalues of a covariance of one axis, over their mean
_TOLERANCE = 1e-7  # residual of the linear system, relative
_ITERATIONS = 2000


@dataclass(frozen=True, eq=False)
class Block:
    """A differential operator with constant coefficients, observed on a product of coordinates.

    Args:
        x: Coordinates along the first axis, (n,).
        y: Along the second, (m,).
        terms: What is added up; every coefficient a number.
    """

    x: Tensor
    y: Tensor
    terms: tuple[Term, ...]

    def functionals(self) -> Functionals:
        """All of them, one per row."""
        mesh = torch.meshgrid(self.x, self.y, indexing="ij")
        return Functionals(torch.stack([a.flatten() for a in mesh], 1), self.terms)


class ProductCovariance:
    """Covariance of observations on products of coordinates, of which no matrix is made.

    Args:
        kernels: One per axis.
        blocks: What is observed.
        noise: Variance of the noise of each block.
    """

    def __init__(
        self, kernels: Sequence[SpectralMixture], blocks: Sequence[Block], noise: Sequence[float]
    ) -> None:
        self.sizes = [(len(b.x), len(b.y)) for b in blocks]
        before = [float(variances(b.functionals(), kernels)[0]) for b in blocks]
        self.diagonal = [n + JITTER * v for n, v in zip(noise, before, strict=True)]
        self.parts = [[products(kernels, row, column) for column in blocks] for row in blocks]

    def split(self, vector: Tensor) -> list[Tensor]:
        """Cut a vector into one matrix per block."""
        pieces = vector.split([n * m for n, m in self.sizes])
        return [piece.reshape(size) for piece, size in zip(pieces, self.sizes, strict=True)]

    def __call__(self, vector: Tensor) -> Tensor:
        """Multiply."""
        pieces = self.split(vector)
        out = [piece * d for piece, d in zip(pieces, self.diagonal, strict=True)]
        for i, row in enumerate(self.parts):
            for pairs, piece in zip(row, pieces, strict=True):
                for left, right in pairs:
                    out[i] = out[i] + left @ piece @ right.mT
        return torch.cat([x.flatten() for x in out])


def products(
    kernels: Sequence[SpectralMixture], row: Block, column: Block
) -> list[tuple[Tensor, Tensor]]:
    """Factors of the Kronecker products whose sum is the covariance of two blocks.

    Args:
        kernels: One per axis.
        row: What is observed.
        column: What else is.
    """
    weights: dict[tuple[int, int], float] = {}
    for (a, b), c in row.terms:
        for (p, q), d in column.terms:
            key = a + p, b + q
            weights[key] = weights.get(key, 0.0) + (-1) ** (p + q) * float(c) * float(d)
    x, y = (row.x[:, None] - column.x, row.y[:, None] - column.y)
    return [
        (weight * kernels[0](x, (m,))[0], kernels[1](y, (n,))[0])
        for (m, n), weight in weights.items()
        if weight
    ]


class Line:
    """One axis, diagonalised: ``K = G G^T`` and ``K'' = G diag(values) G^T``.

    Args:
        kernel: Of the axis.
        nodes: Coordinates, (n,).

    Attributes:
        values: What the second derivative multiplies each mode by, (n,).
        rest: Variance of second derivatives beyond what values at the nodes tell, per mode.
        white: Variance of each mode of white noise.
    """

    def __init__(self, kernel: SpectralMixture, nodes: Tensor) -> None:
        self.kernel, self.nodes = kernel, nodes
        K, second, fourth = kernel(nodes[:, None] - nodes, (0, 2, 4))
        S, V = torch.linalg.eigh(K)
        S = S.clamp_min(0) + _FLOOR * S.mean()
        root = V * S.rsqrt()
        self.values, Q = torch.linalg.eigh(root.mT @ second @ root)
        self.G: Tensor = (V * S.sqrt()) @ Q
        self.inverse: Tensor = (root @ Q).mT
        inside = torch.einsum("ai,ij,aj->a", self.inverse, fourth, self.inverse)
        self.rest = (inside - self.values.square()).clamp_min(0)
        self.white = self.inverse.square().sum(1)

    def modes(self, x: Tensor, order: int) -> Tensor:  # (m,) -> (m, n)
        """Derivatives of all modes at coordinates.

        Args:
            x: Coordinates.
            order: Of the derivative.
        """
        return self.kernel(x[:, None] - self.nodes, (order,))[0] @ self.inverse.mT


class Separable:
    """Fields ``G_1 Z G_2^T`` with independent Z of variance one: the process, as its nodes tell it.

    An operator ``c_1 d²/dx² + c_2 d²/dy² + c_0`` multiplies the modes, so that Z given the source
    follows mode by mode: Sylvester's equation with noise. Values at the boundary are then few
    linear observations, one Cholesky factor of their number. What the nodes do not tell counts as
    noise that is independent between modes. This preconditions the covariance of the process
    itself, and gives variances that are rather too large than too small.

    Args:
        lines: The two axes.
        blocks: The equation on the grid, then the boundary.
        noise: Variance of the noise of the source.
    """

    def __init__(self, lines: tuple[Line, Line], blocks: Sequence[Block], noise: float) -> None:
        self.lines, (one, two) = lines, lines
        self.kernels = one.kernel, two.kernel
        c = {orders: float(value) for orders, value in blocks[0].terms}
        c1, c2, c0 = (c.get(key, 0.0) for key in ((2, 0), (0, 2), (0, 0)))
        self.factor = outer_sum([c1 * one.values, c2 * two.values], c0)
        rest = outer_sum([c1**2 * one.rest, c2**2 * two.rest])
        rest = rest + noise * one.white[:, None] * two.white
        self.total = self.factor.square() + rest
        self.v = rest / self.total
        pairs = [(self.rows(b.functionals()), b.functionals()) for b in blocks[1:]]
        size = self.v.numel()
        self.B = torch.cat([torch.zeros(0, size, dtype=torch.float64), *(r for r, _ in pairs)])
        spread = torch.cat([self.v.new_zeros(0), *(variances(f, self.kernels) for _, f in pairs)])
        S = (self.B * self.v.flatten()) @ self.B.mT
        S += torch.diag((spread - self.B.square().sum(1)).clamp_min(0) + JITTER * spread)
        self.cholesky = torch.linalg.cholesky(S)

    def rows(self, functionals: Functionals) -> Tensor:  # (k, n m)
        """What functionals are in terms of modes.

        Args:
            functionals: Of the field.
        """
        one, two = self.lines
        total = torch.zeros((), dtype=torch.float64)
        for (a, b), c in functionals.terms:
            x, y = functionals.points.unbind(1)
            pair = one.modes(x, a)[:, :, None] * two.modes(y, b)[:, None, :]
            total = total + c.reshape(-1, 1, 1) * pair
        return total.flatten(1)

    def __call__(self, vector: Tensor) -> Tensor:
        """Multiply by the inverse covariance of the observations."""
        one, two = self.lines
        n, m = self.v.shape
        F, g = vector.split([n * m, len(vector) - n * m])
        Y = one.inverse @ F.reshape(n, m) @ two.inverse.mT
        missed = g - self.B @ (self.factor * Y / self.total).flatten()
        a = torch.cholesky_solve(missed[:, None], self.cholesky)[:, 0]
        Y = (Y - self.factor * (self.B.mT @ a).reshape(n, m)) / self.total
        return torch.cat([(one.inverse.mT @ Y @ two.inverse).flatten(), a])

    def variance(self) -> Tensor:  # (n, m)
        """Variance of the field at the nodes."""
        one, two = self.lines
        parts = (self.B * self.v.flatten()).reshape(-1, *self.v.shape)
        cross = (one.G @ parts @ two.G.mT).flatten(1)
        half = torch.linalg.solve_triangular(self.cholesky, cross, upper=False)
        found = one.G.square() @ self.v @ two.G.square().mT
        before = one.G.square().sum(1)[:, None] * two.G.square().sum(1)
        return torch.maximum(found - half.square().sum(0).reshape(found.shape), JITTER * before)

    def variance_of(self, functionals: Functionals) -> Tensor:  # (k,)
        """Variance of functionals.

        Args:
            functionals: Of the field.
        """
        rows, before = self.rows(functionals), variances(functionals, self.kernels)
        v = self.v.flatten()
        left = (before - rows.square() @ (1 - v)).clamp_min(0)
        cross = self.B @ (rows * v).mT
        half = torch.linalg.solve_triangular(self.cholesky, cross, upper=False)
        return torch.maximum(left - half.square().sum(0), JITTER * before)


class PlaneSolution:
    """The process given an equation on all of a grid, and its boundary.

    Args:
        kernels: One per axis.
        blocks: The equation on the grid, then the boundary.
        values: What was observed, block after block.
        noise: Variance of the noise of the source.

    Attributes:
        iterations: Of conjugate gradients.
        reached: Relative residual of the linear system.
        mean: At the nodes, (n, m).
        image: The operator applied to the mean there.
    """

    def __init__(
        self,
        kernels: tuple[SpectralMixture, ...],
        blocks: Sequence[Block],
        values: Tensor,
        noise: float,
    ) -> None:
        self.kernels, self.blocks = kernels, tuple(blocks)
        grid = blocks[0]
        A = ProductCovariance(kernels, blocks, [noise] + [0.0] * (len(blocks) - 1))
        lines = Line(kernels[0], grid.x), Line(kernels[1], grid.y)
        self.prior = Separable(lines, blocks, A.diagonal[0])
        found = pcg(A, values, M=self.prior, rtol=_TOLERANCE, maxiter=_ITERATIONS)
        self.iterations = int(found.n_iterations)
        self.reached = float((values - A(found.value)).norm() / values.norm().clamp_min(1e-300))
        self.weights = A.split(found.value)
        one = (((0, 0), torch.ones((), dtype=torch.float64)),)
        self.mean = self._image(Block(grid.x, grid.y, one))
        self.image = self._image(grid)

    def _image(self, block: Block) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for other, weight in zip(self.blocks, self.weights, strict=True):
            for left, right in products(self.kernels, block, other):
                total = total + left @ weight @ right.mT
        return total

    def at(self, functionals: Functionals) -> tuple[Tensor, Tensor]:  # (n,), (n,)
        """Mean and variance of functionals.

        Args:
            functionals: Of the field.
        """
        most = max(1, LARGEST // 8 // self.prior.v.numel())
        found = [self._some(functionals, p) for p in torch.arange(len(functionals)).split(most)]
        return torch.cat([m for m, _ in found]), torch.cat([v for _, v in found])

    def _some(self, functionals: Functionals, part: Tensor) -> tuple[Tensor, Tensor]:
        terms = tuple((o, c[part] if c.ndim else c) for o, c in functionals.terms)
        some = Functionals(functionals.points[part], terms)
        x, y = some.points.unbind(1)
        mean = torch.zeros(len(part), dtype=torch.float64)
        for orders, c in terms:
            alone = Block(x, y, ((orders, torch.ones((), dtype=torch.float64)),))
            for other, weight in zip(self.blocks, self.weights, strict=True):
                for left, right in products(self.kernels, alone, other):
                    mean = mean + c * ((left @ weight) * right).sum(1)
        return mean, self.prior.variance_of(some)
