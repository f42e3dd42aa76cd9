"""What is validated, what is skipped, and how it is told."""

# mypy: allow-untyped-calls

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from rich.console import Console
from torch import Tensor

from tensornet.atoms import edge_vectors, graph
from tensornet.calculators import Report, Row, validate
from tensornet.calculators.validation.structures import packed
from tensornet.models import LennardJones, build, save

REFERENCES = {10: -30.25, 18: -140.5}
BLOCK = {"name": "lennard_jones", "epsilon": 0.02, "sigma": 3.2, "cutoff": 6.0}


def crystal() -> Atoms:
    atoms = bulk("Ar", a=5.0, cubic=True)
    atoms.numbers[1] = 10
    slant = np.array([[0, 0, 0], [0.8, 0, 0], [-0.6, 0.5, 0]])
    atoms.set_cell(atoms.cell.array + slant, scale_atoms=True)
    return atoms


def model(kind: type[LennardJones] = LennardJones, **config: Any) -> LennardJones:
    made: Any = build(BLOCK, elements=[10, 18], reference_energies=REFERENCES)
    made.config |= config
    made.__class__ = kind
    assert isinstance(made, LennardJones)
    return made


def checked(kind: type[LennardJones], **config: Any) -> Report:
    return validate(model(kind, **config), crystal(), md_steps=30)


def summed(pair: Tensor, edge_index: Tensor, species: Tensor) -> Tensor:
    return pair.new_zeros(len(species)).index_add(0, edge_index[1], pair)


def envelope(r: Tensor) -> Tensor:
    return (1 - r / 6.0).clamp(min=0) ** 4


class Direct(LennardJones):
    """Forces from a head of their own, which are not the derivatives."""

    conservative = False

    def direct_forces(
        self, species: Tensor, edge_index: Tensor, vectors: Tensor
    ) -> tuple[Tensor, Tensor]:
        energies = self.interaction_energies(species, edge_index, vectors)
        push = (
            vectors
            * envelope(vectors.norm(dim=-1, keepdim=True))
            * (1.0 + species)[edge_index[1]].unsqueeze(-1)
        )
        return energies, vectors.new_zeros(len(species), 3).index_add(0, edge_index[1], push)


def test_a_direct_head_promises_no_derivatives() -> None:
    report = validate(model(Direct), crystal(), md_steps=40)
    assert report.skipped == ("forces", "stress", "hessian")
    assert "drift" in report.failed
    assert all("head of their own" in row.note for row in report.rows[:3])
    forces = report.rows[0]
    assert forces.value is not None
    assert forces.value > 0.1


def test_unstable_dynamics_fails_by_its_drift_only() -> None:
    # Right forces, but so stiff that half a femtosecond is too long.
    stiff = build(BLOCK | {"epsilon": 4e4}, elements=[10, 18], reference_energies=REFERENCES)
    report = validate(stiff, crystal(), md_steps=40)
    assert report.failed == ("drift",), str(report)
    assert report.rows[-1].value == np.inf
    assert "broke down" in report.rows[-1].note


@pytest.mark.parametrize(
    ("settings", "skipped"),
    [
        ({}, set()),
        ({"symmetry": "SO(3)"}, {"inversion"}),
        ({"forces": "direct"}, {"forces", "stress", "hessian"}),
    ],
    ids=["O(3)", "SO(3)", "direct"],
)
def test_tdn_keeps_what_it_promises(settings: dict[str, str], skipped: set[str]) -> None:
    block = {"name": "tdn", "cutoff": 4.0, "l_max": 1, "channels": 8, "heads": 2, "layers": 1}
    untrained = build(
        block | settings, elements=[1, 8], reference_energies={1: -13.6, 8: -2040.0}, seed=5
    )
    first = [[0, 0, 0], [0, 0.77, 0.58], [0, -0.77, 0.58]]
    second = [[0, 0.3, 2.9], [0.7, 0.1, 3.5], [-0.7, 0.6, 3.4]]
    pair = Atoms("OH2OH2", first + second, cell=[4.6, 4.6, 5.6], pbc=True)
    report = validate(untrained, pair, md_steps=10)
    assert set(report.skipped) == skipped, str(report)
    assert set(report.failed) <= {"drift", "dimers"}, str(report)  # those need training


def test_without_a_structure_one_is_made() -> None:
    report = validate(model(), md_steps=20)
    assert report.passed, str(report)
    assert "a random structure" in report.subject
    row = next(r for r in report.rows if r.name == "stress")
    assert "periodic structure made of it" in row.note


def test_the_example_of_the_model_is_used(tmp_path: Path) -> None:
    own = model()
    own.provenance["example"] = {
        "numbers": [18, 10, 18],
        "positions": [[0.0, 0.0, 0.0], [3.4, 0.3, 0.0], [0.2, 3.6, 0.5]],
        "cell": None,
        "pbc": [False, False, False],
    }
    path = tmp_path / "model.safetensors"
    save(own, path)
    seen: list[str] = []
    report = validate(path, md_steps=0, progress=seen.append)
    assert report.passed, str(report)
    assert "the model's example structure, ArNeAr (3 atoms)" in report.subject
    assert str(path) in report.subject
    assert report.skipped == ("drift",)
    assert seen == [row.name for row in report.rows]


