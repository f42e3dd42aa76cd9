import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tensornet
from tensornet.train import Interrupted, Recipe, RecipeError, TrainingError, fit
from tensornet.train.module import TrainingModule

Make = Callable[..., Recipe]
Same = Callable[[Path, Path], bool]


class KilledError(Exception):
    """Stands for whatever ends a process in the middle of an epoch."""


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than everything else here, and `test_fit` looks at it."""
    for name in ("parity", "learning_curve"):
        monkeypatch.setattr(f"tensornet.train.report.{name}", lambda *_, **__: None)


def dies_at(monkeypatch: pytest.MonkeyPatch, step: int, error: BaseException) -> None:
    original = TrainingModule.training_step

    def training_step(self: TrainingModule, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.step == step:
            raise error
        return original(self, batch, batch_idx)

    monkeypatch.setattr(TrainingModule, "training_step", training_step)


@pytest.mark.parametrize(
    ("schedule", "name"), [("cosine", "adamw"), ("plateau", "adamw"), ("cosine", "soap")]
)
def test_killed_and_resumed_is_uninterrupted(
    recipe: Make,
    folder: Path,
    same_bits: Same,
    monkeypatch: pytest.MonkeyPatch,
    schedule: str,
    name: str,
) -> None:
    settings = {"name": name, "schedule": schedule, "plateau_patience": 1, "lr": 0.05}
    plan = recipe(optimizer=settings)
    whole = fit(plan, folder / "whole")
    with monkeypatch.context() as patch:
        dies_at(
            patch, step=12, error=KilledError()
        )  # 5 steps in an epoch: in the middle of epoch 3
        with pytest.raises(KilledError):
            fit(plan, folder / "parts")
    assert torch.load(folder / "parts" / "last.ckpt", weights_only=True)["epoch"] == 2
    parts = fit(plan, folder / "parts", resume=True)
    assert same_bits(folder / "whole", folder / "parts")
    assert parts["valid"] == whole["valid"]
    tables = [(folder / name / "metrics.csv").read_text() for name in ("whole", "parts")]
    without_time = [[row.rsplit(",", 1)[0] for row in text.splitlines()] for text in tables]
    assert without_time[0] == without_time[1]
    assert len(without_time[0]) == 5


def test_random_numbers_go_on_where_they_stopped(
    recipe: Make, folder: Path, same_bits: Same, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TrainingModule.training_step

    def noisy(self: TrainingModule, batch: Any, batch_idx: int) -> torch.Tensor:
        return original(self, batch, batch_idx) * (0.5 + torch.rand(()))

    monkeypatch.setattr(TrainingModule, "training_step", noisy)
    plan = recipe()
    fit(plan, folder / "whole")
    with monkeypatch.context() as patch:
        dies_at(patch, step=12, error=KilledError())
        with pytest.raises(KilledError):
            fit(plan, folder / "parts")
    fit(plan, folder / "parts", resume=True)
    assert same_bits(folder / "whole", folder / "parts")


def test_other_seeds_give_other_weights(recipe: Make, folder: Path, same_bits: Same) -> None:
    # or else the comparison of bits above could not fail
    for seed in (1, 2):
        fit(recipe(training={"epochs": 1, "seed": seed}), folder / str(seed))
    assert not same_bits(folder / "1", folder / "2")


def test_killed_in_the_first_epoch_starts_again(
    recipe: Make, folder: Path, same_bits: Same, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = recipe(training={"epochs": 1})
    fit(plan, folder / "whole")
    with monkeypatch.context() as patch:
        dies_at(patch, step=3, error=KilledError())
        with pytest.raises(KilledError):
            fit(plan, folder / "parts")
    fit(plan, folder / "parts", resume=True)
    assert same_bits(folder / "whole", folder / "parts")


def test_disk_full_leaves_the_previous_checkpoint(
    recipe: Make, folder: Path, same_bits: Same, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = recipe()
    fit(plan, folder / "whole")
    replace, n = os.replace, [0]

    def full(source: Any, target: Any) -> None:
        n[0] += str(target).endswith("last.ckpt")
        if n[0] == 3 and str(target).endswith("last.ckpt"):
            raise OSError(28, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(TrainingError, match=r"Cannot write .*last.ckpt: No space left"):
            fit(plan, folder / "parts")
    assert torch.load(folder / "parts" / "last.ckpt", weights_only=True)["epoch"] == 2
    assert not [path for path in (folder / "parts").iterdir() if path.name.startswith(".")]
    fit(plan, folder / "parts", resume=True)
    assert same_bits(folder / "whole", folder / "parts")


def test_changed_settings_are_named(recipe: Make, folder: Path) -> None:
    out = folder / "out"
    fit(recipe(training={"epochs": 1}), out)
    changed = recipe(training={"epochs": 1, "seed": 9}, optimizer={"lr": 0.5})
    with pytest.raises(RecipeError, match=r"`optimizer.lr` was 0.005 and is 0.5, `training.seed`"):
        fit(changed, out, resume=True)
    with pytest.raises(RecipeError, match=r"`training.epochs` was 1 and is 2.*cosine"):
        fit(recipe(training={"epochs": 2}), out, resume=True)
    with (folder / "argon.extxyz").open("a") as file:
        file.write((folder / "test.extxyz").read_text())
    with pytest.raises(RecipeError, match=r"`data.train` \(other files, or other content\)"):
        fit(recipe(training={"epochs": 1}), out, resume=True)


def test_constant_schedule_may_grow(recipe: Make, folder: Path, same_bits: Same) -> None:
    constant = {"schedule": "constant"}
    fit(recipe(optimizer=constant, training={"epochs": 3}), folder / "whole")
    fit(recipe(optimizer=constant, training={"epochs": 1}), folder / "parts")
    fit(recipe(optimizer=constant, training={"epochs": 3}), folder / "parts", resume=True)
    assert same_bits(folder / "whole", folder / "parts")


def test_nothing_to_resume(recipe: Make, folder: Path) -> None:
    with pytest.raises(RecipeError, match="Cannot resume: there is no run"):
        fit(recipe(), folder / "out", resume=True)
    fit(recipe(training={"epochs": 1}), folder / "out")
    last = folder / "out" / "last.ckpt"
    for content in (b"PK\x03\x04 cut off", b"", b"\x80\x02)R.", b"\x80\x02}]s.", b"no checkpoint"):
        last.write_bytes(content)
        with pytest.raises(RecipeError, match="is no readable checkpoint"):
            fit(recipe(training={"epochs": 1}), folder / "out", resume=True)
    for state, message in (
        ([1], "is no checkpoint of tensornet"),
        ({"format": "tensornet.checkpoint"}, "has format version None"),
        ({"format": "tensornet.checkpoint", "format_version": 99}, "has format version 99"),
        ({"format": "tensornet.checkpoint", "format_version": 1}, "is without epoch, step, model"),
    ):
        torch.save(state, last)
        with pytest.raises(RecipeError, match=message):
            fit(recipe(training={"epochs": 1}), folder / "out", resume=True)


def test_interrupt_says_where_it_stopped_and_frees_the_signal(
    recipe: Make, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGINT)
    dies_at(monkeypatch, step=12, error=KeyboardInterrupt())
    with pytest.raises(Interrupted, match="Stopped after epoch 2"):
        fit(recipe(), folder / "out")
    assert signal.getsignal(signal.SIGINT) == before


def test_kill_and_ctrl_c_of_a_process(recipe: Make, folder: Path, same_bits: Same) -> None:
    plan = recipe(training={"epochs": 25, "batch_size": 1})
    (folder / "recipe.yaml").write_text(plan.to_yaml())
    runs = {name: start(folder, name) for name in ("killed", "interrupted")}
    for name, process in runs.items():
        wait_for_epochs(folder / name / "metrics.csv", process, n=3)
        process.send_signal(signal.SIGKILL if name == "killed" else signal.SIGINT)
    said = {name: process.communicate(timeout=60)[0] for name, process in runs.items()}
    assert runs["killed"].returncode == -signal.SIGKILL
    assert runs["interrupted"].returncode == 130, said["interrupted"]
    assert "--resume" in said["interrupted"].splitlines()[-1]
    assert "Traceback" not in said["interrupted"]
    fit(plan, folder / "whole")
    for name in runs:
        assert torch.load(folder / name / "last.ckpt", weights_only=True)["epoch"] < 25
        fit(plan, folder / name, resume=True)
        assert same_bits(folder / "whole", folder / name)


def start(folder: Path, name: str) -> "subprocess.Popen[str]":
    root = str(Path(tensornet.__file__).parents[1])
    command = [sys.executable, "-m", "tensornet", "train", "recipe.yaml", "--out", name]
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Background jobs inherit an ignored SIGINT, and would keep ignoring it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for_epochs(table: Path, process: "subprocess.Popen[str]", *, n: int) -> None:
    for _ in range(18000):
        if table.exists() and len(table.read_text().splitlines()) > n:
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    pytest.fail("the run did not get to its third epoch within three minutes")
