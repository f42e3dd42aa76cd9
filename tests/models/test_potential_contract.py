"""What every potential promises, for every potential, in the smallest sizes."""

import ase
import ase.build
import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

from tensornet.atoms import graph
from tensornet.calculators import validate
from tensornet.calculators.validation import symmetries
from tensornet.calculators.validation.structures import bench
from tensornet.models import Potential, build
from tensornet.products import CPProduct

TINY = {"name": "tdn", "cutoff": 3.5, "channels": 8, "heads": 2, "n_basis": 6, "radial_hidden": 8}
GAUNT = {
    "name": "gaunt",
    "cutoff": 3.5,
    "channels": 4,
    "l_max": 2,
    "n_basis": 6,
    "radial_hidden": 8,
}
CONFIGS = {
    "lennard_jones": {"name": "lennard_jones", "cutoff": 3.5, "sigma": 1.2},
    "tdn": TINY,
    "tdn-1-layer-norm": {**TINY, "l_max": 1, "norm": "layer", "linear": "shared"},
    "tdn-paths": {**TINY, "l_max": 1, "path_weights": "path"},
    "tdn-dense": {**TINY, "l_max": 1, "product": "clebsch_gordan"},
    "tdn-cp": {**TINY, "l_max": 1, "product": "cp", "path_weights": "shared"},
    "tdn-so3": {**TINY, "l_max": 1, "symmetry": "SO(3)", "basis": "gaussian"},
    "gaunt": GAUNT,
    "gaunt-ranks": {**GAUNT, "l_max": 1, "path_rank": 2, "order": 2, "layers": 3},
    "gaunt-powers": {**GAUNT, "l_max": 1, "coupling": "gaunt"},
    "gaunt-scalar": {**GAUNT, "l_max": 0, "l_features": 0, "layers": 1, "repulsion": False},
    "tdn-scalar": {**TINY, "l_max": 0, "repulsion": False, "pair_species": False},
}
REFERENCES = {1: -13.5, 6: -1026.8, 8: -2037.8}


def make(name: str) -> Potential:
    model = build(
        CONFIGS[name],
        elements=[1, 6, 8],
        reference_energies=REFERENCES,
        scale=1.3,
        shift={1: -2.0, 6: -6.0, 8: -4.0},
        n_neighbours=5.0,
        seed=11,
    )
    return model.eval()


def molecule() -> ase.Atoms:
    atoms: ase.Atoms = ase.build.molecule("CH3CH2OH")
    atoms.rattle(0.1, seed=3)
    return atoms


def crystal() -> ase.Atoms:
    atoms = ase.Atoms(
        "CHO", [[0.1, 0, 0], [1.2, 0.9, 0.1], [0.3, 1.7, 1.3]],
        cell=[[3.1, 0.2, 0], [0, 2.9, 0.3], [0.4, 0, 3.3]], pbc=True,
    )  # fmt: skip
    return atoms


@pytest.mark.parametrize("name", CONFIGS)
def test_passes_validation(name: str) -> None:
    """Forces, stress, Hessian, all symmetries, smoothness: the checks of `tensornet validate`.

    Dimers and drift say how good a trained potential is, not whether a potential is sound.
    """
    report = validate(make(name), crystal(), md_steps=0)
    failed = set(report.failed) - {"dimers", "drift"}
    assert not failed, str(report)


@pytest.mark.parametrize("name", CONFIGS)
def test_trained_in_float32_it_is_symmetric_in_float64(name: str) -> None:
    """Constants that were rounded to float32 would break the symmetries by 1e-8."""
    tried, _ = bench(make(name).float().double(), crystal(), seed=0, md_steps=0)
    row = symmetries.rotation(tried)
    assert row.passed, str(row)


def test_a_molecule_passes_validation() -> None:
    report = validate(make("tdn-1-layer-norm"), molecule(), md_steps=0)
    assert not set(report.failed) - {"dimers", "drift"}, str(report)


@pytest.mark.parametrize("name", CONFIGS)
def test_derivatives_in_training_reach_every_parameter(name: str) -> None:
    """Training on forces differentiates twice: against finite differences of the first."""
    model = make(name).train()
    g = graph(molecule(), 3.5)
    direction = torch.randn(9, 3)

    def projected() -> torch.Tensor:
        out: torch.Tensor = (model(g)["forces"] * direction).sum()
        return out

    parameters = [p for p in model.parameters() if p.requires_grad]
    grads = torch.autograd.grad(projected(), parameters, allow_unused=True)
    moves = [torch.randn_like(p) for p in parameters]
    expected = sum(float((g * m).sum()) for g, m in zip(grads, moves, strict=True) if g is not None)
    h = 1e-5
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            for p, m in zip(parameters, moves, strict=True):
                p.add_(sign * h * m)
        values.append(float(projected().detach()))
        with torch.no_grad():
            for p, m in zip(parameters, moves, strict=True):
                p.sub_(sign * h * m)
    assert (values[0] - values[1]) / (2 * h) == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize("name", CONFIGS)
