"""D3 added to a potential: against the library itself, and with a stand-in for it."""

# mypy: allow-untyped-calls

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import InputError, PropertyNotImplementedError

from tensornet.calculators import PotentialCalculator
from tensornet.models import Potential, build


def model() -> Potential:
    block = {"name": "lennard_jones", "cutoff": 5.0, "epsilon": 0.02, "sigma": 3.0}
    return build(block, elements=[10, 18], reference_energies={10: -3.0, 18: -14.5})


def crystal() -> Atoms:
    atoms: Atoms = bulk("Ar", a=4.8, cubic=True)
    atoms.positions += 0.1 * np.random.default_rng(0).standard_normal((4, 3))
    return atoms


def test_is_the_sum_of_both() -> None:
    library = pytest.importorskip("dftd3.ase")
    for atoms in (crystal(), Atoms("ArNe", [[0, 0, 0], [0, 0, 3.4]])):
        alone, d3 = atoms.copy(), atoms.copy()
        alone.calc = PotentialCalculator(model())
        d3.calc = library.DFTD3(method="pbe", damping="d3bj")
        atoms.calc = PotentialCalculator(model(), dispersion="d3bj:pbe")
        assert abs(d3.get_potential_energy()) > 1e-3
        want = alone.get_potential_energy() + d3.get_potential_energy()
        assert atoms.get_potential_energy() == pytest.approx(want, abs=1e-12)
        assert atoms.get_potential_energy(force_consistent=True) == pytest.approx(want, abs=1e-12)
        want = alone.get_forces() + d3.get_forces()
        np.testing.assert_allclose(atoms.get_forces(), want, rtol=0, atol=1e-12)
        if all(atoms.pbc):
            want = alone.get_stress() + d3.get_stress()
            np.testing.assert_allclose(atoms.get_stress(), want, rtol=0, atol=1e-12)
        with pytest.raises(PropertyNotImplementedError):
            atoms.get_potential_energies()
    with pytest.raises(ValueError, match="Got 'd3bj:nonsense'"):
        PotentialCalculator(model(), dispersion="d3bj:nonsense")


class StandIn:
    """Has the interface of `dftd3.ase.DFTD3`, and an energy of -0.25 eV times the volume."""

    def __init__(self, method: str, damping: str) -> None:
        if method != "pbe":
            raise InputError(method)
        self.results: dict[str, Any] = {}

    def calculate(self, atoms: Atoms, properties: list[str], changes: list[str]) -> None:
        forces = np.arange(3.0 * len(atoms)).reshape(-1, 3)
        self.results = {"energy": -0.25 * atoms.cell.volume, "forces": forces}
        if all(atoms.pbc):
            self.results["stress"] = np.array([-0.25, -0.25, -0.25, 0, 0, 0])


def test_with_a_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    fake: Any = ModuleType("dftd3.ase")
    fake.DFTD3 = StandIn
    monkeypatch.setitem(sys.modules, "dftd3", ModuleType("dftd3"))
    monkeypatch.setitem(sys.modules, "dftd3.ase", fake)
    atoms, alone = crystal(), crystal()
    atoms.calc = PotentialCalculator(model(), dispersion="d3bj:pbe")
    alone.calc = PotentialCalculator(model())
    want = alone.get_potential_energy() - 0.25 * atoms.get_volume()
    assert atoms.get_potential_energy() == pytest.approx(want, abs=1e-12)
    np.testing.assert_allclose(
        atoms.get_forces() - alone.get_forces(), np.arange(12.0).reshape(4, 3), atol=1e-12
    )
    step = 1e-4
    energies = []
    for sign in (1, -1):
        strained = crystal()
        strained.set_cell(strained.cell.array * (1 + sign * step), scale_atoms=True)
        strained.calc = atoms.calc
        energies.append(strained.get_potential_energy())
    trace = (energies[0] - energies[1]) / (2 * step) / atoms.get_volume()
    assert atoms.get_stress()[:3].sum() == pytest.approx(trace, rel=1e-5)


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("pbe", "d4:pbe", "d3bj:", ""):
        with pytest.raises(ValueError, match=r"must be a damping and a functional, as 'd3bj:pbe'"):
            PotentialCalculator(model(), dispersion=wrong)
    monkeypatch.setitem(sys.modules, "dftd3", None)
    monkeypatch.setitem(sys.modules, "dftd3.ase", None)
    with pytest.raises(ModuleNotFoundError, match="pip install dftd3"):
        PotentialCalculator(model(), dispersion="d3bj:pbe")
