import json
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from typer.testing import CliRunner, Result

from tensornet import __version__
from tensornet.__main__ import app
from tensornet.models import build, save

RECIPE = """\
model: {name: lennard_jones, cutoff: 4.0}
data: {train: argon.extxyz, valid: 0.25}
training: {epochs: 2, progress: false}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a recipe, labelled argon crystals and a model of argon."""
    rng = np.random.default_rng(2718)
    frames = []
    for _ in range(8):
        atoms = bulk("Ar", a=4.0, cubic=True)
        atoms.positions += rng.normal(scale=0.1, size=(4, 3))
        forces = rng.normal(size=(4, 3))
        atoms.calc = SinglePointCalculator(atoms, energy=rng.normal(), forces=forces)
        frames.append(atoms)
    ase.io.write(tmp_path / "argon.extxyz", frames)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    argon = build({"name": "lennard_jones"}, elements=[18], reference_energies={18: 0.0})
    save(argon, tmp_path / "argon.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def one_line(result: Result) -> str:
    """The error of a call that must have failed for its input, in one line and without trace."""
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_train_evaluate_resume(folder: Path) -> None:
    first = run("train", "recipe.yaml", "training.batch_size=3", "--out", "out")
    assert first.exit_code == 0, first.output
    assert "8 structures of 4 atoms" in first.stderr  # what was read
    assert "Reference energies" in first.stderr
    assert "2 parameters" in first.stderr
    assert "valid" in first.stdout  # the table
    again = run("train", "recipe.yaml", "training.batch_size=3", "--out", "out")
    assert "is not empty" in one_line(again)
    resumed = run("train", "recipe.yaml", "training.batch_size=3", "--out", "out", "--resume")
    assert resumed.exit_code == 0
    assert "nothing left to train" in resumed.stderr
    found = run("evaluate", "out/model.safetensors", "argon.extxyz", "--out", "measured")
    assert found.exit_code == 0, found.output
    content = json.loads((folder / "measured" / "metrics.json").read_text())
    assert set(content) == {"train", "valid", "test", "speed", "model", "provenance"}
    assert content["train"] is None
    assert content["test"]["n_structures"] == 8
    told = json.loads((folder / "out" / "metrics.json").read_text())
    squares = sum(told[k]["forces_rmse"] ** 2 * told[k]["n_atoms"] for k in ("train", "valid"))
    assert content["test"]["forces_rmse"] == pytest.approx((squares / 32) ** 0.5, rel=1e-6)
    assert (folder / "measured" / "parity.png").exists()


def test_evaluate_several_files() -> None:
    ase.io.write("two.extxyz", ase.io.read("argon.extxyz", ":2"))
    result = run("evaluate", "argon.safetensors", "argon.extxyz", "two.extxyz", "--out", "m")
    assert result.exit_code == 0, result.output
    content = json.loads(Path("m/metrics.json").read_text())
    assert content["test"]["n_structures"] == 10
    assert content["files"]["two.extxyz"]["n_structures"] == 2
    assert "all" in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train nothing.yaml", "Cannot read the recipe nothing.yaml"),
        ("train recipe.yaml optimizer.lrr=1", "Did you mean `optimizer.lr`?"),
        ("train recipe.yaml training.epochs=x", "`training.epochs` should be a valid integer"),
        ("train recipe.yaml loss.stress=1", "`loss.stress` is 1, but none of the 6 train frames"),
        ("train recipe.yaml data.train=none.xyz", "none.xyz"),
        ("train recipe.yaml --resume", "there is no run in run"),
        ("evaluate nothing.safetensors argon.extxyz", "nothing.safetensors"),
        ("evaluate argon.safetensors nothing.extxyz", "nothing.extxyz"),
        ("evaluate recipe.yaml argon.extxyz", "must be a whole model file"),
        ("evaluate cut.safetensors argon.extxyz", "must be a whole model file"),
        ("evaluate foreign.safetensors argon.extxyz", "another program"),
        ("evaluate argon.safetensors bare.extxyz", "bare.extxyz has no labels to compare with"),
        ("evaluate argon.safetensors copper.extxyz", "hold Cu, which the model was not trained"),
        ("evaluate argon.safetensors empty.extxyz", "it is empty"),
        ("validate nothing.safetensors", "nothing.safetensors"),
        ("evaluate argon.safetensors argon.extxyz --out taken", "holds metrics.json already"),
        ("evaluate argon.safetensors argon.extxyz --out argon.extxyz/x", "argon.extxyz is a file"),
        ("evaluate argon.safetensors argon.extxyz --device mps", "must be cpu, cuda"),
        ("evaluate taken argon.extxyz", "Got the folder taken"),
        ("train recipe.yaml training.epochs=2024-13-45", "is not valid YAML"),
        ("train recipe.yaml data.train=~nobody.of.this.name/x", "a path that leads somewhere"),
        ("train recipe.yaml data.cache=argon.extxyz", "argon.extxyz cannot be made: it is a file"),
        ("train recipe.yaml data.cache=argon.extxyz/x", "argon.extxyz is a file"),
        ("train recipe.yaml model.cutoff=1e-9", "No graph for frame 0"),
        ("prepare recipe.yaml", "`data.cache` must name a folder"),
        ("prepare recipe.yaml data.cache=argon.extxyz", "it is a file"),
        ("prepare recipe.yaml data.cache=taken", "holds other files and no cache"),
        ("evaluate argon.safetensors broken.npz", "Got 'broken.npz'"),
        ("validate argon.safetensors taken", "Got the folder 'taken'"),
        ("validate argon.safetensors --device tpu", "must be cpu, cuda"),
        ("lammps nothing.in", "nothing.in"),
        ("lammps recipe.yaml", "pair_style tensornet"),
        ("lammps recipe.yaml --device tpu", "must be cpu, cuda"),
        ("lammps bytes.in", "bytes.in: no text in UTF-8"),
        ("mliap nothing.safetensors", "nothing.safetensors"),
        ("mliap argon.safetensors --device tpu", "must be cpu, cuda"),
        ("demo --out argon.extxyz", "argon.extxyz cannot be made: it is a file"),
        ("demo --out taken", "is not empty"),
        ("validate argon.safetensors copper.extxyz", "hold Cu"),
        ("validate argon.safetensors flat.extxyz", "linearly independent lattice vectors"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_folder(folder: Path, words: str, message: str) -> None:
    from safetensors.torch import save_file

    whole = (folder / "argon.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    save_file({"x": torch.zeros(2)}, folder / "foreign.safetensors")
    ase.io.write("bare.extxyz", bulk("Ar", a=4.0))
    copper = Atoms("Cu2", [[0, 0, 0], [0, 0, 2.5]])
    copper.calc = SinglePointCalculator(copper, energy=1.0)
    ase.io.write("copper.extxyz", copper)
    (folder / "empty.extxyz").write_text("")
    ase.io.write("flat.extxyz", Atoms("Ar2", [[0, 0, 0], [0, 0, 3]], cell=[5, 5, 0], pbc=True))
    (folder / "bytes.in").write_bytes(b"\xff\xfe")
    np.savez("broken.npz", z=[18], R=np.zeros(()), E=[0.0], F=np.zeros((1, 1, 3)))
    (folder / "taken").mkdir()
    (folder / "taken" / "metrics.json").write_text("{}")
    before = {path.name for path in folder.iterdir()}
    assert message in one_line(run(*words.split()))
    assert {path.name for path in folder.iterdir()} == before


@pytest.mark.parametrize("name", ["[bold]", "[/bold]", "\udcff"])
def test_names_of_files_and_groups_are_shown_as_they_are(folder: Path, name: str) -> None:
    frames = ase.io.read("argon.extxyz", ":4")
    assert isinstance(frames, list)
    for k, atoms in enumerate(frames):
        atoms.info["config_type"] = f"[/group {k}]"
    path = folder / f"{name.replace('/', '')}.extxyz"
    path.write_bytes(b"")
    ase.io.write("named.extxyz", frames)
    path.write_bytes(Path("named.extxyz").read_bytes())
    result = run("evaluate", "argon.safetensors", str(path), "--out", f"m{name}")
    assert result.exit_code == 0, result.output
    assert "[/group 3]" in result.stdout
    content = json.loads((folder / f"m{name}" / "metrics.json").read_text())
    assert content["provenance"]["data"][0]["path"] == str(path)


def test_files_that_cannot_be_written_are_named() -> None:
    result = run("mliap", "argon.safetensors", "--out", "none/model.pickle")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: Cannot write none/model.pickle: No such file")
    assert result.stderr.count("\n") == 1


def test_how_to_go_on_can_be_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    from tensornet.train import Interrupted

    def stop(*_: object, **__: object) -> None:
        raise Interrupted("Stopped.")

    monkeypatch.setattr("tensornet.train.fit", stop)
    result = run("train", "recipe.yaml", "loss={forces: 2}", "--out", "my run")
    assert result.exit_code == 130
    expected = "tensornet train recipe.yaml 'loss={forces: 2}' --out 'my run' --resume"
    assert result.stderr == f"Stopped.\nGo on with: {expected}\n"


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("tensornet.train.prepare.read", "train recipe.yaml"),
        ("tensornet.train.evaluation.read", "evaluate argon.safetensors argon.extxyz"),
        ("tensornet.calculators.validate", "validate argon.safetensors"),
    ],
)
def test_ctrl_c_at_any_time(monkeypatch: pytest.MonkeyPatch, place: str, words: str) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(place, stop)
    result = run(*words.split())
    assert result.exit_code == 130
    assert result.stderr == "Stopped.\n"
    assert not Path("run").exists()


def test_evaluate_replaces_results_only_if_told(folder: Path) -> None:
    (folder / "taken").mkdir()
    (folder / "taken" / "metrics.json").write_text("{}")
    words = ("evaluate", "argon.safetensors", "argon.extxyz", "--out", "taken", "--overwrite")
    assert run(*words).exit_code == 0
    assert json.loads((folder / "taken" / "metrics.json").read_text())["test"]


def test_validate_prints_its_table_and_tells_by_its_exit_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tensornet.calculators import Report, Row

    good = run("validate", "argon.safetensors", "argon.extxyz", "--steps", "20")
    assert good.exit_code == 0, good.output
    assert "checks passed" in good.stdout
    row = Row("forces", "error against finite differences", 1e-3, 1e-6, "", False)
    monkeypatch.setattr("tensornet.calculators.validate", lambda *_, **__: Report("it", (row,)))
    bad = run("validate", "argon.safetensors")
    assert bad.exit_code == 1
    assert "FAILED" in bad.stdout


def test_unexpected_errors_are_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a mistake of ours")

    monkeypatch.setattr("tensornet.train.fit", broken)
    result = run("train", "recipe.yaml")
    assert isinstance(result.exception, ZeroDivisionError)


def test_help_and_version() -> None:
    for words in ([], ["train"], ["evaluate"], ["validate"], ["demo"]):
        result = run(*words, "--help")
        assert result.exit_code == 0
        assert "Usage: " in result.stdout
        assert "[[" not in result.stdout  # brackets are added by the command line
    assert run("--version").stdout.strip() == __version__


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys, tensornet.__main__; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
