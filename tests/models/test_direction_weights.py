"""The network that is shipped keeps what its card says."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tensornet.linalg import deep_conjugate_direction
from tensornet.models import DirectionNet
from tensornet.pde import Domain, Grid, Problem, poisson

FOLDER = Path(__file__).parents[2] / "models" / "direction-poisson-3d"
OPEN_TOP: Any = ("neumann", "neumann", ("neumann", "dirichlet"))


def sphere(n: int) -> Problem:
    grid = Grid((n, n, n), spacing=1 / n)
    x, y, z = grid.centers()
    mask = (x - 0.5) ** 2 + (y - 0.5) ** 2 + (z - 0.5) ** 2 > 0.15**2
    source = torch.randn(n, n, n, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return poisson(Domain(grid, mask=mask, boundary=OPEN_TOP), source=source)


def test_iterations_of_the_card() -> None:
    net, told = DirectionNet.load(FOLDER / "model.safetensors"), {}
    for n in (16, 32, 48):
        p = sphere(n)
        found = deep_conjugate_direction(p.operator, p.rhs, net.bind(p.operator))
        untrained = DirectionNet(**net.config).bind(p.operator)
        assert found.converged
        told[n] = found.n_iterations
        assert told[n] < deep_conjugate_direction(p.operator, p.rhs, untrained).n_iterations
    kept = json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))["iterations"]
    assert abs(told[32] - kept["32"]["noise"]["sphere"]["iterations"]) <= 1
    assert max(told.values()) <= 7
    assert max(told.values()) <= 1.5 * min(told.values())


def test_what_it_was_not_trained_on() -> None:
    net = DirectionNet.load(FOLDER / "model.safetensors")
    rings = poisson(Grid((8, 8, 8), spacing=0.1), boundary="periodic", project=True)
    with pytest.raises(ValueError, match="Got periodic"):
        net.bind(rings.operator)
    with pytest.raises(ValueError, match="Got True"):
        net.bind(sphere(8).operator.shifted(1.0))
    with pytest.raises(ValueError, match="3 axes"):
        net.bind(poisson(Grid((8, 8), spacing=0.1)).operator)
