"""Argon crystals with labels of a known Lennard-Jones potential: a fit must find it again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from tensornet.atoms import graph
from tensornet.models import build
from tensornet.train import Recipe, recipe_from

EPSILON, SIGMA, REFERENCE = 0.02, 2.45, -5.0


def crystals(n: int, *, seed: int = 4711) -> list[Atoms]:
    rng = np.random.default_rng(seed)
    true = build(
        {"name": "lennard_jones", "cutoff": 4.0, "epsilon": EPSILON, "sigma": SIGMA},
        elements=[18],
        reference_energies={18: REFERENCE},
    ).eval()
    frames = []
    for k in range(n):
        atoms = bulk("Ar", a=3.9 + 0.1 * rng.random(), cubic=True)
        atoms.positions += rng.normal(scale=0.1, size=atoms.positions.shape)
        said = true(graph(atoms, 4.0))
        atoms.calc = SinglePointCalculator(
            atoms,
            energy=float(said["energy"][0]),
            forces=said["forces"].numpy(),
            stress=said["stress"][0].numpy()[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]],
        )
        atoms.info["group"] = ("even", "odd")[k % 2]
        frames.append(atoms)
    return frames


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with argon.extxyz (12 labelled crystals) and test.extxyz (4 others)."""
    ase.io.write(tmp_path / "argon.extxyz", crystals(12))
    ase.io.write(tmp_path / "test.extxyz", crystals(4, seed=1913))
    return tmp_path


@pytest.fixture
def recipe(folder: Path) -> Callable[..., Recipe]:
    """Make a small recipe; arguments like ``training={"epochs": 2}`` change blocks."""

    def make(**changes: dict[str, Any]) -> Recipe:
        content: dict[str, dict[str, Any]] = {
            "model": {"name": "lennard_jones", "cutoff": 4.0},
            "data": {
                "train": "argon.extxyz",
                "valid": 3,
                "reference_energies": {"Ar": REFERENCE},
            },
            "training": {"epochs": 4, "batch_size": 2, "dtype": "float64", "ema": 0.9},
        }
        for block, values in changes.items():
            content[block] = {**content.get(block, {}), **values}
        return recipe_from(content, folder=folder)

    return make


def weights(folder: Path) -> list[torch.Tensor]:
    """All tensors of a run's last checkpoint that training changes."""
    state = torch.load(folder / "last.ckpt", weights_only=True)
    moments = [
        torch.as_tensor(x)
        for s in state["optimizer"]["state"].values()
        for x in s.values()
        if not isinstance(x, dict)  # the bases of SOAP have a test of their own
    ]
    return [*state["model"].values(), *state["average"]["average"], *moments]


@pytest.fixture
def same_bits() -> Callable[[Path, Path], bool]:
    """Compare weights, averages and optimizer of two runs bit by bit."""

    def compare(one: Path, other: Path) -> bool:
        pairs = list(zip(weights(one), weights(other), strict=True))
        return len(pairs) > 0 and all(torch.equal(a, b) for a, b in pairs)

    return compare


@pytest.fixture
def is_picture() -> Callable[[Path], bool]:
    """Look whether a file is a PNG that shows something."""

    def look(path: Path) -> bool:
        from matplotlib.image import imread

        return path.read_bytes()[:4] == b"\x89PNG" and float(np.std(imread(path))) > 0.01

    return look
