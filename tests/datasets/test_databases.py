"""Data sets in the formats they are published in, made here in a few frames."""

import gzip
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase
import ase.build
import numpy as np
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from tensornet.datasets import Frames, read
from tensornet.datasets.lmdb import BOHR, HARTREE, lmdb_frames
from tensornet.datasets.pickles import UnsafePickleError, loads

lmdb = pytest.importorskip("lmdb")
RNG = np.random.default_rng(3)


def write(path: Path, entries: dict[bytes, bytes]) -> Path:
    environment = lmdb.open(str(path), subdir=False, map_size=1 << 24)
    with environment.begin(write=True) as transaction:
        for key, value in entries.items():
            transaction.put(key, value)
    environment.close()
    return path


def forces_of(frames: Frames, k: int) -> np.ndarray[Any, Any]:
    forces = frames.labels[k].forces
    assert forces is not None
    return forces


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("evil-was-here"),))


def step(energy: float, n: int = 2) -> dict[str, Any]:
    atoms = [{"atom": a, "charge": 1.0, "x": 0.1 * k, "y": 0.5, "z": 1.0 * k}
             for k, a in enumerate(["C", "O"])]  # fmt: skip
    gradient = [{"atom": "C", "charge": 1.0, "dx": 0.01, "dy": -0.02, "dz": 0.03 * k}
                for k in range(n)]  # fmt: skip
    return {"coordinates": atoms, "energy": energy, "gradient": gradient}


def test_pubchemqcr(tmp_path: Path) -> None:
    stages = {"pm3": [step(-1.0)], "hf": None, "DFT_1st": [step(-2.0), step(-2.5, n=1)],
              "DFT_2nd": [step(-3.0)]}  # fmt: skip
    content = gzip.compress(pickle.dumps(stages))
    path = write(tmp_path / "Data01.lmdb", {b"000015111": content})
    frames = read(path)
    assert len(frames) == 2  # a gradient that lacks an atom is left out, and so are other levels
    assert frames.labels[0].energy == pytest.approx(-2.0 * HARTREE)
    forces = frames.labels[1].forces
    assert forces is not None
    np.testing.assert_allclose(forces[1], -np.array([0.01, -0.02, 0.03]) * 51.42206747, rtol=1e-8)
    assert [a.info["stage"] for a in frames.structures] == ["DFT_1st", "DFT_2nd"]
    assert frames.structures[0].info["cid"] == "000015111"
    (cheap,) = lmdb_frames(path, stages=("pm3",))
    assert cheap.calc.results["energy"] == pytest.approx(-HARTREE)


def graph(**more: Any) -> Any:
    from torch_geometric.data import Data

    numbers = torch.tensor([29.0, 8.0, 1.0])
    return Data(
        pos=torch.rand(3, 3, dtype=torch.float32), cell=4 * torch.eye(3)[None], natoms=3,
        atomic_numbers=numbers, tags=torch.tensor([0, 1, 2]),
        fixed=torch.tensor([1.0, 0.0, 0.0]), sid=7, **more,
    )  # fmt: skip


@pytest.mark.parametrize("names", [("y", "force"), ("energy", "forces")])
def test_open_catalyst_s2ef(tmp_path: Path, names: tuple[str, str]) -> None:
    forces = torch.randn(3, 3)
    first = graph(**dict(zip(names, (-1.25, forces), strict=True)), fid=torch.tensor(4))
    second = graph(**dict(zip(names, (torch.tensor(-2.5), forces), strict=True)), oc22=1)
    entries = {b"0": pickle.dumps(first), b"1": pickle.dumps(second), b"length": pickle.dumps(2)}
    frames = read(write(tmp_path / "data.0000.lmdb", entries))
    assert [label.energy for label in frames.labels] == [-1.25, -2.5]
    np.testing.assert_allclose(forces_of(frames, 0), forces)  # also of the fixed atom
    atoms = frames.structures[0]
    np.testing.assert_allclose(atoms.positions, first.pos)
    assert atoms.pbc.all()
    assert atoms.get_tags().tolist() == [0, 1, 2]
    assert isinstance(atoms.constraints[0], FixAtoms)
    assert atoms.info["sid"] == 7
    assert atoms.info["fid"] == 4


