import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import pytest
import torch

from tensornet.datasets import Labels, read
from tensornet.models import build
from tensornet.train import Predictions, RecipeError, evaluate, learning_curve, parity, predict

NAN = float("nan")


@pytest.fixture
def predictions() -> Predictions:
    """Two structures of 2 and 1 atoms; the first has no stress, the second no energy."""
    return Predictions(
        energy=torch.tensor([-10.0, -3.0]),
        energy_label=torch.tensor([-10.4, NAN]),
        forces=torch.tensor([[0.1, 0, 0], [0, 0.2, 0], [0, 0, 0]]),
        forces_label=torch.tensor([[0.0, 0, 0], [0, 0, 0], [NAN, NAN, NAN]]),
        stress=torch.zeros(2, 3, 3),
        stress_label=torch.stack([torch.full((3, 3), NAN), torch.eye(3) * 0.03]),
        n_atoms=torch.tensor([2, 1]),
        energy_std=torch.full((2,), NAN),
        groups=("bulk", ""),
    )


def test_metrics_by_hand(predictions: Predictions) -> None:
    metrics = predictions.metrics()
    assert metrics.energy_mae == pytest.approx(200, rel=1e-12)  # 0.4 eV over two atoms
    assert metrics.energy_rmse == pytest.approx(200, rel=1e-12)
    assert metrics.energy_total_rmse == pytest.approx(400, rel=1e-12)
    assert metrics.forces_mae == pytest.approx(1000 * 0.3 / 6, rel=1e-12)
    assert metrics.forces_rmse == pytest.approx(1000 * math.sqrt(0.05 / 6), rel=1e-12)
    assert metrics.stress_rmse == pytest.approx(1000 * math.sqrt(3 * 0.03**2 / 9), rel=1e-12)
    assert (metrics.n_structures, metrics.n_atoms) == (2, 3)


def test_metrics_of_papers_by_hand() -> None:
    nan = [NAN] * 3
    predictions = Predictions(
        energy=torch.tensor([1.0, 2.0, 3.0, 4.0]),
        energy_label=torch.tensor([1.019, 2.021, 3.0, NAN]),
        forces=torch.tensor([[0.3, 0, 0], [0, 0.4, 0], [0, 0, 0.5], [1.0, 1, 0], [0, 0, 2]]),
        forces_label=torch.tensor([[0.329, 0, 0], [0, 0.4, 0], [0, 0, 0.5], [1, 0, 0], nan]),
        stress=torch.zeros(4, 3, 3),
        stress_label=torch.full((4, 3, 3), NAN),
        n_atoms=torch.tensor([2, 1, 1, 1]),
        energy_std=torch.full((4,), NAN),
    )
    metrics = predictions.metrics()
    of_each = [0.029 / math.sqrt(6), 0, 1 / math.sqrt(3)]  # the last has no forces
    expected = 1000 * sum(of_each) / 3
    assert metrics.forces_rmse_molecules == pytest.approx(expected, rel=1e-6)
    assert metrics.forces_rmse != pytest.approx(expected, rel=0.1)
    assert metrics.forces_cosine == pytest.approx((3 + math.sqrt(0.5)) / 4, rel=1e-6)
    assert metrics.ewt == pytest.approx(2 / 3)
    assert metrics.efwt == pytest.approx(1 / 3)
    far = replace(predictions, forces=predictions.forces + 0.031).metrics()
    assert (far.ewt, far.efwt) == (metrics.ewt, 0)


def test_a_prediction_that_is_nan_is_not_left_out(predictions: Predictions) -> None:
    metrics = replace(predictions, energy=torch.tensor([NAN, -3.0])).metrics()
    assert metrics.energy_mae is not None
    assert math.isnan(metrics.energy_mae)
    assert metrics.forces_mae == predictions.metrics().forces_mae


def test_a_model_that_gives_nan_is_refused(folder: Path) -> None:
    argon = {"name": "lennard_jones", "cutoff": 4.0}
    model = build(argon, elements=[18], reference_energies={18: -5.0})
    with torch.no_grad():
        model.get_parameter("sigma").fill_(NAN)
    frames = read(folder / "argon.extxyz")
    with pytest.raises(RecipeError, match=r"NaN or infinite values for 12 of 12 .*is number 0"):
        evaluate(model, frames)


