import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tensornet.calculators import PotentialCalculator
from tensornet.models import load, members
from tensornet.train import Calibration, Recipe, RecipeError, calibration, fit_committee, predict
from tensornet.train.evaluation import evaluate_files

Make = Callable[..., Recipe]


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("report", "evaluation"):
        monkeypatch.setattr(f"tensornet.train.{place}.parity", lambda *_, **__: None)
    monkeypatch.setattr("tensornet.train.report.learning_curve", lambda *_, **__: None)


def test_spreads_that_are_right() -> None:
    """Errors drawn with known widths: the factor, shares and order must come out."""
    width = torch.rand(20_000) + 0.1
    error = 3 * width * torch.randn(20_000)
    found = calibration(width, error, unit="eV")
    assert found is not None
    assert found.factor == pytest.approx(3, rel=0.03)
    assert found.within[0] == pytest.approx(0.683, abs=0.02)
    assert found.within[1] == pytest.approx(0.954, abs=0.02)
    assert found.correlation > 0.2
    assert len(found.bins) == 10
    assert sum(b.n for b in found.bins) == 20_000
    for row in found.bins:
        assert row.error == pytest.approx(3 * row.spread, rel=0.1)
    assert str(found).count("\n") == 11


def test_spreads_that_tell_nothing() -> None:
    found = calibration(torch.rand(20_000) + 0.1, torch.randn(20_000))
    assert found is not None
    assert abs(found.correlation) < 0.03
    none = torch.full((3,), torch.nan)
    assert calibration(torch.ones(3), none) is None
    assert calibration(torch.zeros(3), torch.ones(3)) is None
    flat = calibration(torch.ones(3), torch.tensor([1.0, -2.0, torch.nan]))
    assert flat is not None
    assert flat.correlation == 0
    assert flat.factor == pytest.approx(2.5**0.5)


def test_trains_evaluates_and_calculates(recipe: Make, folder: Path) -> None:
    plan = recipe(training={"epochs": 2, "batch_size": 3}, data={"test": "test.extxyz"})
    out = folder / "committee"
    results = fit_committee(plan, out, 3)
    assert results == json.loads((out / "metrics.json").read_text())
    files = members(out)
    assert [file.parent.name for file in files] == ["member-1", "member-2", "member-3"]
    models = [load(file) for file in files]
    weights = [torch.cat([p.flatten() for p in model.parameters()]) for model in models]
    assert not torch.equal(weights[0], weights[1])
    splits = [model.provenance["recipe"]["data"]["split_seed"] for model in models]
    assert splits == [plan.training.seed] * 3
    said, told = evaluate_files(out, [folder / "test.extxyz"], out=folder / "evaluated")
    (metrics,) = said.values()
    assert metrics.forces_rmse == pytest.approx(results["test"]["forces_rmse"], rel=1e-6)
    written = json.loads((folder / "evaluated" / "metrics.json").read_text())
    assert len(written["provenance"]["model_file"]) == 3
    assert Calibration.from_dict(written["calibration"]["forces"]) == told["forces"]

    from tensornet.datasets import read

    frames = read(folder / "test.extxyz")
    atoms = frames.structures[0]
    atoms.calc = PotentialCalculator(out, dtype="float32")
    alone = torch.stack([predict(model, frames).forces for model in models])
    torch.testing.assert_close(
        torch.from_numpy(atoms.get_forces()), alone.mean(0)[: len(atoms)], rtol=1e-5, atol=1e-6
    )
    assert atoms.calc.results["forces_std"].shape == (len(atoms), 3)


def test_goes_on_where_it_stopped(recipe: Make, folder: Path) -> None:
    plan = recipe(training={"epochs": 1})
    out = folder / "committee"
    fit_committee(plan, out, 2)
    first = load(out / "member-1" / "model.safetensors").state_dict()
    with pytest.raises(RecipeError, match="not empty"):
        fit_committee(plan, out, 2)
    results = fit_committee(plan, out, 3, resume=True)
    assert results["speed"]["members"] == 3
    assert len(members(out)) == 3
    kept = load(out / "member-1" / "model.safetensors")
    assert kept.provenance["seed"] == plan.training.seed
    assert all(torch.equal(x, first[name]) for name, x in kept.state_dict().items())
    with pytest.raises(RecipeError, match=r"holds .*member-3 besides the first 2 members"):
        fit_committee(plan, out, 2, resume=True)
    (out / "member-3" / "notes").write_text("mine")
    (out / "last.ckpt").write_bytes(b"")  # of a single run in this folder
    (out / "model.safetensors").write_bytes(b"")
    fit_committee(plan, out, 2, overwrite=True)
    assert [file.parent.name for file in members(out)] == ["member-1", "member-2"]
    assert [path.name for path in (out / "member-3").iterdir()] == ["notes"]


def test_refuses_what_is_no_committee(recipe: Make, folder: Path) -> None:
    with pytest.raises(ValueError, match=r"`calibration.error=...\)` must have shape"):
        calibration(torch.ones(3), torch.ones(2))
    with pytest.raises(RecipeError, match=r"at least 2 members. Got 1"):
        fit_committee(recipe(), folder / "out", 1)
    with pytest.raises(FileNotFoundError, match=r"without model.safetensors"):
        members(folder)
    with pytest.raises(RecipeError, match=r"without model.safetensors"):
        evaluate_files(folder, [folder / "test.extxyz"])
    assert members("x.safetensors") == (Path("x.safetensors"),)
