"""Several processes must train as one does."""

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tensornet.train import Recipe, TrainingError, fit
from tensornet.train.processes import add_up, gather, is_main, share, size

Make = Callable[..., Recipe]
SCRIPT = """
import sys, torch
import tensornet.train.report as report
from tensornet.train import fit, load_recipe
from tensornet.train.module import TrainingModule

torch.set_num_threads(1)
report.parity = report.learning_curve = lambda *_, **__: None
recipe, out, dies, resume = sys.argv[1:]
step = TrainingModule.training_step

def training_step(self, batch, batch_idx):
    if self.step == int(dies):
        raise SystemExit(7)
    return step(self, batch, batch_idx)

TrainingModule.training_step = training_step
fit(load_recipe(recipe, ()), out, resume=resume == "yes")
"""


def test_processes_that_nobody_started(
    recipe: Make, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(
        TrainingError, match=r"cannot join: .*RANK expected.*Start them by torchrun"
    ):
        fit(recipe(), folder / "out")
    assert not (folder / "out").exists()


def together(
    folder: Path, out: str, *, dies: int = -1, resume: bool = False
) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text(SCRIPT)
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    given = ["script.py", "recipe.yaml", out, str(dies), "yes" if resume else "no"]
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        [*words, *given],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def history(out: Path) -> list[dict[str, float]]:
    with open(out / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    return [{k: float(v) for k, v in row.items() if k != "seconds"} for row in rows]


def test_two_processes_train_as_one(
    recipe: Make, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("parity", "learning_curve"):
        monkeypatch.setattr(f"tensornet.train.report.{name}", lambda *_, **__: None)
    # 9 frames in batches of 4: of the last batch the second process has no share
    plan = recipe(
        training={"epochs": 3, "batch_size": 4, "dtype": "float64"},
        loss={"stress": 0.5},
        optimizer={"lr": 0.02},
    )
    training = plan.training.model_copy(update={"max_edges": 200, "workers": 1})
    data = plan.data.model_copy(update={"cache": folder / "kept"})  # one of them makes it
    shared = plan.model_copy(update={"training": training, "data": data})
    (folder / "recipe.yaml").write_text(shared.to_yaml())
    fit(plan, folder / "one")
    run = together(folder, "two")
    assert run.returncode == 0, run.stderr[-3000:]
    for mine, theirs in zip(history(folder / "one"), history(folder / "two"), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-9, abs=1e-9)
    stopped = together(folder, "parts", dies=4)
    assert stopped.returncode != 0
    assert len(history(folder / "parts")) == 1
    again = together(folder, "parts", resume=True)
    assert again.returncode == 0, again.stderr[-3000:]
    assert history(folder / "parts") == history(folder / "two")
    weights = [
        torch.load(folder / name / "last.ckpt", weights_only=True)["model"]
        for name in ("two", "parts")
    ]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.slow
def test_two_processes_train_a_network_as_one(recipe: Make, folder: Path) -> None:
    plan = recipe(
        model={"name": "gaunt", "channels": 8, "radial_hidden": 8, "n_basis": 6},
        training={"epochs": 6, "batch_size": 4, "dtype": "float64"},
        optimizer={"lr": 0.01},
    )
    (folder / "recipe.yaml").write_text(plan.to_yaml())
    fit(plan, folder / "one")
    run = together(folder, "two")
    assert run.returncode == 0, run.stderr[-3000:]
    for mine, theirs in zip(history(folder / "one"), history(folder / "two"), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-6)


def test_alone() -> None:
    assert (size(), is_main(), gather(3)) == (1, True, [3])
    (x,) = add_up([torch.tensor([1.0, 2.0], requires_grad=True)])
    assert x.tolist() == [1.0, 2.0]
    assert not x.requires_grad


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_shares_are_even_and_whole(parts: int) -> None:
    weights = torch.randint(1, 50, (20,)).tolist()
    items = list(range(100, 120))
    shares = [share(items, weights, k, parts) for k in range(parts)]
    assert sorted(k for mine in shares for k in mine) == items
    loads = [sum(weights[k - 100] for k in mine) for mine in shares]
    assert max(loads) - min(loads) <= max(weights)
