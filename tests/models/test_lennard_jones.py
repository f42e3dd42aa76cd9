import ase
import numpy as np
import pytest
from ase.calculators.lj import LennardJones

from tensornet.atoms import graph
from tensornet.models import build


def test_agrees_with_ase_where_neither_is_switched() -> None:
    """A cluster within 0.66 of the cutoff, where both switches are one."""
    rng = np.random.default_rng(8312)
    atoms = ase.Atoms("Ar8", rng.permutation(np.indices((2, 2, 2)).reshape(3, -1).T) * 1.15)
    atoms.positions += rng.normal(scale=0.05, size=(8, 3))
    atoms.calc = LennardJones(epsilon=0.3, sigma=1.0, rc=6.0, ro=3.96, smooth=True)
    config = {"name": "lennard_jones", "cutoff": 6.0, "epsilon": 0.3, "sigma": 1.0}
    model = build(config, elements=[18], reference_energies={18: 0.0}).eval()
    out = model(graph(atoms, 6.0))
    assert float(out["energy"]) == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
    np.testing.assert_allclose(out["forces"].numpy(), atoms.get_forces(), rtol=0, atol=1e-11)
    np.testing.assert_allclose(
        out["energies"].numpy(), atoms.calc.get_potential_energies(), rtol=1e-11, atol=1e-12
    )
