"""Architectures from elsewhere: recipes, files and packages know them by name."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from ase.build import bulk
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from tensornet import models
from tensornet.atoms import graph
from tensornet.models import CONFIGS, Potential, registry


class SpringConfig(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = "spring"
    cutoff: float = 4.0
    stiffness: float = 0.5


class Spring(Potential):
    """Pairs that repel within the cutoff."""

    def __init__(
        self, config: SpringConfig, *, elements: Sequence[int],
        reference_energies: Mapping[int, float], scale: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__(config, elements=elements, reference_energies=reference_energies)
        self.stiffness = torch.nn.Parameter(torch.tensor(scale * config.stiffness))

    def interaction_energies(self, species: Tensor, edge_index: Tensor, vectors: Tensor) -> Tensor:
        pair = 0.5 * self.stiffness * (1 - vectors.norm(dim=1) / self.cutoff) ** 4
        found: Tensor = pair.new_zeros(len(species)).index_add(0, edge_index[1], pair)
        return found


@pytest.fixture
def spring() -> Iterator[None]:
    models.register(Spring, SpringConfig)
    yield
    del CONFIGS["spring"], registry._MODELS["spring"]


@pytest.mark.usefixtures("spring")
def test_blocks_and_files_know_it(tmp_path: Path) -> None:
    block = {"name": "spring", "stiffness": 2.0}
    made = models.build(block, elements=[18], reference_energies={18: -1.5}, scale=3.0, shift={})
    assert made.get_parameter("stiffness").item() == 6.0
    models.save(made, tmp_path / "spring.safetensors")
    back = models.load(tmp_path / "spring.safetensors")
    g = graph(bulk("Ar", "fcc", 5.0), 4.0)
    assert torch.equal(back(g)["energy"], made.eval()(g)["energy"])
    with pytest.raises(ValueError, match="stifness"):
        models.config({"name": "spring", "stifness": 1.0})
    models.register(Spring, SpringConfig)  # again is no error


def test_packages_bring_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        name = "spring"

        def load(self) -> None:
            models.register(Spring, SpringConfig)

    asked: list[str] = []

    def points(group: str) -> list[Any]:
        asked.append(group)
        return [Point()]

    monkeypatch.setattr(registry, "entry_points", points)
    try:
        assert models.config({"name": "spring"}).model_dump()["stiffness"] == 0.5
    finally:
        del CONFIGS["spring"], registry._MODELS["spring"]
    assert asked == ["tensornet.models"]
    with pytest.raises(ValueError, match="must be one of"):
        models.config({"name": "nowhere"})


def test_refusals() -> None:
    class Nameless(BaseModel):
        cutoff: float = 4.0

    class Taken(SpringConfig):
        name: str = "gaunt"

    with pytest.raises(TypeError, match="class of `Potential`"):
        models.register(Nameless, SpringConfig)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="class of pydantic"):
        models.register(Spring, dict)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="field `name`"):
        models.register(Spring, Nameless)
    with pytest.raises(ValueError, match="'gaunt', which is Gaunt"):
        models.register(Spring, Taken)


class Springs(Potential):
    """The same without anything to train."""

    def interaction_energies(self, species: Tensor, edge_index: Tensor, vectors: Tensor) -> Tensor:
        pair = 0.25 * (1 - vectors.norm(dim=1) / self.cutoff) ** 4
        found: Tensor = pair.new_zeros(len(species)).index_add(0, edge_index[1], pair)
        return found


def test_a_potential_may_have_no_parameters() -> None:
    given: Any = {"elements": [18], "reference_energies": {18: -1.5}}
    g = graph(bulk("Ar", "fcc", 5.0), 4.0)
    found, expected = (
        made(SpringConfig(), **given).double().eval()(g) for made in (Springs, Spring)
    )
    for name in ("energy", "forces", "stress"):
        assert torch.allclose(found[name], expected[name], rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"reference_energies": {18: float("nan")}}, r"reference_energies=...\)` must be finite"),
        ({"scale": float("nan")}, r"`build\(scale=...\)` must be finite. Got nan"),
        ({"n_neighbours": float("inf")}, r"`build\(n_neighbours=...\)` must be finite. Got inf"),
        ({"shift": {18: float("nan")}}, r"`build\(shift=...\)` must be finite"),
        ({"closest": {(18, 18): float("nan")}}, r"`build\(closest=...\)` must be finite"),
        (
            {"closest": {(1, 18): 1.0}},
            r"pairs of the model's elements. Got the atomic number\(s\) 1",
        ),
    ],
)
def test_numbers_that_are_none_are_refused(given: dict[str, Any], message: str) -> None:
    block = {"name": "gaunt", "channels": 2, "l_max": 1}
    with pytest.raises(ValueError, match=message):
        models.build(block, **({"elements": [18], "reference_energies": {18: 0.0}} | given))
