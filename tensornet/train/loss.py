"""The loss: relative errors of energy per atom, forces and virial per atom, missing labels masked.

Every label that is NaN is left out, by a mask and not by indexing, so that a step on a GPU never
waits for the CPU and no NaN reaches a gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import huber_loss
from torch_geometric.data import Data

from tensornet.train.recipe import LossBlock

TERMS = ("energy", "forces", "stress")
# conditional_huber: from these forces on (eV/Å), the shares of delta.
LARGE, SHARES = (100.0, 200.0, 300.0), (1.0, 0.7, 0.4, 0.1)


def errors(
    output: Mapping[str, Tensor],
    graph: Data,  # a batch of s structures with n atoms
    terms: tuple[str, ...] = TERMS,
) -> dict[str, tuple[Tensor, Tensor]]:  # (s,), (n, 3), (s, 3, 3)
    """Compare predictions with labels.

    Args:
        output: What a potential says of the batch.
        graph: The batch, with labels.
        terms: Which of energy, forces and stress to compare.

    Returns:
        Per term the errors, zero where a label is missing, and the mask of labels: energy in
        eV per atom, forces in eV/Å, and as stress the virial in eV per atom. The virial is
        used because it is finite for molecules, whose volume is not defined.

    Derivatives:
        As those of the potential.
    """
    n_atoms = torch.diff(graph.ptr)
    result = {}
    if "energy" in terms:
        predicted, label = output["interaction_energy"], graph.interaction_energy
        result["energy"] = _masked(predicted / n_atoms, label / n_atoms)
    if "forces" in terms:
        result["forces"] = _masked(output["forces"], graph.forces)
    if "stress" in terms:
        volume = torch.linalg.det(graph.cell).abs()
        per_atom = (volume / n_atoms)[:, None, None]
        predicted = output["virial"] / n_atoms[:, None, None]
        result["stress"] = _masked(predicted, graph.stress * per_atom)
    return result


def _masked(predicted: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    known = ~torch.isnan(label)
    label = torch.where(known, label, 0).to(predicted.dtype)
    return torch.where(known, predicted - label, 0), known


@dataclass(frozen=True)
class Loss:
    """The weighted sum of the mean penalties of the terms.

    Args:
        settings: The recipe's block `loss`.
        scale: What errors are divided by, eV for energies and virials, eV/Å for forces.
    """

    settings: LossBlock
    scale: float

    @property
    def weights(self) -> dict[str, float]:
        """The weights of the terms that count."""
        weights = {term: float(getattr(self.settings, term)) for term in TERMS}
        return {term: weight for term, weight in weights.items() if weight > 0}

    @property
    def terms(self) -> tuple[str, ...]:
        """The terms that count."""
        return tuple(self.weights)

    def at(self, epoch: int, epochs: int) -> Loss:
        """Give the loss of an epoch, counted from zero: from stage two on it has other weights."""
        two = self.settings.stage_two
        if two is None or epoch < two.first_epoch(epochs):
            return self
        weights = {t: w for t in TERMS if (w := getattr(two, t)) is not None}
        return Loss(self.settings.model_copy(update={**weights, "stage_two": None}), self.scale)

    def sums(
        self,
        errors: Mapping[str, tuple[Tensor, Tensor]],
        graph: Data,  # a batch of s structures with n atoms
    ) -> dict[str, tuple[Tensor, Tensor]]:  # (), ()
        """Add up the penalties of each term, times the weights of the structures.

        Args:
            errors: From `errors`.
            graph: The batch they are of; with a ``weight (s,)`` if structures have weights.

        Returns:
            Per term the sum of the penalties and the number of labels. Sums of several batches
            may be added before `total`.
        """
        result = {}
        for term, (e, known) in errors.items():
            penalty = self._penalty(term, e / self.scale, graph)
            if "weight" in graph:
                w = graph.weight.to(penalty.dtype)
                w = w[graph.batch] if term == "forces" else w
                penalty = penalty * w.reshape(-1, *[1] * (penalty.ndim - 1))
            result[term] = (penalty.sum(), known.sum())
        return result

    def counts(self, graphs: Sequence[Data]) -> dict[str, Tensor]:  # ()
        """Count the labels of each term in some batches."""
        fields = {"energy": "interaction_energy", "forces": "forces", "stress": "stress"}
        return {
            term: torch.stack([(~torch.isnan(g[fields[term]])).sum() for g in graphs]).sum()
            for term in self.terms
        }

    def total(self, sums: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:  # ()
        """Weigh the means of the terms. A term without labels counts nothing."""
        parts = [self.weights[t] * s / n.clamp(min=1) for t, (s, n) in sums.items()]
        return torch.stack([part.to(torch.float64) for part in parts]).sum()

    def _penalty(self, term: str, x: Tensor, graph: Data) -> Tensor:
        kind, delta = self.settings.kind, self.settings.huber_delta
        if kind == "mse":
            return x.square()
        if kind == "mae":
            return x.abs()
        if kind == "conditional_huber" and term == "forces":
            limit = delta * _trust(graph.forces).to(x.dtype)[:, None]
            size = x.abs()
            return torch.where(size <= limit, x.square(), limit * (2 * size - limit))
        # torch's has half of the square; twice it is mse for small errors.
        return 2 * huber_loss(x, torch.zeros_like(x), reduction="none", delta=delta)


def _trust(
    forces: Tensor,  # (n, 3), labels, eV/Å
) -> Tensor:  # (n,)
    """How much of huber's delta is left to an atom: large forces are of unusual structures."""
    size = forces.nan_to_num().norm(dim=-1)
    steps = torch.tensor(LARGE, dtype=size.dtype, device=size.device)
    shares = torch.tensor(SHARES, dtype=size.dtype, device=size.device)
    return shares[torch.bucketize(size, steps, right=True)]
