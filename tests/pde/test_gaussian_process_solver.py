import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from tensornet.pde import GaussianProcessSolver, Grid, SpectralMixture, dirichlet, neumann
from tensornet.pde.gaussian_evidence import (
    JITTER,
    Conditioned,
    Hyperparameters,
    Observed,
    Parameters,
    crossed,
    loss,
)
from tensornet.pde.gaussian_functionals import Covariance, Functionals, variances

ONE = torch.ones((), dtype=torch.float64)


def mixture(family: str = "student", scale: float = 1.0) -> SpectralMixture:
    return SpectralMixture(
        torch.tensor([0.7, 0.4]) * scale, torch.tensor([0.5, 0.9]), torch.tensor([0.0, 9.0]), family
    )


def naive(kernels: list[SpectralMixture], rows: Functionals, columns: Functionals) -> Tensor:
    """Covariances by differentiating kernels with autograd."""
    out = torch.zeros(len(rows), len(columns))
    for (a, left), (b, right) in itertools.product(rows.terms, columns.terms):
        value = left[..., None] * right
        for k, kernel in enumerate(kernels):
            x = rows.points[:, None, k].repeat(1, len(columns)).requires_grad_()
            y = columns.points[None, :, k].repeat(len(rows), 1).requires_grad_()
            factor = kernel(x - y)[0]
            for leaf, n in ((x, a[k]), (y, b[k])):
                for _ in range(n):
                    (factor,) = torch.autograd.grad(factor.sum(), leaf, create_graph=True)
            value = value * factor.detach()
        out = out + value
    return out


@pytest.mark.parametrize("family", ["student", "gaussian"])
def test_derivatives_of_kernels_are_those_of_autograd(family: str) -> None:
    kernel, most = mixture(family), {"student": 4, "gaussian": 8}[family]
    d = torch.tensor([-0.8, -0.1, 0.2, 0.75, 1.9]).requires_grad_()
    expected = kernel(d)[0]
    for n, found in enumerate(kernel(d.detach(), range(most + 1))):
        torch.testing.assert_close(found, expected.detach(), rtol=1e-9, atol=1e-9 * 9.0**n)
        (expected,) = torch.autograd.grad(expected.sum(), d, create_graph=True)


