"""Label structures with an extended tight-binding method, through `tblite`."""

from collections.abc import Mapping
from typing import Any

import ase
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator

from tensornet.datasets.generate.source import Method

# What a file keeps. A label belongs to rounded positions, so that it can be checked exactly.
DIGITS = {"positions": 8, "cell": 8, "energy": 8, "forces": 7, "stress": 10}


def calculator(method: Method, *, multiplicity: int = 1) -> Any:
    """Build an ASE calculator.

    Args:
        method: Settings.
        multiplicity: Spin multiplicity, the number of unpaired electrons plus one.

    Returns:
        A `tblite.ase.TBLite`. A self-consistent cycle that does not converge raises
        `ase.calculators.calculator.CalculationFailed`.

    Raises:
        ImportError: If `tblite` is not installed.
    """
    try:
        from tblite.ase import TBLite
    except ImportError as error:
        raise ImportError(
            "`tensornet.datasets.generate` needs tblite. "
            '(Install it: pip install "tensornet-science[generate]")'
        ) from error
    return TBLite(
        method=method.hamiltonian,
        multiplicity=multiplicity,
        accuracy=method.accuracy,
        electronic_temperature=method.electronic_temperature,
        max_iterations=method.max_iterations,
        verbosity=0,
    )


def label(atoms: ase.Atoms, method: Method, *, multiplicity: int = 1) -> ase.Atoms:
    """Compute energy, forces and, where all directions are periodic, stress.

    Positions and cell are rounded to what a file keeps *before* the calculation, and the
    self-consistent cycle starts anew: a label depends on the written structure and on nothing else.

    Args:
        atoms: The structure.
        method: How to label it.
        multiplicity: Spin multiplicity.

    Returns:
        A copy, its `info` included, with energy (eV), forces (eV/Å) and stress (eV/Å³) in its
        calculator.

    Raises:
        ImportError: If `tblite` is not installed.
        ase.calculators.calculator.CalculationFailed: If the self-consistent cycle does not
            converge.
    """
    labelled: Any = ase.Atoms(
        atoms.numbers,
        np.round(atoms.positions, DIGITS["positions"]),
        cell=np.round(atoms.cell.array, DIGITS["cell"]),
        pbc=atoms.pbc,
        info=dict(atoms.info),
    )
    labelled.calc = calculator(method, multiplicity=multiplicity)
    results = {
        "energy": round(float(labelled.get_potential_energy()), DIGITS["energy"]),
        "forces": np.round(labelled.get_forces(), DIGITS["forces"]) + 0.0,  # no -0
    }
    if labelled.pbc.all():
        results["stress"] = np.round(labelled.get_stress(), DIGITS["stress"]) + 0.0
    labelled.calc = SinglePointCalculator(labelled, **results)
    return labelled  # type: ignore[no-any-return]


def isolated_atoms(multiplicities: Mapping[str, int], method: Method) -> list[ase.Atoms]:
    """Compute free atoms, whose energies are the reference of interaction energies.

    The energy is `tblite`'s, as for every other frame: a free energy of the electrons at the
    electronic temperature. In an open shell it holds the entropy of the degenerate orbitals: for
    two electrons of like spin in three p orbitals at 300 K, -0.049 eV.

    Args:
        multiplicities: Spin multiplicity by element; ground states are H 2, C 3, O 3, Si 3.
        method: How to compute them.

    Returns:
        One frame for each element, without periodicity, ``config_type`` ``isolated_atom``.

    Raises:
        ImportError: If `tblite` is not installed.
    """
    return [
        label(
            ase.Atoms(element, info={"config_type": "isolated_atom", "multiplicity": multiplicity}),
            method,
            multiplicity=multiplicity,
        )
        for element, multiplicity in multiplicities.items()
    ]