def test_groups_by_hand(predictions: Predictions) -> None:
    content = predictions.metrics().to_dict()
    assert set(content["groups"]) == {"bulk", "no group"}
    assert content["groups"]["bulk"]["energy_mae"] == pytest.approx(200, rel=1e-12)
    assert content["groups"]["bulk"]["stress_rmse"] is None
    assert content["groups"]["no group"]["forces_rmse"] is None
    assert content["groups"]["no group"]["n_atoms"] == 1
    assert "groups" not in content["groups"]["bulk"]


def test_evaluate_against_a_known_potential(folder: Path) -> None:
    frames = read(folder / "argon.extxyz")
    argon = {"name": "lennard_jones", "cutoff": 4.0, "sigma": 2.45}
    exact, doubled = (
        build(argon | {"epsilon": e}, elements=[18], reference_energies={18: -5.0})
        for e in (0.02, 0.04)
    )
    found = evaluate(exact, frames, batch_size=5)
    assert found.forces_rmse is not None
    assert found.forces_rmse < 1e-3  # the file has eight decimals
    assert found.stress_rmse is not None
    assert found.stress_rmse < 1e-3
    assert found.energy_rmse is not None
    assert found.energy_rmse < 1e-3
    assert set(found.groups) == {"even", "odd"}
    assert found.groups["odd"].n_structures == 6
    # twice epsilon: every error is the label itself
    square = torch.cat([torch.tensor(one.forces).flatten() for one in frames.labels]).square()
    rms = math.sqrt(float(square.mean()))
    assert evaluate(doubled, frames).forces_rmse == pytest.approx(1000 * rms, rel=1e-6)


def test_evaluate_leaves_the_mode_and_needs_no_labels(folder: Path) -> None:
    frames = read(folder / "argon.extxyz").subset([0, 1])
    bare = type(frames)(frames.structures, (Labels(), Labels()), {})
    argon = build({"name": "lennard_jones"}, elements=[18], reference_energies={18: 0.0})
    with torch.no_grad():
        metrics = evaluate(argon, bare)
    assert argon.training
    assert metrics.energy_rmse is None
    assert metrics.forces_mae is None


def test_nothing_to_measure_is_refused(folder: Path, predictions: Predictions) -> None:
    frames = read(folder / "argon.extxyz").subset([0, 1])
    argon = build({"name": "lennard_jones"}, elements=[18], reference_energies={18: 0.0})
    with pytest.raises(RecipeError, match="must hold a structure"):
        evaluate(argon, frames.subset([]))
    with pytest.raises(ValueError, match=r"`predict.batch_size=...\)` must be at least 1. Got 0"):
        evaluate(argon, frames, batch_size=0)
    none: dict[str, Any] = {
        name: torch.full_like(getattr(predictions, name), NAN)
        for name in ("energy_label", "forces_label", "stress_label")
    }
    with pytest.raises(ValueError, match="must hold labels"):
        parity({"test": replace(predictions, **none)}, folder / "parity.png")
    with pytest.raises(ValueError, match="must hold an epoch"):
        learning_curve([], folder / "curve.png")
    assert not (folder / "parity.png").exists()


def test_unknown_element_is_named(folder: Path) -> None:
    neon = build({"name": "lennard_jones"}, elements=[10], reference_energies={10: 0.0})
    with pytest.raises(RecipeError, match="hold Ar, which the model was not trained on"):
        evaluate(neon, read(folder / "argon.extxyz"))


def test_pictures_are_drawn(
    folder: Path, predictions: Predictions, is_picture: Callable[[Path], bool]
) -> None:
    argon = build({"name": "lennard_jones"}, elements=[18], reference_energies={18: 0.0})
    frames = read(ase_copy(folder))
    parity({"test": predictions, "valid": predict(argon, frames)}, folder / "parity.png")
    keys = ("loss", "energy_rmse", "forces_rmse", "virial_rmse")
    record = {f"{split}_{key}": 1.0 for split in ("train", "valid") for key in keys}
    learning_curve([{"epoch": 1, **record}], folder / "one.png")
    for name in ("parity.png", "one.png"):
        assert is_picture(folder / name)


def ase_copy(folder: Path) -> Path:
    path = folder / "copy.extxyz"
    ase.io.write(path, ase.io.read(folder / "argon.extxyz", ":4"))
    return path