@pytest.mark.parametrize("family", ["student", "gaussian"])
def test_kernels_at_distance_zero(family: str) -> None:
    kernel = mixture(family)
    even = [kernel(torch.tensor([h]), range(5)) for h in (-1e-7, 0.0, 1e-7)]
    for n in range(5):
        below, at, above = (float(x[n]) for x in even)
        scale = float(kernel(torch.zeros(1), (4,))[0].abs()) ** (n / 4)
        assert at == pytest.approx((below + above) / 2, abs=3e-5 * scale)
        assert n % 2 == 0 or at == 0
        assert at * (-1) ** (n // 2) >= 0


@pytest.mark.parametrize("family", ["student", "gaussian"])
def test_covariances_are_symmetric_and_positive(family: str) -> None:
    x = torch.linspace(0, 1, 12)[:, None]
    varying = Functionals(x, (((2,), ONE), ((1,), torch.rand(12)), ((0,), torch.rand(12))))
    values = Functionals(torch.rand(5, 1), (((0,), ONE),))
    kernels = [mixture(family)]
    parts = [[Covariance(a, b)(kernels) for b in (varying, values)] for a in (varying, values)]
    whole = torch.cat([torch.cat(row, 1) for row in parts])
    size = whole.diagonal().sqrt()
    torch.testing.assert_close(whole, whole.mT, rtol=1e-11, atol=1e-11)
    eigenvalues = torch.linalg.eigvalsh(whole / size / size[:, None])
    assert float(eigenvalues[0]) > -1e-13
    torch.testing.assert_close(variances(varying, kernels), whole.diagonal()[:12])


def test_covariances_of_two_axes_against_autograd() -> None:
    kernels = [mixture("gaussian"), mixture("gaussian", 0.5)]
    rows = Functionals(
        torch.rand(4, 2), (((2, 0), ONE), ((0, 2), torch.rand(4)), ((1, 1), 2 * ONE))
    )
    columns = Functionals(torch.rand(3, 2), (((0, 1), ONE), ((0, 0), torch.rand(3))))
    found = Covariance(rows, columns)(kernels)
    torch.testing.assert_close(found, naive(kernels, rows, columns), rtol=1e-9, atol=1e-9)


def observed() -> tuple[list[Observed], Hyperparameters]:
    """Twelve values of u'' + 3 u, one of u, four noisy ones."""
    torch.manual_seed(7)
    x = torch.linspace(0.05, 0.95, 12)[:, None]
    blocks = [
        Observed(Functionals(x, (((2,), ONE), ((0,), 3 * ONE))), 20 * torch.randn(12), None, 400.0),
        Observed(Functionals(torch.zeros(1, 1), (((0,), ONE),)), torch.randn(1)),
        Observed(Functionals(torch.rand(4, 1), (((0,), ONE),)), torch.randn(4), 0.01),
    ]
    hyper = Hyperparameters(
        (mixture(),), (torch.tensor(0.3), torch.tensor(0.0), torch.tensor(0.01))
    )
    return blocks, hyper


def dense(blocks: list[Observed], hyper: Hyperparameters) -> tuple[Tensor, Tensor]:
    """Covariance of all observations by autograd, with noise and jitter, and their values."""
    kernels = list(hyper.kernels)
    S = torch.cat([
        torch.cat([naive(kernels, a.functionals, b.functionals) for b in blocks], 1)
        for a in blocks
    ])  # fmt: skip
    noise = torch.cat([n.expand(len(b.values)) for n, b in zip(hyper.noises, blocks, strict=True)])
    return S + torch.diag(noise + JITTER * S.diagonal()), torch.cat([b.values for b in blocks])


def test_field_and_evidence_are_those_of_a_dense_gaussian_process() -> None:
    blocks, hyper = observed()
    smooth = Hyperparameters((mixture("gaussian"),), hyper.noises)
    found = Conditioned(blocks, smooth)
    S, y = dense(blocks, smooth)
    density = MultivariateNormal(torch.zeros(len(y)), S).log_prob(y)
    assert found.log_evidence == pytest.approx(float(density), rel=1e-10)
    new = Functionals(torch.rand(6, 1), (((1,), ONE), ((0,), 2 * ONE)))
    cross = torch.cat([naive(list(smooth.kernels), b.functionals, new) for b in blocks])
    mean, variance = found.at(new)
    weights = torch.linalg.solve(S, cross)
    before = naive(list(smooth.kernels), new, new).diagonal()
    torch.testing.assert_close(mean, weights.mT @ y, rtol=1e-10, atol=1e-9)
    exact = before - (weights * cross).sum(0)
    torch.testing.assert_close(variance, exact, rtol=1e-9, atol=1e-10 * float(before.max()))


def test_gradient_of_the_evidence() -> None:
    blocks, hyper = observed()
    shifted = SpectralMixture(
        hyper.kernels[0].weights, hyper.kernels[0].lengths, torch.tensor([0.5, 9])
    )
    hyper = Hyperparameters((shifted,), hyper.noises)
    units = [(b.noise, b.unit) for b in blocks]
    parameters = Parameters(hyper.kernels, (1.0,), (0.05,), units)
    evaluated = loss(blocks, parameters, crossed(blocks))
    vector = parameters.started([None, 0.0, 0.01], noise=1e-3)
    assert len(vector) == 7
    value, slope = evaluated(vector)
    given = parameters.unpacked(torch.from_numpy(vector))
    assert -value == pytest.approx(Conditioned(blocks, given).log_evidence, rel=1e-12)
    for k in range(len(vector)):
        ahead, behind = vector.copy(), vector.copy()
        ahead[k] += 1e-5
        behind[k] -= 1e-5
        difference = (evaluated(ahead)[0] - evaluated(behind)[0]) / 2e-5
        assert slope[k] == pytest.approx(difference, rel=1e-5, abs=1e-5)


def test_the_field_is_linear_in_what_is_given() -> None:
    grid = Grid(30, spacing=1 / 30)
    (x,) = grid.axes()

    def solved(f: Tensor, g: float) -> Tensor:
        solver = GaussianProcessSolver(grid, boundary=dirichlet(g), kernels=[mixture()])
        return solver.solve(f, source_noise=0.01, max_iterations=0).mean

    f, g = torch.sin(9 * x), torch.randn(30)
    both = solved(2 * f - 3 * g, 2 * 0.4 - 3 * 1.3)
    torch.testing.assert_close(both, 2 * solved(f, 0.4) - 3 * solved(g, 1.3), rtol=1e-8, atol=1e-8)


def test_intervals_cover_draws_from_the_prior() -> None:
    grid = Grid(25, spacing=1 / 25)
    solver = GaussianProcessSolver(grid, kernels=[mixture()], boundary=None)
    places = torch.linspace(0.02, 0.98, 8)[:, None]
    look = Functionals(torch.linspace(0.05, 0.95, 10)[:, None], (((0,), ONE),))
    equation = Functionals(solver.points, (((2,), ONE),))
    data = Functionals(places, (((0,), ONE),))
    blocks = (look, equation, data)
    kernels = [mixture()]
    C = torch.cat([torch.cat([Covariance(a, b)(kernels) for b in blocks], 1) for a in blocks])
    size = C.diagonal().sqrt()
    factor = torch.linalg.cholesky(C / size / size[:, None] + 1e-11 * torch.eye(len(C)))
    inside, scores = [], []
    for seed in range(40):
        torch.manual_seed(seed)
        draw = size * (factor @ torch.randn(len(C)))
        u, f, seen = draw.split([10, 25, 8])
        found = solver.solve(
            f + 3.0 * torch.randn(25), data=(places, seen + 0.3 * torch.randn(8)),
            source_noise=3.0, data_noise=0.3, max_iterations=0,
        )  # fmt: skip
        mean, variance = found.at(look.points)
        z = (u - mean) / variance.sqrt()
        inside.append((z.abs() < 1.96).double().mean())
        scores.append(z.square().mean())
    assert float(torch.stack(inside).mean()) == pytest.approx(0.95, abs=0.05)
    assert float(torch.stack(scores).mean()) == pytest.approx(1.0, abs=0.25)


def relative(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


@pytest.mark.parametrize("family", ["student", "gaussian"])
def test_a_fast_wave(family: str) -> None:
    n = 120
    grid = Grid(n, spacing=2 * math.pi / n)
    (x,) = grid.axes()
    solver = GaussianProcessSolver(grid, components=5, kernels=family)
    found = solver.solve(lambda x: -900 * torch.sin(30 * x), max_iterations=15)
    assert relative(found.mean, torch.sin(30 * x)) < 1e-5
    assert list(found.history) == sorted(found.history)
    assert found.log_evidence == pytest.approx(found.history[-1], rel=1e-9)
    strongest = found.kernels[0].weights.argmax()
    assert float(found.kernels[0].frequencies[strongest]) == pytest.approx(30, abs=0.1)
    assert found.residual is not None
    assert found.residual < 1e-6
    assert "strongest frequency 30" in found.message
    slope, _ = found.at(torch.tensor([[1.0], [2.0]]), {(1,): 1.0})
    torch.testing.assert_close(
        slope, 30 * torch.cos(torch.tensor([30.0, 60.0])), rtol=1e-3, atol=1e-2
    )


@pytest.mark.slow
def test_one_hundred_waves_on_four_hundred_points() -> None:
    grid = Grid(400, spacing=2 * math.pi / 400)
    found = GaussianProcessSolver(grid).solve(lambda x: -1e4 * torch.sin(100 * x))
    assert relative(found.mean, torch.sin(100 * grid.axes()[0])) < 1e-6


def test_flux_and_first_derivative() -> None:
    grid = Grid(50, spacing=1 / 50)
    (x,) = grid.axes()
    exact = torch.cos(12 * x) + x
    source = -144 * torch.cos(12 * x) + 5 * (1 - 12 * torch.sin(12 * x))
    slope = 1 - 12 * math.sin(12)
    solver = GaussianProcessSolver(
        grid, operator={(2,): 1.0, (1,): lambda x: 5 + 0 * x}, components=4,
        boundary=[(dirichlet(1.0), neumann(slope))], kernels="gaussian",
    )  # fmt: skip
    found = solver.solve(source, max_iterations=15)
    assert relative(found.mean, exact) < 1e-4


def test_nonlinear_equation() -> None:
    n = 60
    grid = Grid(n, spacing=1 / n)
    (x,) = grid.axes()

    def exact(x: Tensor) -> Tensor:
        return torch.sin(20 * x) + torch.cos(3 * x)

    def source(x: Tensor) -> Tensor:
        u = exact(x)
        return -400 * torch.sin(20 * x) - 9 * torch.cos(3 * x) + 4 * (u**3 - u)

    solver = GaussianProcessSolver(grid, boundary=dirichlet(exact), components=5)
    found = solver.solve(source, reaction=lambda u: 4 * (u**3 - u), max_iterations=24)
    assert "not come to rest" not in found.message
    assert relative(found.mean, exact(x)) < 1e-3
    assert found.residual is not None
    assert found.residual < 1e-5


def test_unknown_source_from_scattered_values() -> None:
    def chirp(x: Tensor) -> tuple[Tensor, Tensor]:
        phase, speed = 15 * x + 10 * x.square(), 15 + 20 * x
        return phase.sin(), 20 * phase.cos() - speed.square() * phase.sin()

    grid = Grid(60, spacing=1 / 60)
    (x,) = grid.axes()
    u, f = chirp(x)
    torch.manual_seed(3)
    points = torch.rand(40, 1)
    values = chirp(points[:, 0])[0] + 0.05 * torch.randn(40)
    hidden = (x > 0.4) & (x < 0.6)
    solver = GaussianProcessSolver(grid, boundary=None, components=4)
    found = solver.solve(torch.where(hidden, math.nan, f), data=(points, values), max_iterations=20)
    assert relative(found.mean, u) < 0.06
    assert found.data_noise == pytest.approx(0.05, rel=0.4)
    mean, variance = found.at(x[:, None], {(2,): 1.0})
    assert relative(mean[hidden], f[hidden]) < 0.3
    z = (mean - f)[hidden] / variance[hidden].sqrt()
    assert 0.01 < float(z.square().mean()) < 6
    assert float(variance[hidden].min()) > 100 * float(variance[~hidden].max())


GRID = Grid(12, spacing=0.1)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: GaussianProcessSolver(3), TypeError, "must be a Grid"),  # type: ignore[arg-type]
        (lambda: GaussianProcessSolver(GRID, components=0), ValueError, "components"),
        (lambda: GaussianProcessSolver(GRID, kernels="rbf"), ValueError, "student, gaussian"),
        (lambda: GaussianProcessSolver(GRID, kernels=[]), TypeError, "per axis"),
        (lambda: GaussianProcessSolver(GRID, boundary="periodic"), ValueError, "periodic"),
        (lambda: GaussianProcessSolver(GRID, operator={(4,): 1.0}), ValueError, "at most 2"),
        (lambda: GaussianProcessSolver(GRID, operator={(2, 0): 1.0}), ValueError, "1 orders"),
        (lambda: GaussianProcessSolver(GRID, operator={}), TypeError, "mapping"),
        (lambda: GaussianProcessSolver(GRID, operator={(2,): math.nan}), ValueError, "finite"),
        (lambda: GaussianProcessSolver(GRID, boundary=None).solve(), ValueError, "Got none"),
        (lambda: GaussianProcessSolver(GRID).solve(torch.ones(13)), ValueError, "12"),
        (lambda: GaussianProcessSolver(GRID).solve(math.inf), ValueError, "finite"),
        (lambda: GaussianProcessSolver(GRID).solve(1.0, source_noise=-1), ValueError, "noise"),
        (lambda: GaussianProcessSolver(GRID).solve(reaction=torch.sin), ValueError, "nonlinear"),
        (lambda: GaussianProcessSolver(GRID).solve(1.0, reaction=torch.sum), ValueError, "shape"),
        (lambda: GaussianProcessSolver(GRID).solve(1.0, reaction=torch.log), ValueError, "finite"),
        (lambda: GaussianProcessSolver(GRID).solve(data=torch.ones(3, 2)), TypeError, "pair"),  # type: ignore[arg-type]
        (
            lambda: GaussianProcessSolver(GRID).solve(data=(torch.ones(3, 2), torch.ones(3))),
            ValueError, r"data\[0\]",
        ),
        (
            lambda: GaussianProcessSolver(GRID).solve(data=(torch.ones(3, 1), 1j * torch.ones(3))),
            TypeError, r"data\[1\]=...\)` must be real",
        ),
        (
            lambda: GaussianProcessSolver(GRID).solve(lambda x: torch.sin(50 * x)),
            ValueError, "Got 49.* more than 19 cells",
        ),
        (
            lambda: GaussianProcessSolver(Grid(4001, spacing=1.0)).solve(1.0),
            ValueError, "at most 4000",
        ),
        (lambda: mixture()(torch.zeros(1), (5,)), ValueError, "0 to 4"),
        (lambda: SpectralMixture(ONE[None], -ONE[None], ONE[None]), ValueError, "positive"),
        (lambda: SpectralMixture(ONE[None], torch.ones(2), ONE[None]), ValueError, "lengths"),
    ],
)  # fmt: skip
def test_bad_input(call: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_singular_kernels_are_refused() -> None:
    flat = SpectralMixture(torch.ones(1), torch.full((1,), 1e4), torch.zeros(1), "gaussian")
    points = torch.linspace(0, 1, 40)[:, None]
    block = Observed(Functionals(points, (((0,), ONE),)), torch.ones(40))
    with pytest.raises(ValueError, match="singular to round-off"):
        Conditioned([block, block, block], Hyperparameters((flat,), (torch.tensor(-1e-12),) * 3))
