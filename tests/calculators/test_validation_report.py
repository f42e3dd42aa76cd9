"""What is validated, what is skipped, and how it is told."""

# mypy: allow-untyped-calls

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from rich.console import Console

from tensornet.atoms import edge_vectors, graph
from tensornet.calculators import Report, Row, validate
from tensornet.calculators.validation import dynamics
from tensornet.calculators.validation.bench import Answer, Array, Bench, difference
from tensornet.calculators.validation.structures import packed
from tensornet.models import LennardJones, build, save

Make = Callable[..., LennardJones]


def test_unstable_dynamics_fails_by_its_drift_only(make: Make, crystal: Atoms) -> None:
    # Right forces, but so stiff that half a femtosecond is too long.
    report = validate(make(epsilon=4e4), crystal, md_steps=40)
    assert report.failed == ("drift",), str(report)
    assert report.rows[-1].value == np.inf
    assert "broke down" in report.rows[-1].note


def test_only_rounding_is_forgiven_a_free_atom() -> None:
    """Its interaction energy is zero, of which there is no relative error."""

    def answer(energy: float) -> Answer:
        empty = np.full((3, 3), np.nan)
        return Answer(energy, energy, np.array([energy]), np.zeros((1, 3)), empty)

    assert difference(answer(1e-18), answer(0.0)) < 1e-14
    assert difference(answer(1e-12), answer(0.0)) > 1e-10  # the limit of the check
    assert difference(answer(1.001), answer(1.0)) == pytest.approx(1e-3)


@pytest.mark.parametrize(
    ("steps", "slope", "swing", "passed"),
    [
        (4000, 0.0, 0.05, True),
        (4000, 3.0, 0.05, False),
        (20, 0.0, 0.05, None),  # seems to drift by 8 meV/atom/ps
        (20, 100.0, 0.05, False),
        (20, 0.0, 5.0, False),
    ],
)
def test_a_drift_is_told_from_an_oscillation(
    make: Make,
    crystal: Atoms,
    monkeypatch: pytest.MonkeyPatch,
    steps: int,
    slope: float,
    swing: float,
    passed: bool | None,
) -> None:
    def trajectory(bench: Bench) -> tuple[Array, Array]:
        times = 5e-4 * np.arange(steps + 1)
        return slope * times + swing * np.sin(2 * np.pi * times / 0.01), np.full(steps + 1, 300.0)

    monkeypatch.setattr(dynamics, "_trajectory", trajectory)
    row = dynamics.drift(Bench(make(), crystal, crystal, crystal, crystal, md_steps=steps))
    assert row.passed is passed, row
    assert ("too short to tell" in row.note) == (passed is None)


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
    report = validate(untrained, pair, md_steps=0)  # dynamics and dimers need training
    assert set(report.skipped) == skipped | {"drift"}, str(report)
    assert set(report.failed) <= {"dimers"}, str(report)


def test_without_a_structure_one_is_made(make: Make) -> None:
    report = validate(make(), md_steps=20)
    assert report.passed, str(report)
    assert "a random structure" in report.subject
    row = next(r for r in report.rows if r.name == "stress")
    assert "periodic structure made of it" in row.note


def test_the_example_of_the_model_is_used(make: Make, tmp_path: Path) -> None:
    own = make()
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
def test_small_structures_can_be_validated(
    make: Make, atoms: Atoms, skipped: tuple[str, ...]
) -> None:
    before = atoms.copy()
    report = validate(make(), atoms, md_steps=10)
    assert report.passed, str(report)
    assert set(skipped) <= set(report.skipped) <= {*skipped, "hessian"}
    assert atoms == before


def test_the_seed_decides_the_numbers(make: Make, crystal: Atoms) -> None:
    runs = [validate(make(), crystal, seed=seed, md_steps=0).rows for seed in (3, 3, 4)]
    assert runs[0] == runs[1] != runs[2]


def test_a_float32_model_is_judged_in_float64_and_left_alone(make: Make, crystal: Atoms) -> None:
    own = make().to(torch.float32)
    assert validate(own, crystal, md_steps=10).passed
    assert own.dtype == torch.float32


def test_structures_without_sense_are_refused(make: Make) -> None:
    with pytest.raises(ValueError, match="Got Xe"):
        validate(make(), Atoms("ArXe", [[0, 0, 0], [0, 0, 4]]))
    with pytest.raises(ValueError, match="empty"):
        validate(make(), Atoms())
    with pytest.raises(FileNotFoundError):
        validate("nowhere.safetensors")


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
    for part in ("2.0e-09", "3.5e+00", "meV/atom/ps", "FAILED"):
        assert part in text
    assert "drift: of the energy; [too] much" in text
    assert "stress: its error; no crystal" in text
    assert "their error" not in text  # details only of what did not pass
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
