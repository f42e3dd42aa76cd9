"""Files written by version 1 of the formats give the numbers they gave then.

`python tests/models/test_golden.py` writes them; do so only together with a new format version, and
keep the old files: a version that was released stays readable.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from ase import Atoms
from torch import Tensor
from torch.testing import assert_close

from tensornet.atoms import graph
from tensornet.formats import CP, MPS, ChebyshevTucker, Format, TensorTrain, TTMatrix, Tucker
from tensornet.formats import load as load_format
from tensornet.functional import FunctionalCP, FunctionalTucker
from tensornet.models import (
    DiffusionFamily,
    DirectionNet,
    LordNet,
    build,
    load,
    load_lordnet,
    save,
    save_lordnet,
)
from tensornet.pde import Grid, poisson

GOLDEN = Path(__file__).parent / "golden"
WATER = Atoms("OH2OH2", [
    (0.0, 0.0, 0.0), (0.96, 0.0, 0.0), (-0.24, 0.93, 0.0),
    (0.1, 0.2, 2.8), (0.9, 0.7, 2.7), (-0.6, 0.8, 3.1),
])  # fmt: skip
POTENTIALS: dict[str, dict[str, Any]] = {
    "gaunt": {"name": "gaunt", "cutoff": 4.0, "channels": 2, "n_basis": 4, "radial_hidden": 4},
    "tdn": {"name": "tdn", "cutoff": 4.0, "channels": 4, "heads": 2, "radial_hidden": 4},
    "lennard_jones": {"name": "lennard_jones", "cutoff": 4.0},
}


def numbers(n: int) -> Tensor:
    """Numbers that no random generator can change."""
    return torch.sin(torch.arange(1, n + 1, dtype=torch.float64) ** 2)


def filled(network: torch.nn.Module) -> Any:
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(0.3 * numbers(p.numel()).reshape(p.shape))
    return network


def potential_answer(path: Path) -> list[float]:
    model = load(path, dtype="float64").eval()
    found = model(graph(WATER, model.cutoff))
    return [float(found["energy"]), *found["forces"].flatten().tolist()]


def direction_answer(path: Path) -> list[float]:
    net = DirectionNet.load(path)
    A = poisson(Grid((6, 5), spacing=0.2)).operator
    found = net.bind(A, precision=torch.float64, unseen=True)(numbers(30))
    return [float(x) for x in found]


def lord_answer(path: Path) -> list[float]:
    net = load_lordnet(path)
    f = numbers(36).reshape(1, 6, 6)
    with torch.no_grad():
        return [float(x) for x in net(f).flatten()]


def formats() -> dict[str, Format]:
    a, b, c = (numbers(2 * n).reshape(n, 2) for n in (3, 4, 5))
    core = numbers(8).reshape(2, 2, 2)
    cores = [numbers(2 * n).reshape(s) for n, s in ((3, (1, 3, 2)), (8, (2, 4, 2)), (5, (2, 5, 1)))]
    pairs = numbers(12).reshape(1, 2, 3, 2), numbers(12).reshape(2, 3, 2, 1)
    return {
        "cp": CP((a, b, c)), "tucker": Tucker(core, (a, b, c)), "train": TensorTrain(tuple(cores)),
        "complex_train": TensorTrain(tuple((1 + 2j) * x for x in cores)), "mps": MPS(cores),
        "train_matrix": TTMatrix(pairs),
        "chebyshev_tucker": ChebyshevTucker(core, (a, b, c), ((-1.0, 2.0),) * 3),
    }  # fmt: skip


def functional() -> dict[str, FunctionalTucker]:
    x = torch.stack([numbers(40), numbers(80)[40:]], 1)
    y = torch.sin(2 * x[:, 0]) * x[:, 1] + 0.5
    made = {"functional_tucker": FunctionalTucker, "functional_cp": FunctionalCP}
    return {
        k: kind(2, length_scales=1.0, max_sweeps=5, restarts=1).fit(x, y)
        for k, kind in made.items()
    }


def functional_answer(path: Path) -> list[float]:
    kind = FunctionalCP if "cp" in path.name else FunctionalTucker
    mean, variance = kind.load(path).predict(numbers(20).reshape(10, 2))
    return [*map(float, mean), *map(float, variance)]


@cache
def answers() -> dict[str, list[float]]:
    found = {name: potential_answer(GOLDEN / f"{name}.safetensors") for name in POTENTIALS}
    found["direction"] = direction_answer(GOLDEN / "direction.safetensors")
    found["lordnet"] = lord_answer(GOLDEN / "lordnet.safetensors")
    for name in formats():
        x = load_format(GOLDEN / f"{name}.safetensors").to_dense().flatten()
        found[name] = (
            torch.view_as_real(x + 0j).flatten().tolist() if x.is_complex() else x.tolist()
        )
    for path in sorted(GOLDEN.glob("functional_*.safetensors")):
        found[path.stem] = functional_answer(path)
    return found


def write() -> None:
    """Write the files and what they give."""
    GOLDEN.mkdir(exist_ok=True)
    for name, config in POTENTIALS.items():
        model = build(config, elements=[1, 8], reference_energies={1: -13.25, 8: -2000.5}, seed=1)
        save(filled(model.double()), GOLDEN / f"{name}.safetensors")
    filled(DirectionNet(dim=2, grids=2)).save(GOLDEN / "direction.safetensors")
    family = DiffusionFamily(Grid((6, 6), spacing=1 / 6))
    save_lordnet(
        filled(LordNet(family, blocks=1, rank=2, hidden=0, steps="learned").double()),
        GOLDEN / "lordnet.safetensors",
    )
    for name, x in formats().items():
        x.save(GOLDEN / f"{name}.safetensors")
    for name, fitted in functional().items():
        fitted.save(GOLDEN / f"{name}.safetensors")
    (GOLDEN / "answers.json").write_text(json.dumps(answers(), indent=1) + "\n", encoding="utf-8")


EXPECTED: dict[str, list[float]] = json.loads((GOLDEN / "answers.json").read_text())


@pytest.mark.parametrize("name", EXPECTED)
def test_old_files_give_what_they_gave(name: str) -> None:
    found = torch.tensor(answers()[name])
    expected = torch.tensor(EXPECTED[name])
    assert float(expected.abs().max()) > 1e-3
    assert_close(found, expected, rtol=1e-9, atol=1e-10 * float(expected.abs().max()))


def test_files_are_small() -> None:
    assert sum(path.stat().st_size for path in GOLDEN.iterdir()) < 200_000


if __name__ == "__main__":
    write()
