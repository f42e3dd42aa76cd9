"""Labels are found wherever they are put, or the reader is told why not."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import ArrayLike

from tensornet.datasets import LabelError, LabelKeys, Labels
from tensornet.datasets.labels import extract

FORCES = np.arange(6.0).reshape(2, 3) - 2.5
STRESS = np.array([[0.01, 0.02, -0.03], [0.02, -0.04, 0.05], [-0.03, 0.05, 0.06]])
CELL = np.array([[4.0, 0, 0], [1.0, 5, 0], [0, 2, 6]])
VOLUME = 120.0
WHERE = "frame 7 (counted from 0) of some.xyz"


def close(
    actual: ArrayLike | None, expected: ArrayLike, *, rtol: float = 0.0, atol: float = 0.0
) -> None:
    assert actual is not None
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=rtol, atol=atol)


def exact(actual: ArrayLike | None, expected: ArrayLike) -> None:
    close(actual, expected)


def structure(**results: object) -> Atoms:
    atoms = Atoms("OH", [[0, 0, 0], [0, 0, 1]], cell=CELL, pbc=True)
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def take(atoms: Atoms, **keys: str) -> Labels:
    return extract(atoms, keys=LabelKeys(**keys), where=WHERE)


def test_labels_in_the_calculator() -> None:
    labels = take(structure(energy=-3.5, forces=FORCES, stress=full_3x3_to_voigt_6_stress(STRESS)))
    assert labels.energy == -3.5
    exact(labels.forces, FORCES)
    exact(labels.stress, STRESS)
    assert labels.source == {
        "energy": "calculator energy",
        "forces": "calculator forces",
        "stress": "calculator stress",
    }
    assert labels.notes == ()


@pytest.mark.parametrize(
    "key",
    [
        "energy",
        "Energy",
        "ENERGY",
        "REF_energy",
        "ref_energy",
        "dft_energy",
        "DFT_Energy",
        "total_energy",
        "qm_energy",
        "potential_energy",
    ],
)
def test_energies_in_info_under_any_usual_name(key: str) -> None:
    atoms = structure()
    atoms.info[key] = np.array([-7.25])
    labels = take(atoms)
    assert labels.energy == -7.25
    assert labels.source == {"energy": f"info {key}"}


@pytest.mark.parametrize(
    "key",
    [
        "forces",
        "force",
        "Forces",
        "REF_forces",
        "ref_force",
        "dft_force",
        "dft_forces",
        "DFT_FORCE",
    ],
)
@pytest.mark.parametrize("place", ["arrays", "info"])
def test_forces_in_arrays_or_info_under_any_usual_name(key: str, place: str) -> None:
    atoms = structure()
    getattr(atoms, place)[key] = FORCES
    labels = take(atoms)
    exact(labels.forces, FORCES)
    assert labels.source == {"forces": f"{place} {key}"}


@pytest.mark.parametrize("form", ["matrix", "nine", "voigt"])
@pytest.mark.parametrize("key", ["REF_stress", "stress", "dft_stress"])
def test_stress_as_matrix_nine_numbers_or_voigt(form: str, key: str) -> None:
    atoms = structure()
    voigt = full_3x3_to_voigt_6_stress(STRESS)
    atoms.info[key] = {"matrix": STRESS, "nine": STRESS.ravel(), "voigt": voigt}[form]
    exact(take(atoms).stress, STRESS)


@pytest.mark.parametrize("form", ["matrix", "nine", "voigt"])
@pytest.mark.parametrize("key", ["virial", "virials", "REF_virial", "REF_virials", "dft_virial"])
def test_a_virial_is_minus_stress_times_volume(form: str, key: str) -> None:
    atoms = structure()
    virial = -STRESS * VOLUME
    voigt = full_3x3_to_voigt_6_stress(virial)
    atoms.info[key] = {"matrix": virial, "nine": virial.ravel(), "voigt": voigt}[form]
    labels = take(atoms)
    close(labels.stress, STRESS, rtol=1e-12)
    assert labels.source["stress"] == f"info {key} (-virial/volume)"
    assert "stress = -virial / volume" in labels.notes


def test_a_left_handed_cell_has_a_positive_volume() -> None:
    atoms = structure()
    atoms.set_cell(CELL[[1, 0, 2]])
    atoms.info["virial"] = -STRESS * VOLUME
    close(take(atoms).stress, STRESS, rtol=1e-12)


def test_no_labels_are_none_and_not_zero() -> None:
    labels = take(structure())
    assert (labels.energy, labels.forces, labels.stress, labels.source) == (None, None, None, {})


def test_a_free_energy_is_not_the_energy() -> None:
    labels = take(structure(energy=-1.0, free_energy=-1.5))
    assert labels.energy == -1.0
    assert any("`free_energy` differs from the energy" in note for note in labels.notes)
    assert take(structure(energy=-1.0, free_energy=-1.0)).notes == ()
    assert take(structure(energy=-1.0, free_energy=-1.5), energy="free_energy").energy == -1.5


def test_a_free_energy_alone_is_used_and_said() -> None:
    labels = take(structure(free_energy=-1.5))
    assert labels.energy == -1.5
    assert any("no other energy was found" in note for note in labels.notes)


def test_values_per_atom_are_no_labels_of_the_structure() -> None:
    atoms = structure()
    atoms.arrays["energy"] = np.ones(2)
    atoms.arrays["virials"] = np.ones((2, 9))
    atoms.arrays["stress"] = np.ones((2, 6))
    assert take(atoms).source == {}


def test_an_explicit_key_is_used_and_the_usual_names_are_not() -> None:
    atoms = structure(energy=-1.0, forces=FORCES)
    atoms.info["E_ccsd"] = -2.0
    atoms.arrays["F_ccsd"] = 2 * FORCES
    labels = take(atoms, energy="E_ccsd", forces="f_CCSD")
    assert labels.energy == -2.0
    exact(labels.forces, 2 * FORCES)
    assert labels.source == {"energy": "info E_ccsd", "forces": "arrays F_ccsd"}
    assert take(atoms, energy="absent").energy is None


def test_an_explicit_key_prefers_its_own_spelling() -> None:
    atoms = structure()
    atoms.info |= {"E": 1.0, "e": 2.0}
    assert take(atoms, energy="E").energy == 1.0
    assert take(atoms, energy="e").energy == 2.0


def test_an_explicit_stress_leaves_the_virial_alone() -> None:
    atoms = structure()
    atoms.info |= {"stress": STRESS, "virial": STRESS}
    exact(take(atoms, stress="stress").stress, STRESS)
    close(take(atoms, virial="virial").stress, -STRESS / VOLUME, rtol=1e-12)


def test_different_values_are_an_error_that_names_them() -> None:
    atoms = structure(energy=-1.0)
    atoms.info["REF_energy"] = -1.25
    message = (
        r"energy of frame 7 .* must be unambiguous. Got different values \(by up to 0.25 eV\) from "
        r"calculator energy and info REF_energy.*keys: {energy: calculator/energy}"
    )
    with pytest.raises(LabelError, match=message):
        take(atoms)
    assert take(atoms, energy="calculator/energy").energy == -1.0
    assert take(atoms, energy="REF_energy").energy == -1.25


def test_the_same_key_in_two_places_can_be_told_apart() -> None:
    atoms = structure(energy=-1.0)
    atoms.info["energy"] = -3.0
    with pytest.raises(LabelError, match="calculator energy and info energy"):
        take(atoms, energy="energy")
    assert take(atoms, energy="info/energy").energy == -3.0


def test_different_forces_are_an_error() -> None:
    atoms = structure(forces=FORCES)
    atoms.arrays["dft_force"] = FORCES.copy()
    assert take(atoms).source["forces"] == "calculator forces"
    atoms.arrays["dft_force"][1, 2] += 0.01
    with pytest.raises(LabelError, match=r"by up to 0.01 eV/Å.*arrays dft_force"):
        take(atoms)


def test_a_virial_of_the_wrong_sign_beside_a_stress_is_an_error() -> None:
    atoms = structure(stress=full_3x3_to_voigt_6_stress(STRESS))
    atoms.info["virial"] = (-STRESS * VOLUME).round(4)
    exact(take(atoms).stress, STRESS)
    atoms.info["virial"] *= -1
    with pytest.raises(LabelError, match=r"calculator stress and info virial \(-virial/volume\)"):
        take(atoms)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_labels_that_are_not_finite_name_the_frame_and_the_atom(value: float) -> None:
    with pytest.raises(LabelError, match=r"energy in frame 7 .* of some.xyz must be finite"):
        take(structure(energy=value))
    forces = FORCES.copy()
    forces[1, 2] = value
    with pytest.raises(LabelError, match=r"forces on atom 1 \(H\) in frame 7 .* of some.xyz"):
        take(structure(forces=forces))
    stress = STRESS.copy()
    stress[1, 1] = value
    with pytest.raises(LabelError, match="The stress in frame 7"):
        take(structure(stress=full_3x3_to_voigt_6_stress(stress)))


@pytest.mark.parametrize("shape", [(2, 2), (3, 3), (6,), (1, 3)])
def test_forces_of_a_wrong_shape_are_an_error(shape: tuple[int, ...]) -> None:
    atoms = structure()
    atoms.info["forces"] = np.ones(shape)
    with pytest.raises(LabelError, match=r"forces of .* must have shape \(2, 3\). Got \("):
        take(atoms)


@pytest.mark.parametrize("value", [np.ones(3), np.ones((3, 2)), "abc", 1.0])
def test_a_stress_of_a_wrong_shape_is_an_error(value: object) -> None:
    atoms = structure()
    atoms.info["stress"] = value
    with pytest.raises(LabelError, match="must be 3 x 3 numbers, 9 numbers, or 6 in the order xx"):
        take(atoms)


def test_an_energy_that_is_no_number_is_an_error() -> None:
    atoms = structure()
    atoms.info["energy"] = "see log"
    with pytest.raises(LabelError, match=r"made of numbers. Got 'see log' \(from info energy\)"):
        take(atoms)
    atoms.info["energy"] = [1.0, 2.0]
    with pytest.raises(LabelError, match=r"must have shape \(\). Got \(2,\)"):
        take(atoms)


@pytest.mark.parametrize(
    ("pbc", "cell", "why"),
    [((True, True, False), CELL, "direction is not periodic"), (True, 0 * CELL, "no volume")],
)
def test_a_stress_without_a_volume_is_not_used_and_said(
    pbc: tuple[bool, bool, bool], cell: np.ndarray, why: str
) -> None:
    atoms = structure(stress=full_3x3_to_voigt_6_stress(STRESS))
    atoms.pbc = pbc
    atoms.set_cell(cell)
    labels = take(atoms)
    assert labels.stress is None
    assert why in labels.notes[0]


def test_the_antisymmetric_part_of_a_virial_is_dropped_and_said() -> None:
    atoms = structure()
    virial = -STRESS * VOLUME
    virial[0, 1] += 0.5
    virial[1, 0] -= 0.5
    atoms.info["virial"] = virial
    labels = take(atoms)
    close(labels.stress, STRESS, rtol=1e-12)
    assert "virial is not symmetric; its symmetric part is used" in labels.notes
