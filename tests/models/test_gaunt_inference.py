"""Inference of `Gaunt` without autograd: the model with autograd is the reference."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from torch_geometric.data import Batch

from tensornet.atoms import edge_vectors, graph
from tensornet.calculators import PotentialCalculator
from tensornet.calculators.local import share
from tensornet.models import Potential, build
from tensornet.models import gaunt_radial as radial
from tensornet.models.gaunt_inference import GauntInference, infer
from tensornet.models.low_rank import add_low_rank

SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "powers": {"coupling": "gaunt", "path_rank": 2},
    "one layer": {"layers": 1},
    "three layers": {"layers": 3, "l_features": 2, "l_max": 2, "order": 2},
    "no contact": {"contact": 0.0, "basis_decay": 2.0},
    "blind": {"pair_species": False, "repulsion": False, "basis": "gaussian"},
}
OF_TABLES = 1e-8  # of the largest number; certified are 3e-9 of slopes


SMALL: dict[str, Any] = {"channels": 8, "l_max": 2, "n_basis": 6, "radial_hidden": 8}
CLOSEST = {(1, 6): 1.5, (6, 6): 1.7, (1, 8): 1.0, (6, 8): 1.6}  # some pairs come closer


def model(**settings: Any) -> Potential:
    made = build(
        {"name": "gaunt", **SMALL, **settings},
        elements=[1, 6, 8], seed=0, reference_energies={1: -1.0, 6: -3.0, 8: -2.0},
        shift={1: -1.0, 6: -4.0, 8: 0.3}, scale=20.0, n_neighbours=9.0, closest=CLOSEST,
    )  # fmt: skip
    made = made.double().eval().requires_grad_(False)
    spread: Any = made.spread
    spread.copy_(0.1 * torch.randn(spread.shape, generator=torch.Generator().manual_seed(0)))
    return made


def fast(reference: Potential, *, tables: bool) -> tuple[Potential, GauntInference]:
    made = copy.deepcopy(reference)
    assert infer(made, tables=tables)
    assert isinstance(made.inference, GauntInference)
    return made, made.inference


def structures() -> list[Atoms]:
    ethanol = molecule("CH3CH2OH")
    ethanol.rattle(0.05, seed=1)
    crystal = bulk("C", cubic=True)
    crystal.numbers[::3] = 8
    crystal.rattle(0.1, seed=2)
    apart = Atoms("OH", [[0, 0, 0], [0, 0, 9.0]])
    return [ethanol, crystal, apart, Atoms("O"), bulk("C")]


def same(found: dict[str, Any], wanted: dict[str, Any], tolerance: float) -> None:
    assert set(found) == set(wanted)
    for name, x in wanted.items():
        assert found[name].dtype == x.dtype
        assert not found[name].requires_grad
        scale = max(1e-3, float(x.nan_to_num().abs().max()))
        torch.testing.assert_close(
            found[name], x, rtol=0, atol=tolerance * scale, equal_nan=True, msg=name
        )


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("tables", [False, True], ids=["networks", "tables"])
def test_is_the_model(settings: dict[str, Any], tables: bool) -> None:
    reference = model(**settings)
    quick, inference = fast(reference, tables=tables)
    graphs = [graph(atoms, 5.0, skin=0.5) for atoms in structures()]
    for g in [*graphs, Batch.from_data_list(graphs)]:
        same(quick(g), reference(g), OF_TABLES if tables else 1e-12)
        alone = quick(g, forces=False)
        wanted = quick(g)
        assert all(torch.equal(x, wanted[k]) for k, x in alone.items())
    assert bool(inference.weights.certificates) == tables
    for certificate in inference.weights.certificates.values():
        assert certificate.value <= 1e-10
        assert certificate.slope <= 3e-9


def test_atoms_closer_than_tables_reach_take_the_networks() -> None:
    reference = model(contact=0.0)
    quick, inference = fast(reference, tables=True)
    g = graph(Atoms("HOH", [[0, 0, 0], [0, 0, 0.3], [0, 1, 1]]), 5.0)
    same(quick(g), reference(g), 1e-12)
    assert not inference.weights.certificates


@pytest.mark.parametrize("limit", ["_MOST", "_INTERVALS", "TOLERANCE"])
def test_tables_that_are_too_large_or_too_bad_are_not_used(
    limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"_MOST": 1_000_000, "_INTERVALS": (64,), "TOLERANCE": {torch.float64: 1e-16}}
    monkeypatch.setattr(radial, limit, small[limit])
    reference = model()
    quick, inference = fast(reference, tables=True)
    g = graph(structures()[0], 5.0)
    same(quick(g), reference(g), 1e-12)
    assert not inference.weights.tables
    assert not inference.weights.certificates


def test_tables_grow_with_the_elements() -> None:
    reference = model()
    quick, inference = fast(reference, tables=True)
    for formula, pairs in (("H2", 1), ("H2O", 3), ("CO2", 6), ("CH3CH2OH", 9)):
        g = graph(molecule(formula), 5.0)
        same(quick(g), reference(g), OF_TABLES)
        assert len(inference.weights.certificates) == pairs


def test_contacts_level_out_and_repel() -> None:
    reference = model()
    quick, inference = fast(reference, tables=True)
    # Level from 1.35 Å to 1.01 Å for C and H; O and O were seen at any distance, H and H never.
    for d in (1.34, 1.2, 1.02, 1.0, 0.6):
        g = graph(Atoms("HCO2", [[0, 0, 0], [0, 0, d], [0.9, 1.3, 0.3], [0, 1.9, 0.6]]), 5.0)
        same(quick(g), reference(g), OF_TABLES)
    assert len(inference.weights.certificates) == 7
    inference.weights.tables = False
    same(quick(g), reference(g), 1e-12)


def test_changed_weights_are_seen() -> None:
    reference = model()
    quick, inference = fast(reference, tables=True)
    g = graph(molecule("CO"), 5.0)
    before = quick(g)
    other = model()
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if name.endswith(("keep", "radial.net.0.weight", "out.weight")):
                parameter.mul_(1.1)
    for assign in (False, True):
        quick.load_state_dict(other.state_dict(), assign=assign)
        found = quick(g)
        same(found, other(g), OF_TABLES)
        assert (found["energies"] - before["energies"]).abs().max() > 1e-3
        quick.load_state_dict(reference.state_dict())
        same(quick(g), before, 1e-12)
    with torch.no_grad():
        other.closest.mul_(1.2)  # type: ignore[operator]  # a buffer
    quick.load_state_dict(other.state_dict())
    same(quick(g), other(g), OF_TABLES)
    assert quick.inference is inference


def test_what_is_not_written_out_is_left_to_autograd(caplog: pytest.LogCaptureFixture) -> None:
    g = graph(structures()[0], 5.0)
    changed = model()
    changed.config["saturation"] = 2.0
    updated = model()
    add_low_rank(updated, 1, skip=["embedding"])
    hooked = model()
    hooked.get_submodule("layers.0.up").register_forward_hook(lambda m, i, out: 2 * out)
    bent = model()
    forward = bent.layers[0].many_body.forward  # type: ignore[index, union-attr]
    bent.layers[0].many_body.forward = (  # type: ignore[index, union-attr]
        lambda x, species: forward(torch.tanh(x), species)
    )
    for other, why in (
        (changed, "saturation"), (updated, "LowRankUpdate"), (hooked, "hooks"),
        (bent, "other numbers"), (model().bfloat16(), "bfloat16"),
    ):  # fmt: skip
        wanted = other(g) if other.dtype == torch.float64 else {}
        caplog.clear()
        assert not infer(other)
        assert why in caplog.text
        assert other.inference is None
        if wanted:
            same(other(g), wanted, 1e-14)


def test_copies_and_pickles_are_their_own() -> None:
    quick, _ = fast(model(), tables=False)
    g = graph(molecule("CO"), 5.0)
    before = quick(g)
    for other in (copy.deepcopy(quick), pickle.loads(pickle.dumps(quick))):
        assert isinstance(other.inference, GauntInference)
        assert other.inference.model is other
        assert len(pickle.dumps(other)) < 3e6  # without the memory of evaluations
        same(other(g), before, 1e-14)
        with torch.no_grad():
            other.get_parameter("embedding").mul_(1.1)
        assert (other(g)["energies"] - before["energies"]).abs().max() > 1e-3
        same(quick(g), before, 1e-14)


def test_made_in_inference_mode() -> None:
    reference = model()
    g = graph(molecule("CO"), 5.0)
    wanted = reference(g)
    with torch.inference_mode():
        assert infer(reference, tables=False)
    same(reference(g), wanted, 1e-12)


def test_results_are_the_callers_own() -> None:
    quick, _ = fast(model(), tables=True)
    graphs = [graph(atoms, 5.0) for atoms in structures()[:3]]
    first = [quick(g) for g in graphs]
    kept = copy.deepcopy(first)
    for g in reversed(graphs):
        quick(g)
    for found, wanted in zip(first, kept, strict=True):
        same(found, wanted, 0)


def test_threads_may_share_a_model() -> None:
    quick, _ = fast(model(), tables=True)
    graphs = [graph(atoms, 5.0) for atoms in structures()[:2]] * 20
    reference = copy.deepcopy(quick)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(quick, graphs))
    for x, g in zip(found, graphs, strict=True):
        same(x, reference(g), 1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_channels_need_not_fill_vectors(dtype: torch.dtype) -> None:
    reference = model(channels=5, path_rank=3).to(dtype)
    quick = copy.deepcopy(reference)
    assert infer(quick)
    g = graph(structures()[1], 5.0)
    same(quick(g), reference(g), OF_TABLES if dtype == torch.float64 else 2e-5)


def test_float32_is_as_good_as_float32() -> None:
    exact, single = model(), model().float()
    quick = copy.deepcopy(single)
    assert infer(quick)
    for atoms in structures()[:2]:
        g = graph(atoms, 5.0)
        wanted = exact(g)
        for name in ("energies", "forces", "virial"):
            size = wanted[name].abs().max()
            errors = [
                float((m(g)[name] - wanted[name]).abs().max() / size) for m in (quick, single)
            ]
            assert errors[0] < max(3 * errors[1], 2e-6), name


def test_the_share_of_some_atoms_is_that_of_the_model() -> None:
    reference = model()
    quick, _ = fast(reference, tables=False)
    g = graph(structures()[1], 5.0)
    own = torch.arange(len(g.z)) % 3 == 0
    found, wanted = (share(m, g.z, g.edge_index, edge_vectors(g), own) for m in (quick, reference))
    torch.testing.assert_close(found.energies[own], wanted.energies[own], rtol=0, atol=1e-12)
    torch.testing.assert_close(found.gradients, wanted.gradients, rtol=0, atol=1e-12)
    assert wanted.gradients.abs().max() > 0.01


def test_calculators_take_it_and_training_does_not() -> None:
    reference = model()
    calculator = PotentialCalculator(reference)
    (used,) = calculator.models
    assert isinstance(used.inference, GauntInference)
    atoms = structures()[1]
    wanted = reference(graph(atoms, 5.0))
    atoms.calc = calculator
    for found, x in ((atoms.get_forces(), "forces"), (atoms.get_potential_energy(), "energy")):
        torch.testing.assert_close(
            torch.as_tensor(found).flatten(), wanted[x].flatten(), rtol=0, atol=1e-7
        )
    assert used.train()(graph(atoms, 5.0))["forces"].requires_grad  # by autograd
    assert used.float().inference is None


def test_other_models_stay_as_they_are() -> None:
    other = build({"name": "lennard_jones"}, elements=[18], reference_energies={18: 0.0})
    assert not infer(other.eval())
    assert not infer(model().train())
    assert other.inference is None
