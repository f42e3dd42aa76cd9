"""Training from shards on disk must be training from memory."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import pytest
import torch
from typer.testing import CliRunner

from tensornet.__main__ import app
from tensornet.datasets import ShardDataset, ShardWriter
from tensornet.train import Recipe, RecipeError, TrainingError, fit, prepare_cache
from tensornet.train.module import TrainingModule
from tensornet.train.prepare import prepare

Make = Callable[..., Recipe]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("parity", "learning_curve"):
        monkeypatch.setattr(f"tensornet.train.report.{name}", lambda *_, **__: None)


def history(out: Path) -> list[dict[str, float]]:
    with open(out / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    return [{k: float(v) for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.mark.parametrize("edges", [True, False])
def test_the_same_curve_as_from_memory(recipe: Make, folder: Path, edges: bool) -> None:
    blocks: dict[str, Any] = {
        "loss": {"stress": 0.5, "groups": {"odd": 0.3}},
        "training": {"epochs": 2, "batch_size": 4, "dtype": "float64"},
    }
    data = {"test": "test.extxyz", "reference_energies": "fit"}
    memory = fit(recipe(**blocks, data=data), folder / "memory")
    stored = recipe(**blocks, data={**data, "cache": "kept", "cache_edges": edges})
    disk = fit(stored, folder / "disk")  # makes the cache
    assert isinstance(prepare(stored).graphs["train"], ShardDataset)
    for mine, theirs in zip(history(folder / "memory"), history(folder / "disk"), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-10, abs=1e-10)
    for split in ("train", "valid", "test"):
        assert disk[split]["forces_rmse"] == pytest.approx(memory[split]["forces_rmse"], rel=1e-9)
        assert set(disk[split]["groups"]) == {"even", "odd"}
    for key in ("data", "labels", "structures"):
        assert disk["provenance"][key] == memory["provenance"][key]
    unweighted = fit(recipe(**{**blocks, "loss": {"stress": 0.5}}, data=data), folder / "plain")
    assert unweighted["valid"]["forces_rmse"] != pytest.approx(
        memory["valid"]["forces_rmse"], rel=1e-4
    )


def test_resumes_from_disk_inside_a_pass(
    recipe: Make,
    folder: Path,
    same_bits: Callable[[Path, Path], bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = {"epochs": 4, "batch_size": 2, "steps_per_epoch": 3, "workers": 1}
    plan = recipe(data={"cache": "kept"}, training=settings)
    whole = fit(plan, folder / "whole")
    assert [row["step"] for row in history(folder / "whole")] == [3, 6, 9, 12]
    assert whole["speed"]["steps"] == 12
    step = TrainingModule.training_step

    def killed(self: TrainingModule, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.step == 7:
            raise RuntimeError("killed")
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", killed)
        with pytest.raises(RuntimeError, match="killed"):
            fit(plan, folder / "parts")
    fit(plan, folder / "parts", resume=True)
    assert same_bits(folder / "whole", folder / "parts")


def test_what_changed_is_noticed(recipe: Make, folder: Path) -> None:
    plan = recipe(data={"cache": "kept"})
    cache = prepare_cache(plan)
    assert {name: len(data) for name, data in cache.splits.items()} == {"train": 9, "valid": 3}
    with pytest.raises(RecipeError, match="kept is there already"):
        prepare_cache(plan)
    prepare(plan)
    for changes, message in (
        ({"model": {"cutoff": 3.5}}, "`model.cutoff` was 4.0 and is 3.5"),
        ({"data": {"valid": 4}}, "`data.valid` was 3 and is 4"),
        ({"data": {"split_seed": 5}}, "`data.split_seed` was 0 and is 5"),
        ({"data": {"reference_energies": "fit"}}, "`data.reference_energies` was"),
        ({"data": {"test": "test.extxyz"}}, r"`data.test` \(other files"),
        ({"data": {"keys": {"energy": "energy"}}}, "`data.keys` was"),
    ):
        blocks = {**changes, "data": {"cache": "kept", **changes.get("data", {})}}
        with pytest.raises(RecipeError, match=f"made otherwise: {message}"):
            prepare(recipe(**blocks))
    source = folder / "argon.extxyz"
    os.utime(source, ns=(1, 1))  # the same content at another time
    prepare(plan)
    content = source.read_text()
    source.write_text(content.replace("0.1", "0.2", 1))
    with pytest.raises(RecipeError, match=r"`data.train` \(other files, or other content\)"):
        prepare(plan)
    again = prepare_cache(plan, overwrite=True)
    assert len(again.splits["train"]) == 9
    prepare(plan)
    source.unlink()
    prepare(plan)  # the cache stands for what is gone
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_nothing_half_is_left(recipe: Make, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = recipe(data={"cache": "kept"})
    before = sorted(folder.iterdir())
    add = ShardWriter.add

    def stops(error: BaseException) -> Callable[..., None]:
        def adds(self: ShardWriter, *frame: Any) -> None:
            add(self, *frame)
            if len(self._rows) == 5:
                raise error

        return adds

    for error, expected in (
        (KeyboardInterrupt(), KeyboardInterrupt),
        (OSError(28, "No space left on device"), TrainingError),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(ShardWriter, "add", stops(error))
            with pytest.raises(expected):
                prepare_cache(plan)
        assert sorted(folder.iterdir()) == before
    prepare_cache(plan)
    whole = (folder / "kept" / "cache.json").read_text()
    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "add", stops(OSError(28, "No space left on device")))
        with pytest.raises(TrainingError, match="No space left"):
            prepare_cache(plan, overwrite=True)
    assert (folder / "kept" / "cache.json").read_text() == whole
    (folder / "kept" / "train" / "000000.safetensors").unlink()
    with pytest.raises(RecipeError, match=r"000000.safetensors is missing"):
        prepare(plan)
    damaged = {key: value for key, value in json.loads(whole).items() if key != "files"}
    for text in ("{", "[]", json.dumps(damaged), json.dumps(damaged | {"files": 1})):
        (folder / "kept" / "cache.json").write_text(text)
        with pytest.raises(RecipeError, match="must be a folder of tensornet"):
            prepare(plan)
    (folder / "mine").mkdir()
    (folder / "mine" / "notes").write_text("keep")
    with pytest.raises(RecipeError, match="holds other files"):
        prepare_cache(recipe(data={"cache": "mine"}), overwrite=True)


@pytest.mark.slow
def test_a_kill_leaves_no_cache_and_the_next_run_cleans_up(recipe: Make, folder: Path) -> None:
    plan = recipe(data={"cache": "kept"})
    (folder / "recipe.yaml").write_text(plan.to_yaml())
    script = """
