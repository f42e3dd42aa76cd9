"""What every check needs: the model in float64, structures to try it on, and ways to ask it."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch_geometric.data import Batch

from tensornet.atoms import graph
from tensornet.models import Potential

Array = NDArray[np.float64]
LEAST = 1e-3  # eV: errors of smaller energies are relative to this; a free atom's are rounding


class Answer(NamedTuple):
    """What a model says of one structure. All in eV and Å; `interaction` lacks the references."""

    energy: float
    interaction: float
    energies: Array  # (n,)
    forces: Array  # (n, 3), empty if not asked for
    stress: Array  # (3, 3), NaN if there is none


@dataclass(frozen=True)
class Bench:
    """A model and the structures it is tried on.

    Attributes:
        model: The model in float64 and evaluation mode.
        start: The structure as it was given.
        atoms: The same with all atoms moved a little, so that no force is zero by symmetry.
        crystal: A structure that is periodic in three directions: `atoms` if it is.
        cluster: A few neighbouring atoms of `atoms` without periodicity.
        seed: Seed of all random choices.
        md_steps: Length of the molecular dynamics.
    """

    model: Potential
    start: Atoms
    atoms: Atoms
    crystal: Atoms
    cluster: Atoms
    seed: int = 0
    md_steps: int = 1000

    def rng(self) -> np.random.Generator:
        """Give the random numbers of a check, the same whatever ran before."""
        return np.random.default_rng(self.seed)

    def ask(self, atoms: Atoms, *, forces: bool = True) -> Answer:
        """Evaluate one structure by itself."""
        return evaluate(self.model, [atoms], forces=forces)[0]

    def interaction(self, atoms: Atoms) -> float:
        """Give the energy without the references, which would cost digits in differences."""
        return self.ask(atoms, forces=False).interaction


def evaluate(model: Potential, structures: Sequence[Atoms], *, forces: bool = True) -> list[Answer]:
    """Evaluate structures, in one batch if there is more than one.

    Args:
        model: A potential in evaluation mode.
        structures: In Å.
        forces: Whether to ask for forces and stress too.

    Returns:
        One answer per structure.
    """
    graphs = [graph(atoms, model.cutoff) for atoms in structures]
    whole = graphs[0] if len(graphs) == 1 else Batch.from_data_list(graphs)
    output = {
        name: x.detach().to("cpu", torch.float64).numpy()
        for name, x in model(whole.to(model.device), forces=forces).items()
    }
    ends = np.cumsum([len(atoms) for atoms in structures])
    answers = []
    for k, (atoms, end) in enumerate(zip(structures, ends, strict=True)):
        own = slice(end - len(atoms), end)
        answers.append(
            Answer(
                float(output["energy"][k]),
                float(output["interaction_energy"][k]),
                output["energies"][own],
                output["forces"][own] if forces else np.empty((0, 3)),
                output["stress"][k] if forces else np.full((3, 3), np.nan),
            )
        )
    return answers


def difference(got: Answer, expected: Answer) -> float:
    """Give the largest relative error of energy, forces and stress.

    Energies are relative to the interaction energy or to the largest force times 1 Å, whichever
    is larger, or to 1 meV; forces and stress to their largest component.
    """
    force = np.abs(expected.forces).max(initial=0.0)
    scale = max(abs(expected.interaction), force, LEAST)
    errors = [
        abs(got.interaction - expected.interaction) / scale,
        np.abs(got.energies - expected.energies).max() / scale,
        np.abs(got.forces - expected.forces).max(initial=0.0) / max(force, 1e-12),
    ]
    if np.isfinite(expected.stress).all():
        largest = max(np.abs(expected.stress).max(), 1e-12)
        errors.append(np.abs(got.stress - expected.stress).max() / largest)
    elif np.isfinite(got.stress).all():
        return np.inf
    return float(np.max(errors))


def moved(atoms: Atoms, positions: Array) -> Atoms:
    """Give a copy of a structure with other positions."""
    return Atoms(atoms.numbers, positions=positions, cell=atoms.cell.array, pbc=atoms.pbc)


def float64_copy(model: Potential, device: str | torch.device | None = None) -> Potential:
    """Give a copy of a model in float64, in evaluation mode, without parameter gradients."""
    own = copy.deepcopy(model)
    return own.to(device=device, dtype=torch.float64).eval().requires_grad_(False)
