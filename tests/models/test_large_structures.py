"""A structure that is too large to keep everything gives the same numbers."""

# mypy: allow-untyped-calls

import importlib
from typing import Any

import numpy as np
import pytest
from ase.build import bulk

from tensornet.atoms import graph
from tensornet.models import build


def test_blocks_that_run_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    block = {"name": "tdn", "cutoff": 4.0, "channels": 4, "heads": 2, "radial_hidden": 8}
    model = build(block, elements=[14], reference_energies={14: -1.0}, seed=0)
    model.eval().requires_grad_(False)
    atoms = bulk("Si", cubic=True)
    atoms.positions += 0.1 * np.random.default_rng(0).standard_normal((8, 3))
    data = graph(atoms, 4.0)
    want = model(data)
    calls = []
    room: Any = importlib.import_module("tensornet.models.tdn")
    real = room.checkpoint

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(args[0])
        return real(*args, **kwargs)

    monkeypatch.setattr(room, "checkpoint", counted)
    monkeypatch.setattr(room, "LARGE", data.num_edges - 1)
    found = model(data)
    assert len(calls) == 2
    for name in ("energies", "forces", "virials"):
        assert want[name].abs().max() > 1e-3
        np.testing.assert_allclose(found[name], want[name], rtol=0, atol=1e-13)
