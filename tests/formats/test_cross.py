"""Tensor trains from few entries: ranks, errors, what is asked for and how often, bad input."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tensornet.formats import TensorTrain, cross

UNIT = torch.linspace(0, 1, 10, dtype=torch.float64)


class Counted:
    """A function that remembers which indices it was asked for."""

    def __init__(self, function: Callable[[Tensor], Any], shape: tuple[int, ...]) -> None:
        self.function, self.shape = function, shape
        self.seen: set[tuple[int, ...]] = set()
        self.calls = 0

    def __call__(self, indices: Tensor) -> Any:
        assert indices.dtype == torch.int64
        assert indices.shape[1] == len(self.shape)
        assert bool((indices >= 0).all())
        assert bool((indices < torch.tensor(self.shape)).all())
        new = {tuple(row) for row in indices.tolist()}
        assert len(new) == len(indices)
        assert not new & self.seen, "an index was asked for twice"
        self.seen |= new
        self.calls += 1
        return self.function(indices)


def dense(function: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Tensor:
    every = torch.cartesian_prod(*(torch.arange(n) for n in shape)).reshape(-1, len(shape))
    return function(every).reshape(shape)


def measured(value: TensorTrain, function: Callable[[Tensor], Tensor], n: int = 4000) -> float:
    """Largest error at random points over the largest value there."""
    points = torch.stack([torch.randint(0, s, (n,)) for s in value.shape], 1)
    expected = function(points)
    return float((value[tuple(points.T)] - expected).abs().max() / expected.abs().max())


def reciprocal(i: Tensor) -> Tensor:
    return 1 / (1 + UNIT[i].sum(1))


def hilbert(i: Tensor) -> Tensor:
    return 1 / (1.0 + (i + 1).sum(1))


FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], list[int]]] = {
    "sine of the sum": (lambda i: torch.sin(UNIT[i].sum(1)), [2] * 5),
    "sum": (lambda i: UNIT[i].sum(1), [2] * 5),
    "cube of the sum": (lambda i: UNIT[i].sum(1) ** 3, [4] * 5),
    "product": (lambda i: (1 + UNIT[i]).prod(1), [1] * 5),
    "exponential": (lambda i: UNIT[i].sum(1).exp(), [1] * 5),
    "smallest": (lambda i: UNIT[i].amin(1), [9] * 5),
    "pairs": (lambda i: 1 + torch.cos(UNIT[i][:, 0] * UNIT[i][:, 1]) * UNIT[i][:, 4], []),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_exact_ranks_and_every_entry(name: str) -> None:
    function, ranks = FUNCTIONS[name]
    shape = (10,) * 6
    counted = Counted(function, shape)
    result = cross(counted, shape, seed=1)
    x = dense(function, shape)
    assert result.converged, result.message
    assert float((result.value.to_dense() - x).abs().max()) <= 2e-8 * float(x.abs().max())
    if ranks:
        assert result.value.ranks == (1, *ranks, 1)
    assert result.n_evaluations == len(counted.seen) < 10_000


@pytest.mark.parametrize(("function", "middle"), [(reciprocal, 7), (hilbert, 9)])
def test_error_is_the_one_of_every_entry(function: Callable[[Tensor], Tensor], middle: int) -> None:
    """Ranks are at most one above those of the SVD of the dense tensor; errors are measured."""
    shape = (10,) * 6
    x = dense(function, shape)
    for seed in range(3):
        result = cross(function, shape, seed=seed)
        difference = result.value.to_dense() - x
        error = float(difference.norm() / x.norm())
        assert result.converged
        assert 0.2 * error <= result.relative_error <= 1e-8
        assert float(difference.abs().max() / x.abs().max()) <= 2e-8
        assert max(result.value.ranks) <= middle + 1
        assert result.n_evaluations < 5000


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-6, 1e-12])
def test_tolerance_is_kept_and_costs(tolerance: float) -> None:
    shape = (10,) * 6
    x = dense(reciprocal, shape)
    result = cross(reciprocal, shape, tolerance=tolerance)
    assert result.converged
    assert result.relative_error <= tolerance
    assert float((result.value.to_dense() - x).norm() / x.norm()) <= 1.5 * tolerance
    assert result.n_evaluations < 1300 - 900 * math.log10(tolerance)


def gaussians(centers: Tensor, heights: Tensor) -> Callable[[Tensor], Tensor]:
    grid = torch.linspace(-1, 1, 32, dtype=torch.float64)

    def function(i: Tensor) -> Tensor:
        distance = (grid[i][:, None] - centers).square().sum(2)
        return (-40 * distance).exp() @ heights

    return function


@pytest.mark.parametrize("seed", range(10))
def test_no_gaussian_is_lost(seed: int) -> None:
    """Even random points see nothing of either: both are below 1e-6 in all but 1e-5 of them."""
    centers = torch.tensor([[0.6] * 6, [-0.6] * 6])
    function = gaussians(centers, torch.tensor([1.0, 0.7]))
    counted = Counted(function, (32,) * 6)
    result = cross(counted, (32,) * 6, seed=seed)
    near = torch.stack([torch.randint(low, low + 9, (2000, 6)) for low in (2, 21)]).flatten(0, 1)
    error = (result.value[tuple(near.T)] - function(near)).abs()
    assert result.converged
    assert float(error.max()) < 1e-12
    assert result.value.ranks == (1, 2, 2, 2, 2, 2, 1)
    assert result.n_evaluations == len(counted.seen) < 5225  # the best peer


def test_gaussians_anywhere() -> None:
    lost = 0
    for seed in range(5):
        g = torch.Generator().manual_seed(seed)
        centers = 1.4 * torch.rand(3, 6, generator=g) - 0.7
        function = gaussians(centers, torch.tensor([1.0, 0.7, 0.4]))
        result = cross(function, (32,) * 6, seed=seed)
        near = ((centers + 1) * 15.5).round().long()
        error = (result.value[tuple(near.T)] - function(near)).abs()
        assert result.converged
        lost += float(error.max()) > 1e-8
    assert lost == 0


def test_a_single_entry_is_found_where_it_is_told() -> None:
    def function(i: Tensor) -> Tensor:
        return 1 + (i == 3).all(1).double()

    place = torch.full((1, 5), 3)
    result = cross(function, (10,) * 5, start_points=place)
    assert result.converged
    assert float(result.value[3, 3, 3, 3, 3]) == pytest.approx(2, abs=1e-12)
    assert measured(result.value, function) < 1e-12
    assert result.value.ranks == (1, 2, 2, 2, 2, 1)


def test_twenty_binary_modes() -> None:
    """A quantized function of one variable: sin(200 x) exp(-x) and a narrow Lorentzian."""
    steps = 2.0 ** -torch.arange(1, 21, dtype=torch.float64)

    def function(i: Tensor) -> Tensor:
        x = i.double() @ steps
        return torch.exp(-x) * torch.sin(200 * x) + 1 / (1 + 1e4 * (x - 0.3) ** 2)

    counted = Counted(function, (2,) * 20)
    result = cross(counted, (2,) * 20)
    assert result.converged
    assert measured(result.value, function, 20000) < 5e-8
    assert max(result.value.ranks) <= 11
    assert result.n_evaluations == len(counted.seen) < 3000


def test_shapes() -> None:
    def function(i: Tensor) -> Tensor:
        return 1 / (1 + i.double().sum(1))

    for shape in [(700,), (1, 1), (1, 9, 1, 12, 8, 1, 11, 1), (300, 200), (1000, 1000, 1000),
                  (3, 4, 5), (2,) * 9, (1, 40, 1, 30)]:  # fmt: skip
        counted = Counted(function, shape)
        result = cross(counted, shape)
        assert result.converged, result.message
        assert result.value.shape == shape
        assert result.n_evaluations == len(counted.seen)
        assert measured(result.value, function) < 3e-8
        assert all(
            a == b
            for n, a, b in zip(shape, result.value.ranks, result.value.ranks[1:], strict=False)
            if n == 1
        )


def test_blocks_that_do_not_know_each_other() -> None:
    """Where the rank is one, pivots on its two sides cannot lead to each other."""
    a = torch.rand(4, 9, 9)

    def function(i: Tensor) -> Tensor:
        return torch.stack([a[k][i[:, 2 * k], i[:, 2 * k + 1]] for k in range(4)]).prod(0)

    result = cross(function, (9,) * 8)
    assert result.converged
    assert result.value.ranks == (1, 9, 1, 9, 1, 9, 1, 9, 1)
    assert measured(result.value, function) < 1e-10


def test_constant_and_zero() -> None:
    constant = cross(lambda i: torch.full((len(i),), -3.0), (7,) * 6)
    assert constant.converged
    assert constant.value.ranks == (1,) * 7
    assert float(constant.value[1, 2, 3, 4, 5, 6]) == pytest.approx(-3, abs=1e-13)
    for shape in [(7,) * 6, (2, 3), (600,)]:
        zero = cross(lambda i: torch.zeros(len(i)), shape)
        assert zero.converged
        assert "zero" in zero.message
        assert zero.value.shape == shape
        assert float(zero.value.norm()) == 0


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_scales(scale: float) -> None:
    result = cross(lambda i: scale * reciprocal(i), (10,) * 6)
    assert result.converged
    assert measured(result.value, lambda i: scale * reciprocal(i)) < 1e-7


def test_many_modes() -> None:
    result = cross(lambda i: (1 + i).double().log().sum(1), (3,) * 80)
    assert result.converged
    assert result.value.ranks == (1, *[2] * 79, 1)


def test_dtypes_and_kinds_of_answer() -> None:
    def wave(i: Tensor) -> Tensor:
        return torch.exp(1j * UNIT[i].sum(1)) / (1 + UNIT[i].sum(1))

    result = cross(wave, (10,) * 6, dtype=torch.complex128)
    assert result.converged
    assert result.value.dtype == torch.complex128
    assert measured(result.value, wave) < 2e-8
    single = cross(lambda i: reciprocal(i).float(), (10,) * 6, dtype=torch.float32)
    assert single.value.dtype == torch.float32
    assert single.converged
    assert "below round-off" in single.message
    assert single.relative_error < 2e-5
    assert max(single.value.ranks) <= 6
    array = cross(lambda i: reciprocal(i).numpy(), (10,) * 6)
    assert array.relative_error == cross(reciprocal, (10,) * 6).relative_error
    whole = cross(lambda i: i.sum(1), (10,) * 6)
    assert whole.value.ranks == (1, 2, 2, 2, 2, 2, 1)
    grad = torch.ones(1, requires_grad=True)
    assert cross(lambda i: grad * i.sum(1), (10,) * 6).converged


def test_tolerance_below_round_off() -> None:
    result = cross(reciprocal, (10,) * 6, tolerance=0.0)
    assert result.converged
    assert 0 < result.relative_error < 1e-12
    assert "below round-off" in result.message
    assert max(result.value.ranks) <= 14


def test_same_seed_same_train() -> None:
    a, b = (cross(reciprocal, (10,) * 6, seed=5) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(a.value.cores, b.value.cores, strict=True))
    other = cross(reciprocal, (10,) * 6, seed=6)
    assert other.n_evaluations != a.n_evaluations
    before = torch.get_rng_state(), str(np.random.get_state())  # noqa: NPY002
    cross(reciprocal, (10,) * 6, seed=5)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert str(np.random.get_state()) == before[1]  # noqa: NPY002


def test_largest_rank() -> None:
    result = cross(reciprocal, (10,) * 6, max_rank=3)
    assert not result.converged
    assert "largest rank is reached" in result.message
    assert max(result.value.ranks) == 3
    x = dense(reciprocal, (10,) * 6)
    error = float((result.value.to_dense() - x).norm() / x.norm())
    assert 1e-5 < error < 1e-2
    assert result.relative_error >= error / 2
    small = cross(lambda i: torch.eye(8)[i[:, 0], i[:, 1]], (8, 8), max_rank=3)
    assert not small.converged
    assert small.relative_error == pytest.approx(math.sqrt(5 / 8), rel=1e-12)


@pytest.mark.parametrize("most", [700, 1200])
def test_allowed_evaluations(most: int) -> None:
    counted = Counted(reciprocal, (10,) * 6)
    result = cross(counted, (10,) * 6, max_evaluations=most)
    assert not result.converged
    assert "evaluations are used up" in result.message
    assert result.n_evaluations == len(counted.seen) <= most
    assert 1e-8 < result.relative_error < 10
    assert cross(reciprocal, (10,) * 6, max_evaluations=10_000).converged
    zero = cross(lambda i: torch.zeros(len(i)), (10,) * 6, max_evaluations=most)
    assert zero.n_evaluations <= most
    assert float(zero.value.norm()) == 0
    points = torch.randint(0, 10, (most, 6))
    with pytest.raises(ValueError, match="max_evaluations"):
        cross(reciprocal, (10,) * 6, max_evaluations=most, start_points=points)


def test_function_that_fails() -> None:
    def raises(i: Tensor) -> Tensor:
        if bool((i[:, 2] == 7).any()):
            raise KeyError("seven")
        return i.sum(1)

    with pytest.raises(RuntimeError, match=r"KeyError at index \(\d, \d, 7, \d\): 'seven'") as told:
        cross(raises, (10,) * 4)
    assert isinstance(told.value.__cause__, KeyError)
    with pytest.raises(ValueError, match=r"Got nan at index \(\d, \d, 7, \d\)"):
        cross(lambda i: torch.where(i[:, 2] == 7, torch.nan, 1.0), (10,) * 4)
    with pytest.raises(ValueError, match=r"Got inf at index \(0, \d, 7, \d\)"):
        cross(lambda i: torch.where(i[:, 2] == 7, torch.inf, 1.0), (1, 10, 10, 10))
    with pytest.raises(ValueError, match=r"shape \(\d+,\), one value per index"):
        cross(lambda i: i, (10,) * 4)
    with pytest.raises(TypeError, match="Got NoneType"):
        cross(lambda i: None, (10,) * 4)
    with pytest.raises(TypeError, match=r"Got torch.complex128.*dtype"):
        cross(lambda i: i.sum(1) + 1j, (10,) * 4)
    with pytest.raises(TypeError, match="Got torch"):
        cross(lambda i: i.sum(1) > 3, (10,) * 4)


def test_interruption_passes_through() -> None:
    def interrupted(i: Tensor) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cross(interrupted, (10,) * 4)


def test_a_function_that_reuses_its_memory_or_changes_its_argument() -> None:
    memory = torch.empty(100_000)

    def function(i: Tensor) -> Tensor:
        out = memory[: len(i)]
        out[:] = reciprocal(i)
        i.zero_()
        return out

    result = cross(function, (10,) * 6)
    assert result.converged
    assert measured(result.value, reciprocal) < 2e-8


def test_bad_arguments() -> None:
    for shape, message in [((), "at least one mode"), ((3, 0), "at least 1")]:
        with pytest.raises(ValueError, match=message):
            cross(reciprocal, shape)
    with pytest.raises(ValueError, match=r"max_rank.*at least 1"):
        cross(reciprocal, (3, 3), max_rank=0)
    with pytest.raises(ValueError, match="tolerance"):
        cross(reciprocal, (3, 3), tolerance=-1.0)
    with pytest.raises(ValueError, match=r"max_evaluations.*at least 5"):
        cross(reciprocal, (10,) * 6, max_evaluations=100)
    with pytest.raises(TypeError, match="dtype"):
        cross(reciprocal, (3, 3), dtype=torch.int64)
    with pytest.raises(TypeError, match="whole numbers"):
        cross(reciprocal, (3, 3), start_points=torch.rand(1, 2))
    with pytest.raises(TypeError, match=r"must be a torch.Tensor\. Got list"):
        cross(reciprocal, (3, 3), start_points=[[0, 0]])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"seed=...\)` must be at least 0"):
        cross(reciprocal, (3, 3), seed=-1)
    with pytest.raises(ValueError, match="shape"):
        cross(reciprocal, (3, 3), start_points=torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="indices of the shape"):
        cross(reciprocal, (3, 3), start_points=torch.tensor([[0, 3]]))


@pytest.mark.slow
def test_benchmark(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    script = root / "examples" / "benchmarks" / "cross.py"
    out = tmp_path / "cross.json"
    words = [sys.executable, str(script), "--smoke", "--out", str(out)]
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    subprocess.run(
        words, cwd=tmp_path, check=True, timeout=300, env={**os.environ, "PYTHONPATH": path}
    )
    row = json.loads(out.read_text())["rows"][0]
    assert row["candidate"] == "tensornet cross"
    assert row["evaluations"] < 6000
    assert row["largest_error"] < 3e-8
