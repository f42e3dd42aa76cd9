"""Finite lattices: against direct sums over all replicas."""

import math

import pytest
import torch

from tensornet.functional.lattice import LatticeSum


def middle() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((1, 3), 0.5), torch.ones(1)


def test_two_thousand_three_hundred_and_four_charges() -> None:
    found = LatticeSum(*middle(), (1, 1, 1), (24, 24, 4), sigma=0.3, tolerance=2e-8)
    assert len(found.positions) == 2304
    low = found.long_range
    assert all(r <= most for r, most in zip(low.ranks, (18, 18, 12), strict=True))
    rng = torch.Generator().manual_seed(0)
    points = torch.rand(200, 3, generator=rng) * torch.tensor([24.0, 24.0, 4.0])
    r = (points[:, None] - found.positions).norm(dim=2)
    exact = (found.parts.long.value(r)).sum(1)
    error = float((low.value(points) - exact).abs().max() / exact.abs().max())
    assert error < 1e-7
    whole = float((found.potential(points) - (1 / r).sum(1)).abs().max())
    assert whole < 1.6e-6 * float((1 / r).sum(1).max())


def test_energy_and_gradient_of_a_salt() -> None:
    x = torch.cartesian_prod(*[torch.tensor([0.0, 0.5])] * 3) + 0.1
    q = 1 - 2 * (torch.round(2 * (x - 0.1)).sum(1) % 2)
    found = LatticeSum(x, q, (1, 1, 1), (3, 2, 4), tolerance=1e-9)
    r = (found.positions[:, None] - found.positions).norm(dim=2)
    r.fill_diagonal_(math.inf)
    exact = (found.charges / r).sum(1)
    assert (found.potentials - exact).abs().max() < 1e-8
    assert math.isclose(found.energy, 0.5 * float(found.charges @ exact), rel_tol=1e-9)
    points = torch.tensor([[0.31, 1.2, 3.9], [2.9, 0.05, 2.0]])
    d = points[:, None] - found.positions
    r = d.norm(dim=2)
    assert (found.potential(points) - (found.charges / r).sum(1)).abs().max() < 1e-8
    gradient = -((found.charges / r**3)[..., None] * d).sum(1)
    assert (found.gradient(points) - gradient).abs().max() < 1e-7


def test_results_are_detached() -> None:
    x, q = middle()
    found = LatticeSum(x.requires_grad_(), q.requires_grad_(), (1, 1, 1), (2, 1, 1))
    assert not found.energy.requires_grad
    points = torch.tensor([[0.4, 0.1, 0.2]], requires_grad=True)  # half a derivative would be wrong
    assert not found.potential(points).requires_grad
    assert not found.gradient(points).requires_grad


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"repeats": (1, 0, 1)}, "must be at least 1. Got 0"),
        ({"repeats": (1, 1)}, "must be three numbers"),
        ({"lengths": (1, -1, 1)}, "three positive lengths"),
        ({"lengths": (1, 1, 0.2)}, "Got 1 of 1 outside"),
        ({"tolerance": -1.0}, "at least zero. Got -1.0"),
    ],
)
def test_wrong_input(change: dict[str, object], words: str) -> None:
    x, q = middle()
    given: dict[str, object] = {"lengths": (1, 1, 1), "repeats": (2, 1, 1)}
    with pytest.raises(ValueError, match=words):
        LatticeSum(x.double(), q.double(), **{**given, **change})  # type: ignore[arg-type]


def test_charges_that_meet_at_faces() -> None:
    x = torch.tensor([[0.0, 0.5, 0.5], [1.0, 0.5, 0.5]])
    with pytest.raises(ValueError, match="opposite faces"):
        LatticeSum(x, torch.ones(2), (1, 1, 1), (2, 1, 1))
    with pytest.raises(TypeError, match=r"must be torch.float64"):
        LatticeSum(x.float(), torch.ones(2).float(), (1, 1, 1), (2, 1, 1))
