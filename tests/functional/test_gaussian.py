"""Regression in linear time against the dense equations."""

import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor

from tensornet.functional import Matern, StateSpaceGP


def dense(model: StateSpaceGP, t: Tensor, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, variance and evidence by Cholesky factors."""
    kernel = model.kernel
    gram = kernel.covariance(t, t) + model.noise * torch.eye(len(t))
    factor = torch.linalg.cholesky(gram)
    cross = kernel.covariance(x, t)
    weights = torch.cholesky_solve(y[:, None], factor)[:, 0]
    half = torch.linalg.solve_triangular(factor, cross.mT, upper=False)
    evidence = -0.5 * y @ weights - factor.diagonal().log().sum()
    evidence = evidence - len(t) / 2 * math.log(2 * math.pi)
    return cross @ weights, kernel.variance - half.square().sum(0), evidence


def data(n: int = 120) -> tuple[Tensor, Tensor]:
    t = torch.rand(n) * 10
    t[:20] = t[20:40]  # seen twice
    return t, torch.sin(2 * t) + 0.3 * torch.randn(n)


@pytest.mark.parametrize("nu", [0.5, 1.5, 2.5])
def test_dense_regression(nu: float) -> None:
    t, y = data()
    x = torch.cat([torch.linspace(-2, 13, 80), t[:5]])
    model = StateSpaceGP(Matern(nu, 1.2, 2.0), noise=0.05).fit(t, y)
    mean, variance, evidence = dense(model, t, y, x)
    got = model.predict(x)
    torch.testing.assert_close(got[0], mean, rtol=0, atol=1e-10)
    torch.testing.assert_close(got[1], variance, rtol=0, atol=1e-10)
    assert model.log_evidence == pytest.approx(float(evidence), rel=1e-11)
    torch.testing.assert_close(model.predict(x, noise=True)[1], got[1] + 0.05)


@pytest.mark.parametrize("noise", [1e-4, 1e-12])
def test_hardly_any_noise_in_fifty_digits(noise: float) -> None:
    mpmath = pytest.importorskip("mpmath")
    t = torch.linspace(0, 5, 20) + 0.05 * torch.rand(20)
    y, x = torch.sin(t), torch.tensor([-1.0, 2.3, 7.0])
    mean, variance = StateSpaceGP(Matern(2.5), noise).fit(t, y).predict(x)
    with mpmath.workdps(50):

        def covariance(a: Tensor, b: Tensor) -> Any:
            d = mpmath.sqrt(5) * abs(mpmath.mpf(float(a)) - mpmath.mpf(float(b)))
            return (1 + d + d * d / 3) * mpmath.exp(-d)

        gram = mpmath.matrix([[covariance(a, b) for b in t] for a in t])
        weights = mpmath.lu_solve(gram + noise * mpmath.eye(20), mpmath.matrix(y.tolist()))
        for k in range(3):
            cross = mpmath.matrix([covariance(x[k], a) for a in t])
            solved = mpmath.lu_solve(gram + noise * mpmath.eye(20), cross)
            assert abs(mpmath.fdot(cross, weights) - float(mean[k])) < 1e-14
            assert abs(1 - mpmath.fdot(cross, solved) - float(variance[k])) < 1e-14


def test_several_series_and_arrays() -> None:
    t, y = data(40)
    both = torch.stack([y, 2 - y], 1)
    model = StateSpaceGP(Matern(1.5, 1.2), noise=0.05).fit(t.numpy(), both.numpy())
    mean, variance = model.predict([0.5, 20.0])
    evidence = 0.0
    for k in range(2):
        one = StateSpaceGP(Matern(1.5, 1.2), noise=0.05).fit(t, both[:, k])
        expected = one.predict(torch.tensor([0.5, 20.0]))
        torch.testing.assert_close((mean[:, k], variance[:, k]), expected)
        evidence += one.log_evidence
    assert model.log_evidence == pytest.approx(evidence)


def test_order_does_not_matter() -> None:
    t, y = data()
    order = torch.randperm(len(t))
    a = StateSpaceGP(Matern(2.5), noise=0.1).fit(t, y).predict(t)
    b = StateSpaceGP(Matern(2.5), noise=0.1).fit(t[order], y[order]).predict(t)
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_scales_by_evidence() -> None:
    torch.manual_seed(0)
    t = torch.rand(600).sort().values * 60
    kernel = Matern(1.5, 1.5, 4.0)
    gram = kernel.covariance(t, t) + 1e-9 * torch.eye(600)
    y = torch.linalg.cholesky(gram) @ torch.randn(600) + 0.2 * torch.randn(600)
    start = StateSpaceGP(Matern(1.5, 0.3, 1.0), noise=0.5).fit(t, y)
    model = StateSpaceGP(Matern(1.5, 0.3, 1.0), noise=0.5).fit(t, y, learn=True)
    assert float(model.kernel.length_scale) == pytest.approx(1.5, rel=0.35)
    assert float(model.kernel.variance) == pytest.approx(4, rel=0.6)
    assert model.noise == pytest.approx(0.04, rel=0.25)
    truth = StateSpaceGP(kernel, noise=0.04).fit(t, y)
    assert model.log_evidence >= truth.log_evidence > start.log_evidence
    for factor in (0.97, 1.03):  # a maximum
        near = Matern(1.5, float(model.kernel.length_scale) * factor, model.kernel.variance)
        assert StateSpaceGP(near, model.noise).fit(t, y).log_evidence < model.log_evidence


def test_one_observation_is_enough_without_learning() -> None:
    mean, variance = StateSpaceGP(noise=1.0).fit([3.0], [2.0]).predict([3.0])
    assert float(mean[0]) == pytest.approx(1.0)
    assert float(variance[0]) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("t", "y", "message"),
    [
        ([0.0, math.nan], [1.0, 2.0], "`StateSpaceGP.fit(coordinates=...)` must be finite"),
        ([0.0, 1.0], [1.0, math.inf], "`StateSpaceGP.fit(values=...)` must be finite"),
        ([0.0, 1.0], [1.0, 2.0, 3.0], "must have shapes (n,) and (n,) or (n, c). Got (2,)"),
        ([[0.0, 1.0]], [1.0], "Got (1, 2) and (1,)."),
        ([], [], "`StateSpaceGP.fit(coordinates=...)` must not be empty"),
        ("times", [1.0], "must be an array of numbers. Got str."),
        ([1.0, 1.0], [1.0, 2.0], "at two coordinates or more. Got 1 coordinates."),
    ],
)
def test_data_that_do_not_fit(t: Any, y: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        StateSpaceGP().fit(t, y, learn=True)


def test_settings_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"noise=\.\.\.\)` must be positive and finite. Got 0"):
        StateSpaceGP(noise=0)
    with pytest.raises(TypeError, match="must be a `Matern`"):
        StateSpaceGP("matern")  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="must come after `fit`"):
        StateSpaceGP().predict(torch.zeros(1))
    model = StateSpaceGP().fit(torch.zeros(1), torch.zeros(1))
    with pytest.raises(ValueError, match=r"must have shape \(m,\). Got \(1, 1\)"):
        model.predict(torch.zeros(1, 1))


def test_arrays_of_any_layout() -> None:
    t = torch.linspace(0, 5, 30).numpy()
    expected = StateSpaceGP().fit(t, t**2).log_evidence
    for x, y in ((t[::-1], t[::-1] ** 2), (t.astype(">f8"), t**2)):
        assert StateSpaceGP().fit(x, y).log_evidence == pytest.approx(expected, rel=1e-12)
    fixed = t.copy()
    fixed.flags.writeable = False
    assert StateSpaceGP().fit(fixed, fixed**2).log_evidence == expected
