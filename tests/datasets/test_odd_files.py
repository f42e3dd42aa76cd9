"""Files that people have and that are wrong: one line that names the file, and no silent loss."""

import gzip
import pickle
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import write

from tensornet.datasets import Frames, LabelError, read
from tensornet.train.prepare import checksum, files_of

FRAME = """2
Properties=species:S:1:pos:R:3:forces:R:3 energy=-2051.5 pbc="F F F"
O      0.00000000     0.00000000     0.00000000     0.10000000     0.20000000     0.30000000
H      0.00000000     0.00000000     0.97000000    -0.10000000    -0.20000000    -0.30000000
"""


def text(folder: Path, content: str) -> Frames:
    (folder / "data.extxyz").write_text(content, encoding="utf-8")
    return read(folder / "data.extxyz")


def test_empty_lines_between_frames_end_nothing(tmp_path: Path) -> None:
    # ASE's reader stops at the first one, and says nothing of the frames behind it.
    frames = text(tmp_path, f"\ufeff{FRAME}\n \n{FRAME.replace('-2051', '-31')}\n\n{FRAME}\n")
    assert [one.energy for one in frames.labels] == [-2051.5, -31.5, -2051.5]


@pytest.mark.parametrize("value", ["T", "1e200", "9" * 400])
def test_energies_that_are_no_energies(tmp_path: Path, value: str) -> None:
    with pytest.raises(LabelError, match=r"energy .*frame 0 .*data.extxyz must be"):
        text(tmp_path, FRAME.replace("-2051.5", value))


@pytest.mark.parametrize("z", [200, -5])
def test_atomic_numbers_of_no_element(tmp_path: Path, z: int) -> None:
    content = FRAME.replace("species:S", "Z:I").replace("\nO ", f"\n{z} ").replace("\nH ", "\n1 ")
    with pytest.raises(ValueError, match=rf"Got atomic number {z} for atom 0 in frame 0 .*extxyz"):
        text(tmp_path, content)


STEP = {"coordinates": [{}], "energy": 0.0, "gradient": [{}]}
GRAPH = {"pos": np.eye(3), "atomic_numbers": np.ones(3), "cell": np.zeros(3)}
ARRAYS: dict[str, Any] = {
    "z": [1, 1],
    "R": np.eye(2, 3)[None],
    "E": [0.0],
    "F": np.zeros((1, 2, 3)),
}


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(GRAPH),  # a cell of another shape
        pickle.dumps({"pos": 1, "atomic_numbers": 1}),
        pickle.dumps("pos and atomic_numbers"),
        gzip.compress(pickle.dumps([1])),
        gzip.compress(pickle.dumps({"DFT_1st": [1]})),
        gzip.compress(pickle.dumps({"DFT_1st": [STEP]}))[:20],
        zlib.compress(b'{"numbers": [1]}'),
        zlib.compress(b'{"numbers": [1], "positions": [[0]], "cell": [1], "pbc": [1]}'),
    ],
    ids=[  # of their own: gzip writes the time of day
        *("cell", "numbers", "no graph", "no dictionary", "no step", "cut off"),
        *("no positions", "positions"),
    ],
)
def test_damaged_entries_name_the_file(tmp_path: Path, content: bytes) -> None:
    lmdb = pytest.importorskip("lmdb")
    path = tmp_path / "some.lmdb"
    with lmdb.open(str(path), subdir=False) as database, database.begin(write=True) as entries:
        entries.put(b"a", content)
    with pytest.raises(ValueError, match=r"must name intact files. Got '.*some.lmdb': "):
        read(path)


@pytest.mark.parametrize(
    "change",
    [
        {"R": np.zeros(())},
        {"E": [0.0, 1.0]},
        {"E": ["a"]},
        {"E": [[0.0, 1.0]]},
        {"F": np.full((1, 2, 3), "a")},
        {"z": [1]},
        {"z": ["H", "H"]},
    ],
)
def test_damaged_arrays_name_the_file(tmp_path: Path, change: dict[str, Any]) -> None:
    np.savez(tmp_path / "some.npz", **(ARRAYS | change))
    with pytest.raises(ValueError, match=r"must name intact files. Got '.*some.npz': "):
        read(tmp_path / "some.npz")


def test_indices_that_are_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "some.npz", **ARRAYS)
    assert len(read(f"{tmp_path}/some.npz@0")) == 1
    for index in ("-", "::0", "1:2:3:4"):
        with pytest.raises(ValueError, match=r"must name intact files. Got '.*some.npz': "):
            read(f"{tmp_path}/some.npz@{index}")


def test_a_structure_whose_atoms_are_all_held_has_no_forces(tmp_path: Path) -> None:
    atoms = molecule("H2")
    atoms.set_constraint(FixAtoms([0, 1]))
    atoms.calc = SinglePointCalculator(atoms, forces=np.ones((2, 3)))
    write(tmp_path / "held.traj", atoms)
    assert read(tmp_path / "held.traj").n_labels["forces"] == 1
    assert read(tmp_path / "held.traj", free_atoms=True).n_labels["forces"] == 0


def test_files_of_a_database_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "some.lmdb").mkdir()
    (tmp_path / "some.lmdb" / "data.mdb").write_bytes(b"content")
    (name,) = files_of(f"{tmp_path}/*.lmdb@0:3")
    assert name == str(tmp_path / "some.lmdb" / "data.mdb")
    assert len(checksum(name)) == 64
    assert files_of(f"{tmp_path}/nothing.*") == []
