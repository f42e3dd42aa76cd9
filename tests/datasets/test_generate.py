"""Generated labels are GFN2-xTB's, and generation does the same twice."""

import gzip
import io
import sys
from functools import cache
from pathlib import Path
from typing import Any

import ase.build
import ase.io
import numpy as np
import pytest
import yaml
from ase.calculators.calculator import CalculationFailed
from typer.testing import CliRunner

from tensornet.datasets.generate import (
    Generated,
    Method,
    Source,
    autocorrelation,
    dynamics,
    generate,
    isolated_atoms,
    label,
    load_source,
    sample_dynamics,
    write,
)
from tensornet.datasets.generate.__main__ import command
from tensornet.datasets.samples import sample

SHORT = {
    "name": "short",
    "structure": {"kind": "molecule", "name": "CH3CH2OH"},
    "method": {"accuracy": 0.01},
    "dynamics": {"time_step": 0.75, "friction": 0.025, "warm_up": 3.0, "stride": 3.0},
    "isolated_atoms": {"H": 2, "C": 3, "O": 3},
    "runs": [
        {"split": "train", "temperature": 300.0, "seeds": [1, 2], "frames": 3},
        {"split": "test", "temperature": 600.0, "seeds": [3], "frames": 2},
    ],
}


def short(**changes: Any) -> Source:
    return Source.model_validate(SHORT | changes)


@pytest.fixture
def xtb() -> None:
    pytest.importorskip("tblite", reason="tblite (extra `generate`) is not installed")


@cache
def stored(name: str, kind: str) -> list[Any]:
    text = gzip.decompress((sample(name) / "train.extxyz.gz").read_bytes()).decode()
    frames: Any = ase.io.read(io.StringIO(text), ":", format="extxyz")
    return [atoms for atoms in frames if atoms.info["config_type"] == kind]


@pytest.mark.usefixtures("xtb")
@pytest.mark.parametrize("name", ["ethanol", "silicon"])
def test_stored_labels_are_computed_again(name: str) -> None:
    method = load_source(sample(name) / "source.yaml").method
    for kind in ("md_300K", "md_600K"):
        old = stored(name, kind)[-1]
        new: Any = label(old, method)
        assert abs(new.get_potential_energy() - old.get_potential_energy()) < 1e-6
        np.testing.assert_allclose(new.get_forces(), old.get_forces(), rtol=0, atol=1e-6)
        if old.pbc.all():
            np.testing.assert_allclose(new.get_stress(), old.get_stress(), rtol=0, atol=1e-8)


@pytest.mark.usefixtures("xtb")
@pytest.mark.parametrize("name", ["ethanol", "silicon"])
def test_stored_isolated_atoms_are_computed_again(name: str) -> None:
    source = load_source(sample(name) / "source.yaml")
    for old, new in zip(
        stored(name, "isolated_atom"),
        isolated_atoms(source.isolated_atoms, source.method),
        strict=True,
    ):
        energies = [atoms.get_potential_energy() for atoms in (old, new)]
        assert abs(energies[0] - energies[1]) < 1e-6


@pytest.mark.usefixtures("xtb")
def test_stored_stress_is_the_slope_of_the_energy() -> None:
    atoms = stored("silicon", "md_300K")[0]
    method = load_source(sample("silicon") / "source.yaml").method
    stress = atoms.get_stress(voigt=False)
    h = 1e-4  # tblite's cutoffs make the energy jump by about 1e-6 eV now and then: a short step
    for i, j in ((0, 0), (1, 2)):
        energies = []
        for sign in (1, -1):
            strain = np.zeros((3, 3))
            strain[i, j] += sign * h / 2
            strain[j, i] += sign * h / 2
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
            moved: Any = label(strained, method)
            energies.append(moved.get_potential_energy())
        slope = (energies[0] - energies[1]) / (2 * h) / atoms.get_volume()
        assert abs(slope - stress[i, j]) < 1e-3 * np.abs(stress).max()