def test_open_catalyst_is2re(tmp_path: Path) -> None:
    data = graph(y_init=-1.0, y_relaxed=-3.0, pos_relaxed=torch.zeros(3, 3))
    frames = read(write(tmp_path / "is2re.lmdb", {b"0": pickle.dumps(data)}))
    assert [label.energy for label in frames.labels] == [-1.0, -3.0]
    assert not frames.structures[1].positions.any()
    assert [a.info["is2re"] for a in frames.structures] == ["initial", "relaxed"]


def test_graphs_pickled_by_old_versions() -> None:
    import torch_geometric.data.data as module

    class Data:
        pass

    Data.__module__, Data.__qualname__ = module.__name__, "Data"
    old = Data()
    old.__dict__.update(pos=torch.ones(2, 3), y=-1.0, edge_index=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "Data", Data)
        content = pickle.dumps(old)
    found = loads(content)
    assert set(found) == {"pos", "y"}
    assert torch.equal(found["pos"], torch.ones(2, 3))


def test_ase_lmdb(tmp_path: Path) -> None:
    pytest.importorskip("ase_db_backends")
    from ase.db import connect

    atoms = ase.build.molecule("H2O")
    atoms.set_cell(6 * np.eye(3))
    atoms.pbc = True
    results: dict[str, Any] = {
        "energy": -14.0,
        "forces": RNG.normal(size=(3, 3)),
        "stress": RNG.normal(size=6),
    }
    atoms.calc = SinglePointCalculator(atoms, **results)
    path = tmp_path / "data.aselmdb"
    with connect(str(path), type="aselmdb") as database:
        database.write(atoms, data={"charge": -1}, origin="test")
    frames = read(path)
    assert frames.labels[0].energy == -14.0
    np.testing.assert_array_equal(forces_of(frames, 0), results["forces"])
    stress = frames.labels[0].stress
    assert stress is not None
    np.testing.assert_allclose(stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]], results["stress"])
    assert frames.structures[0].info["charge"] == -1
    assert frames.structures[0].info["origin"] == "test"


def test_a_pickle_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = {b"0": pickle.dumps({"pos": Evil()})}
    with pytest.raises(UnsafePickleError, match="could run code"):
        read(write(tmp_path / "evil.lmdb", content))
    nested = {b"1": gzip.compress(pickle.dumps({"DFT_1st": Evil()}))}
    with pytest.raises(UnsafePickleError, match="could run code"):
        read(write(tmp_path / "evil2.lmdb", nested))
    inside = graph(y=Evil())
    with pytest.raises(UnsafePickleError, match="could run code"):
        loads(pickle.dumps(inside))
    with pytest.raises(UnsafePickleError, match="could run code"):
        loads(b"cos\nsystem\n(S'touch evil-was-here'\ntR.")
    assert not (tmp_path / "evil-was-here").exists()


def test_arrays_survive_safe_pickles() -> None:
    data: dict[str, Any] = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": np.float64(2.5),
        "c": torch.arange(3),
        "d": (1,),
    }
    found = loads(pickle.dumps(data))
    assert np.array_equal(found["a"], data["a"])
    assert found["b"] == 2.5
    assert torch.equal(found["c"], torch.arange(3))
    assert found["d"] == (1,)


def test_what_is_not_known_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="known kind"):
        read(write(tmp_path / "a.lmdb", {b"0": b"hello"}))
    with pytest.raises(ValueError, match=r"known kind.*bar, foo"):
        read(write(tmp_path / "b.lmdb", {b"0": pickle.dumps({"foo": 1, "bar": 2})}))
    (tmp_path / "c.lmdb").write_bytes(b"no database" * 100)
    with pytest.raises(ValueError, match="intact"):
        read(tmp_path / "c.lmdb")
    with pytest.raises(UnsafePickleError, match="damaged"):
        loads(b"\x80\x04broken")


