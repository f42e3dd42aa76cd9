"""Training that begins from a model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import pytest
import torch

from tensornet.atoms import graph
from tensornet.models import build, load, save
from tensornet.models.network import Network
from tensornet.train import Recipe, RecipeError, fit

Make = Callable[..., Recipe]
MODELS = {
    "gaunt": {"name": "gaunt", "cutoff": 4.0, "channels": 4, "l_max": 1, "n_basis": 4},
    "tdn": {"name": "tdn", "cutoff": 4.0, "channels": 4, "heads": 2, "l_max": 1, "n_basis": 4},
}


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("parity", "learning_curve"):
        monkeypatch.setattr(f"tensornet.train.report.{name}", lambda *_, **__: None)


def network(elements: list[int], config: dict[str, Any], seed: int) -> Network:
    references = dict.fromkeys(elements, 0.0)
    model = build(config, elements=elements, reference_energies=references, seed=seed)
    assert isinstance(model, Network)
    return model.eval()


@pytest.mark.parametrize("name", MODELS)
def test_elements_in_common_behave_as_before(folder: Path, name: str) -> None:
    config = MODELS[name]
    old, new = network([1, 18], config, seed=1), network([8, 18, 36], config, seed=2)
    atoms: Any = ase.io.read(folder / "argon.extxyz", "0")
    g = graph(atoms, 4.0)
    g.z = torch.full_like(g.z, 18)
    before = float(new(g)["energy"])
    new.begin_from(old)
    want = float(old(g)["energy"])
    assert abs(before - want) > 1e-6
    assert float(new(g)["energy"]) == pytest.approx(want, rel=1e-12)
    g.z[0] = 36  # one it did not know: not like argon, but close by
    assert 0 < abs(float(new(g)["energy"]) - want) < 10 * abs(want) + 1


def test_fine_tuning(recipe: Make, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = MODELS["gaunt"]
    first = recipe(model=model, training={"epochs": 2, "batch_size": 4})
    fit(first, folder / "first")
    start = {"model": "first/model.safetensors", "freeze": ["embedding", "layers.0.*"]}
    second = recipe(model=model, training={"epochs": 2, "batch_size": 4}, start=start)
    with caplog.at_level("INFO", logger="tensornet"):
        results = fit(second, folder / "second")
    (told,) = (line for line in caplog.messages if line.startswith("start: "))
    assert "first/model.safetensors, " in told
    before, after = (load(folder / n / "model.safetensors") for n in ("first", "second"))
    moved = dict(after.named_parameters())
    for key, value in before.named_parameters():
        frozen = key == "embedding" or key.startswith("layers.0.")
        assert torch.equal(value, moved[key]) == frozen, key
    assert results["provenance"]["recipe"]["start"]["freeze"] == ["embedding", "layers.0.*"]


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ({"model": "none.safetensors"}, r"start.model.*none.safetensors"),
        ({"model": "krypton.safetensors"}, "must know an element of the data"),
        ({"model": "other.safetensors"}, r"same settings. Got channels 8 and 4"),
        ({"model": "lj.safetensors"}, "must be a neural network"),
        ({"freeze": "layer.*"}, r"must match parameters. Got 'layer\.\*'; there are .*layers"),
        ({"freeze": "*"}, "must leave something to train"),
    ],
)
def test_refuses_what_does_not_fit(
    recipe: Make, folder: Path, start: dict[str, Any], said: str
) -> None:
    config = MODELS["gaunt"]
    save(network([36], config, seed=0), folder / "krypton.safetensors")
    save(network([18], {**config, "channels": 8}, seed=0), folder / "other.safetensors")
    argon = build({"name": "lennard_jones"}, elements=[18], reference_energies={18: 0.0})
    save(argon, folder / "lj.safetensors")
    with pytest.raises(RecipeError, match=said):
        fit(recipe(model=config, start=start), folder / "out")
    assert not (folder / "out").exists()


@pytest.mark.parametrize("name", MODELS)
def test_low_rank_fine_tuning(recipe: Make, folder: Path, name: str) -> None:
    model = MODELS[name]
    fit(recipe(model=model, training={"epochs": 1, "batch_size": 4}), folder / "first")
    start = {
        "model": "first/model.safetensors",
        "lora": {"rank": 1},
        "freeze": ["embedding"],
    }
    # AdamW keeps a state per weight, which can be counted.
    optimizer = {"name": "adamw"}
    training = {"epochs": 2, "batch_size": 4}
    plan = recipe(model=model, training=training, start=start, optimizer=optimizer)
    results = fit(plan, folder / "second")
    state = torch.load(folder / "second" / "last.ckpt", weights_only=True)
    assert len(state["optimizer"]["state"]) == sum(".factors." in key for key in state["model"])
    before, after = (load(folder / n / "model.safetensors") for n in ("first", "second"))
    assert set(before.state_dict()) == set(after.state_dict())
    assert results["model"]["n_parameters"] == before.n_parameters
    moved = dict(after.named_parameters())
    for key, p in before.named_parameters():
        change = (moved[key] - p).detach()
        if p.ndim == 1 or key == "embedding":
            assert not change.any(), key
        elif p.ndim == 2 and min(p.shape) > 1:
            values = torch.linalg.svdvals(change)
            assert values[0] > 1e-8, key
            assert values[1] < 1e-9 * values[0], key
    fit(plan, folder / "second", resume=True)  # the checkpoint fits a model with factors
    with pytest.raises(RecipeError, match=r"`start.lora` needs a model"):
        fit(recipe(model=model, start={"lora": {"rank": 1}}), folder / "alone")
