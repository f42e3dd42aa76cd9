"""The process on a grid of two axes against dense covariances of the same observations."""

import pytest
import torch
from torch import Tensor

from tensornet.pde import (
    GaussianProcessSolver,
    Grid,
    SpectralMixture,
    dirichlet,
    gaussian_plane,
    neumann,
)
from tensornet.pde.gaussian_evidence import Conditioned, Hyperparameters, Observed
from tensornet.pde.gaussian_functionals import Covariance
from tensornet.pde.gaussian_kronecker import (
    JITTER,
    Block,
    Line,
    PlaneSolution,
    ProductCovariance,
    Separable,
)

ONE = torch.ones((), dtype=torch.float64)


def mixture(weights: list[float], lengths: list[float], waves: list[float]) -> SpectralMixture:
    w, s, f = (torch.tensor(x, dtype=torch.float64) for x in (weights, lengths, waves))
    return SpectralMixture(w, s, f)


KERNELS = (
    mixture([0.6, 0.3], [0.3, 0.2], [0.0, 12.0]),
    mixture([0.5, 0.8], [0.25, 0.3], [1.0, 9.0]),
)
OPERATOR = (((2, 0), ONE), ((0, 2), 2 * ONE), ((0, 0), 30 * ONE))


def blocks() -> list[Block]:
    x, y = Grid((6, 7), spacing=(1 / 6, 1 / 7)).axes()
    value, slope = (((0, 0), ONE),), (((0, 1), -ONE),)
    low, high = torch.zeros(1), torch.ones(1)
    return [
        Block(x, y, OPERATOR),
        Block(low, y, value),
        Block(high, y, value),
        Block(x, low, slope),
    ]


def dense(noise: float) -> Tensor:
    rows = [b.functionals() for b in blocks()]
    whole = torch.cat([torch.cat([Covariance(a, b)(KERNELS) for b in rows], 1) for a in rows])
    extra = torch.zeros(len(whole))
    extra[:42] = noise
    return whole + torch.diag(extra + JITTER * whole.diagonal())


def test_products_are_the_dense_covariance() -> None:
    A = ProductCovariance(KERNELS, blocks(), [7.0, 0.0, 0.0, 0.0])
    exact = dense(7.0)
    found = torch.stack([A(row) for row in torch.eye(len(exact))])
    torch.testing.assert_close(found, exact, rtol=1e-11, atol=1e-11 * float(exact.max()))


def test_an_axis_is_diagonalised() -> None:
    (x,) = Grid(9, spacing=1 / 9).axes()
    line = Line(KERNELS[0], x)
    K, second = KERNELS[0](x[:, None] - x, (0, 2))
    torch.testing.assert_close(line.G @ line.G.mT, K, rtol=1e-10, atol=1e-10)
    made = (line.G * line.values) @ line.G.mT
    torch.testing.assert_close(made, second, rtol=1e-9, atol=1e-9 * float(second.abs().max()))
    torch.testing.assert_close(line.modes(x, 0), line.G, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(line.inverse @ line.G, torch.eye(9), rtol=1e-8, atol=1e-8)


def test_modes_are_conditioned_in_closed_form() -> None:
    one, two = (Line(k, x) for k, x in zip(KERNELS, (blocks()[0].x, blocks()[0].y), strict=True))
    model = Separable((one, two), blocks(), 5.0)
    spread = torch.cat([Covariance(f, f)(KERNELS).diagonal() for f in
                        (b.functionals() for b in blocks()[1:])])  # fmt: skip
    modes = torch.kron(one.G, two.G)
    corner = modes @ (model.total.flatten()[:, None] * modes.mT)
    side = modes @ (model.factor.flatten()[:, None] * model.B.mT)
    own = model.B @ model.B.mT
    own += torch.diag((spread - own.diagonal()).clamp_min(0) + JITTER * spread)
    whole = torch.cat([torch.cat([corner, side], 1), torch.cat([side.mT, own], 1)])
    inverse = torch.stack([model(row) for row in torch.eye(len(whole))])
    torch.testing.assert_close(inverse @ whole, torch.eye(len(whole)), rtol=0, atol=1e-6)
    torch.testing.assert_close(inverse, inverse.mT, rtol=1e-7, atol=1e-7 * float(inverse.max()))
    # Variances of the field given all observations.
    cross = torch.cat([(modes * model.factor.flatten()) @ modes.mT, modes @ model.B.mT], 1)
    exact = (modes @ modes.mT - cross @ torch.linalg.solve(whole, cross.mT)).diagonal()
    torch.testing.assert_close(model.variance().flatten(), exact, rtol=1e-6, atol=1e-8)


def test_the_field_is_that_of_the_dense_process() -> None:
    given = blocks()
    values = torch.randn(42 + 7 + 7 + 6)
    found = PlaneSolution(KERNELS, given, values, 4.0)
    assert found.reached < 1e-6
    noises = [4.0, 0.0, 0.0, 0.0]
    parts = values.split([42, 7, 7, 6])
    seen = [Observed(b.functionals(), v, n) for b, v, n in zip(given, parts, noises, strict=True)]
    hyper = Hyperparameters(KERNELS, tuple(torch.tensor(n) for n in noises))
    exact = Conditioned(seen, hyper)
    field = Block(given[0].x, given[0].y, (((0, 0), ONE),)).functionals()
    mean, variance = exact.at(field)
    torch.testing.assert_close(found.mean.flatten(), mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        found.image.flatten(), exact.at(given[0].functionals())[0], rtol=1e-4, atol=1e-4
    )
    elsewhere = Block(
        torch.rand(3), torch.rand(2), (((1, 0), ONE), ((0, 0), 3 * ONE))
    ).functionals()
    torch.testing.assert_close(found.at(elsewhere)[0], exact.at(elsewhere)[0], rtol=1e-4, atol=1e-4)
    # Rather too large than too small.
    assert bool((found.prior.variance().flatten() > 0.5 * variance).all())
    torch.testing.assert_close(
        found.at(field)[1], found.prior.variance().flatten(), rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize("flux", [False, True])
def test_waves_on_a_plane(flux: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaussian_plane, "SOME", 120)
    grid = Grid((33, 34), spacing=(1 / 33, 1 / 34))
    x, y = grid.centers()
    exact = torch.sin(12 * x) * torch.cos(9 * y)
    side = dirichlet(lambda x, y: torch.sin(12 * x) * torch.cos(9 * y))
    ends = (neumann(0.0), side) if flux else (side, side)
    solver = GaussianProcessSolver(grid, boundary=[(side, side), ends], components=3)
    found = solver.solve(-225 * exact, max_iterations=2)
    assert "of 120 of 1122 cells" in found.message
    assert float((found.mean - exact).norm() / exact.norm()) < 2e-4
    points = torch.tensor([[0.31, 0.52], [0.9, 0.11]])
    mean, variance = found.at(points)
    torch.testing.assert_close(
        mean, torch.sin(12 * points[:, 0]) * torch.cos(9 * points[:, 1]), rtol=0, atol=2e-3
    )
    assert bool((variance > 0).all())