@pytest.mark.usefixtures("xtb")
def test_the_same_seed_gives_the_same_frames_and_bytes(tmp_path: Path) -> None:
    first, second = generate(short()), generate(short())
    for a, b in zip(first.train + first.test, second.train + second.test, strict=True):
        np.testing.assert_allclose(a.positions, b.positions, rtol=0, atol=1e-7)
    again = Generated(first.train, first.test, first.source)
    one, two = write(first, tmp_path / "one"), write(again, tmp_path / "two")
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in two]
    assert gzip.decompress(one[0].read_bytes()).count(b"config_type=md_300K") == 6
    other = sample_dynamics(short(), short().runs[0], seed=4).frames[0]
    assert np.abs(other.positions - first.train[3].positions).max() > 1e-3


@pytest.mark.usefixtures("xtb")
def test_written_files_hold_what_was_generated(tmp_path: Path) -> None:
    generated = generate(short())
    paths = write(generated, tmp_path)
    for path, frames in zip(paths, (generated.train, generated.test), strict=False):
        read: Any = ase.io.read(path, ":")
        assert len(read) == len(frames)
        for old, new in zip(frames, read, strict=True):
            assert np.abs(old.positions - new.positions).max() < 1e-12
            assert np.abs(old.get_forces() - new.get_forces()).max() < 1e-12
    assert load_source(paths[2]) == generated.source
    assert generated.source.made is not None
    assert generated.source.made["frames"] == {"train": 6, "test": 2}


@pytest.mark.usefixtures("xtb")
def test_frames_that_do_not_converge_are_dropped_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = iter((True, False, True))

    def failing(atoms: Any, method: Method) -> Any:
        if next(calls):
            return label(atoms, method)
        raise CalculationFailed("SCF not converged in 250 cycles")

    monkeypatch.setattr(dynamics, "label", failing)
    trajectory = sample_dynamics(short(), short().runs[0], seed=1)
    assert (len(trajectory.frames), trajectory.dropped) == (2, 1)


@pytest.mark.usefixtures("xtb")
def test_dynamics_that_never_converge_stop() -> None:
    hopeless = short(method={"max_iterations": 1})
    with pytest.raises(RuntimeError, match=r"converge at nearly every step.*4 failures"):
        sample_dynamics(hopeless, hopeless.runs[0], seed=1)


@pytest.mark.usefixtures("xtb")
def test_cells_are_strained_at_random_within_bounds() -> None:
    crystal = {
        "kind": "crystal",
        "name": "LiF",
        "lattice": "rocksalt",
        "constant": 4.0,
        "volumetric": 0.02,
        "deviatoric": 0.01,
    }
    built = dynamics.build(short(structure=crystal).structure)[0]
    ideal = built.positions / 4.0
    sampler = dynamics._Sampler(short(structure=crystal), short().runs[0], seed=1)
    strains = []
    for _ in range(200):
        sampler._enter()
        strains.append(np.linalg.solve(built.cell.array, sampler.atoms.cell.array) - np.eye(3))
        fractional = sampler.atoms.get_scaled_positions() - ideal
        np.testing.assert_allclose(fractional - np.round(fractional), 0.0, atol=1e-12)
    strain = np.array(strains)
    np.testing.assert_allclose(strain, strain.swapaxes(1, 2), atol=1e-12)
    off_diagonal = np.abs(strain[:, [0, 0, 1], [1, 2, 2]]).max(axis=0)
    assert ((off_diagonal > 0.009) & (off_diagonal <= 0.01)).all()
    diagonal = np.abs(strain[:, [0, 1, 2], [0, 1, 2]]).max(axis=0)
    assert ((diagonal > 0.02) & (diagonal <= 0.03)).all()


@pytest.fixture
def starts(tmp_path: Path) -> Path:
    """A source.yaml whose trajectories start at structures of a file, and that file."""
    water = ase.build.molecule("H2O")
    water.positions += 5.0
    frames = [ase.build.molecule("CH3OH"), water, ase.Atoms("H")]
    ase.io.write(tmp_path / "starts.xyz", frames)
    runs = [{"split": "train", "temperature": 300.0, "seeds": [1, 2], "cells": 6, "frames": 1}]
    changes = {"structure": {"kind": "file", "path": "starts.xyz"}, "runs": runs}
    file = tmp_path / "source.yaml"
    file.write_text(yaml.safe_dump(SHORT | changes), encoding="utf-8")
    return file