@pytest.mark.parametrize(
    ("atoms", "skipped"),
    [
        (Atoms("Ar"), ("forces", "drift")),
        (bulk("Ar", a=5.1), ()),
        (Atoms("ArNe", [[0, 0, 0], [0.3, 0.2, 3.4]], cell=[4.5, 4.6, 9], pbc=(1, 1, 0)), ()),
        (Atoms("Ar2", [[0, 0, 0], [0, 0, 30]]), ("forces",)),
    ],
    ids=["atom", "primitive", "slab", "apart"],
)
def test_small_structures_can_be_validated(atoms: Atoms, skipped: tuple[str, ...]) -> None:
    before = atoms.copy()
    report = validate(model(), atoms, md_steps=10)
    assert report.passed, str(report)
    assert set(skipped) <= set(report.skipped) <= {*skipped, "hessian"}
    assert atoms == before


def test_the_same_seed_gives_the_same_numbers() -> None:
    runs = [validate(model(), crystal(), seed=seed, md_steps=0).rows for seed in (3, 3)]
    assert runs[0] == runs[1]


def test_a_float32_model_is_judged_in_float64_and_left_alone() -> None:
    own = model().to(torch.float32)
    assert validate(own, crystal(), md_steps=10).passed
    assert own.dtype == torch.float32


def test_structures_without_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="Got Xe"):
        validate(model(), Atoms("ArXe", [[0, 0, 0], [0, 0, 4]]))
    with pytest.raises(ValueError, match="empty"):
        validate(model(), Atoms())
    with pytest.raises(FileNotFoundError):
        validate("nowhere.safetensors")


class Fragile(LennardJones):
    def interaction_energies(self, species: Tensor, edge_index: Tensor, vectors: Tensor) -> Tensor:
        if not len(vectors):
            raise RuntimeError("no neighbours")
        return super().interaction_energies(species, edge_index, vectors)


class NotANumber(LennardJones):
    """Two lone atoms in a batch make a NaN, as a mean over nothing does."""

    def interaction_energies(self, species: Tensor, edge_index: Tensor, vectors: Tensor) -> Tensor:
        rest = super().interaction_energies(species, edge_index, vectors)
        return rest if len(vectors) else rest * torch.nan


def test_an_error_or_a_nan_in_a_check_fails_it() -> None:
    report = checked(Fragile)
    assert "isolated atom" in report.failed
    row = next(row for row in report.rows if row.name == "isolated atom")
    assert row.note == "no neighbours"
    assert "isolated atom" in checked(NotANumber).failed


def test_a_report_reads_as_a_table() -> None:
    rows = (
        Row("forces", "their error", 2e-9, 1e-6, "", True),
        Row("drift", "of the energy", 3.5, 1.0, "meV/atom/ps", False, "[too] much"),
        Row("stress", "its error", None, None, "", None, "no crystal"),
    )
    report = Report("a model", rows)
    assert not report.passed
    assert (report.failed, report.skipped) == (("drift",), ("stress",))
    text = str(report)
    for part in ("2.0e-09", "3.5e+00", "meV/atom/ps", "FAILED", "[too] much", "no crystal"):
        assert part in text
    assert text.endswith("1 of 2 checks passed. Failed: drift. Not applicable: stress.")
    assert "\x1b" not in text
    out = io.StringIO()
    Console(file=out, width=100).print(report.table())
    assert "1.0e-06" in out.getvalue()
    assert not Report("nothing", rows[2:]).passed
    assert Report("good", rows[::2]).passed
    with pytest.raises(dataclasses.FrozenInstanceError):
        rows[0].passed = False  # type: ignore[misc]


def test_a_molecule_is_packed_into_a_crystal() -> None:
    """Neighbours stay, and images come no closer than the gap."""
    chain = Atoms("CHCH", [[0, 0, 0], [0, 1.1, 0], [1.3, 0.2, 0], [1.4, 1.2, 0.3]])
    chain.set_cell([2.6, 0, 0])
    chain.pbc = (True, False, False)
    crystal = packed(chain, 2.5)
    assert crystal.pbc.all()
    assert abs(np.linalg.det(crystal.cell)) > 1
    before, after = (x.get_all_distances(mic=True) for x in (chain, crystal))
    assert np.abs(before - after).max() < 1e-12
    images = graph(crystal, 4.0)
    lengths = edge_vectors(images).norm(dim=1)
    crossing = images.edge_shift[:, 1:].abs().sum(1) > 0
    assert int(crossing.sum()) > 0
    assert 2.5 - 1e-9 <= float(lengths[crossing].min()) < 4.0
