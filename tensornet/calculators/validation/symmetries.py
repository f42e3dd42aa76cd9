"""Checks of symmetries: what may be done to a structure without changing its physics."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from scipy.spatial.transform import Rotation

from tensornet.calculators.validation.bench import Answer, Array, Bench, difference, evaluate, moved
from tensornet.calculators.validation.report import Row

LIMIT = 1e-10
N_ROTATIONS = 3


def rotation(bench: Bench) -> Row:
    """Turn the structures at random; forces and stress must turn with them."""
    turns = Rotation.random(N_ROTATIONS, random_state=bench.rng()).as_matrix()
    value = _largest(_turned(bench, atoms, turn) for turn in turns for atoms in _structures(bench))
    words = "relative error of energy, forces and stress after random rotations"
    return _row("rotation", words, value)


def inversion(bench: Bench) -> Row:
    """Invert the structures in space. With rotations, this covers every mirror."""
    value = _largest(_turned(bench, atoms, -np.eye(3)) for atoms in _structures(bench))
    words = "relative error of energy, forces and stress after inversion of space"
    promised = str(bench.model.config.get("symmetry", "O(3)")).lower().replace("(", "")
    if promised.startswith("so3") and not value <= LIMIT:
        note = "not promised: the symmetry of this model is SO(3), without mirrors"
        return Row("inversion", words, value, LIMIT, "", None, note)
    return _row("inversion", words, value)


def translation(bench: Bench) -> Row:
    """Move whole structures through space."""
    shift = 5 * bench.rng().standard_normal(3)
    value = _largest(
        difference(bench.ask(moved(atoms, atoms.positions + shift)), bench.ask(atoms))
        for atoms in _structures(bench)
    )
    return _row("translation", "relative error after a translation of all atoms", value)


def lattice_translation(bench: Bench) -> Row:
    """Move each atom by lattice vectors of its own."""
    atoms = bench.atoms if bench.atoms.pbc.any() else bench.crystal
    jumps = bench.rng().integers(-2, 3, size=(len(atoms), 3)) * np.array(atoms.pbc)
    other = moved(atoms, atoms.positions + jumps @ atoms.cell.array)
    value = difference(bench.ask(other), bench.ask(atoms))
    words = "relative error after moving each atom by lattice vectors"
    return _row("lattice translation", words, value)


def permutation(bench: Bench) -> Row:
    """Write the atoms in another order."""
    errors = []
    for atoms in _structures(bench):
        order = bench.rng().permutation(len(atoms))
        if len(atoms) > 1 and (order == np.arange(len(atoms))).all():
            order = order[::-1]
        whole = bench.ask(atoms)
        expected = whole._replace(energies=whole.energies[order], forces=whole.forces[order])
        errors.append(difference(bench.ask(atoms[order]), expected))
    words = "relative error after changing the order of the atoms"
    return _row("permutation", words, _largest(errors))


def batch(bench: Bench) -> Row:
    """Evaluate unlike structures in one batch and one by one."""
    lone = Atoms(bench.atoms.numbers[:1], positions=[[0.0, 0.0, 0.0]])
    structures = [bench.atoms, lone, bench.crystal, bench.cluster]
    together = evaluate(bench.model, structures)
    alone = [bench.ask(atoms) for atoms in structures]
    value = _largest(map(difference, together, alone))
    words = "relative error of a batch of unlike structures against one by one"
    return _row("batch", words, value)


def extensivity(bench: Bench) -> Row:
    """Double a structure: a supercell, and two far copies where these do not feel each other."""
    cluster = bench.cluster
    far = np.ptp(cluster.positions[:, 0]) + 2 * bench.model.cutoff + 1
    copies = moved(cluster, np.array(cluster.positions))
    copies.positions += np.array([far, 0.0, 0.0])
    crystal: Any = bench.crystal
    doubled = [(crystal, crystal.repeat((2, 1, 1)))]
    if bench.model.long_range is None:
        doubled.append((cluster, cluster + copies))
    value = _largest(difference(bench.ask(two), _twice(bench.ask(one))) for one, two in doubled)
    words = "relative error of twice a structure: "
    words += "two far copies, and a supercell" if len(doubled) == 2 else "a supercell"
    return _row("extensivity", words, value)


def atomic_energies(bench: Bench) -> Row:
    """Add up the energies of the atoms, and the references and the interaction."""
    errors = []
    references = bench.model.reference_energies
    for atoms in _structures(bench):
        answer = bench.ask(atoms)
        parts = sum(references[int(z)] for z in atoms.numbers) + answer.interaction
        size = max(np.abs(answer.energies).sum(), 1e-12)
        errors.append(abs(answer.energies.sum() - answer.energy) / size)
        errors.append(abs(parts - answer.energy) / size)
    words = "relative error of the sum of atomic energies, and of references plus interaction"
    return _row("atomic energies", words, _largest(errors), 1e-12)


def isolated_atom(bench: Bench) -> Row:
    """Ask for one atom of each element by itself: its reference energy, and no force."""
    errors = {}
    for z, reference in bench.model.reference_energies.items():
        answer = bench.ask(Atoms([z], positions=[[0.1, 0.2, 0.3]]))
        parts = [answer.energy - reference, answer.interaction, *answer.forces[0]]
        errors[z] = float(np.abs(parts).max())
    worst = list(errors)[int(np.argmax(list(errors.values())))]  # NaN counts as the largest
    value = errors[worst]
    note = f"worst: {chemical_symbols[worst]}" if not value <= 1e-9 else f"{len(errors)} element(s)"
    words = "difference of an atom by itself from its reference energy"
    return Row("isolated atom", words, value, 1e-9, "eV", value <= 1e-9, note)


def _structures(bench: Bench) -> list[Atoms]:
    return [bench.atoms] if bench.atoms is bench.crystal else [bench.atoms, bench.crystal]


def _turned(
    bench: Bench,
    atoms: Atoms,
    turn: Array,  # (3, 3), orthogonal
) -> float:
    other = Atoms(
        atoms.numbers,
        positions=atoms.positions @ turn.T,
        cell=atoms.cell.array @ turn.T,
        pbc=atoms.pbc,
    )
    whole = bench.ask(atoms)
    expected = whole._replace(forces=whole.forces @ turn.T, stress=turn @ whole.stress @ turn.T)
    return difference(bench.ask(other), expected)


def _twice(one: Answer) -> Answer:
    return Answer(
        2 * one.energy,
        2 * one.interaction,
        np.tile(one.energies, 2),
        np.tile(one.forces, (2, 1)),
        one.stress,
    )


def _largest(values: Iterable[float]) -> float:
    return float(np.max(list(values)))  # unlike `max`, keeps NaN


def _row(name: str, words: str, value: float, limit: float = LIMIT) -> Row:
    return Row(name, words, value, limit, "", bool(value <= limit))
