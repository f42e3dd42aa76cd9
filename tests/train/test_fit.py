import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
import yaml
from ase import Atoms

from tensornet.models import load
from tensornet.train import Recipe, RecipeError, TrainingError, fit, load_recipe

Make = Callable[..., Recipe]
KEYS = {
    *("energy_mae", "energy_rmse", "energy_total_rmse", "forces_mae", "forces_rmse"),
    *("stress_rmse", "n_structures", "n_atoms"),
    *("forces_rmse_molecules", "forces_cosine", "ewt", "efwt"),
}


def test_training_finds_the_parameters_again(recipe: Make, folder: Path) -> None:
    plan = recipe(
        training={"epochs": 60, "batch_size": 3, "ema": 0},
        optimizer={"lr": 0.01, "weight_decay": 0},
        loss={"stress": 1.0},
    )
    results = fit(plan, folder / "out")
    model = load(folder / "out" / "model.safetensors")
    found = dict(model.named_parameters())
    assert float(found["epsilon"].detach()) == pytest.approx(0.02, rel=1e-3)
    assert float(found["sigma"].detach()) == pytest.approx(2.45, rel=1e-4)
    assert results["valid"]["forces_rmse"] < 1


@pytest.fixture(autouse=True)
def no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than everything else here; one test looks at it."""
    if "is_picture" not in request.fixturenames:
        for name in ("parity", "learning_curve"):
            monkeypatch.setattr(f"tensornet.train.report.{name}", lambda *_, **__: None)


def test_folder_has_what_is_promised(
    recipe: Make, folder: Path, is_picture: Callable[[Path], bool]
) -> None:
    out = folder / "new" / "out"
    results = fit(recipe(data={"test": "test.extxyz"}, training={"loggers": "csv"}), out)
    names = {path.name for path in out.iterdir()}
    assert names == {
        *("model.safetensors", "last.ckpt", "metrics.csv", "metrics.json", "recipe.yaml"),
        *("parity.png", "learning_curve.png", "logs"),
    }
    assert is_picture(out / "parity.png")
    assert is_picture(out / "learning_curve.png")
    assert results == json.loads((out / "metrics.json").read_text())
    for split, n in (("train", 9), ("valid", 3), ("test", 4)):
        assert set(results[split]) - {"groups"} == KEYS
        assert results[split]["n_structures"] == n
    assert results["model"]["n_parameters"] == 2
    assert results["speed"]["steps"] == 4 * 5
    files = {file["split"]: file["sha256"] for file in results["provenance"]["data"]}
    assert set(files) == {"train", "test"}
    assert all(len(sha) == 64 for sha in files.values())
    rows = list(csv.DictReader((out / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert load_recipe(out / "recipe.yaml").training.epochs == 4
    assert yaml.safe_load((out / "recipe.yaml").read_text())["optimizer"]["name"] == "soap"
    model = load(out / "model.safetensors")
    assert model.provenance["metrics"]["test"]["forces_rmse"] == results["test"]["forces_rmse"]
    assert model.provenance["example"]["numbers"] == [18, 18, 18, 18]


def test_best_model_has_the_averaged_weights_of_the_best_epoch(recipe: Make, folder: Path) -> None:
    plan = recipe(training={"epochs": 3, "ema": 0.5})
    results = fit(plan, folder / "out")
    rows = list(csv.DictReader((folder / "out" / "metrics.csv").read_text().splitlines()))
    best = min(rows, key=lambda row: float(row["valid_loss"]))
    assert results["provenance"]["best_epoch"] == int(best["epoch"])
    # the errors of the file are those that validation saw
    assert results["valid"]["forces_rmse"] == pytest.approx(
        float(best["valid_forces_rmse"]), rel=1e-9
    )
    assert results["valid"]["energy_rmse"] == pytest.approx(
        float(best["valid_energy_rmse"]), rel=1e-9
    )
    if best is rows[-1]:
        state = torch.load(folder / "out" / "last.ckpt", weights_only=True)
        saved = [p.detach() for p in load(folder / "out" / "model.safetensors").parameters()]
        assert all(
            torch.equal(a, b) for a, b in zip(saved, state["average"]["average"], strict=True)
        )
        assert not torch.equal(saved[1], state["model"]["sigma"])


def test_float32_trains_and_energies_stay_float64(recipe: Make, folder: Path) -> None:
    fit(recipe(training={"dtype": "float32", "epochs": 1}), folder / "out")
    model = load(folder / "out" / "model.safetensors")
    assert model.dtype == torch.float32
    assert model.reference.dtype == torch.float64


def test_the_network_trains_on_energies_forces_and_stress(recipe: Make, folder: Path) -> None:
    sizes = {"l_max": 1, "channels": 16, "layers": 1, "n_basis": 8, "radial_hidden": 32}
    plan = recipe(
        model={"name": "tdn", **sizes},
        loss={"stress": 0.1},
        data={"test": "test.extxyz", "reference_energies": "fit"},
        training={"dtype": "float32", "epochs": 10, "ema": 0},
        optimizer={"lr": 0.01},
    )
    results = fit(plan, folder / "out")
    rows = list(csv.DictReader((folder / "out" / "metrics.csv").read_text().splitlines()))
    assert float(rows[-1]["train_loss"]) < 0.5 * float(rows[0]["train_loss"])
    for key in ("energy_rmse", "forces_rmse", "stress_rmse"):
        assert results["test"][key] > 0
    model = load(folder / "out" / "model.safetensors")
    assert model.config["name"] == "tdn"


def test_early_stopping_stops(recipe: Make, folder: Path) -> None:
    # a learning rate too small to change anything: no epoch is better than the first
    plan = recipe(
        training={"epochs": 50, "early_stopping": 3, "ema": 0},
        optimizer={"lr": 1e-30, "weight_decay": 0, "schedule": "constant"},
    )
    results = fit(plan, folder / "out")
    assert results["speed"]["epochs"] == 4
    again = fit(plan, folder / "out", resume=True)
    assert again["speed"]["epochs"] == 4


def test_filled_folder_is_refused_or_overwritten(recipe: Make, folder: Path) -> None:
    out = folder / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    (out / "last.ckpt").write_text("old")
    with pytest.raises(RecipeError, match="is not empty"):
        fit(recipe(), out)
    assert (out / "last.ckpt").read_text() == "old"
    fit(recipe(training={"epochs": 1}), out, overwrite=True)
    assert (out / "notes.txt").read_text() == "mine"
    assert (out / "last.ckpt").stat().st_size > 100


def test_nan_stops_and_keeps_the_last_good_checkpoint(
    recipe: Make, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensornet.train.loss import Loss

    total, calls = Loss.total, [0]

    def breaking(self: Loss, sums: Any) -> torch.Tensor:
        calls[0] += 1
        value = total(self, sums)
        return value * float("nan") if calls[0] > 12 else value

    monkeypatch.setattr(Loss, "total", breaking)
    with pytest.raises(TrainingError, match=r"loss became nan in epoch 2 .*last good checkpoint"):
        fit(recipe(), folder / "out")
    state = torch.load(folder / "out" / "last.ckpt", weights_only=True)
    assert state["epoch"] == 1
    assert all(x.isfinite().all() for x in state["model"].values())
    load(folder / "out" / "model.safetensors")


def frames(folder: Path, change: Callable[[Atoms, int], None]) -> str:
    changed = ase.io.read(folder / "argon.extxyz", ":")
    assert isinstance(changed, list)
    for k, atoms in enumerate(changed):
        change(atoms, k)
    ase.io.write(folder / "changed.extxyz", changed)
    return "changed.extxyz"


def without_forces(atoms: Atoms, k: int) -> None:
    del atoms.calc.results["forces"]


def without_stress(atoms: Atoms, k: int) -> None:
    del atoms.calc.results["stress"]


def open_box(atoms: Atoms, k: int) -> None:
    without_stress(atoms, k)
    atoms.pbc = False


def not_a_number(atoms: Atoms, k: int) -> None:
    if k == 5:
        atoms.calc.results["forces"][2, 1] = np.nan


def neon(atoms: Atoms, k: int) -> None:
    atoms.numbers[0] = 10


@pytest.mark.parametrize(
    ("change", "blocks", "message"),
    [
        (without_forces, {}, r"`loss.forces` is 1, but none .* forces labels.*loss: {forces: 0}"),
        (without_stress, {"loss": {"stress": 1}}, r"`loss.stress` is 1, but none .* stress labels"),
        (open_box, {"loss": {"stress": 1}}, r"`loss.stress` is 1, but no train frame is periodic"),
        (not_a_number, {}, r"forces on atom 2 \(Ar\) in frame 5 .* must be finite"),
    ],
)
def test_bad_labels(
    recipe: Make,
    folder: Path,
    change: Callable[[Atoms, int], None],
    blocks: dict[str, Any],
    message: str,
) -> None:
    plan = recipe(**blocks, data={"train": frames(folder, change)})
    with pytest.raises(RecipeError, match=message) as error:
        fit(plan, folder / "out")
    assert "\n" not in str(error.value)
    assert not (folder / "out").exists()


def test_frames_without_forces_train_on_energies(recipe: Make, folder: Path) -> None:
    data = {"train": frames(folder, without_forces)}
    results = fit(recipe(data=data, loss={"forces": 0}), folder / "out")
    assert results["train"]["forces_rmse"] is None
    assert results["train"]["energy_rmse"] > 0


def test_some_frames_without_forces_are_masked(recipe: Make, folder: Path) -> None:
    def some(atoms: Atoms, k: int) -> None:
        if k % 2:
            without_forces(atoms, k)

    results = fit(recipe(data={"train": frames(folder, some)}), folder / "out")
    assert results["train"]["forces_rmse"] > 0


def test_one_frame_cannot_be_split(recipe: Make, folder: Path) -> None:
    ase.io.write(folder / "one.extxyz", ase.io.read(folder / "argon.extxyz"))
    for valid in (0.1, 1):
        with pytest.raises(RecipeError, match=r"takes 1 of 1 training frame"):
            fit(recipe(data={"train": "one.extxyz", "valid": valid}), folder / "out")


def test_elements_unseen_in_training_are_named(recipe: Make, folder: Path) -> None:
    data = {"valid": frames(folder, neon)}
    with pytest.raises(RecipeError, match="The valid frames hold Ne, which no training frame"):
        fit(recipe(data=data), folder / "out")


def test_a_recipe_that_was_not_read(folder: Path) -> None:
    with pytest.raises(TypeError, match=r"`fit.recipe=...\)` must be a Recipe. Got 'recipe.yaml'"):
        fit("recipe.yaml", folder / "out")  # type: ignore[arg-type]


def test_missing_file_and_device(recipe: Make, folder: Path) -> None:
    with pytest.raises(RecipeError, match=r"`data.test`: .*nothing.extxyz"):
        fit(recipe(data={"test": "nothing.extxyz"}), folder / "out")
    with pytest.raises(RecipeError, match=r"`data.keys` must be among energy.* Got energi"):
        fit(recipe(data={"keys": {"energi": "E"}}), folder / "out")
    with pytest.raises(RecipeError, match="The device cuda:99 is not there"):
        fit(recipe(training={"device": "cuda:99"}), folder / "out")


def test_batch_larger_than_the_data(recipe: Make, folder: Path) -> None:
    results = fit(recipe(training={"batch_size": 1000, "epochs": 1}), folder / "out")
    assert results["speed"]["steps"] == 1


def test_a_failure_before_the_first_epoch_leaves_no_folder(
    recipe: Make, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = recipe(optimizer={"lr": 1e30, "clip": 0, "warmup_epochs": 0, "schedule": "constant"})
    with pytest.raises(TrainingError, match=r"became \w+ in epoch 1 .*outliers in the data\.\)$"):
        fit(plan, folder / "new" / "out")
    assert not (folder / "new").exists()
    (folder / "mine").mkdir()
    (folder / "mine" / "logs").write_text("not yours")  # a name of ours
    with pytest.raises(RecipeError, match="not empty"):
        fit(plan, folder / "mine")
    assert (folder / "mine" / "logs").exists()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(TrainingError, match=r"Cannot write .*recipe.yaml: No space left"):
        fit(recipe(), folder / "out")
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
        MemoryError(),
    ],
)
def test_too_little_memory_is_said(
    recipe: Make, folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr("tensornet.train.module.TrainingModule.training_step", fails)
    with pytest.raises(TrainingError, match=r"There is not enough memory. .Lower `training.max"):
        fit(recipe(), folder / "out")
    assert not (folder / "out").exists()


@pytest.mark.parametrize("how", ["overwrite", "resume"])
def test_a_folder_that_is_no_run_is_not_touched(recipe: Make, folder: Path, how: str) -> None:
    (folder / "recipe.yaml").write_text("# mine")
    (folder / "logs").mkdir()
    before = sorted(folder.iterdir())
    with pytest.raises(RecipeError, match=r"no run to overwrite|there is no run in"):
        fit(recipe(), folder, **{how: True})
    assert sorted(folder.iterdir()) == before
    assert (folder / "recipe.yaml").read_text() == "# mine"


@pytest.mark.parametrize("name", ["argon.extxyz/out", "x" * 300])
def test_folders_that_cannot_be_made(recipe: Make, folder: Path, name: str) -> None:
    with pytest.raises(RecipeError, match=r"The output folder .* cannot be"):
        fit(recipe(), folder / name)


def test_what_a_kill_left_half_written_is_removed(recipe: Make, folder: Path) -> None:
    out = folder / "out"
    fit(recipe(training={"epochs": 1}), out)
    (out / ".last.ckpt.abc123").write_bytes(b"half")
    (out / ".mine").write_bytes(b"whole")
    (out / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(RecipeError, match=r"Cannot report: .*whole model file"):
        fit(recipe(training={"epochs": 1}), out, resume=True)
    assert (out / "last.ckpt").exists()
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == [".mine"]