import os, signal, sys
from tensornet.datasets import ShardWriter
from tensornet.train import load_recipe, prepare_cache
close = ShardWriter.close
def dies(self, **words):
    close(self, **words)
    os.kill(os.getpid(), signal.SIGKILL)
ShardWriter.close = dies
prepare_cache(load_recipe("recipe.yaml"))
"""
    root = str(Path(__file__).parents[2])
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": root},
        check=False,
    )
    assert run.returncode == -signal.SIGKILL
    assert not (folder / "kept").exists()
    assert len([p for p in folder.iterdir() if p.name.startswith(".kept.")]) == 1
    prepare_cache(plan)
    assert not [p for p in folder.iterdir() if p.name.startswith(".kept.")]


def test_bad_data_are_named(recipe: Make, folder: Path) -> None:
    frames = ase.io.read(folder / "argon.extxyz", ":")
    assert isinstance(frames, list)
    frames[4].positions[1] = frames[4].positions[0]
    ase.io.write(folder / "argon.extxyz", frames)
    with pytest.raises(RecipeError, match=r"`data.train`: No graph for frame 4 .*same place"):
        prepare_cache(recipe(data={"cache": "kept"}))
    ase.io.write(folder / "argon.extxyz", frames[:3])
    with pytest.raises(RecipeError, match="leaves none to train"):
        prepare_cache(recipe(data={"cache": "kept"}))
    with pytest.raises(RecipeError, match=r"`data.cache` must name a folder"):
        prepare_cache(recipe())


def test_command(recipe: Make, folder: Path) -> None:
    (folder / "recipe.yaml").write_text(recipe().to_yaml())
    words = ["prepare", str(folder / "recipe.yaml"), f"data.cache={folder / 'kept'}"]
    said = CliRunner().invoke(app, words)
    assert said.exit_code == 0, said.output
    assert "train: 9 structures, 36 atoms" in said.output
    assert CliRunner().invoke(app, words).exit_code == 2
    assert CliRunner().invoke(app, [*words, "--overwrite"]).exit_code == 0
    assert json.loads((folder / "kept" / "cache.json").read_text())["splits"] == ["train", "valid"]


MEMORY = """
import sys
from pathlib import Path
import tensornet.datasets.writer, tensornet.train.prepare, tensornet.train.report as report
from tensornet.train import fit, load_recipe
report.parity = report.learning_curve = lambda *_, **__: None
tensornet.train.prepare.MEASURED = 50
tensornet.datasets.writer.ShardWriter.__init__.__kwdefaults__["shard_bytes"] = 2**18
fit(load_recipe(sys.argv[1]), sys.argv[2])
# Not ru_maxrss, which a process has from the one that started it.
status = Path("/proc/self/status").read_text().split()
print(status[status.index("VmHWM:") + 1])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the peak of memory")
def test_memory_of_training_does_not_grow(recipe: Make, folder: Path) -> None:
    frames = ase.io.read(folder / "argon.extxyz", ":")
    assert isinstance(frames, list)
    grown = {}
    for cache in (None, "kept"):
        peaks = []
        for copies in (30, 300):
            ase.io.write(folder / f"{copies}.extxyz", frames * copies)
            data = {"train": f"{copies}.extxyz", "valid": "test.extxyz"}
            if cache is not None:
                data["cache"] = f"{cache}-{copies}"
            plan = recipe(data=data, training={"epochs": 1, "batch_size": 64})
            (folder / "recipe.yaml").write_text(plan.to_yaml())
            run = subprocess.run(
                [sys.executable, "-c", MEMORY, "recipe.yaml", f"out-{copies}-{cache}"],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
                capture_output=True,
                text=True,
                check=True,
            )
            peaks.append(int(run.stdout) / 1024)
        grown[cache] = peaks[1] - peaks[0]
    assert grown[None] > 20  # MiB: 3240 structures more, in memory
    assert grown["kept"] < 0.3 * grown[None]
