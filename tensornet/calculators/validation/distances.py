"""Checks along distances: smooth at the cutoff, and no holes where atoms sit in each other."""

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from tensornet.calculators.validation.bench import Array, Bench, evaluate, moved
from tensornet.calculators.validation.report import Row
from tensornet.calculators.validation.structures import pair_name, pairs

STEP = 2e-3  # Å, between points on one side of the cutoff
N_POINTS = 6  # on either side
LIMIT = 1e-6  # eV, eV/Å, eV/Å²
N_PAIRS = 15  # pairs of elements looked at by themselves at the cutoff

SHORTEST, BONDED, LONGEST = 0.4, 0.7, 3.0  # of the sum of covalent radii
TOLERANCE = 1e-6  # eV


def cutoff(bench: Bench) -> Row:
    """Pass an atom through the cutoff of another and look for jumps.

    Energy, forces and the derivative of forces along the path are extrapolated to the cutoff
    from either side, by polynomials through six points. Jumps are in eV and Å, and are divided by
    the largest force where that is above 1 eV/Å. Looked at: pairs of elements by themselves, and
    an atom that approaches a cluster from outside, where its neighbour at the cutoff has
    neighbours of its own.
    """
    chosen = pairs(bench.model.elements)
    if len(chosen) > N_PAIRS:
        index = bench.rng().choice(len(chosen), size=N_PAIRS, replace=False)
        chosen = [chosen[k] for k in np.sort(index)]
    jumps = {pair_name(pair): _jumps(bench, _dimer(pair), np.eye(3)[0]) for pair in chosen}
    for z in sorted({int(z) for z in bench.cluster.numbers}):
        path, axis = _approach(bench, z)
        jumps[f"{path.symbols[-1]} at {path[:-1].symbols}"] = _jumps(bench, path, axis)
    largest = np.max(list(jumps.values()), axis=0)
    value = float(largest.max())
    note = (
        f"energy {largest[0]:.1e} eV, force {largest[1]:.1e} eV/Å, "
        f"second derivative {largest[2]:.1e} eV/Å²"
    )
    if not value <= LIMIT:
        names = list(jumps)
        worst = names[int(np.argmax([jump.max() for jump in jumps.values()]))]
        note += f"; largest for {worst}"
    words = "largest jump of energy, force or second derivative at the cutoff"
    return Row("cutoff", words, value, LIMIT, "", value <= LIMIT, note)


def dimers(bench: Bench) -> Row:
    """Look for pairs of elements that gain energy by sitting in each other.

    With ``s`` the sum of covalent radii, the energy of a pair by itself is scanned at distances
    from 0.4 s to 3 s, or to the cutoff. No chemical bond is shorter than about 0.7 s, so the
    lowest energy below 0.7 s must not be lower than the lowest energy above; else atoms that
    come close in a simulation fall into each other. The value is the largest depth of such a
    hole, negative if there is none.
    """
    holes = {}
    for pair in pairs(bench.model.elements):
        s = float(covalent_radii[list(pair)].sum())
        end = min(LONGEST * s, bench.model.cutoff)
        short = np.linspace(SHORTEST, BONDED, 21)[:-1] * s
        bonded = np.linspace(BONDED * s, max(end, 1.5 * BONDED * s), 45)
        structures = [
            Atoms(pair, positions=[[0.0, 0.0, 0.0], [r, 0.0, 0.0]])
            for r in np.concatenate((short, bonded))
        ]
        answers = evaluate(bench.model, structures, forces=False)
        energy = np.array([answer.interaction for answer in answers])
        inner, outer = energy[: len(short)], energy[len(short) :]
        deepest = float(short[int(np.argmin(inner))])
        holes[pair] = float(outer.min() - inner.min()), deepest
    depths = np.array([depth for depth, _ in holes.values()])
    bad = [pair for pair, (depth, _) in holes.items() if not depth <= TOLERANCE]
    worst = list(holes)[int(np.argmax(depths))]
    value, deepest = holes[worst]
    note = f"{len(holes)} pair(s) of elements, none has a hole"
    if bad:
        note = (
            f"{len(bad)} of {len(holes)} pairs have a hole: "
            f"{', '.join(pair_name(pair) for pair in bad[:6])}{', …' if len(bad) > 6 else ''}; "
            f"deepest {pair_name(worst)}, {value:.3g} eV at {deepest:.2f} Å"
        )
    words = "lowest energy of a pair at bonding distances minus that at impossible ones"
    return Row("dimers", words, value, TOLERANCE, "eV", not bad, note)


def _dimer(pair: tuple[int, int]) -> Atoms:
    return Atoms(pair, positions=np.zeros((2, 3)))


def _approach(
    bench: Bench, z: int
) -> tuple[Atoms, Array]:  # the last atom is to be put on the axis
    """Put an atom at the outermost atom of a cluster, and say where outside is.

    Along the axis, every other atom of the cluster is further away than the outermost one.
    """
    cluster = bench.cluster
    axes = bench.rng().standard_normal((50, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    best = axes[0]
    if len(cluster) > 1:
        heights = np.sort(axes @ cluster.positions.T, axis=1)
        best = axes[(heights[:, -1] - heights[:, -2]).argmax()]
    outermost = int((cluster.positions @ best).argmax())
    probe = Atoms([z], positions=[cluster.positions[outermost]])
    return cluster + probe, best


def _jumps(
    bench: Bench,
    atoms: Atoms,
    axis: Array,  # (3,)
) -> Array:  # (3,), of energy, forces, derivative of forces
    """Move the last atom through the cutoff, starting from the atom it sits on."""
    sides = []
    for sign in (-1.0, 1.0):
        steps = sign * STEP * np.arange(1, N_POINTS + 1)
        rows = []
        for step in steps:
            positions = np.array(atoms.positions)
            positions[-1] += (bench.model.cutoff + step) * axis
            answer = bench.ask(moved(atoms, positions))
            rows.append([answer.interaction, *answer.forces.ravel()])
        powers = (steps[:, None] / STEP) ** np.arange(N_POINTS)
        sides.append(np.linalg.solve(powers, np.array(rows)))
    scale = max(1.0, np.abs(sides[0][0, 1:]).max())
    jump = np.abs(sides[1] - sides[0]) / scale
    return np.array([jump[0, 0], jump[0, 1:].max(), jump[1, 1:].max() / STEP])
