"""Each law has a potential that breaks it, and the row of that law must say so."""

# mypy: allow-untyped-calls

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from ase import Atoms
from torch import Tensor

from tensornet.atoms import edge_vectors
from tensornet.calculators import Report, validate
from tensornet.models import LennardJones

Make = Callable[..., LennardJones]


def checked(model: LennardJones, atoms: Atoms) -> Report:
    return validate(model, atoms, md_steps=150)


def summed(pair: Tensor, edge_index: Tensor, species: Tensor) -> Tensor:
    return pair.new_zeros(len(species)).index_add(0, edge_index[1], pair)


def envelope(r: Tensor) -> Tensor:
    return (1 - r / 6.0).clamp(min=0) ** 4


# --- potentials that are wrong in what they derive --------------------------------------------


class WrongForces(LennardJones):
    """Forces are 0.1 % too large."""

    def forward(self, graph: Any, *, forces: bool = True) -> dict[str, Tensor]:
        output = super().forward(graph, forces=forces)
        return output | ({"forces": 1.001 * output["forces"]} if forces else {})


class WrongStress(LennardJones):
    """Stress is 0.1 % too large."""

    def forward(self, graph: Any, *, forces: bool = True) -> dict[str, Tensor]:
        output = super().forward(graph, forces=forces)
        return output | ({"stress": 1.001 * output["stress"]} if forces else {})


class SwappedStress(LennardJones):
    """Stress has two shears in each other's place, as in a wrong order of Voigt."""

    def forward(self, graph: Any, *, forces: bool = True) -> dict[str, Tensor]:
        output = super().forward(graph, forces=forces)
        if forces:
            stress = output["stress"].clone()
            stress[:, 0, 1], stress[:, 1, 0] = output["stress"][:, 0, 2], output["stress"][:, 2, 0]
            stress[:, 0, 2], stress[:, 2, 0] = output["stress"][:, 0, 1], output["stress"][:, 1, 0]
            output["stress"] = stress
        return output


class NoReaction(LennardJones):
    """Forces on neon only are off, by a part too small for the differences of energy."""

    size = 2e-8

    def forward(self, graph: Any, *, forces: bool = True) -> dict[str, Tensor]:
        output = super().forward(graph, forces=forces)
        if forces:
            receiver = graph.edge_index[1]
            vectors = edge_vectors(graph)
            r = vectors.norm(dim=-1, keepdim=True)
            push = self.size * torch.sin(40 * r) * vectors / r * envelope(r)
            push = push * (graph.z[receiver] == 10)[:, None]
            output["forces"] = output["forces"].index_add(0, receiver, push)
        return output


class Driven(NoReaction):
    """The same, so large that molecular dynamics feels it."""

    size = 3.0


# --- potentials that are wrong in the energy ---------------------------------------------------


class SharpCutoff(LennardJones):
    """Lennard-Jones without a switch: a jump of 0.0018 eV at the cutoff."""

    def interaction_energies(self, species: Tensor, edge_index: Tensor, vectors: Tensor) -> Tensor:
        s6 = (self.sigma / vectors.norm(dim=-1)) ** 6
        return summed(2 * self.epsilon * (s6 * s6 - s6), edge_index, species)


class CosineCutoff(LennardJones):
    """A cosine switch: energy and forces are continuous, the next derivative is not."""

    def interaction_energies(self, species: Tensor, edge_index: Tensor, vectors: Tensor) -> Tensor:
        r = vectors.norm(dim=-1)
        s6 = (self.sigma / r) ** 6
        switch = (1 + torch.cos(math.pi * r / self.cutoff)) / 2
        return summed(2 * self.epsilon * (s6 * s6 - s6) * switch, edge_index, species)


class Directed(LennardJones):
    """Energy knows where x is."""

    def interaction_energies(self, species: Tensor, edge_index: Tensor, vectors: Tensor) -> Tensor:
        r = vectors.norm(dim=-1)
        along = 1e-7 * (vectors[:, 0] / r) ** 2 * envelope(r)
        rest = super().interaction_energies(species, edge_index, vectors)
        return rest + summed(along, edge_index, species)


