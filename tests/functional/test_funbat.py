"""Functional Tucker and CP models: exact cases, laws, error bars, files, and what they refuse."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tensornet.formats import CP, Tucker
from tensornet.functional import FunctionalCP, FunctionalTucker

MODELS = [FunctionalTucker, FunctionalCP]


def field(x: Tensor) -> Tensor:
    """A function of rank two in every mode, with a mean."""
    a, b, c = x.mT
    y: Tensor = torch.sin(4 * a) * torch.cos(2 * b) * c + 0.5 * torch.cos(5 * a) * b**2
    return y + 0.4


def data(n: int = 400, noise: float = 0.05) -> tuple[Tensor, Tensor]:
    x = torch.rand(n, 3, generator=torch.Generator().manual_seed(1))
    g = torch.Generator().manual_seed(2)
    return x, field(x) + noise * torch.randn(n, generator=g)


@pytest.mark.parametrize("nu", [0.5, 1.5, 2.5])
def test_one_mode_is_regression(nu: float) -> None:
    g = torch.Generator().manual_seed(0)
    t = torch.rand(80, 1, generator=g) * 5
    y = 3 + 2 * torch.sin(2 * t[:, 0]) + 0.1 * torch.randn(80, generator=g)
    model = FunctionalCP(1, nu=nu, restarts=1, max_sweeps=12).fit(t, y)
    x = torch.linspace(-1, 7, 50)
    assert model.outcome is not None
    weight = model.outcome.inference.core.mean.square()
    scale = y.std(correction=0)
    kernel = model.kernels[0]
    inside = t[:, 0].sort().values
    order = t[:, 0].argsort()
    gram = weight * kernel.covariance(inside, inside)
    gram = gram + torch.eye(80) / model.outcome.inference.tau
    cross = weight * kernel.covariance(x, inside)
    target = ((y - model.outcome.constant) / scale)[order]
    mean = model.outcome.constant + scale * cross @ torch.linalg.solve(gram, target)
    variance = weight - (cross * torch.linalg.solve(gram, cross.mT).mT).sum(1)
    got = model.predict(x[:, None])
    torch.testing.assert_close(got[0], mean, rtol=0, atol=1e-8)
    torch.testing.assert_close(got[1], scale**2 * variance, rtol=0, atol=1e-8)


@pytest.mark.parametrize("kind", MODELS)
def test_rank_one_without_noise(kind: type[FunctionalTucker]) -> None:
    g = torch.Generator().manual_seed(5)
    x = torch.rand(150, 2, generator=g) * torch.tensor([10.0, 0.1])
    y = torch.sin(x[:, 0]) * torch.exp(8 * x[:, 1])
    model = kind(1, nu=2.5, restarts=1, max_sweeps=150, tolerance=1e-6).fit(x, y)
    test = torch.rand(200, 2, generator=g) * torch.tensor([9.0, 0.09]) + torch.tensor([0.5, 0.005])
    truth = torch.sin(test[:, 0]) * torch.exp(8 * test[:, 1])
    error = (model.predict(test)[0] - truth).square().mean().sqrt() / y.std()
    assert float(error) < 2e-3
    assert model.noise**0.5 < 2e-3


@pytest.mark.parametrize("kind", MODELS)
def test_the_bound_never_falls_and_the_end_is_a_fixed_point(kind: type[FunctionalTucker]) -> None:
    x, y = data(120)
    model = kind(2, restarts=1, length_scales=0.5, max_sweeps=200, tolerance=1e-7).fit(x, y)
    bounds = torch.tensor(model.bounds[4:])
    assert bool((bounds.diff() > -1e-8).all())
    assert len(set(model.bounds)) > 5
    before, spread = model.predict(x)
    assert model.outcome is not None
    model.outcome.inference.sweep()
    after, wide = model.predict(x)
    assert float((after - before).abs().max()) < 3e-3 * model.noise**0.5
    torch.testing.assert_close(wide, spread, rtol=2e-3, atol=0)


@pytest.mark.parametrize(
    "kind", [FunctionalTucker, pytest.param(FunctionalCP, marks=pytest.mark.slow)]
)
def test_error_bars(kind: type[FunctionalTucker]) -> None:
    x, y = data(400, 0.05)
    g = torch.Generator().manual_seed(7)
    test = torch.rand(2000, 3, generator=g)  # no coordinate of which was seen
    model = kind(3, restarts=1).fit(x, y)
    assert model.converged, model.message
    mean, variance = model.predict(test)
    error = mean - field(test)
    assert float(error.square().mean().sqrt()) < 0.6 * 0.05
    assert model.noise**0.5 == pytest.approx(0.05, rel=0.15)
    inside = (error.abs() < 1.645 * variance.sqrt()).double().mean()
    assert 0.8 < float(inside) < 0.995
    fresh = error + 0.05 * torch.randn(2000, generator=g)
    wide = model.predict(test, noise=True)[1]
    assert 0.85 < float((fresh.abs() < 1.645 * wide.sqrt()).double().mean()) < 0.95
    far = model.predict(test + torch.tensor([20.0, 0, 0]))
    assert float(far[1].mean()) > 10 * float(variance.mean())
    assert model.outcome is not None
    assert float((far[0] - model.outcome.constant).abs().max()) < 1e-3  # the prior


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_collapse(kind: type[FunctionalTucker], rank: int, seed: int) -> None:
    x, y = data(150)
    model = kind(rank, restarts=1, seed=seed, max_sweeps=8).fit(x, y)
    error = (model.predict(x)[0] - y).std() / y.std()
    assert float(error) < (0.95 if rank == 1 else 0.75)
    assert "next to nothing" not in model.message


@pytest.mark.parametrize("kind", MODELS)
def test_laws(kind: type[FunctionalTucker]) -> None:
    x, y = data(150)
    short: dict[str, Any] = {"restarts": 1, "max_sweeps": 8}
    mean, variance = kind(2, **short).fit(x, y).predict(x)
    order = torch.randperm(150)
    other = kind(2, **short).fit(x[order], y[order]).predict(x)
    torch.testing.assert_close(other, (mean, variance), rtol=1e-6, atol=1e-8)
    moved = kind(2, **short).fit(x * 7 - 3, 100 * y - 40).predict(x * 7 - 3)
    torch.testing.assert_close(moved[0], 100 * mean - 40, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(moved[1], 1e4 * variance, rtol=1e-5, atol=1e-7)
    again = kind(2, **short).fit(x, y).predict(x)
    assert torch.equal(again[0], mean)


@pytest.mark.slow
def test_order_of_modes() -> None:
    x, y = data(500, 0.02)
    swap = [2, 0, 1]
    a = FunctionalTucker((3, 2, 3)).fit(x, y)
    b = FunctionalTucker((3, 3, 2)).fit(x[:, swap], y)
    test = torch.rand(500, 3, generator=torch.Generator().manual_seed(3))
    (mean, variance), (other, _) = a.predict(test), b.predict(test[:, swap])
    assert float(((mean - other) ** 2).mean() / variance.mean()) < 0.5


def test_grids_are_formats() -> None:
    x, y = data(200)
    axes = [torch.linspace(0, 1, n) for n in (5, 6, 7)]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    for kind, made in ((FunctionalTucker, Tucker), (FunctionalCP, CP)):
        model = kind(2, restarts=1, max_sweeps=6).fit(x, y)
        grid = model.on_grid(axes)
        assert isinstance(grid, made)
        expected = model.predict(points)[0].reshape(5, 6, 7)
        torch.testing.assert_close(grid.to_dense(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", MODELS)
def test_file(kind: type[FunctionalTucker], tmp_path: Path) -> None:
    x, y = data(100)
    ranks: Any = 2 if kind is FunctionalCP else (2, 1, 2)
    model = kind(ranks, nu=(0.5, 1.5, 2.5), restarts=1, max_sweeps=6).fit(x, y)
    path = tmp_path / "model.safetensors"
    model.save(path)
    loaded = kind.load(path)
    torch.testing.assert_close(
        loaded.predict(x + 0.01), model.predict(x + 0.01), rtol=1e-12, atol=0
    )
    assert (loaded.message, loaded.noise, loaded.kernels) == (
        model.message, model.noise, model.kernels,
    )  # fmt: skip
    other = FunctionalTucker if kind is FunctionalCP else FunctionalCP
    with pytest.raises(ValueError, match=f"must be a file of `{other.__name__}.save`"):
        other.load(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="must be a whole safetensors file"):
        kind.load(path)
    with pytest.raises(FileNotFoundError, match="must name a file"):
        kind.load(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="in a folder that exists"):
        model.save(tmp_path / "no" / "model.safetensors")


def test_equal_coordinates_given_scales_damping_and_progress() -> None:
    x, y = data(300)
    x = (x * 12).round() / 12  # every coordinate is seen many times
    seen: list[tuple[int, float]] = []
    model = FunctionalTucker(
        2, length_scales=[0.7, 0.8, 0.9], damping=0.5, restarts=1, max_sweeps=30
    )
    model.fit(x.numpy(), y.numpy(), progress=lambda sweep, bound: seen.append((sweep, bound)))
    assert [float(k.length_scale) for k in model.kernels] == [0.7, 0.8, 0.9]
    assert seen[-1][0] == len(model.bounds)
    assert float((model.predict(x)[0] - field(x)).square().mean().sqrt()) < 0.3


def test_noise_is_said_to_be_noise() -> None:
    g = torch.Generator().manual_seed(0)
    x, y = torch.rand(300, 2, generator=g), torch.randn(300, generator=g)
    model = FunctionalTucker(1, nu=2.5, length_scales=1.0, restarts=1).fit(x, y)
    assert "explains next to nothing" in model.message
    assert model.noise == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.full((9, 2), math.nan)}, "FunctionalTucker.fit(coordinates=...)` must be fin"),
        ({"y": torch.full((9,), math.inf)}, "`FunctionalTucker.fit(values=...)` must be finite"),
        ({"y": torch.ones(8)}, "must have shapes (n, K) and (n,). Got (9, 2) and (8,)."),
        ({"x": torch.rand(9)}, "Got (9,) and (9,)."),
        ({"x": torch.rand(1, 2), "y": torch.ones(1)}, "two observations or more. Got 1."),
        ({"y": torch.ones(9)}, "must differ. Got 9 times 1.0."),
        ({"x": torch.ones(9, 2)}, "must differ in every mode. Got only 1.0 in mode 0."),
        ({"ranks": 10}, "must not exceed the number of distinct coordinates, 9 in mode 0. Got 10."),
        ({"ranks": (1, 3)}, "must not exceed the product of the others, 1 for mode 1. Got 3."),
        ({"ranks": (2, 2, 2)}, "or one for each of the 2 modes. Got 3."),
        ({"ranks": 0}, "`FunctionalTucker(ranks=...)` must be at least 1. Got 0."),
        ({"length_scales": -1.0}, "(length_scales=...)` must be positive and finite. Got -1.0."),
        ({"length_scales": (1.0,)}, "must be one number, or one for each of the 2 modes. Got 1."),
        ({"nu": 2.0}, "must be 0.5, 1.5 or 2.5. Got 2.0."),
        ({"damping": 1.0}, "must be below one. Got 1.0."),
        ({"noise_prior": (0.0, 1.0)}, "must be two positive numbers. Got (0.0, 1.0)."),
        ({"seed": -1}, "`FunctionalTucker(seed=...)` must be at least 0. Got -1."),
    ],
)
def test_what_does_not_fit(change: dict[str, Any], message: str) -> None:
    words: dict[str, Any] = {"x": torch.rand(9, 2), "y": torch.rand(9), "ranks": 2} | change
    x, y, ranks = (words.pop(name) for name in ("x", "y", "ranks"))
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        FunctionalTucker(ranks, **words).fit(x, y)


def test_use_that_does_not_fit() -> None:
    model = FunctionalTucker(1, restarts=1, max_sweeps=1)
    with pytest.raises(RuntimeError, match=re.escape("`FunctionalTucker.predict` must come after")):
        model.predict(torch.rand(2, 2))
    model.fit(torch.rand(9, 2), torch.rand(9))
    assert "Not converged after 1 sweeps" in model.message
    with pytest.raises(ValueError, match=re.escape("must have shape (m, 2). Got (3, 1).")):
        model.predict(torch.rand(3, 1))
    with pytest.raises(ValueError, match="must be 0 to 1"):
        model.factors(2, torch.rand(3))
    with pytest.raises(ValueError, match="must hold 2 axes"):
        model.on_grid([torch.rand(3)])
    with pytest.raises(ValueError, match=re.escape("must be one number of terms. Got (1, 2).")):
        FunctionalCP((1, 2)).fit(torch.rand(9, 2), torch.rand(9))


@pytest.mark.parametrize("kind", [FunctionalTucker, FunctionalCP])
def test_many_modes(kind: type[FunctionalTucker]) -> None:
    x = torch.rand(60, 15)
    model = kind(1, restarts=1, max_sweeps=4).fit(x, x[:, 14] * (1 + x[:, 0]))
    assert model.predict(x)[0].shape == (60,)


@pytest.mark.parametrize("kind", [FunctionalTucker, FunctionalCP])
def test_the_default_dtype_plays_no_role(kind: type[FunctionalTucker]) -> None:
    x = torch.rand(80, 2)
    y = x[:, 0] * torch.sin(3 * x[:, 1])
    expected = kind(2, restarts=1, max_sweeps=6).fit(x, y)
    torch.set_default_dtype(torch.float32)
    try:
        found = kind(2, restarts=1, max_sweeps=6).fit(x, y)
        mean, variance = found.predict(x)
    finally:
        torch.set_default_dtype(torch.float64)
    assert found.bounds == expected.bounds
    assert torch.equal(mean, expected.predict(x)[0])
    assert mean.dtype == variance.dtype == torch.float64
