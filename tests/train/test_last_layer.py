"""The uncertainty from the last layer, against Bayesian linear regression and on real training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from tensornet.atoms import graph
from tensornet.calculators import PotentialCalculator
from tensornet.models import build, load, save
from tensornet.models.network import Network
from tensornet.train import Recipe, fit
from tensornet.train.evaluation import evaluate_files
from tensornet.train.last_layer import fit_spread

Make = Callable[..., Recipe]
SMALL = {"name": "gaunt", "cutoff": 4.0, "channels": 4, "l_max": 1, "layers": 2, "n_basis": 4}


def network(**changes: Any) -> Network:
    model = build({**SMALL, **changes}, elements=[18], reference_energies={18: -5.0}, seed=3)
    assert isinstance(model, Network)
    return model.eval()


def labelled(folder: Path, name: str, model: Network, noise: float) -> list[Data]:
    graphs = []
    for atoms in ase.io.read(folder / name, ":"):
        g = graph(atoms, 4.0)
        said = model(g, forces=False)["interaction_energy"]
        g.interaction_energy = said + noise * len(atoms) * torch.randn(1)
        g.energy = g.interaction_energy - 5.0 * len(atoms)
        g.forces, g.stress = torch.zeros(len(atoms), 3), torch.zeros(1, 3, 3)
        graphs.append(g)
    return graphs


@pytest.mark.parametrize("name", ["gaunt", "tdn"])
def test_the_energy_is_linear_in_the_last_layer(folder: Path, name: str) -> None:
    more = {"heads": 2, "channels": 4} if name == "tdn" else {}
    config = {**SMALL, "name": name, **more}
    model = build(config, elements=[18], reference_energies={18: 0.0}, scale=1.7, seed=3).eval()
    atoms: Any = ase.io.read(folder / "argon.extxyz", "0")
    g = graph(atoms, 4.0)
    said = model(g, forces=False)
    readouts: Any = model.readouts if name == "gaunt" else [model.readout]
    weights = torch.cat([r.out.weight[0].detach() for r in readouts])
    with torch.no_grad():
        for r in readouts:
            r.out.weight.zero_()
    rest = model(g, forces=False)["energy"]
    linear = 1.7 * said["last_layer"] @ weights
    torch.testing.assert_close(said["energy"] - rest, linear, rtol=1e-12, atol=1e-12)


def test_is_the_variance_of_bayesian_regression(folder: Path) -> None:
    model = network()
    train = labelled(folder, "argon.extxyz", model, noise=0.01)
    valid = labelled(folder, "test.extxyz", model, noise=0.01)
    assert "fitted on 12 structures, sized on 4" in fit_spread(model, train, valid)
    rows = torch.cat([model(g, forces=False)["last_layer"] / len(g.z) for g in train])
    tests = torch.cat([model(g, forces=False)["last_layer"] / len(g.z) for g in valid])
    said = torch.cat([model(g, forces=False)["energy_std"] / len(g.z) for g in valid])
    covariance = model.spread @ model.spread.mT
    inverse = torch.linalg.inv(covariance)
    # its inverse is rows' rows, and a multiple of one, both over alpha squared
    gram = rows.mT @ rows
    basis = torch.stack([gram.flatten(), torch.eye(len(gram)).flatten()], 1)
    solved = torch.linalg.lstsq(basis, inverse.flatten()[:, None])
    residual = basis @ solved.solution - inverse.flatten()[:, None]
    assert residual.norm() < 1e-6 * inverse.norm()
    torch.testing.assert_close(said, (tests @ covariance * tests).sum(1).sqrt(), rtol=1e-5, atol=0)
    errors = torch.cat(
        [(model(g, forces=False)["interaction_energy"] - g.interaction_energy) / len(g.z)
         for g in valid]
    )  # fmt: skip
    assert float((errors / said).square().mean()) == pytest.approx(1, rel=1e-9)


def test_knows_what_is_far_from_the_training_data(folder: Path) -> None:
    model = network()
    train = labelled(folder, "argon.extxyz", model, noise=0.01)
    fit_spread(model, train, labelled(folder, "test.extxyz", model, noise=0.01))
    near: Any = ase.io.read(folder / "test.extxyz", "0")
    far = near.copy()
    far.rattle(0.5, seed=1)
    std = [float(model(graph(atoms, 4.0))["energy_std"]) for atoms in (near, far)]
    assert std[1] > 3 * std[0]


def test_too_few_energies(folder: Path) -> None:
    model = network()
    train = labelled(folder, "argon.extxyz", model, noise=0.01)
    for g in train:
        g.interaction_energy = torch.full((1,), torch.nan)
    assert "too few" in fit_spread(model, train, train)
    assert "energy_std" not in model(train[0])


def test_from_training_to_calculator(
    recipe: Make, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("report.parity", "report.learning_curve", "evaluation.parity"):
        monkeypatch.setattr(f"tensornet.train.{place}", lambda *_, **__: None)
    plan = recipe(
        model=SMALL, training={"epochs": 1, "batch_size": 4}, data={"test": "test.extxyz"}
    )
    fit(plan, folder / "out")
    model = load(folder / "out" / "model.safetensors")
    assert isinstance(model, Network)
    assert bool(model.spread.any())
    atoms: Any = ase.io.read(folder / "test.extxyz", "1")
    atoms.calc = PotentialCalculator(folder / "out")
    atoms.get_potential_energy()
    assert atoms.calc.results["energy_std"] > 0
    assert atoms.calc.results["energies_std"].shape == (len(atoms),)
    _, told = evaluate_files(folder / "out", [folder / "test.extxyz"])
    assert set(told) == {"energy"}
    assert np.isfinite(told["energy"].factor)


def test_files_from_before(folder: Path, tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    model = network()
    save(model, tmp_path / "new.safetensors")
    with safe_open(tmp_path / "new.safetensors", "pt") as file:
        old = {key: file.get_tensor(key) for key in file.keys() if key != "spread"}  # noqa: SIM118
        save_file(old, tmp_path / "old.safetensors", metadata=file.metadata())
    again = load(tmp_path / "old.safetensors")
    assert isinstance(again, Network)
    assert not again.spread.any()
