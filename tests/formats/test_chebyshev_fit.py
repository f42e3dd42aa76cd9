"""Black-box functions in Chebyshev-Tucker form: the tolerance is kept, at a known cost."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.special
import torch
from torch import Tensor

from tensornet.formats import ChebyshevTucker, chebyshev_tucker

CUBE = ((-1.0, 1.0),) * 3


def square(x: Tensor) -> Tensor:
    return x.square().sum(1)


def runge(x: Tensor) -> Tensor:
    return 1 / (1 + 25 * square(x))


def bump(x: Tensor) -> Tensor:
    return 1 / (1 + square(x))


def pole(x: Tensor) -> Tensor:
    return 1 / (x.sum(1) + 3.3)


def bessel(x: Tensor) -> Tensor:
    return torch.from_numpy(scipy.special.j0(10 * square(x).sqrt().numpy()))


def error(found: ChebyshevTucker, function: Callable[[Tensor], Tensor]) -> float:
    """Largest error over the largest magnitude, anywhere and near the middle."""
    ends = torch.tensor(found.box)
    t = torch.rand(4000, found.order)
    t[3000:] = 0.5 + 0.03 * (t[3000:] - 0.5)
    x = ends[:, 0] + (ends[:, 1] - ends[:, 0]) * t
    expected = function(x)
    return float((found.value(x) - expected).abs().max() / expected.abs().max())


# The bounds on evaluations are those of a prototype that was told the degrees.
FUNCTIONS = [
    pytest.param(runge, 89_514, id="Runge"),
    pytest.param(lambda x: 1 / torch.cosh(3 * x.sum(1)) ** 2, 786_610, id="wall"),
    pytest.param(
        lambda x: torch.exp(torch.sin(x[:, 0] + 2 * x[:, 1] + 3 * x[:, 2])) + x[:, 1] * x[:, 2],
        91_461,
        id="wave",
    ),
    pytest.param(bump, 14_182, id="bump"),
    pytest.param(bessel, 7_205, id="Bessel"),
    pytest.param(pole, 19_745, id="pole"),
    pytest.param(lambda x: torch.exp(x.prod(1)), 4_111, id="exp(xyz)"),
    pytest.param(lambda x: 100 / (1 + 100 * square(x)), 187_100, id="peak"),
    pytest.param(
        lambda x: torch.tanh(5 * (x[:, 0] + x[:, 2])) * torch.exp(x[:, 1]), 79_746, id="tanh"
    ),
]


@pytest.mark.parametrize("tolerance", [1e-4, 1e-8])
@pytest.mark.parametrize(("function", "most"), FUNCTIONS)
def test_tolerance_is_kept_with_few_evaluations(
    function: Callable[[Tensor], Tensor], most: int, tolerance: float
) -> None:
    found = chebyshev_tucker(function, CUBE, tolerance=tolerance)
    true = error(found.value, function)
    assert found.converged
    assert found.n_evaluations < most
    assert found.relative_error <= tolerance
    assert true <= 5 * tolerance
    assert found.relative_error >= 0.05 * true
    assert found.interpolation_error <= tolerance
    assert 0 < found.truncation_error <= 5 * tolerance


def test_to_round_off() -> None:
    found = chebyshev_tucker(bump, CUBE, tolerance=2e-13)
    assert found.converged
    assert error(found.value, bump) < 5e-13
    assert found.n_evaluations < 14_182
    assert max(found.value.ranks) <= 10
    exact = 4.28685406230184188268
    assert float(found.value.integral()) == pytest.approx(exact, rel=1e-13)


def test_polynomials_are_exact() -> None:
    def function(x: Tensor) -> Tensor:
        return 1 + x[:, 0] ** 3 * x[:, 1] - 2 * x[:, 2] ** 5 + 0.1 * x[:, 0] * x[:, 1] * x[:, 2]

    box = ((-1.0, 2.0), (0.5, 1.0), (-2.0, 1.0))
    found = chebyshev_tucker(function, box, tolerance=1e-13)
    assert found.value.shape == (4, 2, 6)
    assert all(r <= 3 for r in found.value.ranks)
    assert error(found.value, function) < 1e-13
    x = torch.rand(5, 3) * torch.tensor([3.0, 0.5, 3.0]) + torch.tensor([-1.0, 0.5, -2.0])
    slope = 3 * x[:, 0] ** 2 * x[:, 1] + 0.1 * x[:, 1] * x[:, 2]
    torch.testing.assert_close(found.value.gradient(x)[:, 0], slope, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("d", [1, 2, 4])
def test_other_numbers_of_variables(d: int) -> None:
    found = chebyshev_tucker(lambda x: torch.cos(x.sum(1)), ((0, 3),) * d, tolerance=1e-10)
    assert found.converged
    assert error(found.value, lambda x: torch.cos(x.sum(1))) < 5e-10
    assert found.value.ranks == (1,) * d if d == 1 else (2,) * d


def test_small_grids_are_sampled_whole() -> None:
    asked = []

    def function(x: Tensor) -> Tensor:
        asked.append(len(x))
        return x[:, 0] * x[:, 1].exp()

    found = chebyshev_tucker(function, CUBE[:2], tolerance=1e-12)
    assert "all nodes" in found.message
    assert 17 * 17 in asked
    assert sum(asked) == found.n_evaluations
    assert error(found.value, lambda x: x[:, 0] * x[:, 1].exp()) < 1e-11


@pytest.mark.parametrize("seed", range(10))
def test_two_separated_features_are_found(seed: int) -> None:
    def function(x: Tensor) -> Tensor:
        left, right = square(x - 0.6), square(x + 0.6)
        return torch.exp(-40 * left) + 0.7 * torch.exp(-40 * right)

    found = chebyshev_tucker(function, CUBE, tolerance=1e-8, seed=seed)
    ends = torch.tensor([[0.6] * 3, [-0.6] * 3])
    torch.testing.assert_close(found.value.value(ends), function(ends), rtol=1e-7, atol=1e-7)
    assert found.value.ranks == (2, 2, 2)
    assert found.converged


def test_frequencies_that_the_first_grid_cannot_see() -> None:
    def function(x: Tensor) -> Tensor:
        return torch.cos(64 * torch.acos(x[:, 0])) * x[:, 1]  # one or constant at 17 and 33 nodes

    found = chebyshev_tucker(function, CUBE[:2], tolerance=1e-9)
    assert found.converged
    assert found.value.shape == (65, 2)
    assert error(found.value, function) < 1e-9


def test_constant_and_zero() -> None:
    zero = chebyshev_tucker(lambda x: 0 * x[:, 0], CUBE)
    assert zero.converged
    assert zero.value.shape == (1, 1, 1)
    assert float(zero.value.norm()) == 0
    three = chebyshev_tucker(lambda x: 3 + 0 * x[:, 0], CUBE)
    assert three.value.shape == (1, 1, 1)
    assert float(three.value.to_dense()) == pytest.approx(3, rel=1e-14)


def test_same_seed_same_function() -> None:
    one, two = (chebyshev_tucker(pole, CUBE, seed=3) for _ in range(2))
    torch.testing.assert_close(one.value.core, two.value.core, rtol=0, atol=0)


def test_noise_is_not_resolved_and_said() -> None:
    def function(x: Tensor) -> Tensor:
        return torch.exp(x.sum(1)) + 1e-4 * torch.sin(1e7 * x[:, 0])

    found = chebyshev_tucker(function, CUBE[:2], tolerance=1e-9, max_degree=64)
    assert not found.converged
    assert 1e-7 < found.relative_error < 1e-3
    assert "above the tolerance 1.0e-09" in found.message


def test_budget_and_degree_are_kept() -> None:
    found = chebyshev_tucker(runge, CUBE, max_evaluations=4000)
    assert not found.converged
    assert found.n_evaluations <= 4000
    assert "max_evaluations was reached" in found.message
    coarse = chebyshev_tucker(runge, CUBE, max_degree=32)
    assert max(coarse.value.shape) <= 33
    assert not coarse.converged
    assert coarse.interpolation_error > 1e-4
    assert "degree is at its limit" in coarse.message


def test_box_gives_the_dtype() -> None:
    box = torch.tensor(CUBE, dtype=torch.float32)
    found = chebyshev_tucker(bump, box, tolerance=1e-5)
    assert found.value.dtype == torch.float32
    assert found.converged
    assert found.relative_error < 1.1e-5


def test_functions_that_fail() -> None:
    def raises(x: Tensor) -> Tensor:
        if bool((x[:, 0] > 0.9).any()):
            raise ArithmeticError("too large")
        return x[:, 0]

    with pytest.raises(RuntimeError, match=r"ArithmeticError: too large at the point \[0\.9") as e:
        chebyshev_tucker(raises, CUBE)
    assert isinstance(e.value.__cause__, ArithmeticError)
    with pytest.raises(ValueError, match=r"finite values. Got nan at the point \[-"):
        chebyshev_tucker(lambda x: torch.where(x[:, 0] < -0.5, torch.nan, x[:, 1]), CUBE)
    with pytest.raises(ValueError, match=r"one value per point, shape \(256,\). Got \(256, 3\)"):
        chebyshev_tucker(lambda x: x, CUBE)
    with pytest.raises(TypeError, match=r"torch.Tensor. Got ndarray"):
        chebyshev_tucker(lambda x: np.zeros(len(x)), CUBE)  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match="real values"):
        chebyshev_tucker(lambda x: x[:, 0] + 0j, CUBE)


def test_bad_options() -> None:
    with pytest.raises(ValueError, match="lower ends below upper"):
        chebyshev_tucker(square, ((1, -1),))
    with pytest.raises(ValueError, match="at least zero"):
        chebyshev_tucker(square, CUBE, tolerance=-1)
    with pytest.raises(ValueError, match=r"max_degree=...\)` must be at least 1"):
        chebyshev_tucker(square, CUBE, max_degree=0)
    with pytest.raises(ValueError, match=r"max_evaluations=...\)` must be at least"):
        chebyshev_tucker(square, CUBE, max_evaluations=10)
    with pytest.raises(TypeError, match="must be a function"):
        chebyshev_tucker(3, CUBE)  # type: ignore[arg-type]
