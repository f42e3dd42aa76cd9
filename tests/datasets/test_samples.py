"""The data sets that come with the library hold what their cards say."""

import gzip
import io
import re
from functools import cache
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import yaml

from tensornet.datasets.samples import sample, samples

NAMES = ("ethanol", "silicon")
SPLITS = ("train", "test")


@cache
def frames(name: str, split: str) -> list[Any]:
    text = gzip.decompress((sample(name) / f"{split}.extxyz.gz").read_bytes()).decode()
    return ase.io.read(io.StringIO(text), ":", format="extxyz")  # type: ignore[return-value]


def made(name: str) -> dict[str, Any]:
    text = (sample(name) / "source.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)["made"]  # type: ignore[no-any-return]


def moving(structures: list[Any]) -> list[Any]:
    return [atoms for atoms in structures if atoms.info["config_type"] != "isolated_atom"]


def test_samples_lists_what_there_is() -> None:
    assert set(NAMES) <= set(samples())
    assert all(sample(name).name == name for name in samples())


def test_an_unknown_sample_is_an_error_that_lists_them() -> None:
    with pytest.raises(ValueError, match=r"sample\(name=\.\.\.\).*'water'.*ethanol, silicon"):
        sample("water")


def test_a_name_cannot_leave_the_folder() -> None:
    with pytest.raises(ValueError, match="must be a data set"):
        sample("../datasets/ethanol")


@pytest.mark.parametrize("name", NAMES)
def test_ase_reads_the_compressed_file(name: str) -> None:
    last: Any = ase.io.read(sample(name) / "test.extxyz.gz", -1)
    assert last.get_potential_energy() == frames(name, "test")[-1].get_potential_energy()


@pytest.mark.parametrize("name", NAMES)
def test_folder_is_small(name: str) -> None:
    assert sum(file.stat().st_size for file in sample(name).iterdir()) < 1_000_000


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("split", SPLITS)
def test_counts_agree_with_source_and_card(name: str, split: str) -> None:
    found = moving(frames(name, split))
    runs = [run for run in made(name)["runs"] if run["split"] == split]
    assert len(found) == made(name)["frames"][split] == sum(run["frames"] for run in runs)
    card = (sample(name) / "README.md").read_text(encoding="utf-8")
    for run in runs:
        kind = f"md_{run['temperature']:.0f}K"
        assert sum(atoms.info["config_type"] == kind for atoms in found) == run["frames"]
        assert re.search(rf"\| {split} \| {run['temperature']:.0f} K \| {run['frames']} \|", card)


@pytest.mark.parametrize("name", NAMES)
def test_isolated_atoms_are_in_train_only(name: str) -> None:
    lone = [a for a in frames(name, "train") if a.info["config_type"] == "isolated_atom"]
    elements = {symbol for a in frames(name, "test") for symbol in a.get_chemical_symbols()}
    energies = {a.get_chemical_symbols()[0]: a.get_potential_energy() for a in lone}
    assert energies == made(name)["isolated_atoms"]
    assert set(energies) == elements
    assert all(len(a) == 1 and not a.pbc.any() for a in lone)
    assert len(moving(frames(name, "test"))) == len(frames(name, "test"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("split", SPLITS)
def test_labels_are_complete_and_bound(name: str, split: str) -> None:
    lone = made(name)["isolated_atoms"]
    for atoms in moving(frames(name, split)):
        forces = atoms.get_forces()
        assert np.isfinite(forces).all()
        # Rounded to 1e-7 eV/Å each.
        np.testing.assert_allclose(forces.sum(axis=0), 0.0, atol=1e-6)
        binding = atoms.get_potential_energy() - sum(lone[s] for s in atoms.get_chemical_symbols())
        assert -7.0 < binding / len(atoms) < -2.0
        if atoms.pbc.all():
            assert atoms.get_stress().shape == (6,)
            assert 1e-4 < np.abs(atoms.get_stress()).max() < 0.3


@pytest.mark.parametrize("name", NAMES)
def test_train_and_test_come_from_different_trajectories(name: str) -> None:
    seeds = [{a.info["seed"] for a in moving(frames(name, split))} for split in SPLITS]
    assert seeds[0]
    assert seeds[1]
    assert not seeds[0] & seeds[1]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("split", SPLITS)
def test_hot_frames_have_larger_forces(name: str, split: str) -> None:
    energy, force = {}, {}
    for kind in ("md_300K", "md_600K"):
        found = [a for a in frames(name, split) if a.info["config_type"] == kind]
        energy[kind] = np.mean([a.get_potential_energy() for a in found])
        force[kind] = np.sqrt(np.mean([a.get_forces() ** 2 for a in found]))
    assert energy["md_600K"] > energy["md_300K"]
    # Harmonic: forces grow like the square root of the temperature; the silicon test set is small.
    assert 1.15 < force["md_600K"] / force["md_300K"] < 1.7


def test_no_python_lies_beside_the_data() -> None:
    assert not list(Path(sample("ethanol")).parent.rglob("*.py"))
