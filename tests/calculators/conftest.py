"""What tests share: potentials of neon and argon and of silicon and germanium, and a crystal."""

# mypy: allow-untyped-calls

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from tensornet.models import LennardJones, Potential, build


@pytest.fixture
def crystal() -> Atoms:
    atoms = bulk("Ar", a=5.0, cubic=True)
    atoms.numbers[1] = 10
    slant = np.array([[0, 0, 0], [0.8, 0, 0], [-0.6, 0.5, 0]])
    atoms.set_cell(atoms.cell.array + slant, scale_atoms=True)
    return atoms


@pytest.fixture
def make() -> Callable[..., LennardJones]:
    """Makes the potential as one of a subclass, with other settings if given."""

    def made(kind: type[LennardJones] = LennardJones, **settings: Any) -> LennardJones:
        block = {"name": "lennard_jones", "epsilon": 0.02, "sigma": 3.2, "cutoff": 6.0}
        references = {10: -30.25, 18: -140.5}
        potential: Any = build(block | settings, elements=[10, 18], reference_energies=references)
        potential.__class__ = kind
        assert isinstance(potential, LennardJones)
        return potential

    return made


@pytest.fixture
def potential() -> Callable[[str], Potential]:
    """Makes small potentials of silicon and germanium by their names."""
    blocks: dict[str, dict[str, Any]] = {
        "lennard_jones": {"cutoff": 4.0, "epsilon": 0.02, "sigma": 2.1},
        "gaunt": {"cutoff": 3.0, "channels": 4, "l_max": 2, "radial_hidden": 8},
        "tdn": {"cutoff": 2.8, "channels": 4, "heads": 2, "layers": 1, "radial_hidden": 8},
    }

    def made(name: str) -> Potential:
        return build(
            {"name": name, **blocks[name]},
            elements=[14, 32],
            reference_energies={14: -10.5, 32: -20.25},
            n_neighbours=8,
            seed=0,
        )

    return made