def test_float32_agrees_and_keeps_total_energies(name: str) -> None:
    model = make(name)
    g = graph(molecule(), 3.5)
    exact = model(g)
    low = make(name).float()(g)
    assert low["energy"].dtype == torch.float64
    assert low["forces"].dtype == torch.float32
    torch.testing.assert_close(low["energy"], exact["energy"], rtol=0, atol=1e-4)
    torch.testing.assert_close(low["forces"].double(), exact["forces"], rtol=1e-3, atol=1e-4)
    total = sum(REFERENCES[int(z)] for z in g.z)
    difference = float(low["energy"] - low["interaction_energy"])
    assert difference == pytest.approx(total, abs=1e-9)


def test_lone_atoms_and_mixed_batches() -> None:
    model = make("tdn")
    lone = graph(ase.Atoms("O"), 3.5)
    out = model(lone)
    assert float(out["energy"]) == pytest.approx(-2037.8, abs=1e-10)
    assert not out["forces"].any()
    batch = Batch.from_data_list([graph(molecule(), 3.5), lone, graph(crystal(), 3.5)])
    together = model(batch)
    parts = [model(graph(a, 3.5)) for a in (molecule(), ase.Atoms("O"), crystal())]
    for key in ("energy", "energies", "forces", "virial", "stress", "virials"):
        apart = torch.cat([p[key] for p in parts])
        torch.testing.assert_close(together[key], apart, rtol=1e-10, atol=1e-11, equal_nan=True)


def test_edges_beyond_the_cutoff_do_not_count() -> None:
    model = make("tdn")
    plain, skinned = (model(graph(crystal(), 3.5, skin=s)) for s in (0.0, 1.0))
    torch.testing.assert_close(skinned["forces"], plain["forces"], rtol=0, atol=1e-12)


def test_positions_can_be_differentiated_by_the_caller() -> None:
    model = make("tdn")
    model.train()
    g = graph(molecule(), 3.5)
    g.pos.requires_grad_()
    out = model(g)
    (gradient,) = torch.autograd.grad(out["energy"].sum(), g.pos, retain_graph=True)
    torch.testing.assert_close(-gradient, out["forces"], rtol=1e-10, atol=1e-11)


def test_direct_forces_have_their_own_head() -> None:
    config = {**TINY, "l_max": 1, "forces": "direct"}
    model = build(config, elements=[1, 6, 8], reference_energies=REFERENCES, seed=1).eval()
    assert not model.conservative
    atoms = molecule()
    out = model(graph(atoms, 3.5))
    turn = ase.build.molecule("CH3CH2OH")
    turn.positions = atoms.positions @ np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1.0]])
    turned = model(graph(turn, 3.5))["forces"]
    rotation = torch.tensor([[0, 1, 0], [-1, 0, 0], [0, 0, 1.0]])
    torch.testing.assert_close(turned, out["forces"] @ rotation, rtol=1e-10, atol=1e-11)
    assert out["stress"].isnan().all()
    assert "virial" not in out


def test_products_agree_inside_the_model() -> None:
    """The same weights give the same energies whatever format the product is stored in."""
    g = graph(molecule(), 3.5)
    energies = []
    for product in ("edge", "cp", "clebsch_gordan"):
        config = {**TINY, "l_max": 1, "product": product, "path_weights": "shared"}
        model = build(config, elements=[1, 6, 8], reference_energies=REFERENCES, seed=5).eval()
        energies.append(float(model(g)["interaction_energy"]))
    assert energies[1] == pytest.approx(energies[0], rel=1e-10)
    assert energies[2] == pytest.approx(energies[0], rel=1e-10)


def test_unknown_elements_are_named() -> None:
    with pytest.raises(ValueError, match="Got S; this model knows H, C, O"):
        make("tdn")(graph(ase.Atoms("S"), 3.5))


def test_the_settings_of_the_paper() -> None:
    """They run, and what their low rank costs is seen in the energy and said by the certificate."""
    paper = {
        **TINY, "l_max": 1, "product": "cp", "rank": 7, "path_weights": "shared",
        "symmetry": "SO(3)", "linear": "shared", "norm": "layer", "basis": "gaussian",
        "pair_species": False, "repulsion": False, "dropout": 0.2,
    }  # fmt: skip
    model = build(paper, elements=[1, 6, 8], reference_energies=REFERENCES, seed=2).eval()
    atoms, turned = molecule(), molecule()
    turned.rotate(40, (1, 2, 3))
    before, after = (model(graph(a, 3.5))["interaction_energy"] for a in (atoms, turned))
    error = float((before - after).abs() / before.abs())
    assert 1e-6 < error < 0.5
    (product,) = {m for m in model.modules() if isinstance(m, CPProduct)}
    assert 1e-3 < product.certificate().equivariance < 0.05
