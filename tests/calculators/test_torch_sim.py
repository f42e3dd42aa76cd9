"""The model for torch-sim: against the ASE calculator, and in torch-sim itself."""

# mypy: allow-untyped-calls

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from tensornet.calculators import PotentialCalculator, evaluate_many
from tensornet.models import Potential, build

NAME = "tensornet.calculators.torch_sim"


def model() -> Potential:
    block = {"name": "lennard_jones", "cutoff": 5.0, "epsilon": 0.05, "sigma": 3.0}
    return build(block, elements=[10, 18], reference_energies={10: -3.0, 18: -14.5})


def structures() -> list[Atoms]:
    rng = np.random.default_rng(0)
    made = [bulk("Ar", a=4.7, cubic=True), bulk("Ar", a=4.8)]
    made[0].cell[1, 0], made[0].cell[2, 1] = 0.8, 0.5
    made[0].positions += 0.1 * rng.standard_normal((4, 3))
    made[0].numbers[1] = 10
    return made


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module, with a base class that stands in for torch-sim's."""
    fake: Any = ModuleType("torch_sim.models.interface")
    fake.ModelInterface = torch.nn.Module
    for name in ("torch_sim", "torch_sim.models"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "torch_sim.models.interface", fake)
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    yield importlib.import_module(NAME)
    sys.modules.pop(NAME, None)


def test_state(room: Any) -> None:
    potential, given = model(), structures()
    engine = room.TorchSimModel(potential)
    state: dict[str, Any] = {
        "positions": torch.tensor(np.concatenate([a.positions for a in given])),
        "cell": torch.tensor(np.stack([a.cell.array.T for a in given])),
        "pbc": True,
        "atomic_numbers": torch.tensor(np.concatenate([a.numbers for a in given])),
        "system_idx": torch.tensor([0] * 4 + [1]),
    }
    for _ in range(2):
        found = engine(state)
        want = evaluate_many(given, potential)
        energies = [a.get_potential_energy() for a in want]
        np.testing.assert_allclose(found["energy"], energies, atol=1e-12)
        forces = np.concatenate([a.get_forces() for a in want])
        np.testing.assert_allclose(found["forces"], forces, atol=1e-12)
        stress = [a.get_stress(voigt=False) for a in want]
        np.testing.assert_allclose(found["stress"], stress, atol=1e-12)
        # Columns are not contiguous, and the next step is a strained cell.
        state["cell"] = (state["cell"].mT @ torch.tensor([[1, 0, 0], [0.02, 1, 0], [0, 0, 1]])).mT
        state["positions"] = state["positions"] * 1.001
        for k, atoms in enumerate(given):
            atoms.cell[:] = state["cell"][k].numpy().T
            atoms.positions *= 1.001
    assert engine._dtype == torch.float64
    with pytest.raises(ValueError, match=r"skin=...\)` must be zero or a positive"):
        room.TorchSimModel(potential, skin=-0.1)
    with pytest.raises(ValueError, match="Got He"):
        engine(state | {"atomic_numbers": torch.tensor([2] * 5)})


def test_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_sim", None)
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    with pytest.raises(ModuleNotFoundError, match="pip install torch-sim-atomistic"):
        importlib.import_module(NAME)


def test_in_torch_sim() -> None:
    ts = pytest.importorskip("torch_sim")
    room = importlib.import_module(NAME)
    engine = room.TorchSimModel(model())
    state = ts.io.atoms_to_state(structures(), torch.device("cpu"), torch.float64)
    start, step = ts.optimizers.fire(engine)
    state = start(state)
    for _ in range(300):
        state = step(state)
    for k, atoms in enumerate(structures()):
        atoms.positions[:] = state.positions[state.system_idx == k].numpy()
        atoms.calc = PotentialCalculator(model())
        assert float(state.energy[k]) == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
        assert np.abs(atoms.get_forces()).max() < 1e-3
