"""Reference energies: exact where the data determine them, and honest where they do not."""

import numpy as np
import pytest
from ase import Atoms
from ase.data import atomic_numbers

from tensornet.datasets import Frames, Labels, reference_energies

TRUE = {"H": -13.5, "C": -1026.25, "O": -2037.75}


def frames(
    formulas: list[str],
    *,
    noise: float = 0.0,
    isolated: tuple[str, ...] = (),
    energies: dict[str, float] = TRUE,
) -> Frames:
    rng = np.random.default_rng(4409)
    structures = tuple(Atoms(formula) for formula in formulas)
    labels = tuple(
        Labels(energy=sum(energies[s] for s in atoms.symbols) + noise * rng.normal())
        for atoms in structures
    )
    return Frames(structures, labels, {atomic_numbers[s]: TRUE[s] for s in isolated})


MIXED = ["CH4", "C2H6O", "H2O", "CO2", "C3H8", "CH2O", "C2H4O2"]


def test_a_fit_recovers_energies_that_are_sums() -> None:
    references = reference_energies(frames(MIXED), "fit")
    assert references.rank == 3
    assert references.method == "fit"
    for symbol, value in TRUE.items():
        assert references.values[atomic_numbers[symbol]] == pytest.approx(value, abs=1e-9)
    assert "rank 3 of 3" in references.message
    assert "no meaning" not in references.message
    assert "RMSE of 0.000 meV/atom" in references.message


def test_a_fit_minimises_the_error_per_atom() -> None:
    data = frames(MIXED * 3, noise=0.5)
    values = reference_energies(data, "fit").values

    def loss(shift: dict[int, float]) -> float:
        rest = [
            (one.energy or 0) - sum(values[z] + shift.get(z, 0) for z in atoms.numbers.tolist())
            for atoms, one in zip(data.structures, data.labels, strict=True)
        ]
        per_atom = np.array(rest) / [len(atoms) for atoms in data.structures]
        return float(np.sqrt((per_atom**2).mean()))

    best = loss({})
    assert f"RMSE of {1e3 * best:.3f} meV/atom" in reference_energies(data, "fit").message
    for z in values:
        for step in (0.02, -0.02):
            assert loss({z: step}) > best


def test_a_fixed_stoichiometry_gives_the_smallest_norm_and_says_so() -> None:
    references = reference_energies(frames(["C5H8O2"] * 6), "fit")
    total = 5 * TRUE["C"] + 8 * TRUE["H"] + 2 * TRUE["O"]
    assert references.rank == 1
    for z, count in ((6, 5), (1, 8), (8, 2)):  # along the only composition
        assert references.values[z] == pytest.approx(count * total / (25 + 64 + 4), rel=1e-12)
    assert "rank 1 of 3" in references.message
    assert "single values have no meaning" in references.message
    assert "RMSE of 0.000 meV/atom" in references.message


def test_two_compositions_of_three_elements_have_rank_two() -> None:
    references = reference_energies(frames(["C5H8O2", "H2O", "H2O"]), "fit")
    assert references.rank == 2
    water = 2 * references.values[1] + references.values[8]
    assert water == pytest.approx(2 * TRUE["H"] + TRUE["O"], rel=1e-12)


def test_auto_takes_isolated_atoms_when_every_element_has_one() -> None:
    references = reference_energies(frames(["CH4", "C2H6"], isolated=("H", "C", "O")))
    assert references.method == "isolated"
    assert references.rank is None
    assert references.values == {1: TRUE["H"], 6: TRUE["C"]}
    assert "isolated atoms" in references.message


def test_auto_fits_when_an_isolated_atom_is_missing() -> None:
    assert reference_energies(frames(MIXED, isolated=("H", "C"))).method == "fit"


def test_isolated_names_what_is_missing() -> None:
    with pytest.raises(ValueError, match="Got none of C, O; found H"):
        reference_energies(frames(MIXED, isolated=("H",)), "isolated")


def test_the_residual_of_isolated_atoms_is_the_energy_of_binding() -> None:
    bound = {"H": TRUE["H"] - 2.0, "C": TRUE["C"] - 2.0, "O": TRUE["O"] - 2.0}
    data = frames(MIXED, isolated=("H", "C", "O"), energies=bound)
    message = reference_energies(data).message
    assert "RMSE of 2000.000 meV/atom (mean -2000.000, standard deviation 0.000)" in message


def test_given_values_by_symbol() -> None:
    references = reference_energies(frames(["CH4"]), {"C": -1000, "H": -13.0, "Au": 1.0})
    assert references.method == "given"
    assert references.values == {1: -13.0, 6: -1000.0}


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"C": -1.0}, "Got C; missing H"),
        ({}, "Got none; missing H, C"),
        ({"c": -1.0, "H": 0.0}, r"Got 'c'. \(Did you mean C\?\)"),
        ({"C": float("nan"), "H": 0.0}, "finite energies in eV. Got nan for C"),
        ({"C": "many", "H": 0.0}, "Got 'many' for C"),
        ("guess", "must be one of auto, isolated, fit, none, or a mapping.*Got 'guess'"),
    ],
)
def test_wrong_requests_are_refused(how: str | dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reference_energies(frames(["CH4"]), how)


def test_none_is_zero() -> None:
    references = reference_energies(frames(["CH4"]), "none")
    assert references.values == {1: 0.0, 6: 0.0}
    assert references.method == "none"


def test_without_energies_auto_is_zero_and_a_fit_is_refused() -> None:
    data = Frames((Atoms("CH4"),), (Labels(),), {})
    references = reference_energies(data)
    assert references.method == "none"
    assert "no energy labels" in references.message
    with pytest.raises(ValueError, match="none with an energy"):
        reference_energies(data, "fit")


def test_an_element_without_energy_is_zero_and_said() -> None:
    some = frames(MIXED)
    data = Frames((*some.structures, Atoms("Au")), (*some.labels, Labels()), {})
    references = reference_energies(data, "fit")
    assert references.values[79] == pytest.approx(0.0, abs=1e-12)
    assert references.values[1] == pytest.approx(TRUE["H"], abs=1e-9)
    assert "no energy has Au: zero" in references.message