class Handed(LennardJones):
    """Energy knows left from right: a triple product of weighted sums of neighbours."""

    def interaction_energies(self, species: Tensor, edge_index: Tensor, vectors: Tensor) -> Tensor:
        r = vectors.norm(dim=-1, keepdim=True)
        empty = vectors.new_zeros(len(species), 3)
        a, b, c = (
            empty.index_add(0, edge_index[1], vectors * envelope(r) * torch.cos(k * r))
            for k in (0.0, 1.0, 2.0)
        )
        rest = super().interaction_energies(species, edge_index, vectors)
        triple: Tensor = torch.linalg.cross(a, b).mul(c).sum(-1)
        return rest + 1e-4 * triple


class Ordered(LennardJones):
    """The first atom of each structure counts more."""

    def forward(self, graph: Any, *, forces: bool = True) -> dict[str, Tensor]:
        self.weight = torch.ones(len(graph.z))
        self.weight[graph.ptr[:-1] if "ptr" in graph else 0] += 1e-7
        return super().forward(graph, forces=forces)

    def interaction_energies(self, species: Tensor, edge_index: Tensor, vectors: Tensor) -> Tensor:
        rest = super().interaction_energies(species, edge_index, vectors)
        return rest * self.weight


class Leaking(LennardJones):
    """The number of structures in a batch shifts the energy of each."""

    def forward(self, graph: Any, *, forces: bool = True) -> dict[str, Tensor]:
        output = super().forward(graph, forces=forces)
        if forces and len(graph.cell) > 1:
            output["forces"] = output["forces"] * (1 + 1e-8)
        return output


class Crowded(LennardJones):
    """Energy per atom grows with the number of atoms."""

    def interaction_energies(self, species: Tensor, edge_index: Tensor, vectors: Tensor) -> Tensor:
        rest = super().interaction_energies(species, edge_index, vectors)
        return rest * (1 + 1e-8 * len(species))


class Offset(LennardJones):
    """A neon atom by itself has an energy."""

    def interaction_energies(self, species: Tensor, edge_index: Tensor, vectors: Tensor) -> Tensor:
        rest = super().interaction_energies(species, edge_index, vectors)
        return rest + 1e-6 * (species == 0)


class WrongSum(LennardJones):
    """Energies of the atoms lack their references."""

    def forward(self, graph: Any, *, forces: bool = True) -> dict[str, Tensor]:
        output = super().forward(graph, forces=forces)
        return output | {"energies": output["energies"] * (1 + 1e-9)}


class Hole(LennardJones):
    """Two neon atoms gain energy when they sit in each other."""

    def interaction_energies(self, species: Tensor, edge_index: Tensor, vectors: Tensor) -> Tensor:
        rest = super().interaction_energies(species, edge_index, vectors)
        r = vectors.norm(dim=-1)
        neon = (species[edge_index] == 0).all(0)
        s12 = (self.sigma / r) ** 12
        well = -4 * self.epsilon * s12 * (r < 0.8) * neon
        return rest + summed(well, edge_index, species)


BROKEN = [
    (WrongForces, {"forces"}),
    (WrongStress, {"stress"}),
    (SwappedStress, {"stress", "rotation"}),
    (NoReaction, {"hessian"}),
    (Driven, {"forces", "hessian", "drift"}),
    (SharpCutoff, {"cutoff", "drift"}),
    (CosineCutoff, {"cutoff"}),
    (Directed, {"rotation"}),
    (Handed, {"inversion"}),
    (Ordered, {"permutation", "extensivity"}),
    (Leaking, {"batch"}),
    (Crowded, {"batch", "extensivity"}),
    (Offset, {"isolated atom"}),
    (WrongSum, {"atomic energies"}),
    (Hole, {"dimers"}),
]


