"""Distances that stop falling below what was seen."""

import pytest
import torch
from scipy.integrate import quad

from tensornet.layers import ZBL, level_out
from tensornet.layers.radial import FLAT


def slope(t: float) -> float:
    """The smoothstep whose integral it is."""
    t = min(max(t, 0.0), 1.0)
    return 35 * t**4 - 84 * t**5 + 70 * t**6 - 20 * t**7


@pytest.mark.parametrize("d", [0.2, 0.9, 1.0, 1.07, 1.15, 1.2, 2.0])
def test_is_the_integral_of_its_slope(d: float) -> None:
    start = 1.2
    width = (1 - FLAT) * start
    fall = (
        quad(lambda x: slope((x - FLAT * start) / width), d, start)[0] if d < start else start - d
    )
    out = level_out(torch.tensor([d]), torch.tensor([start]))
    assert out.item() == pytest.approx(start - fall, abs=1e-9)


def test_above_it_is_the_distance_bit_by_bit() -> None:
    d = torch.rand(100) + 1
    assert torch.equal(level_out(d, torch.ones(100)), d)
    assert torch.equal(level_out(d - 1, torch.zeros(100)), d - 1)


def test_derivatives() -> None:
    d = torch.tensor([0.3, 0.8, 0.9, 0.97, 1.4], requires_grad=True)
    start = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0])

    def call(x: torch.Tensor) -> torch.Tensor:
        return level_out(x, start)

    assert torch.autograd.gradcheck(call, d, rtol=1e-6, atol=1e-8)
    assert torch.autograd.gradgradcheck(call, d, rtol=1e-6, atol=1e-8)


def test_four_derivatives_have_no_jump() -> None:
    step = 1e-4
    for end in (FLAT, 1.0):
        sides = []
        for sign in (-1, 1):
            x = torch.tensor([end + sign * step], requires_grad=True)
            y, values = level_out(x, torch.ones(1)), []
            for _ in range(4):
                (y,) = torch.autograd.grad(y.sum(), x, create_graph=True)
                values.append(y.detach())
            sides.append(torch.cat(values))
        jump = (sides[0] - sides[1]).abs()
        # The fourth falls to zero along a line, the third along a parabola, and so on.
        assert bool((jump < torch.tensor([1e-9, 1e-6, 1e-2, 60.0])).all())
        assert sides[0][0].item() == pytest.approx(float(end == 1.0), abs=1e-9)


def test_pairs_repel_as_far_as_they_level_out() -> None:
    zbl = ZBL((1,)).double()
    edges, species = torch.tensor([[0, 1], [1, 0]]), torch.zeros(2, dtype=torch.int64)

    def energy(d: float, reach: float | None) -> float:
        distance = torch.full((2,), d, dtype=torch.float64)
        far = None if reach is None else torch.full((1, 1), reach, dtype=torch.float64)
        return float(zbl(species, edges, distance, far).sum())

    assert energy(0.8, None) == 0
    assert energy(0.8, 1.2) > 0.1
    assert energy(0.8, 0.1) == 0  # not closer than the radii
    assert energy(1.2, 1.2) == 0
