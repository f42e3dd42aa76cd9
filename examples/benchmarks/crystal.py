"""Properties of a crystal from any ASE calculator: elastic constants, equation of state, vacancy.

What labelled frames say of elastic constants is read from the frames themselves, so that the
reference and a potential go through the same fit.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.eos import EquationOfState
from ase.optimize import BFGS
from numpy.typing import NDArray

Array = NDArray[np.float64]
VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
LIKE_ZERO = 1e-6  # of a strain


def strain(
    cell: Array,  # (3, 3), rows
    of: Array,  # (3, 3), rows
) -> Array:  # (6,), Voigt, shears doubled
    """Green-Lagrange strain that makes one cell of another; rotations do not count."""
    back = np.linalg.inv(of)
    metric = back @ (cell @ cell.T) @ back.T
    eta = (metric - np.eye(3)) / 2
    return np.array([eta[i, j] * (1 if i == j else 2) for i, j in VOIGT])


def cubic_constants(
    strains: Array,  # (s, 6), Voigt, shears doubled
    stresses: Array,  # (s, 6), Voigt, eV/Å³, tension positive
) -> dict[str, float]:
    """Fit C11, C12 and C44 of a cubic crystal to stresses at strains of a single component.

    Stress is a polynomial of the strain (degree four, less if there are fewer points), and its
    slope at zero the constant: C11 along the strained axis, C12 across, C44 for shears. Directions
    that symmetry makes alike are fitted together.

    Args:
        strains: One component of each is not zero, or none.
        stresses: The stress of each.

    Returns:
        Constants and the bulk modulus (C11 + 2 C12) / 3, GPa; those without strains are left out.

    References:
        Nye, Physical Properties of Crystals (1957), chapter 8.
    """
    points: dict[str, list[tuple[float, float]]] = {"C11": [], "C12": [], "C44": []}
    for eta, sigma in zip(strains, stresses, strict=True):
        parts = np.flatnonzero(np.abs(eta) > LIKE_ZERO)
        if len(parts) > 1:
            raise ValueError(
                f"`cubic_constants(strains=...)` must have one component each. Got {eta}."
            )
        for k in range(6) if len(parts) == 0 else parts:
            if k >= 3:
                points["C44"].append((eta[k], sigma[k]))
            else:
                points["C11"].append((eta[k], sigma[k]))
                points["C12"] += [(eta[k], sigma[j]) for j in range(3) if j != k]
    found = {}
    for name, pairs in points.items():
        x, y = np.array(pairs).T if pairs else (np.empty(0), np.empty(0))
        n = len(np.unique(np.round(x, 6)))
        if n >= 2:
            slope = np.polynomial.polynomial.polyfit(x, y, min(4, n - 1))[1]
            found[name] = float(slope / units.GPa)
    if {"C11", "C12"} <= set(found):
        found["bulk_modulus"] = (found["C11"] + 2 * found["C12"]) / 3
    return found


def perfect(frames: Sequence[Atoms]) -> Atoms:
    """Choose the crystal without strain: of frames with a cube as cell, that of least energy."""
    cubes = []
    for atoms in frames:
        lengths, angles = np.split(atoms.cell.cellpar(), 2)
        if np.ptp(lengths) < 1e-4 * lengths[0] and np.abs(angles - 90).max() < 1e-3:
            cubes.append(atoms)
    if not cubes:
        raise ValueError("`perfect(frames=...)` must hold a cell that is a cube. Got none.")
    return min(cubes, key=lambda atoms: atoms.get_potential_energy() / len(atoms))


def constants_of_frames(frames: Sequence[Atoms], crystal: Atoms) -> dict[str, float]:
    """Fit elastic constants to labelled frames of a strained crystal; others are passed over.

    Args:
        frames: With stress, each a strained copy of the crystal.
        crystal: The crystal without strain.
    """
    strains, stresses = [], []
    for atoms in frames:
        eta = strain(np.array(atoms.cell), np.array(crystal.cell))
        if (np.abs(eta) > LIKE_ZERO).sum() <= 1:
            strains.append(eta)
            stresses.append(atoms.get_stress())
    return cubic_constants(np.array(strains), np.array(stresses))


def elastic_constants(
    crystal: Atoms, calculator: Any, *, step: float = 0.005, fmax: float = 1e-3
) -> dict[str, float]:
    """Strain a cubic crystal by little, relax the atoms, and fit the stresses.

    Args:
        crystal: A cubic cell at the lattice constant wanted.
        calculator: What gives forces and stress.
        step: Strains are one and two steps either way.
        fmax: Forces at which atoms count as relaxed, eV/Å.

    Returns:
        As `cubic_constants`, with atoms relaxed in every strained cell.
    """
    strains, stresses = [], []
    for k in (0, 3):
        for number in (-2, -1, 1, 2):
            i, j = VOIGT[k]
            change = np.eye(3)
            change[i, j] += number * step * (1.0 if i == j else 0.5)
            if i != j:
                change[j, i] = change[i, j]
            atoms = crystal.copy()
            atoms.set_cell(crystal.cell @ change, scale_atoms=True)
            relax(atoms, calculator, fmax)
            eta = strain(np.array(atoms.cell), np.array(crystal.cell))
            if k >= 3:  # what a symmetric shear adds to the lengths is of second order
                eta[:3] = 0.0
            strains.append(eta)
            stresses.append(atoms.get_stress())
    return cubic_constants(np.array(strains), np.array(stresses))


def equation_of_state(
    crystal: Atoms, calculator: Any, *, largest: float = 0.01, points: int = 9
) -> dict[str, float]:
    """Fit Birch-Murnaghan to energies of scaled cells, about the volume that the calculator wants.

    Args:
        crystal: A crystal near its equilibrium, with atoms where symmetry holds them.
        calculator: What gives energies.
        largest: Largest change of lengths.
        points: Number of volumes.

    Returns:
        Volume (Å³ per atom), bulk modulus (GPa), energy (eV per atom), and `scale`, what lengths
        of the crystal are to be multiplied by.
    """
    centre, per_atom = 1.0, crystal.get_volume() / len(crystal)
    for _ in range(20):
        factors = centre * np.linspace(1 - largest, 1 + largest, points)
        energies = []
        for factor in factors:
            atoms = crystal.copy()
            atoms.set_cell(crystal.cell * factor, scale_atoms=True)
            atoms.calc = calculator
            energies.append(atoms.get_potential_energy() / len(atoms))
        lowest = int(np.argmin(energies))
        if lowest in (0, points - 1):  # not yet about the minimum
            centre = factors[lowest]
            continue
        state: Any = EquationOfState(per_atom * factors**3, energies, eos="birchmurnaghan")
        volume, energy, modulus = state.fit(warn=False)
        before, centre = centre, (volume / per_atom) ** (1 / 3)
        if abs(centre / before - 1) < largest / 4:
            break
    else:
        raise RuntimeError("the energy of the crystal has no minimum near its volume")
    return {
        "volume": float(volume), "bulk_modulus": float(modulus / units.GPa),
        "energy": float(energy), "scale": float(centre),
    }  # fmt: skip


def vacancy(crystal: Atoms, calculator: Any, *, fmax: float = 2e-3) -> dict[str, float]:
    """Take an atom out and relax the others in the same cell.

    Args:
        crystal: A supercell at its equilibrium.
        calculator: What gives energies and forces.
        fmax: Forces at which atoms count as relaxed, eV/Å.

    Returns:
        Formation energy with atoms in their places, and relaxed, eV: energy of the n - 1 atoms
        less (n - 1) / n of that of the crystal.
    """
    whole = crystal.copy()
    whole.calc = calculator
    rest = whole.get_potential_energy() * (1 - 1 / len(crystal))
    atoms = crystal.copy()
    del atoms[0]
    atoms.calc = calculator
    unrelaxed = atoms.get_potential_energy() - rest
    atoms.rattle(0.01, seed=0)  # or symmetry would hold atoms where they are
    relax(atoms, calculator, fmax)
    return {"unrelaxed": float(unrelaxed), "relaxed": float(atoms.get_potential_energy() - rest)}


def relax(atoms: Atoms, calculator: Any, fmax: float, steps: int = 200) -> None:
    """Relax atoms in a fixed cell, in place.

    Raises:
        RuntimeError: If forces are still larger after so many steps.
    """
    atoms.calc = calculator
    minimizer: Any = BFGS(atoms, logfile=None)
    if not minimizer.run(fmax=fmax, steps=steps):
        largest = float(np.linalg.norm(atoms.get_forces(), axis=1).max())
        raise RuntimeError(f"forces are {largest:.2g} eV/Å after {steps} steps of relaxation")
