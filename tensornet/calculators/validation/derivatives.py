"""Checks of derivatives: forces and stress against the energy, and the symmetry of the Hessian."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np
from ase import Atoms

from tensornet.calculators.validation.bench import Array, Bench, moved
from tensornet.calculators.validation.report import Row

Value = TypeVar("Value", float, Array)

STEP = 1e-3  # Å, or strain
STEP_HESSIAN = 5e-4  # Å
N_ATOMS = 8  # forces of so many atoms are compared

HEAD = "forces come from a head of their own, so they are not promised to be derivatives"


def forces(bench: Bench) -> Row:
    """Compare forces with central differences of the energy, of fourth order."""
    expected = bench.ask(bench.atoms).forces
    n = len(bench.atoms)
    chosen = np.sort(bench.rng().choice(n, size=min(n, N_ATOMS), replace=False))
    errors, size = [0.0], float(np.abs(expected).max())
    for atom in chosen:
        for axis in range(3):
            energy = partial(_shifted, bench, int(atom), axis)
            errors.append(abs(expected[atom, axis] + _slope(energy)))
    words = "relative error against differences of the energy"
    largest = float(np.max(errors))  # unlike `max`, keeps NaN
    if size < 1e-12 and largest < 1e-12:
        return _lone("forces", words)
    value = largest / max(size, 1e-12)
    return Row(
        "forces",
        words,
        value,
        1e-6,
        "",
        value <= 1e-6 if bench.model.conservative else None,
        f"{len(chosen)} of {n} atoms" if bench.model.conservative else HEAD,
    )


def stress(bench: Bench) -> Row:
    """Compare stress with differences of the energy under strain, of fourth order."""
    words = "relative error against differences of the energy under strain"
    if not bench.model.conservative:
        return Row("stress", words, None, None, "", None, f"{HEAD}, and there is no stress")
    crystal = bench.crystal
    expected = bench.ask(crystal).stress
    volume = abs(float(np.linalg.det(crystal.cell.array)))
    slopes = np.empty((3, 3))
    for i in range(3):
        for j in range(i, 3):
            strain = np.zeros((3, 3))
            strain[i, j] += 0.5
            strain[j, i] += 0.5
            slopes[i, j] = slopes[j, i] = _slope(partial(_strained, bench, crystal, strain))
    size = float(np.abs(expected).max())
    if size < 1e-12 and np.abs(slopes).max() < 1e-12:
        return _lone("stress", words)
    value = float(np.abs(expected - slopes / volume).max()) / max(size, 1e-12)
    note = "" if bench.start.pbc.all() else "on a periodic structure made of it"
    return Row("stress", words, value, 1e-6, "", value <= 1e-6, note)


def hessian(bench: Bench) -> Row:
    """Compare the Hessian of a small cluster, by differences of forces, with its transpose."""
    words = "relative asymmetry of the second derivatives, by differences of forces"
    cluster = bench.cluster
    n = len(cluster)
    block = np.empty((3 * n, 3 * n))
    for row in range(3 * n):

        def push(h: float, row: int = row) -> Array:
            positions = np.array(cluster.positions)
            positions[row // 3, row % 3] += h
            return bench.ask(moved(cluster, positions)).forces.ravel()

        block[row] = _slope(push, STEP_HESSIAN)
    size = float(np.abs(block).max())
    if size < 1e-12:
        return _lone("hessian", words)
    value = float(np.abs(block - block.T).max()) / size
    if not bench.model.conservative:
        return Row("hessian", words, value, 1e-8, "", None, HEAD)
    return Row("hessian", words, value, 1e-8, "", value <= 1e-8, f"a cluster of {n} atoms")


def _lone(name: str, words: str) -> Row:
    return Row(name, words, None, None, "", None, "no force acts in this structure")


def _slope(f: Callable[[float], Value], h: float = STEP) -> Value:
    """Central difference of fourth order."""
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)


def _shifted(bench: Bench, atom: int, axis: int, h: float) -> float:
    positions = np.array(bench.atoms.positions)
    positions[atom, axis] += h
    return bench.interaction(moved(bench.atoms, positions))


def _strained(
    bench: Bench,
    atoms: Atoms,
    strain: Array,  # (3, 3)
    h: float,
) -> float:
    new = np.eye(3) + h * strain
    cell, positions = atoms.cell.array @ new, atoms.positions @ new
    return bench.interaction(Atoms(atoms.numbers, positions=positions, cell=cell, pbc=atoms.pbc))