@pytest.mark.parametrize(("kind", "rows"), [pytest.param(*x, id=x[0].__name__) for x in BROKEN])
def test_a_broken_law_fails_its_row(
    make: Make, crystal: Atoms, kind: type[LennardJones], rows: set[str]
) -> None:
    report = checked(make(kind), crystal)
    assert not report.passed
    assert set(report.failed) == rows, str(report)


def test_lennard_jones_passes(make: Make, crystal: Atoms) -> None:
    report = checked(make(), crystal)
    assert report.passed, str(report)
    assert report.skipped == ()
    assert len(report.rows) == 15
    assert all(row.value is not None and row.value <= row.limit for row in report.rows if row.limit)


def test_what_is_not_promised_is_said_and_does_not_fail(make: Make, crystal: Atoms) -> None:
    handed, plain = make(Handed), make()
    for model in (handed, plain):
        model.config["symmetry"] = "SO(3)"
    report = checked(handed, crystal)
    assert report.passed
    assert report.skipped == ("inversion",)
    row = next(row for row in report.rows if row.name == "inversion")
    assert row.value is not None
    assert row.value > 1e-9
    assert "SO(3)" in row.note
    # A model that may break the law but does not, passes.
    assert checked(plain, crystal).skipped == ()


class Direct(LennardJones):
    """Forces from a head of their own, which are not the derivatives."""

    conservative = False

    def direct_forces(
        self, species: Tensor, edge_index: Tensor, vectors: Tensor
    ) -> tuple[Tensor, Tensor]:
        energies = self.interaction_energies(species, edge_index, vectors)
        weights = envelope(vectors.norm(dim=-1)) * (1.0 + species)[edge_index[1]]
        push = vectors * weights[:, None]
        return energies, vectors.new_zeros(len(species), 3).index_add(0, edge_index[1], push)


def test_a_direct_head_promises_no_derivatives(make: Make, crystal: Atoms) -> None:
    report = validate(make(Direct), crystal, md_steps=40)
    assert report.skipped == ("forces", "stress", "hessian")
    assert "drift" in report.failed
    assert all("head of their own" in row.note for row in report.rows[:3])
    forces = report.rows[0]
    assert forces.value is not None
    assert forces.value > 0.1


# --- potentials that stop, or give numbers that are none ---------------------------------------


class Fragile(LennardJones):
    """Cannot do without neighbours, which a free atom does not have."""

    error: type[Exception] = RuntimeError

    def interaction_energies(self, species: Tensor, edge_index: Tensor, vectors: Tensor) -> Tensor:
        if not len(vectors):
            raise self.error("no neighbours")
        return super().interaction_energies(species, edge_index, vectors)


class Misindexed(Fragile):
    """The same, with an error that is not of torch."""

    error = IndexError


class NotANumber(LennardJones):
    """An atom by itself has the energy NaN, as a mean over no neighbours has."""

    def interaction_energies(self, species: Tensor, edge_index: Tensor, vectors: Tensor) -> Tensor:
        rest = super().interaction_energies(species, edge_index, vectors)
        return rest if len(vectors) else rest * torch.nan


class NoForces(LennardJones):
    """Forces are zero, and all energies are NaN."""

    def forward(self, graph: Any, *, forces: bool = True) -> dict[str, Tensor]:
        output = super().forward(graph, forces=forces)
        output["interaction_energy"] = output["interaction_energy"] * torch.nan
        return output | ({"forces": 0 * output["forces"]} if forces else {})


@pytest.mark.parametrize("kind", [Fragile, Misindexed])
def test_an_error_in_a_check_fails_it(make: Make, crystal: Atoms, kind: type[Fragile]) -> None:
    report = checked(make(kind), crystal)
    assert "isolated atom" in report.failed
    row = next(row for row in report.rows if row.name == "isolated atom")
    assert row.note == f"{kind.error.__name__}: no neighbours"


@pytest.mark.parametrize(("kind", "row"), [(NotANumber, "isolated atom"), (NoForces, "forces")])
def test_a_nan_in_a_check_fails_it(
    make: Make, crystal: Atoms, kind: type[LennardJones], row: str
) -> None:
    assert row in checked(make(kind), crystal).failed
