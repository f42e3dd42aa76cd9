"""Filter and smoother against dense Gaussian processes, and the compiled against the plain scan."""

import math
import re

import pytest
import torch
from torch import Tensor

from tensornet.functional.matern import Matern
from tensornet.functional.state_space import MarkovPosterior, scan_reference, smooth


def messages(n: int, r: int, *batch: int) -> tuple[Tensor, Tensor, Tensor]:
    """Irregular coordinates, and messages of which some are singular and some are empty."""
    t = (torch.rand(n) ** 3 * 10).sort().values + 1e-3 * torch.arange(n)
    factor = torch.randn(*batch, n, r, max(r - 1, 1))
    factor[..., : n // 3, :, :] *= torch.rand(n // 3, 1, 1) > 0.5
    precision = factor @ factor.mT * 5
    return t, precision, (precision @ torch.randn(*batch, n, r, 1))[..., 0]


def dense(kernel: Matern, t: Tensor, precision: Tensor, shift: Tensor, x: Tensor) -> list[Tensor]:
    """Mean and covariance at x, and the evidence, by the matrix of all covariances."""
    n, r = shift.shape
    eye = torch.eye(r)
    prior = torch.kron(kernel.covariance(t, t), eye)
    block = torch.block_diag(*precision)
    inside = torch.eye(n * r) + block @ prior
    cross = torch.kron(kernel.covariance(x, t), eye)
    push = torch.linalg.solve(inside, shift.reshape(-1))
    mean = (cross @ push).reshape(len(x), r)
    whole = torch.kron(kernel.covariance(x, x), eye)
    whole = whole - cross @ torch.linalg.solve(inside, block @ cross.mT)
    blocks = torch.stack([whole[i : i + r, i : i + r] for i in range(0, len(x) * r, r)])
    evidence = 0.5 * (shift.reshape(-1) @ prior @ push - torch.linalg.slogdet(inside).logabsdet)
    return [mean, blocks, evidence]


@pytest.mark.parametrize("nu", [0.5, 1.5, 2.5])
@pytest.mark.parametrize("r", [1, 3])
def test_dense_process(nu: float, r: int) -> None:
    kernel = Matern(nu, length_scale=0.8, variance=1.7)
    t, precision, shift = messages(40, r)
    posterior = smooth(kernel, t, precision, shift)
    x = torch.cat([t[[3, 0, 39]], torch.linspace(-3, 14, 30)])
    mean, covariance, evidence = dense(kernel, t, precision, shift, x)
    torch.testing.assert_close(posterior.log_evidence, evidence, rtol=1e-11, atol=1e-11)
    for got, expected in zip(posterior.at(x), (mean, covariance), strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-11)
    mean, covariance, _ = dense(kernel, t, precision, shift, t)
    torch.testing.assert_close(posterior.mean, mean, rtol=0, atol=1e-11)
    torch.testing.assert_close(posterior.covariance, covariance, rtol=0, atol=1e-11)


@pytest.mark.parametrize("nu", [0.5, 1.5, 2.5])
def test_compiled_and_plain_scan(nu: float) -> None:
    t, precision, shift = messages(12, 2, 2, 3)
    compiled = smooth(Matern(nu, 0.5), t, precision, shift)
    plain = smooth(Matern(nu, 0.5), t, precision, shift.clone().requires_grad_())
    for name in MarkovPosterior.__dataclass_fields__:
        if name not in ("kernel", "coordinates"):
            a, b = getattr(compiled, name), getattr(plain, name)
            torch.testing.assert_close(a, b.detach(), rtol=1e-10, atol=1e-11, msg=name)
    one = smooth(Matern(nu, 0.5), t, precision[1, 2], shift[1, 2])
    torch.testing.assert_close(one.at(t + 0.01), tuple(x[1, 2] for x in compiled.at(t + 0.01)))


def test_short_steps_and_strong_messages() -> None:
    t = torch.cumsum(10.0 ** torch.linspace(-9, 0, 50), 0)
    y = torch.sin(t)
    precision = torch.full((50, 1, 1), 1e6)
    posterior = smooth(Matern(2.5, 2.0), t, precision, 1e6 * y[:, None])
    assert float((posterior.mean[:, 0] - y).abs().max()) < 1e-3
    mean, covariance, _ = dense(Matern(2.5, 2.0), t, precision, 1e6 * y[:, None], t)
    torch.testing.assert_close(posterior.mean, mean, rtol=0, atol=1e-8)
    assert bool((posterior.covariance > 0).all())
    torch.testing.assert_close(posterior.covariance, covariance, rtol=0, atol=1e-11)


def test_derivatives_of_the_evidence() -> None:
    t, precision, shift = messages(8, 2)
    numbers = torch.tensor([0.7, 1.3], requires_grad=True)

    def evidence(numbers: Tensor, shift: Tensor) -> Tensor:
        return smooth(Matern(2.5, numbers[0], numbers[1]), t, precision, shift).log_evidence

    assert torch.autograd.gradcheck(
        evidence, (numbers, shift.clone().requires_grad_()), rtol=1e-6, atol=1e-8
    )


def test_no_message_is_the_prior() -> None:
    t = torch.linspace(0, 1, 5)
    posterior = smooth(Matern(2.5, 0.3, 2.0), t, torch.zeros(5, 2, 2), torch.zeros(5, 2))
    assert float(posterior.log_evidence) == 0
    mean, covariance = posterior.at(torch.linspace(-1, 2, 9))
    assert not bool(mean.any())
    torch.testing.assert_close(covariance, 2 * torch.eye(2).expand(9, 2, 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"coordinates": torch.zeros(3).double()},
            "must increase strictly. Got 2 steps",
        ),
        ({"coordinates": torch.ones(2)}, "with n = 2 as in `coordinates`"),
        ({"coordinates": torch.full((3,), torch.nan).double()}, "must be finite"),
        ({"shift": torch.ones(3, 1).double()}, "`smooth(shift=...)` must have shape"),
        ({"shift": torch.ones(3, 2).float()}, "must be of float64"),
        ({"precision": torch.ones(4, 3, 2, 2).double()}, "must have shape (4, 3, 2)"),
        ({"kernel": 1.5}, "must be a `Matern`. Got float"),
    ],
)
def test_what_does_not_fit(change: dict[str, Tensor], message: str) -> None:
    words = {
        "kernel": Matern(), "coordinates": torch.arange(3.0), "precision": torch.ones(3, 2, 2),
        "shift": torch.ones(3, 2),
    } | change  # fmt: skip
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        smooth(**words)  # type: ignore[arg-type]


def test_coordinates_that_make_no_sense() -> None:
    posterior = smooth(Matern(), torch.arange(3.0), torch.ones(3, 1, 1), torch.ones(3, 1))
    for wrong in (torch.ones(2, 2), torch.tensor([math.nan]), torch.zeros(0)):
        with pytest.raises(ValueError, match=r"MarkovPosterior.at\(coordinates=...\)"):
            posterior.at(wrong)


def test_scan_reference_is_the_textbook() -> None:
    # One step of the Kalman filter, by hand.
    one = torch.ones(1, 1, 1)
    mean, covariance, evidence, *_ = scan_reference(one, 2 * one, 3 * one, 4 * torch.ones(1, 1))
    assert float(covariance) == pytest.approx(1 / (1 / 2 + 3))
    assert float(mean) == pytest.approx(4 / (1 / 2 + 3))
    expected = 0.5 * (4**2 / 3.5) - 0.5 * torch.log(torch.tensor(7.0))
    assert float(evidence) == pytest.approx(float(expected))
