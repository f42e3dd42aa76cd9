"""Matern covariances, and that their differential equations have them."""

import re
from typing import Any

import pytest
import torch

from tensornet.functional.matern import Matern


@pytest.mark.parametrize("nu", [0.5, 1.5, 2.5])
def test_equation_has_the_covariance(nu: float) -> None:
    kernel = Matern(nu, 0.7, 1.9)
    steps = torch.tensor([0.0, 1e-6, 1e-3, 0.3, 2.0, 50.0])
    a, q, stationary = kernel.transition(steps), kernel.innovation(steps), kernel.stationary()
    torch.testing.assert_close(a @ stationary @ a.mT + q, stationary.expand_as(q))
    expected = kernel.covariance(steps, torch.zeros(1))[:, 0]
    torch.testing.assert_close((a @ stationary)[:, 0, 0], expected, rtol=1e-13, atol=1e-15)
    one, two, both = (kernel.transition(torch.tensor(d)) for d in (0.3, 0.5, 0.8))
    torch.testing.assert_close(two @ one, both, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("nu", [0.5, 1.5, 2.5])
def test_bessel_function(nu: float) -> None:
    from scipy.special import gamma, kv

    d = torch.linspace(0.01, 3, 20)
    x = (2 * nu) ** 0.5 * d / 0.7
    expected = 1.9 * 2 ** (1 - nu) / gamma(nu) * x**nu * torch.from_numpy(kv(nu, x.numpy()))
    got = Matern(nu, 0.7, 1.9).covariance(d, torch.zeros(1))[:, 0]
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=0)


def test_short_steps_keep_their_digits() -> None:
    step = torch.tensor([1e-7])
    x = 3**0.5 * 1e-7
    innovation = Matern(1.5).innovation(step)[0]
    assert float(innovation[0, 0]) == pytest.approx(4 / 3 * x**3, rel=1e-6)
    assert float(innovation[1, 1]) == pytest.approx(4 * x, rel=1e-6)
    assert float(torch.linalg.eigvalsh(Matern(2.5).innovation(torch.tensor([1e-3])))[0, 0]) > 0


@pytest.mark.parametrize("nu", [0.5, 1.5, 2.5])
def test_derivatives(nu: float) -> None:
    steps = torch.tensor([0.2, 1.1], requires_grad=True)
    scales = torch.tensor([0.6, 1.4], requires_grad=True)

    def parts(steps: torch.Tensor, scales: torch.Tensor) -> tuple[torch.Tensor, ...]:
        kernel = Matern(nu, scales[0], scales[1])
        return kernel.transition(steps), kernel.innovation(steps), kernel.covariance(steps, steps)

    assert torch.autograd.gradcheck(parts, (steps, scales), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"nu": 1.0}, "`Matern(nu=...)` must be 0.5, 1.5 or 2.5. Got 1.0."),
        ({"length_scale": -1.0}, "`Matern(length_scale=...)` must be positive and finite. Got"),
        ({"variance": float("nan")}, "`Matern(variance=...)` must be positive and finite."),
        ({"length_scale": "long"}, "`Matern(length_scale=...)` must be a number. Got 'long'."),
        ({"variance": torch.ones(2)}, "`Matern(variance=...)` must be one number. Got shape (2,)."),
    ],
)
def test_what_is_no_kernel(words: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        Matern(**words)
