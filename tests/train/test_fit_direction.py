"""Training of directions: it helps, it is the same again, its data are what they say."""

from typing import Any

import pytest
import torch
from torch.testing import assert_close

from tensornet.linalg import deep_conjugate_direction
from tensornet.models import DirectionNet
from tensornet.pde import Grid, Problem, dirichlet, poisson
from tensornet.train import fit_direction
from tensornet.train.direction import _Task
from tensornet.train.direction_data import LOUD, box_sampler, ritz_sampler, ritz_vectors


def disc(n: int, x0: float = 0.5, **options: Any) -> Problem:
    grid = Grid((n, n), spacing=1 / n)
    x, y = grid.centers()
    mask = (x - x0) ** 2 + (y - 0.4) ** 2 > 0.2**2
    source = torch.randn(n, n, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return poisson(grid, mask=mask, source=source, **options)


def test_training_helps_on_masks_not_seen() -> None:
    net = DirectionNet(dim=2)
    found = fit_direction(net, [disc(16).operator, disc(24, 0.3).operator], samples=240)
    assert found.steps == 30
    assert found.samples == 240
    assert found.history[-1]["left"] < 0.85 * found.history[0]["left"]
    assert found.message.startswith("30 steps on 240 right-hand sides of 2 operator(s)")
    for n in (20, 32, 64):
        p = disc(n, 0.6)
        counts = [
            deep_conjugate_direction(p.operator, p.rhs, each.bind(p.operator)).n_iterations
            for each in (net, DirectionNet(dim=2))
        ]
        assert counts[0] < counts[1]
        assert counts[0] <= 7


def test_same_seed_same_weights() -> None:
    nets = [DirectionNet(dim=2) for _ in range(3)]
    runs = [
        fit_direction(net, disc(12).operator, samples=40, seed=s)
        for net, s in zip(nets, (0, 0, 1), strict=True)
    ]
    states = [torch.cat([p.flatten() for p in net.parameters()]) for net in nets]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
    assert runs[0].history[-1]["left"] == runs[1].history[-1]["left"]


def test_loss_is_that_of_the_paper() -> None:
    A, net = disc(12).operator, DirectionNet(dim=2).double()
    b = torch.nn.functional.normalize(torch.randn(3, A.shape[0], dtype=torch.float64))
    task = _Task(net, A, "box", 1, 0)
    f = net.propose(A, b, net.grids_of(A))
    alpha = (b * f).sum(1) / (f * A(f)).sum(1)
    want = (b - alpha[:, None] * A(f)).square().sum(1).mean()
    assert_close((2 * task.loss(b, 1)).exp(), want, rtol=1e-10, atol=0)
    left = []
    for row in b:
        found = deep_conjugate_direction(
            A, row, net.bind(A, precision=torch.float64), tolerance=0, max_iterations=3
        )
        left.append(found.residuals[-1] ** 2)
    got = (6 * task.loss(b, 3)).exp()
    assert float(got.detach()) == pytest.approx(sum(left) / 3, rel=1e-8)


def test_paper_mode_learns() -> None:
    net = DirectionNet(dim=2, mode="relu", channels=8)
    A = poisson(Grid((16, 16), spacing=1 / 16)).operator
    found = fit_direction(
        net, A, samples=640, unroll=1, learning_rate=3e-3, data="ritz", ritz_count=100
    )
    assert found.history[-1]["left"] < 0.85
    assert found.history[-1]["left"] < 0.9 * found.history[0]["left"]


def test_time_is_kept() -> None:
    found = fit_direction(DirectionNet(dim=2), disc(12).operator, samples=10**6, seconds=0.5)
    assert 0.4 < found.seconds < 3
    assert "CPU time was used up" in found.message
    assert fit_direction(DirectionNet(dim=2), disc(12).operator, seconds=0.0).steps == 1


def test_ritz_vectors_are_eigenvectors_when_all_are_taken() -> None:
    A = poisson(Grid((4, 5), spacing=(0.25, 0.2)), boundary=dirichlet(at="center")).operator
    values, vectors = ritz_vectors(A, 20)
    assert_close(values, torch.linalg.eigvalsh(A.to_dense()), rtol=1e-10, atol=0)
    assert_close(A(vectors), values[:, None] * vectors, rtol=0, atol=1e-10 * float(values[-1]))
    assert_close(vectors @ vectors.mT, torch.eye(20, dtype=torch.float64), rtol=0, atol=1e-12)
    few, _ = ritz_vectors(disc(16).operator, 40)
    assert_close(
        few[-1], torch.linalg.eigvalsh(disc(16).operator.to_dense())[-1], rtol=1e-5, atol=0
    )
    with pytest.raises(ValueError, match="at most 20"):
        ritz_vectors(A, 21)


@pytest.mark.parametrize("data", ["box", "ritz"])
def test_low_half_is_louder(data: str) -> None:
    A = poisson(Grid((12, 9), spacing=0.1), boundary=("neumann", "dirichlet")).operator
    make = (
        box_sampler(A, torch.float64)
        if data == "box"
        else ritz_sampler(A, torch.float64, count=108)
    )
    b = make(torch.Generator().manual_seed(0), 4000)
    assert_close(b.norm(dim=1), torch.ones(4000, dtype=torch.float64))
    values, vectors = torch.linalg.eigh(A.to_dense())
    loud = (b @ vectors).square().mean(0)
    same = ((values[:, None] - values).abs() < 1e-9 * values[-1]).double()
    loud = same @ loud / same.sum(1)  # vectors of one value may be any of their space
    many = 54 if data == "box" else 59
    assert float(loud[:50].mean() / loud[60:].mean()) == pytest.approx(LOUD**2, rel=0.05)
    assert float(loud[:many].min()) > 20 * float(loud[many:].max())


def test_closed_boxes_get_sides_they_can_reach() -> None:
    A = poisson(Grid((8, 8), spacing=0.1), boundary="neumann", project=True).operator
    for make in (box_sampler(A, torch.float64), ritz_sampler(A, torch.float64, count=63)):
        b = make(torch.Generator().manual_seed(0), 5)
        assert_close(b.sum(1), torch.zeros(5, dtype=torch.float64), rtol=0, atol=1e-10)


def test_refusals() -> None:
    net, A = DirectionNet(dim=2), disc(12).operator
    with pytest.raises(TypeError, match="DirectionNet"):
        fit_direction(torch.nn.Identity(), A)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Got none"):
        fit_direction(net, [])
    with pytest.raises(ValueError, match="axes"):
        fit_direction(net, poisson(Grid((8, 8, 8), spacing=0.1)).operator)
    with pytest.raises(ValueError, match="nothing is learned"):
        fit_direction(net, disc(8).operator)
    for name, value in (("samples", 0), ("unroll", 0), ("data", "web"), ("learning_rate", -1.0)):
        with pytest.raises(ValueError, match=name):
            fit_direction(net, A, **{name: value})  # type: ignore[arg-type]
    assert net.trained_for is None


def test_broken_numbers_end_it() -> None:
    net = DirectionNet(dim=2)
    found = fit_direction(net, disc(12).operator, samples=800, learning_rate=1e6)
    assert all(bool(p.isfinite().all()) for p in net.parameters())
    assert found.history
