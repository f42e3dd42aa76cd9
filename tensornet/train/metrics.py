"""Errors of a model on data, in the units of the field: meV/atom, meV/Å, meV/Å³."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from ase.data import chemical_symbols
from torch import Tensor
from torch_geometric.data import Data

from tensornet import _check
from tensornet.datasets import Frames, GraphDataset, ShardDataset
from tensornet.models import Potential
from tensornet.train.batches import Batches
from tensornet.train.recipe import RecipeError

ENERGY_THRESHOLD, FORCES_THRESHOLD = 0.02, 0.03  # eV, eV/Å: EwT and EFwT of OC20


@dataclass(frozen=True)
class Metrics:
    """Errors on a set of structures. ``None`` where there are no labels.

    Attributes:
        energy_mae: Mean absolute error of the energy per atom, meV/atom.
        energy_rmse: Root mean square error of the energy per atom, meV/atom.
        energy_total_rmse: Root mean square error of the energy of a structure, meV.
        forces_mae: Mean absolute error over the components of the forces, meV/Å.
        forces_rmse: Root mean square error over the components of the forces, meV/Å.
        stress_rmse: Root mean square error over the nine components of the stress, meV/Å³.
        n_structures: Number of structures.
        n_atoms: Number of atoms in all of them.
        forces_rmse_molecules: Mean over structures of the root mean square error over the
            components of their forces, meV/Å: the "force RMSE" of PubChemQCR and TDN.
        forces_cosine: Mean over atoms of the cosine between predicted and labelled force (OC20).
        ewt: Share of structures whose energy is within 20 meV (OC20's EwT).
        efwt: Share of structures whose energy is within 20 meV and whose forces all are within
            30 meV/Å per component (OC20's EFwT).
        groups: The same per group (``config_type`` or ``group``), where there are several.
    """

    energy_mae: float | None
    energy_rmse: float | None
    energy_total_rmse: float | None
    forces_mae: float | None
    forces_rmse: float | None
    stress_rmse: float | None
    n_structures: int
    n_atoms: int
    forces_rmse_molecules: float | None = None
    forces_cosine: float | None = None
    ewt: float | None = None
    efwt: float | None = None
    groups: dict[str, Metrics] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Give plain numbers for JSON.

        Returns:
            The attributes by name; `groups` only where there are any, each in this form again.
        """
        content = asdict(self)
        if not self.groups:
            del content["groups"]
        else:
            content["groups"] = {name: m.to_dict() for name, m in self.groups.items()}
        return content


@dataclass(frozen=True)
class Predictions:
    """What a model says of structures, beside their labels, float64; NaN where there is no label.

    Attributes:
        energy: Predicted energies, eV, shape (s,).
        energy_label: Their labels.
        forces: Predicted forces, eV/Å, shape (n, 3).
        forces_label: Their labels.
        stress: Predicted stresses, eV/Å³, shape (s, 3, 3).
        stress_label: Their labels.
        n_atoms: Atoms per structure, shape (s,).
        energy_std: Standard deviations of the energies that the model gives, eV, shape (s,); NaN
            where it gives none.
        groups: Name of the group of each structure, empty where it has none; or nothing at all.
    """

    energy: Tensor
    energy_label: Tensor
    forces: Tensor
    forces_label: Tensor
    stress: Tensor
    stress_label: Tensor
    n_atoms: Tensor
    energy_std: Tensor
    groups: tuple[str, ...] = ()

    def metrics(self) -> Metrics:
        """Compute the errors.

        Returns:
            Those of all structures together, and in `groups` those of each group, if there are
            several.
        """
        names = sorted(set(self.groups))
        groups = {}
        for name in names if len(names) > 1 else ():
            chosen = torch.tensor([group == name for group in self.groups])
            groups[name or "no group"] = self._of(chosen).metrics()
        total = _errors(self.energy, self.energy_label)
        per_atom = _errors(self.energy / self.n_atoms, self.energy_label / self.n_atoms)
        forces = _errors(self.forces, self.forces_label)
        return Metrics(
            energy_mae=_mae(per_atom),
            energy_rmse=_rmse(per_atom),
            energy_total_rmse=_rmse(total),
            forces_mae=_mae(forces),
            forces_rmse=_rmse(forces),
            stress_rmse=_rmse(_errors(self.stress, self.stress_label)),
            n_structures=len(self.energy),
            n_atoms=int(self.n_atoms.sum()),
            **self._benchmarks(),
            groups=groups,
        )

    def _benchmarks(self) -> dict[str, float | None]:
        """Errors as the papers of PubChemQCR and OC20 count them."""
        energy = (self.energy - self.energy_label).abs()
        forces = self.forces - self.forces_label
        known = ~self.forces_label.isnan()
        owner = torch.repeat_interleave(self.n_atoms)
        n = len(self.n_atoms)
        squares = torch.where(known, forces, 0).square().sum(1)
        count = torch.zeros(n, dtype=forces.dtype).index_add(0, owner, known.sum(1).to(forces))
        total = torch.zeros(n, dtype=forces.dtype).index_add(0, owner, squares.to(forces))
        worst = torch.where(known, forces.abs(), 0).amax(1)
        largest = torch.zeros(n, dtype=forces.dtype).scatter_reduce(0, owner, worst, "amax")
        whole = known.all(1)
        cosine = torch.cosine_similarity(self.forces[whole], self.forces_label[whole], dim=1)
        has_energy, has_forces = ~self.energy_label.isnan(), count > 0
        near = energy < ENERGY_THRESHOLD
        return {
            "forces_rmse_molecules": _mean(1000 * (total / count).sqrt()[has_forces]),
            "forces_cosine": _mean(cosine),
            "ewt": _mean(near[has_energy]),
            "efwt": _mean((near & (largest < FORCES_THRESHOLD))[has_energy & has_forces]),
        }

    def _of(self, chosen: Tensor) -> Predictions:
        atoms = torch.repeat_interleave(chosen, self.n_atoms)
        per_structure = (self.energy, self.energy_label, self.stress, self.stress_label)
        energy, energy_label, stress, stress_label = (x[chosen] for x in per_structure)
        forces, forces_label = self.forces[atoms], self.forces_label[atoms]
        n_atoms, std = self.n_atoms[chosen], self.energy_std[chosen]
        return Predictions(
            energy, energy_label, forces, forces_label, stress, stress_label, n_atoms, std
        )


def evaluate(model: Potential, frames: Frames, *, batch_size: int = 16) -> Metrics:
    """Measure the errors of a model.

    Args:
        model: Any potential. Its mode is not changed.
        frames: Labelled structures.
        batch_size: Structures evaluated at once.

    Returns:
        The errors, also per group where there are several groups of structures.

    Raises:
        RecipeError: As of `predict`.
        TypeError: If the batch size is no whole number.
        ValueError: If the batch size is below one.
    """
    return predict(model, frames, batch_size=batch_size).metrics()


def predict(model: Potential, frames: Frames, *, batch_size: int = 16) -> Predictions:
    """Evaluate a model on labelled structures.

    Args:
        model: Any potential. Its mode is not changed.
        frames: Structures with labels.
        batch_size: Structures evaluated at once.

    Returns:
        Predictions beside labels, on the CPU.

    Raises:
        RecipeError: If there is no structure, one holds an element that the model does not know,
            or the model gives an energy or a force that is not a finite number.
        TypeError: If the batch size is no whole number.
        ValueError: If the batch size is below one, or a structure has no graph (see
            `tensornet.atoms.graph`).
    """
    _check.at_least("predict", 1, batch_size=batch_size)
    if not len(frames):
        raise RecipeError("`predict(frames=...)` must hold a structure. Got none.")
    must_know(model, frames)
    graphs = GraphDataset(frames, model.cutoff, model.reference_energies)
    return predict_graphs(model, graphs, batch_size=batch_size)


def must_know(model: Potential, frames: Frames) -> None:
    """Check that a model knows all elements of some structures.

    Args:
        model: Any potential.
        frames: Structures.

    Raises:
        RecipeError: If it does not; it names them.
    """
    unseen = sorted(set(frames.elements) - set(model.elements))
    if unseen:
        raise RecipeError(
            f"The data hold {_symbols(unseen)}, which the model was not trained on. "
            f"It knows {_symbols(model.elements)}."
        )


def predict_graphs(
    model: Potential,
    graphs: Sequence[Data] | Any,
    *,
    batch_size: int = 16,
    max_edges: int | None = None,
) -> Predictions:
    """Evaluate a model on labelled graphs.

    Args:
        model: Any potential. Its mode is not changed.
        graphs: Graphs with labels.
        batch_size: Structures evaluated at once.
        max_edges: Largest number of edges at once.

    Returns:
        Predictions beside labels, on the CPU.

    Raises:
        RecipeError: If the model gives an energy or a force that is not a finite number.
    """
    before = model.training
    model.eval()
    parts: list[tuple[Tensor, ...]] = []
    groups = _groups(graphs)
    try:
        for batch in Batches(graphs, batch_size=batch_size, max_edges=max_edges, keep=False):
            moved = batch.to(model.device)
            said = model(moved)
            unknown = torch.full_like(said["energy"], torch.nan)
            row = (
                said.get("energy_std", unknown),
                *(said["energy"], moved.energy, said["forces"], moved.forces),
                *(said["stress"], moved.stress, torch.diff(moved.ptr)),
            )
            parts.append(tuple(x.detach().cpu() for x in row))
    finally:
        model.train(before)
    *values, n_atoms = (torch.cat(column) for column in zip(*parts, strict=True))
    std, energy, energy_label, forces, forces_label, stress, stress_label = (
        x.to(torch.float64) for x in values
    )
    _must_be_numbers(energy, forces, n_atoms)
    return Predictions(
        energy, energy_label, forces, forces_label, stress, stress_label, n_atoms, std, groups
    )


def _groups(graphs: Sequence[Data] | Any) -> tuple[str, ...]:
    if isinstance(graphs, ShardDataset) and not graphs.index["groups"]:
        return ("",) * len(graphs)
    return tuple(str(graphs[k].get("group") or "") for k in range(len(graphs)))


def _must_be_numbers(energy: Tensor, forces: Tensor, n_atoms: Tensor) -> None:
    owner = torch.repeat_interleave(n_atoms)
    bad = ~energy.isfinite()
    bad[owner[~forces.isfinite().all(1)]] = True
    if bool(bad.any()):
        first = int(bad.nonzero()[0])
        raise RecipeError(
            f"The model gives NaN or infinite values for {int(bad.sum())} of {len(bad)} "
            f"structures, the first is number {first} (counted from 0). (Look whether its atoms "
            "are too close, or whether the training went wrong.)"
        )


def together(parts: Sequence[Predictions]) -> Predictions:
    """Join predictions of several sets of structures."""
    names = [name for name in Predictions.__dataclass_fields__ if name != "groups"]
    joined = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    return Predictions(**joined, groups=tuple(g for part in parts for g in part.groups))


def _symbols(elements: Sequence[int]) -> str:
    return ", ".join(chemical_symbols[z] for z in elements)


def _errors(predicted: Tensor, label: Tensor) -> Tensor:
    """Subtract where there is a label, so that a prediction that is NaN is not left out."""
    known = ~label.isnan()
    return (predicted[known] - label[known]) * 1000


def _mean(values: Tensor) -> float | None:
    return float(values.double().mean()) if values.numel() else None


def _mae(errors: Tensor) -> float | None:
    return float(errors.abs().mean()) if errors.numel() else None


def _rmse(errors: Tensor) -> float | None:
    return float(errors.square().mean().sqrt()) if errors.numel() else None
