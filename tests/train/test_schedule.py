import math

import pytest
import torch

from tensornet.train.average import WeightAverage
from tensornet.train.recipe import OptimizerBlock
from tensornet.train.schedule import Schedule


def test_warmup_then_cosine_by_hand() -> None:
    settings = OptimizerBlock(lr=0.2, warmup_epochs=0.5, final_factor=0.1)
    schedule = Schedule(settings, steps_per_epoch=10, epochs=3)
    assert [schedule.lr(k) for k in range(5)] == pytest.approx([0.04, 0.08, 0.12, 0.16, 0.2])
    assert schedule.lr(5) == pytest.approx(0.2, rel=1e-12)
    middle = 0.2 * (0.1 + 0.9 * (1 + math.cos(math.pi * 10 / 25)) / 2)
    assert schedule.lr(15) == pytest.approx(middle, rel=1e-12)
    assert schedule.lr(30) == pytest.approx(0.02, rel=1e-12)
    assert schedule.lr(99) == pytest.approx(0.02, rel=1e-12)


def test_plateau_drops_after_its_patience() -> None:
    settings = OptimizerBlock(
        lr=1.0, schedule="plateau", warmup_epochs=0, plateau_factor=0.5, plateau_patience=2
    )
    schedule = Schedule(settings, steps_per_epoch=1, epochs=9)
    rates = []
    for loss in (3.0, 2.0, 2.5, 2.5, 2.5, 1.0, 1.5, 1.5):
        schedule.observe(loss)
        rates.append(schedule.lr(0))
    assert rates == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25]
    other = Schedule(settings, steps_per_epoch=1, epochs=9)
    other.load_state_dict(schedule.state_dict())
    assert other == schedule


def test_constant_schedule_is_constant() -> None:
    settings = OptimizerBlock(lr=0.3, schedule="constant", warmup_epochs=0)
    schedule = Schedule(settings, steps_per_epoch=3, epochs=2)
    assert {schedule.lr(k) for k in range(10)} == {0.3}


def test_average_tends_to_constant_weights_and_swaps_back() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    average = WeightAverage([weight], decay=0.9)
    with torch.no_grad():
        weight.fill_(5.0)
    expected = torch.tensor([1.0, 2.0])
    for n in range(1, 200):
        average.update()
        keep = min(0.9, (1 + n) / (10 + n))
        expected = keep * expected + (1 - keep) * 5.0
    assert torch.allclose(average.average[0], expected, rtol=1e-12)
    average.swap()
    assert torch.equal(weight.detach(), average.average[0] * 0 + weight.detach())
    assert torch.allclose(weight.detach(), expected, rtol=1e-12)
    average.swap()
    assert weight.tolist() == [5.0, 5.0]


def test_no_average_changes_nothing() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    average = WeightAverage([weight], decay=0.0)
    average.update()
    average.swap()
    assert weight.tolist() == [1.0, 1.0]
