"""A step divided into batches must be the step with one large batch."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tensornet.train import Recipe, fit
from tensornet.train.batches import Steps
from tensornet.train.module import TrainingModule

Make = Callable[..., Recipe]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("parity", "learning_curve"):
        monkeypatch.setattr(f"tensornet.train.report.{name}", lambda *_, **__: None)


def curve(out: Path) -> list[dict[str, float]]:
    with open(out / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    return [{k: float(v) for k, v in row.items() if k != "seconds"} for row in rows]


def test_exact_against_the_big_batch(
    recipe: Make, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[int] = []
    step = TrainingModule.training_step

    def counting(self: TrainingModule, batch: Any, batch_idx: int) -> torch.Tensor:
        parts.append(len(batch))
        return step(self, batch, batch_idx)

    monkeypatch.setattr(TrainingModule, "training_step", counting)
    blocks: dict[str, Any] = {"loss": {"stress": 0.5}, "optimizer": {"lr": 0.02}}
    ways: dict[str, dict[str, Any]] = {
        "big": {"batch_size": 6},
        "accumulate": {"batch_size": 2, "accumulate": 3},
        "edges": {"batch_size": 6, "max_edges": 300},
    }
    seen = {}
    for name, training in ways.items():
        parts.clear()
        fit(recipe(**blocks, training={"epochs": 3, **training}), folder / name)
        seen[name] = list(parts)
        state = torch.load(folder / name / "last.ckpt", weights_only=True)["model"]
        ways[name] = state
        for mine, theirs in zip(curve(folder / "big"), curve(folder / name), strict=True):
            assert mine == pytest.approx(theirs, rel=1e-12, abs=1e-12)
    assert set(seen["big"]) == {1}
    assert set(seen["accumulate"]) == {3}
    assert max(seen["edges"]) >= 2  # the last step of an epoch has half of the structures
    assert len(seen["big"]) == len(seen["accumulate"]) == len(seen["edges"]) == 6
    for name in ("accumulate", "edges"):
        for key, x in ways["big"].items():
            assert torch.allclose(x, ways[name][key], rtol=1e-12, atol=1e-12)


def test_a_network_and_its_optimizer_do_not_enlarge_rounding(recipe: Make, folder: Path) -> None:
    """Gradients of the first steps leave most of the bases of `soap` open."""
    model = {"name": "gaunt", "channels": 8, "radial_hidden": 8, "n_basis": 6}
    ways: dict[str, dict[str, Any]] = {
        "big": {"batch_size": 4},
        "accumulate": {"batch_size": 2, "accumulate": 2},
    }
    for name, training in ways.items():
        plan = recipe(model=model, training={"epochs": 6, **training}, optimizer={"lr": 0.01})
        fit(plan, folder / name)
    for mine, theirs in zip(curve(folder / "big"), curve(folder / "accumulate"), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-6)
    first = curve(folder / "big")[0]
    assert abs(mine["train_forces_rmse"] / first["train_forces_rmse"] - 1) > 1e-3


def test_a_step_that_forgets_a_batch_is_seen(
    recipe: Make, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = {"epochs": 2, "batch_size": 2, "accumulate": 3}
    fit(recipe(training=training), folder / "whole")
    make = Steps._make
    monkeypatch.setattr(Steps, "_make", lambda self, chosen: make(self, chosen)[1:])
    fit(recipe(training=training), folder / "less")
    assert curve(folder / "less")[-1] != pytest.approx(curve(folder / "whole")[-1], rel=1e-4)