@pytest.mark.usefixtures("xtb")
def test_trajectories_start_at_structures_of_a_file(starts: Path) -> None:
    source = load_source(starts)
    generated = generate(source)
    frames: list[Any] = generated.train[3:]  # behind the isolated atoms
    assert [len(generated.train), len(generated.test)] == [15, 0]
    assert {str(frame.symbols) for frame in frames} == {"COH4", "OH2"}
    for frame in frames:
        start = dynamics.build(source.structure)[len(frame) == 3]
        moved = frame.positions - start.positions
        masses = start.get_masses()
        assert 1e-3 < np.abs(moved).max() < 0.2  # 3 fs at 300 K
        assert np.abs(masses @ moved).max() < 1e-6  # it stays where it was
    folder = starts.parent / "made" / "here"
    assert load_source(write(generated, folder)[2]) == generated.source
    assert "path: ../../starts.xyz\n" in (folder / "source.yaml").read_text()
    first, second = (sample_dynamics(source, source.runs[0], 1).frames for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a.positions, b.positions, rtol=0, atol=1e-7)


@pytest.mark.usefixtures("xtb")
def test_files_of_structures_that_do_not_fit_are_refused(starts: Path) -> None:
    source = load_source(starts)
    atoms = source.model_copy(update={"isolated_atoms": {"H": 2, "O": 3}})
    with pytest.raises(ValueError, match=r"isolated_atoms.*Missing: C"):
        generate(atoms)
    ion = ase.Atoms("OH", [[0, 0, 0], [0, 0, 0.97]], info={"charge": -1})
    ase.io.write(starts.parent / "ion.extxyz", ion)
    for change, error, message in (
        (
            {"path": starts.parent / "ion.extxyz"},
            ValueError,
            "neutral structures. Got a charge of -1",
        ),
        ({"index": "2"}, ValueError, "two or more atoms. Got 1 frames"),
        ({"index": "7"}, ValueError, "frames that ASE reads"),
        ({"path": Path("nowhere.xyz")}, FileNotFoundError, "must be a file. Got nowhere.xyz"),
    ):
        changed = source.structure.model_copy(update=change)
        with pytest.raises(error, match=message):
            generate(source.model_copy(update={"structure": changed}))


def test_missing_tblite_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tblite.ase", None)
    with pytest.raises(ImportError, match=r'pip install "tensornet-science\[generate\]"'):
        isolated_atoms({"H": 2}, Method())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dynamics": {"time_step": 1.0}}, r"dynamics\.friction: Field required"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"structure": {"kind": "gas", "name": "X"}}, "structure: .*'molecule', 'crystal', 'file'"),
    ],
)
def test_bad_settings_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    file = tmp_path / "source.yaml"
    file.write_text(yaml.safe_dump(SHORT | change), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_source(file)


def test_autocorrelation_of_a_known_process() -> None:
    """x(t + 1) = 0.8 x(t) + noise has the autocorrelation 0.8^k."""
    random = np.random.default_rng(5)
    series = []
    for mean in (-3.0, 10.0):  # each series has its own mean
        x = np.zeros(40_000)
        for t in range(1, len(x)):
            x[t] = 0.8 * x[t - 1] + random.standard_normal()
        series.append(x + mean)
    for lag in (0, 1, 4):
        assert abs(autocorrelation(series, lag) - 0.8**lag) < 0.02
    with pytest.raises(ValueError, match=r"autocorrelation\(lag"):
        autocorrelation([np.arange(3.0)], 3)
    with pytest.raises(ValueError, match="must vary"):
        autocorrelation([np.ones(3)], 1)


@pytest.mark.usefixtures("xtb")
def test_command_writes_files_and_counts(tmp_path: Path) -> None:
    import typer

    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(SHORT), encoding="utf-8")
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, [str(file), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "6 train and 2 test frames" in result.output
    assert "0 dropped" in result.output
    assert (tmp_path / "out" / "test.extxyz.gz").is_file()
    result = CliRunner().invoke(app, ["water", "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "ethanol" in result.output