@pytest.mark.parametrize("names", [("nuclear_charges", "coords", "energies", "forces"), "zREF"])
def test_md17(tmp_path: Path, names: Any) -> None:
    numbers, positions = np.array([6, 1]), RNG.normal(size=(3, 2, 3))
    energies, forces = RNG.normal(size=3), RNG.normal(size=(3, 2, 3))
    values = dict(zip(names, (numbers, positions, energies, forces), strict=True))
    np.savez(tmp_path / "m.npz", **values)
    frames = read(tmp_path / "m.npz")
    assert len(frames) == 3
    assert frames.labels[1].energy == pytest.approx(energies[1] / 23.060548012069496)
    np.testing.assert_allclose(forces_of(frames, 2), forces[2] / 23.060548012069496)
    assert len(read(f"{tmp_path / 'm.npz'}@1:")) == 2
    assert len(read(f"{tmp_path / 'm.npz'}@-1")) == 1
    with pytest.raises(ValueError, match="frames that exist"):
        read(f"{tmp_path / 'm.npz'}@7")
    np.savez(tmp_path / "n.npz", foo=numbers)
    with pytest.raises(ValueError, match=r"known kind \(rMD17, MD17\).*foo"):
        read(tmp_path / "n.npz")
    np.savez(tmp_path / "o.npz", z=np.array([Evil()], dtype=object))
    with pytest.raises(ValueError, match="intact"):
        read(tmp_path / "o.npz")


@pytest.fixture
def hdf5(tmp_path: Path) -> Iterator[Any]:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "data.h5", "w") as file:
        yield file


def test_spice(tmp_path: Path, hdf5: Any) -> None:
    group = hdf5.create_group("water")
    positions, gradients = RNG.normal(size=(2, 3, 3)), RNG.normal(size=(2, 3, 3))
    group["atomic_numbers"] = [8, 1, 1]
    group["conformations"], group["dft_total_gradient"] = positions, gradients
    group["dft_total_energy"] = [-76.0, -76.5]
    hdf5.close()
    frames = read(tmp_path / "data.h5")
    assert frames.labels[1].energy == pytest.approx(-76.5 * HARTREE)
    np.testing.assert_allclose(frames.structures[1].positions, positions[1] * BOHR)
    np.testing.assert_allclose(forces_of(frames, 0), -gradients[0] * HARTREE / BOHR)


def test_prepared_for_mace(tmp_path: Path, hdf5: Any) -> None:
    batch = hdf5.create_group("config_batch_0")
    for k in range(12):
        group = batch.create_group(f"config_{k}")
        group["atomic_numbers"], group["positions"] = (
            [14, 14],
            np.full((2, 3), 0.1 * k) + np.eye(2, 3),
        )
        group["cell"], group["pbc"] = 5 * np.eye(3), [True] * 3
        group["weight"], group["config_type"] = 1.0, "Default"
        properties, weights = (
            group.create_group("properties"),
            group.create_group("property_weights"),
        )
        properties["energy"], properties["forces"] = -float(k), np.full((2, 3), float(k))
        properties["stress"], weights["stress"] = np.zeros((3, 3)), 0.0
        properties["dipole"] = "None"
    hdf5.close()
    frames = read(tmp_path / "data.h5")
    assert [label.energy for label in frames.labels] == [-float(k) for k in range(12)]
    np.testing.assert_array_equal(forces_of(frames, 3), np.full((2, 3), 3.0))
    assert all(label.stress is None for label in frames.labels)
    assert frames.structures[0].info["config_type"] == "Default"


def test_other_hdf5(tmp_path: Path, hdf5: Any) -> None:
    hdf5.create_group("foo")["bar"] = 1
    hdf5.close()
    with pytest.raises(ValueError, match=r"SPICE, mace_prepare_data.*bar"):
        read(tmp_path / "data.h5")
    (tmp_path / "x.h5").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="intact"):
        read(tmp_path / "x.h5")
