"""Models and structures that the calculator refuses, and models whose forces it warns of."""

# mypy: allow-untyped-calls

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from torch import Tensor

from tensornet.atoms import edge_vectors, graph
from tensornet.calculators import PotentialCalculator
from tensornet.models import LennardJones, build

Make = Callable[..., LennardJones]


class DirectHead(LennardJones):
    """A model whose forces are not derivatives."""

    conservative = False

    def direct_forces(
        self, species: Tensor, edge_index: Tensor, vectors: Tensor
    ) -> tuple[Tensor, Tensor]:
        energies = self.interaction_energies(species, edge_index, vectors)
        return energies, vectors.new_zeros(len(species), 3).index_add(0, edge_index[1], -vectors)


def test_a_direct_head_is_said_once_and_has_no_stress(make: Make) -> None:
    with pytest.warns(UserWarning, match="not derivatives of its energy") as caught:
        calculator = PotentialCalculator(make(DirectHead))
    assert len(caught) == 1
    atoms = bulk("Ar", a=4.9, cubic=True)
    atoms.rattle(0.1)
    atoms.calc = calculator
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        forces = atoms.get_forces()
        assert np.abs(forces - sum_of_neighbours(atoms)).max() < 1e-12
        with pytest.raises(PropertyNotImplementedError, match="head for forces"):
            atoms.get_stress()
    assert not calculator.conservative


def sum_of_neighbours(atoms: Atoms) -> np.ndarray:
    whole = graph(atoms, 6.0)
    forces = np.zeros((len(atoms), 3))
    np.add.at(forces, whole.edge_index[1].numpy(), -edge_vectors(whole).numpy())
    return forces


def overlapping() -> Atoms:
    return Atoms("Ar2", [[0, 0, 0], [0, 0, 1e-5]])


def not_a_number() -> Atoms:
    return Atoms("Ar2", [[0, 0, 0], [0, 0, np.nan]])


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (Atoms("ArXe", [[0, 0, 0], [0, 0, 4]]), "Got Xe; this model knows Ne, Ar"),
        (Atoms(), "empty"),
        (not_a_number(), "finite"),
        (overlapping(), "same place"),
        (Atoms("Ar", pbc=True), "independent lattice vectors"),
    ],
)
def test_structures_without_sense_are_refused(make: Make, atoms: Atoms, message: str) -> None:
    calculator = PotentialCalculator(make())
    good = Atoms("ArNe", [[0, 0, 0], [0, 0, 3.5]])
    good.calc = calculator
    energy = good.get_potential_energy()
    atoms.calc = calculator
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            atoms.get_forces()
    assert good.get_potential_energy() == energy


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_results_that_are_no_numbers_are_refused(make: Make, value: float) -> None:
    broken = make()
    broken.get_parameter("sigma").data.fill_(value)
    atoms = Atoms("ArNe", [[0, 0, 0], [0, 0, 3.5]])
    atoms.calc = PotentialCalculator(broken)
    for ask in (atoms.get_forces, atoms.get_potential_energy):
        with pytest.raises(ValueError, match="must give finite energies and forces"):
            ask()
    assert atoms.calc.results == {}


def test_models_that_are_none_are_refused(make: Make, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        PotentialCalculator(tmp_path / "nowhere.safetensors")
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes(b"not a model at all")
    with pytest.raises(ValueError, match="model file"):
        PotentialCalculator([make(), foreign])
    with pytest.raises(TypeError, match="Got int"):
        PotentialCalculator([3])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="Got NoneType"):
        PotentialCalculator(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="empty list"):
        PotentialCalculator([])
    with pytest.raises(ValueError, match="float16"):
        PotentialCalculator(make(), dtype="float16")
    with pytest.raises(ValueError, match="skin"):
        PotentialCalculator(make(), skin=-1)
    other = build(make().config, elements=[18], reference_energies={18: 0.0})
    with pytest.raises(ValueError, match=r"same elements\. Got Ne, Ar in number 0 and Ar in"):
        PotentialCalculator([make(), other])
    with pytest.raises(ValueError, match="mix models"):
        PotentialCalculator([make(), make(DirectHead)])
    with pytest.raises(ValueError, match="Make a new calculator"):
        PotentialCalculator(make()).set(skin=1.0)
