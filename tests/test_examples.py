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

import matplotlib.image
import numpy as np
import pytest
import scipy.linalg
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.lj import LennardJones

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
    picture = tmp_path / f"{script.stem[3:]}.png"
    assert picture.stat().st_size > 10_000
    colours = np.unique(matplotlib.image.imread(picture).reshape(-1, 4), axis=0)
    assert len(colours) > 50  # not blank


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


def test_training_of_directions(tmp_path: Path) -> None:
    recipe = ROOT / "models" / "direction-poisson-3d" / "recipe.yaml"
    words = (str(recipe), "--smoke", "--out", str(tmp_path))
    run(BENCHMARKS / "direction_train.py", *words, cwd=tmp_path)
    fresh, kept = told(tmp_path / "results.json"), told(recipe.with_name("results.json"))
    assert set(kept) == set(fresh)
    assert (tmp_path / "model.safetensors").is_file()


@pytest.mark.parametrize(
    "name",
    [
        *("channelwise", "chebyshev", "contraction", "convolution", "cp", "direction"),
        *("direction_data", "dmrg", "factorized_linear", "flow_step", "funbat"),
        *("harmonics", "interop", "kernels", "lordnet", "poisson_sphere"),
        *("spectral", "stencil", "tdn_products", "tucker"),
        *("electrostatics", "gaussian_pde", "picking"),
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


def imported(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
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


def test_ablation(tmp_path: Path) -> None:
    out = tmp_path / "ablation.json"
    words = ("--smoke", "--out", str(out))
    printed = run(BENCHMARKS / "ablation.py", *words, cwd=tmp_path)
    assert "| as it is |" in printed
    variants = told(out)["variants"]
    assert isinstance(variants, dict)
    whole, single = variants["as it is"], variants["1 layer"]
    assert whole["parameters"] > single["parameters"] > 0
    assert whole["valid"]["forces_rmse"] > 0
    # What is there is not trained again.
    assert "written" not in run(BENCHMARKS / "ablation.py", *words, cwd=tmp_path)


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
    choose = imported("mace_budget", monkeypatch).choose
    for number, left in ((None, 15), (7, 7), (99, 15)):
        train, valid = choose(frames, 5, number, 3)
        held = [int(one.positions[0, 0]) for one in valid.structures]
        used = {int(one.positions[0, 0]) for one in train.structures}
        assert held == split(20, 5, 3)[1]
        assert len(used) == left
        assert used <= set(split(20, 5, 3)[0])


@pytest.mark.parametrize(
    "name", ["md_speed", pytest.param("training_speed", marks=pytest.mark.slow)]
)
def test_benchmark_beside_mace(name: str, tmp_path: Path) -> None:
    out = tmp_path / f"{name}.json"
    words = ("--smoke", "--systems", "molecule", "--out", str(out))
    run(BENCHMARKS / f"{name}.py", *words, cwd=tmp_path)
    content = told(out)
    rows = content["rows"]
    assert isinstance(rows, list)
    assert content["skipped"] == ([] if has_mace() else ["mace-torch"])
    assert {row["model"] for row in rows} == {"gaunt", "tdn"} | ({"mace"} if has_mace() else set())
    for row in rows:
        assert row["atoms"] == 27
        assert row.get("milliseconds", row.get("structures_per_second")) > 0
        if name == "training_speed" and sys.platform == "linux":
            assert row["megabytes_per_atom"] > 0.001


def test_octanol(monkeypatch: pytest.MonkeyPatch) -> None:
    atoms = imported("md_speed", monkeypatch).octanol()
    assert atoms.get_chemical_formula() == "C8H18O"
    distances = atoms.get_all_distances() + 9 * np.eye(27)
    assert 0.9 < distances.min() < 1.2
    carbons = distances[np.ix_(atoms.numbers == 6, atoms.numbers == 6)]
    assert np.sort(carbons.min(axis=1)) == pytest.approx(1.53, abs=0.02)


def test_trust_of_argon(tmp_path: Path) -> None:
    out = tmp_path / "trust.json"
    run(BENCHMARKS / "trust.py", "--smoke", "--out", str(out), cwd=tmp_path)
    content = told(out)
    dimers, crystal, dynamics = content["dimers"], content["crystal"], content["dynamics"]
    assert isinstance(dimers, dict)
    assert isinstance(crystal, dict)
    assert isinstance(dynamics, dict)
    assert dimers["Ar-Ar"]["passed"]
    assert dimers["Ar-Ar"]["well"] == pytest.approx(3.4 * 2 ** (1 / 6), abs=0.09)
    elastic = crystal["elastic_GPa"]
    assert elastic["C12"] == pytest.approx(elastic["C44"], rel=1e-3)  # Cauchy: forces are central
    assert crystal["equation_of_state"]["bulk_modulus"] == pytest.approx(
        elastic["bulk_modulus"], rel=5e-3
    )
    assert 0 <= dynamics["drift"] < 0.1


def argon(repeat: int = 2) -> tuple[Atoms, LennardJones, float]:
    """A crystal in which only nearest neighbours meet, at their equilibrium; V'' there."""
    calculator = LennardJones(sigma=3.4, epsilon=0.1, rc=4.6)
    atoms = bulk("Ar", a=3.4 * 2 ** (2 / 3), cubic=True).repeat(repeat)
    return atoms, calculator, 36 * 2 ** (2 / 3) * 0.1 / 3.4**2


def test_crystal_of_nearest_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    crystal = imported("crystal", monkeypatch)
    atoms, calculator, spring = argon()
    c44 = spring / (2 ** (1 / 2) * 3.4 * 2 ** (1 / 6)) / units.GPa  # Born: a sum of n_x² n_y²
    found = crystal.elastic_constants(atoms, calculator, step=0.002, fmax=1e-5)
    assert found["C44"] == pytest.approx(c44, rel=1e-3)
    assert found["C12"] == pytest.approx(c44, rel=1e-3)
    assert found["C11"] == pytest.approx(2 * c44, rel=1e-3)
    state = crystal.equation_of_state(atoms, calculator, largest=0.003)
    assert state["bulk_modulus"] == pytest.approx(4 / 3 * c44, rel=1e-3)
    assert state["scale"] == pytest.approx(1, rel=1e-5)
    bond = -calculator.get_potential_energy(Atoms("Ar2", [[0, 0, 0], [0, 0, 3.4 * 2 ** (1 / 6)]]))
    lost = crystal.vacancy(atoms, calculator, fmax=1e-5)
    assert lost["unrelaxed"] == pytest.approx(6 * bond, rel=1e-9)  # twelve bonds less six
    assert lost["relaxed"] == pytest.approx(6 * bond, rel=1e-6)
    far = atoms.copy()
    far.set_cell(atoms.cell * 1.03, scale_atoms=True)  # the minimum is found from afar
    assert crystal.equation_of_state(far, calculator)["scale"] == pytest.approx(1 / 1.03, rel=1e-4)


def test_crystal_from_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    crystal = imported("crystal", monkeypatch)
    atoms, calculator, _ = argon(1)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    eta = np.array([[0.03, 0.01, 0.0], [0.01, -0.02, 0.0], [0.0, 0.0, 0.0]])
    root = scipy.linalg.sqrtm(np.eye(3) + 2 * eta)
    got = crystal.strain(np.array(atoms.cell) @ root @ turn, np.array(atoms.cell))
    assert got == pytest.approx(np.array([0.03, -0.02, 0, 0, 0, 0.02]), abs=1e-12)
    frames = []
    for k in range(6):
        for size in (-0.02, -0.01, 0.0, 0.01, 0.02):
            i, j = crystal.VOIGT[k]
            eta = np.zeros((3, 3))
            eta[i, j] = eta[j, i] = size
            frame = atoms.copy()
            frame.set_cell(atoms.cell @ scipy.linalg.sqrtm(np.eye(3) + 2 * eta), scale_atoms=True)
            frame.calc = LennardJones(sigma=3.4, epsilon=0.1, rc=4.6)
            frames.append(frame)
    both = frames[0].copy()
    both.set_cell(atoms.cell @ (np.eye(3) + np.diag([0.01, 0.02, 0])), scale_atoms=True)
    assert crystal.perfect([*frames, both]).cell.cellpar() == pytest.approx(atoms.cell.cellpar())
    found = crystal.constants_of_frames([*frames, both], atoms)
    own = crystal.elastic_constants(atoms, calculator, step=0.002, fmax=1e-5)
    for name, value in own.items():
        assert found[name] == pytest.approx(value, rel=5e-3)
    x = np.linspace(-0.1, 0.1, 7)
    strains = np.eye(6)[[0] * 7 + [4] * 7] * np.concatenate((x, x))[:, None]
    stresses = units.GPa * np.concatenate((
        np.stack([160 * x + 50 * x**3, 60 * x - x**2, 60 * x - x**2, 0 * x, 0 * x, 0 * x], 1),
        np.stack([7 * x**2, x**2, x**2, 0 * x, 80 * x - 3 * x**3, 0 * x], 1),
    ))  # fmt: skip
    exact = crystal.cubic_constants(strains, stresses)
    assert exact == pytest.approx(
        {"C11": 160, "C12": 60, "C44": 80, "bulk_modulus": 280 / 3}, rel=1e-9
    )
    with pytest.raises(ValueError, match="one component"):
        crystal.cubic_constants(np.full((1, 6), 0.1), np.zeros((1, 6)))
    with pytest.raises(ValueError, match="cube"):
        crystal.perfect([both])


def test_holes_of_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = imported("trust", monkeypatch).judge
    r = np.linspace(0.5, 6, 500)
    bond = 4 * (r**-12 - r**-6)
    fine = judge(r, bond, 1.0)
    assert fine["passed"]
    assert fine["depth"] == pytest.approx(1, rel=1e-3)
    assert fine["well"] == pytest.approx(2 ** (1 / 6), abs=0.01)
    assert judge(r, r**-1.0, 1.0)["passed"]  # no bond
    dent = judge(r, bond + 500 * np.exp(-(((r - 0.8) / 0.02) ** 2)), 1.0)
    assert not dent["passed"]
    assert dent["rise"] > 100
    deep = judge(r, 1000 * np.exp(-3.5 * r) - 30 * r**-6.0, 1.0)  # falls into itself
    assert not deep["passed"]
    assert not judge(r, np.full_like(r, -0.5) * (r < 0.9), 1.0)["passed"]
    assert not judge(r, np.where(r < 1, np.nan, bond), 1.0)["passed"]
