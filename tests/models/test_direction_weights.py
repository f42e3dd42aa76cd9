"""The network that is shipped keeps what its card says."""

import json
from pathlib import Path

import pytest

from tensornet.linalg import deep_conjugate_direction
from tensornet.models import DirectionNet
from tensornet.pde import Grid, poisson
from tensornet.testing.pressure import sphere_problem

FOLDER = Path(__file__).parents[2] / "models" / "direction-poisson-3d"


def test_iterations_of_the_card() -> None:
    net, counts = DirectionNet.load(FOLDER / "model.safetensors"), {}
    for n in (16, 32, 48):
        p = sphere_problem(n)
        found = deep_conjugate_direction(p.operator, p.rhs, net.bind(p.operator))
        untrained = DirectionNet(**net.config).bind(p.operator)
        assert found.converged
        counts[n] = found.n_iterations
        assert counts[n] < deep_conjugate_direction(p.operator, p.rhs, untrained).n_iterations
    kept = json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))["iterations"]
    assert abs(counts[32] - kept["32"]["noise"]["sphere"]["iterations"]) <= 1
    assert max(counts.values()) <= 7
    assert max(counts.values()) <= 1.5 * min(counts.values())


def test_what_it_was_not_trained_on() -> None:
    net = DirectionNet.load(FOLDER / "model.safetensors")
    rings = poisson(Grid((8, 8, 8), spacing=0.1), boundary="periodic", project=True)
    with pytest.raises(ValueError, match="Got periodic"):
        net.bind(rings.operator)
    with pytest.raises(ValueError, match="Got True"):
        net.bind(sphere_problem(8).operator.shifted(1.0))
    with pytest.raises(ValueError, match="3 axes"):
        net.bind(poisson(Grid((8, 8), spacing=0.1)).operator)
