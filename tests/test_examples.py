"""Every example runs as a user runs it, with warnings as errors, and keeps its own claim."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

import pytest
from ase import Atoms

from tensornet.datasets import Frames, Labels, split
from tensornet.models import build, save

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
BENCHMARKS = ROOT / "examples" / "benchmarks"
# Lightning and PyTorch Geometric call torch.jit on import, which torch 2.13 deprecates.
WARNINGS = (
    "error",
    "ignore:`torch.jit.script:DeprecationWarning",
    "ignore:`torch.jit.script_method:DeprecationWarning",
    "ignore:`torch.jit.interface:DeprecationWarning",
    "ignore:`torch.jit.isinstance:DeprecationWarning",
)


def run(script: Path, *words: str, cwd: Path) -> str:
    """Run a script as `python script`, with this checkout first on the path."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    flags = [f"-W{warning}" for warning in WARNINGS]
    done = subprocess.run(
        [sys.executable, *flags, str(script), *words],
        cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_example(script: Path, tmp_path: Path) -> None:
    printed = run(script, cwd=tmp_path)
    assert len(printed.splitlines()) >= 4, printed


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_example_is_one_screen_with_a_claim(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    assert text.startswith('"""')
    assert "You learn" in text
    assert text.count("\n") < 100
    cells = re.split(r"^# %% ", text, flags=re.MULTILINE)
    assert len(cells) >= 4
    assert cells[-1].startswith("What this example claims")
    assert "assert " in cells[-1]


def test_examples_are_numbered() -> None:
    numbers = [int(script.name[:2]) for script in EXAMPLES]
    assert numbers == list(range(1, len(EXAMPLES) + 1))
    assert len(numbers) >= 4


def told(path: Path) -> dict[str, object]:
    """Read the JSON of a benchmark, which must say where its numbers come from."""
    content: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    assert {"machine", "versions", "date", "command"} <= set(content)
    return content


@pytest.mark.parametrize(
    "name",
    [
        *("channelwise", "chebyshev", "contraction", "convolution", "cp", "dmrg", "harmonics"),
        *("interop", "kernels", "tdn_products", "tucker"),
    ],
)
def test_benchmark_that_runs_alone(name: str, tmp_path: Path) -> None:
    out = tmp_path / f"{name}.json"
    printed = run(BENCHMARKS / f"{name}.py", "--smoke", "--out", str(out), cwd=tmp_path)
    fresh, kept = told(out), told(BENCHMARKS / f"{name}.json")
    assert set(kept) - {"skipped", "missing", "smoke"} <= set(fresh)
    assert kept.get("smoke") in (None, False)  # what stands in the repository was run in full
    assert printed


def test_benchmark_of_products(tmp_path: Path) -> None:
    out = tmp_path / "products.json"
    printed = run(BENCHMARKS / "products.py", "--smoke", "--out", str(out), cwd=tmp_path)
    rows = told(out)["rows"]
    assert isinstance(rows, list)
    assert {(row["l_max"], row["pass"]) for row in rows} >= {(1, "forward"), (1, "both")}
    for row in rows:
        assert row["seconds"] > 0
        assert row["largest_difference"] < 1e-4
    assert {"EdgeProduct", "e3nn TensorProduct"} <= {row["product"] for row in rows}
    assert "EdgeProduct" in printed


def test_benchmark_of_potentials(tmp_path: Path) -> None:
    sample = 'Lattice="4.1 0 0 0 4.1 0 0 0 4.1" Properties=species:S:1:pos:R:3:forces:R:3 energy='
    atoms = "Ar 0.1 0 0 0.1 0 0.2\nAr 2.0 2.1 0 -0.1 0.1 0\nAr 0 2 2 0 0 0\nAr 2 0 1.9 0 0 -0.2\n"
    frames = "".join(f'4\n{sample}{e} pbc="T T T"\n{atoms}' for e in (-4.0, -4.1))
    (tmp_path / "test.extxyz").write_text(frames)
    model = build(
        {"name": "lennard_jones", "cutoff": 4.0}, elements=[18], reference_energies={18: -1.0}
    )
    save(model, tmp_path / "argon.safetensors")
    out = tmp_path / "argon.json"
    words = ("argon.safetensors", "test.extxyz", "--smoke", "--out", str(out))
    run(BENCHMARKS / "potential.py", *words, cwd=tmp_path)
    content = told(out)
    errors, checks, speed = content["errors"], content["checks"], content["speed"]
    assert isinstance(errors, dict)
    assert isinstance(checks, dict)
    assert isinstance(speed, dict)
    assert errors["n_structures"] == 2
    assert errors["forces_rmse"] > 1
    assert 0 < checks["equivariance"] < 1e-10
    assert 0 < checks["forces_against_differences"] < 1e-6
    assert 0 < checks["hessian_asymmetry"] < 1e-8
    assert speed["microseconds_per_atom"] > 0


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import a benchmark without running it."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def has_mace() -> bool:
    try:
        version("mace-torch")
    except PackageNotFoundError:
        return False
    return True


def test_mace_in_a_budget(tmp_path: Path) -> None:
    out = tmp_path / "mace.json"
    run(BENCHMARKS / "mace_budget.py", "--smoke", "--out", str(out), cwd=tmp_path)
    content = told(out)
    if not has_mace():
        assert content["skipped"] == ["mace-torch"]
        return
    assert content["n_train"] == 10
    assert content["n_valid"] == 2
    curve, test = content["curve"], content["test"]
    assert isinstance(curve, list)
    assert isinstance(test, dict)
    assert len(curve) >= 2
    assert test["sample"]["forces_rmse"] > 0


def test_mace_has_the_split_of_a_training_run(monkeypatch: pytest.MonkeyPatch) -> None:
    atoms = tuple(Atoms("H", positions=[[k, 0, 0]]) for k in range(20))
    frames = Frames(atoms, (Labels(energy=0.0),) * 20, {})
    choose = script("mace_budget", monkeypatch).choose
    for number, left in ((None, 15), (7, 7), (99, 15)):
        train, valid = choose(frames, 5, number, 3)
        held = [int(one.positions[0, 0]) for one in valid.structures]
        used = {int(one.positions[0, 0]) for one in train.structures}
        assert held == split(20, 5, 3)[1]
        assert len(used) == left
        assert used <= set(split(20, 5, 3)[0])
