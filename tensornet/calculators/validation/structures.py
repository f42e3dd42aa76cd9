"""Structures to try a model on, from what there is: a given one, one in the model file, or none."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from ase.geometry import get_distances
from ase.optimize import FIRE

from tensornet.atoms import edge_vectors, graph
from tensornet.calculators.ase import PotentialCalculator
from tensornet.calculators.validation.bench import Array, Bench, evaluate, moved
from tensornet.models import Potential

RATTLE = 0.05  # Å
CLOSEST = 0.4  # of the sum of covalent radii
N_MADE = 8  # atoms of a structure made here
N_CLUSTER = 6
GAP = 0.6  # of the cutoff, between a molecule and its images in a crystal made of it


def bench(model: Potential, atoms: Atoms | None, *, seed: int, md_steps: int) -> tuple[Bench, str]:
    """Put a model and its structures together.

    Args:
        model: The model, in float64.
        atoms: A structure, or None for the example in the model's provenance, or else a random
            one of the model's elements.
        seed: Seed of all random choices.
        md_steps: Length of the molecular dynamics.

    Returns:
        The bench, and where its structure comes from, in words.

    Raises:
        ValueError: If the structure makes no sense, or has an element the model does not know.
    """
    rng = np.random.default_rng(seed)
    source = "the given structure"
    if atoms is None:
        example = model.provenance.get("example")
        if example is not None:
            source = "the model's example structure"
            atoms = Atoms(
                example["numbers"],
                positions=example["positions"],
                cell=example.get("cell"),
                pbc=example.get("pbc", False),
            )
        else:
            source = "a random structure"
            atoms = compact(model, model.elements, rng, periodic=False)
    given = moved(atoms, np.array(atoms.positions))  # without constraints
    evaluate(model, [given], forces=False)  # an unknown element, or no structure at all: stop
    start = _large_enough(given)
    rattled = _rattled(start, rng)
    crystal = rattled
    if not start.pbc.all():
        if len(start) > 1:
            crystal = packed(rattled, GAP * model.cutoff)
        else:
            crystal = _rattled(compact(model, sorted(set(start.numbers)), rng, periodic=True), rng)
    cluster = neighbours(rattled, model.cutoff, N_CLUSTER)
    made = Bench(model, start, rattled, crystal, cluster, seed, md_steps)
    return made, f"{source}, {describe(start)}"


def describe(atoms: Atoms) -> str:
    """Say what a structure is, in a few words."""
    periodic = {0: "", 3: ", periodic"}.get(int(atoms.pbc.sum()), ", partly periodic")
    return f"{atoms.symbols} ({len(atoms)} atom{'s' * (len(atoms) > 1)}{periodic})"


def compact(
    model: Potential, elements: Sequence[int], rng: np.random.Generator, *, periodic: bool
) -> Atoms:
    """Make a random compact structure of some elements, relaxed a little.

    Atoms are put at random into a box, pushed apart to touching covalent spheres, and relaxed
    with the model for a few steps, unless the model pulls them into each other.

    Args:
        model: The model to relax with.
        elements: Atomic numbers; the first eight are used if there are more.
        rng: Random numbers.
        periodic: Whether the box is the cell of a periodic structure.

    Returns:
        Eight atoms, all elements in turn.
    """
    numbers = np.resize(np.array([int(z) for z in elements][:N_MADE]), N_MADE)
    radii = covalent_radii[numbers]
    touch = 1.1 * (radii[:, None] + radii[None, :])
    side = float(1.1 * (touch.diagonal() ** 3).sum() ** (1 / 3))
    cell = side * (np.eye(3) + (0.1 * np.array([[0, 0, 0], [1, 0, 0], [-1, 1, 0]])))
    atoms = Atoms(numbers, positions=rng.random((N_MADE, 3)) @ cell, cell=cell, pbc=periodic)
    for _ in range(500):
        vectors, distances = get_distances(atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        np.fill_diagonal(distances, np.inf)
        overlap = np.clip(touch - distances, 0, None)
        if overlap.max() < 0.05:
            break
        push = overlap / np.maximum(distances, 1e-3)
        np.fill_diagonal(push, 0.0)
        atoms.positions -= 0.3 * np.einsum("ij,ijx->ix", push, vectors)
    if not periodic:
        atoms = Atoms(numbers, positions=atoms.positions)
    relaxed = atoms.copy()
    relaxed.calc = PotentialCalculator(model)
    try:
        FIRE(relaxed, logfile=None, maxstep=0.1).run(fmax=0.05, steps=100)
    except ValueError:
        return atoms
    return atoms if _closest(relaxed) < CLOSEST else moved(relaxed, relaxed.positions)


def packed(atoms: Atoms, gap: float) -> Atoms:
    """Make a molecule, chain or slab periodic in all directions, in an oblique cell.

    Args:
        atoms: The structure.
        gap: Between it and its images where it was not periodic, in Å.

    Returns:
        A crystal whose atoms have the neighbours they had, and the images.
    """
    crystal = atoms.copy()
    open_axes = [int(axis) for axis in np.flatnonzero(~atoms.pbc)]
    crystal.center(vacuum=gap / 2, axis=open_axes)
    cell = np.array(crystal.cell)
    for axis in open_axes:  # a shift along its neighbour keeps the distance of the layers
        cell[axis] += 0.1 * cell[axis - 1]
    crystal.set_cell(cell)
    crystal.pbc = True
    return moved(crystal, crystal.positions)


def neighbours(atoms: Atoms, cutoff: float, n: int) -> Atoms:
    """Cut an atom and its nearest neighbours, one of each element first, out of a structure.

    Args:
        atoms: The structure, periodic or not.
        cutoff: How far to look, in Å.
        n: Largest number of atoms.

    Returns:
        A structure without periodicity; its first atom is the one with the most neighbours.
    """
    whole = graph(atoms, cutoff)
    sender, receiver = whole.edge_index.numpy()
    if not len(receiver):
        return Atoms(atoms.numbers[:1], positions=[[0.0, 0.0, 0.0]])
    centre = int(np.bincount(receiver).argmax())
    own = np.flatnonzero(receiver == centre)
    vectors = edge_vectors(whole).numpy()[own]
    order = np.linalg.norm(vectors, axis=1).argsort(kind="stable")
    others = atoms.numbers[sender[own]]
    first = [order[others[order] == z][0] for z in sorted(set(others) - {atoms.numbers[centre]})]
    nearest = [*first, *(k for k in order if k not in first)][: n - 1]
    numbers = [atoms.numbers[centre], *others[nearest]]
    return Atoms(numbers, positions=np.vstack([np.zeros((1, 3)), vectors[nearest]]))


def pairs(elements: Sequence[int]) -> list[tuple[int, int]]:
    """List the pairs of elements, equal ones included."""
    return [(a, b) for k, a in enumerate(elements) for b in elements[k:]]


def pair_name(pair: tuple[int, int]) -> str:
    """Name a pair of elements."""
    return "-".join(chemical_symbols[z] for z in pair)


def _large_enough(atoms: Atoms) -> Atoms:
    """Repeat a primitive cell: alone in its cell, an atom feels no force wherever it is."""
    if len(atoms) >= 4 or not atoms.pbc.any():
        return atoms
    whole: Any = atoms
    larger: Atoms = whole.repeat(np.where(atoms.pbc, 2, 1))
    return larger


def _rattled(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    return moved(atoms, atoms.positions + RATTLE * rng.standard_normal((len(atoms), 3)))


def _closest(atoms: Atoms) -> float:
    """Give the shortest distance in units of the sum of covalent radii."""
    whole = graph(atoms, 2 * float(covalent_radii[atoms.numbers].max()))
    sender, receiver = whole.edge_index.numpy()
    radii: Array = covalent_radii[atoms.numbers]
    lengths = edge_vectors(whole).norm(dim=1).numpy()
    return float((lengths / (radii[sender] + radii[receiver])).min(initial=np.inf))
