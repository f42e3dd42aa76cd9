"""Long and short range of radial kernels: the sum is the kernel, the error is certified."""

import math

import pytest
import torch

from tensornet.formats import ExponentialSum, exponential_sum
from tensornet.functional.splitting import certified_error, range_separation

KINDS = [("coulomb", 0.0), ("yukawa", 2.0), ("dispersion", 0.0)]


@pytest.mark.parametrize(("kind", "screening"), KINDS)
@pytest.mark.parametrize("tolerance", [1e-4, 1e-9])
def test_both_parts_are_the_kernel(kind: str, screening: float, tolerance: float) -> None:
    parts = range_separation(kind, cutoff=0.3, reach=4.0, tolerance=tolerance, screening=screening)
    assert parts.error <= tolerance
    r = torch.logspace(-3, math.log10(4.0), 20_001)
    power = 6 if kind == "dispersion" else 1
    exact = torch.exp(-screening * r) / r**power
    error = ((parts.long.value(r) + parts.short(r) - exact) * r**power).abs()
    assert error[r < 0.3].max() < 1e-13
    largest = error[r >= 0.3].max().item()
    assert 0.9 * parts.error < largest * 1.1
    assert largest <= parts.error


def test_width_decides_the_cutoff() -> None:
    parts = range_separation(sigma=0.1, reach=3.0, tolerance=1e-9)
    assert math.isclose(parts.sigma, 0.1, rel_tol=1e-8)
    assert 3.9 < parts.cutoff / (0.1 * math.sqrt(2)) < 5
    wider = range_separation(sigma=0.2, reach=6.0, tolerance=1e-9)
    assert math.isclose(wider.cutoff, 2 * parts.cutoff, rel_tol=1e-6)


@pytest.mark.parametrize("factor", [0.2, 1.0, 30.0])
def test_bound_is_above_the_error_between_the_samples(factor: float) -> None:
    # one Gaussian is no good kernel: r exp(-r²) - 1 is known everywhere
    one = ExponentialSum(torch.ones(1), torch.ones(1), 0.0)
    low, high = 0.01 * factor, 2.0 * factor
    r = torch.linspace(low, high, 200_001)
    largest = (r * torch.exp(-r * r) - 1).abs().max().item()
    bound = certified_error(one, low, high)
    assert largest <= bound <= 1.02 * largest


def test_a_wrong_weight_is_seen() -> None:
    s = exponential_sum("coulomb", 0.01, 1.0, tolerance=1e-7)
    assert 0.9 * s.error <= certified_error(s, 0.01, 1.0) <= 1.1e-7
    weights = s.weights.clone()
    weights[7] *= 1.001
    assert certified_error(ExponentialSum(weights, s.exponents, 0.0), 0.01, 1.0) > 1e-5


@pytest.mark.parametrize(
    ("n", "terms"),
    [(256, (18, 25, 29, 41)), (1024, (21, 30, 35, 48)), (4096, (24, 34, 40, 56))],
)
def test_newton_kernel_takes_no_more_terms_than_known(n: int, terms: tuple[int, ...]) -> None:
    for tolerance, most in zip((1e-4, 1e-6, 1e-7, 1e-10), terms, strict=True):
        s = exponential_sum("coulomb", 1 / n, math.sqrt(3), tolerance=tolerance)
        assert len(s.weights) <= most
        assert certified_error(s, 1 / n, math.sqrt(3)) <= 1.03 * tolerance


def test_derivative_of_the_short_range() -> None:
    parts = range_separation(cutoff=0.5, reach=2.0, tolerance=1e-6)
    r = torch.tensor([0.05, 0.3, 0.49, 0.6], requires_grad=True)
    assert torch.autograd.gradcheck(parts.short, r)
    assert parts.short(r)[-1] == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cutoff": 1.0, "sigma": 1.0, "reach": 2.0}, "one of the two. Got 1.0 and 1.0"),
        ({"reach": 2.0}, "one of the two. Got None"),
        ({"cutoff": 2.0, "reach": 1.0}, "below the reach 1.0. Got 2.0"),
        ({"cutoff": math.nan, "reach": 1.0}, "positive length. Got nan"),
        ({"sigma": 1.0, "reach": 1.0}, "so small that the short range ends"),
        ({"cutoff": 0.1, "reach": math.inf}, "positive length. Got inf"),
        ({"cutoff": 0.1, "reach": 1.0, "tolerance": 0.0}, "at least 1e-13. Got 0.0"),
        ({"screening": 2.0, "cutoff": 0.1, "reach": 1.0}, "range_separation.*coulomb. Got 2.0"),
        ({"kind": "newton", "cutoff": 0.1, "reach": 1.0}, "one of coulomb, yukawa, dispersion"),
    ],
)
def test_wrong_options(options: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        range_separation(**options)  # type: ignore[arg-type]
