"""The long-range term of a network: its laws, its files, the engines, and that it learns."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule as known
from torch import Tensor
from torch_geometric.data import Batch, Data

from tensornet.atoms import graph, total_charge
from tensornet.calculators import LammpsMLIAP, PotentialCalculator, validate
from tensornet.calculators.local import share
from tensornet.functional import COULOMB, electrostatics
from tensornet.models import Potential, build, config, load, save
from tensornet.models.gaunt_inference import infer
from tensornet.models.low_rank import add_low_rank, merged
from tensornet.models.network import Network
from tensornet.train.batches import collate

NETS: dict[str, dict[str, Any]] = {
    "tdn": {"name": "tdn", "channels": 8, "heads": 2, "l_max": 1, "layers": 1},
    "gaunt": {"name": "gaunt", "channels": 4, "l_max": 1, "layers": 1},
}
SMALL = {"cutoff": 3.5, "n_basis": 6, "radial_hidden": 8}
TERMS: dict[str, dict[str, Any]] = {
    "fixed": {"charges": "fixed", "values": {"H": 0.4, "C": 0.1, "O": -0.6}, "smearing": 0.6},
    "predicted": {"charges": "predicted", "smearing": 0.6},
    "weighted": {"charges": "predicted", "correction": "weighted", "smearing": 0.6},
}
for settings in TERMS.values():
    settings["tolerance"] = 1e-10
REFERENCES = {1: -13.5, 6: -1026.8, 8: -2037.8}


def make(net: str, term: str | None, **more: Any) -> Potential:
    block = {**NETS[net], **SMALL, **more, "long_range": None if term is None else TERMS[term]}
    model = build(
        block, elements=[1, 6, 8], reference_energies=REFERENCES, scale=1.3,
        shift={1: -2.0, 6: -6.0, 8: -4.0}, n_neighbours=5.0, seed=11,
    )  # fmt: skip
    if term == "weighted":
        assert model.long_range is not None
        assert model.long_range.softness is not None
        with torch.no_grad():
            model.long_range.softness.add_(torch.tensor([0.3, -0.5, 0.2]))
    return model.eval()


def molecule(charge: float = 0.0) -> Atoms:
    atoms: Atoms = known("CH3CH2OH")
    atoms.rattle(0.1, seed=3)
    atoms.info["charge"] = charge
    return atoms


def crystal(charge: float = 0.0) -> Atoms:
    return Atoms(
        "CHO", [[0.1, 0, 0], [1.2, 0.9, 0.1], [0.3, 1.7, 1.3]],
        cell=[[3.1, 0.2, 0], [0, 2.9, 0.3], [0.4, 0, 3.3]], pbc=True, info={"charge": charge},
    )  # fmt: skip


def layer() -> Atoms:
    atoms = crystal(1.0)
    atoms.pbc = [True, True, False]
    return atoms


def mixed() -> Batch:
    parts = [molecule(-1.0), crystal(), Atoms("O"), layer(), molecule(), crystal(2.0)]
    return Batch.from_data_list([graph(a, 3.5) for a in parts])


@pytest.mark.parametrize(
    ("net", "term"),
    [
        pytest.param("gaunt", "weighted"),
        pytest.param("gaunt", "fixed", marks=pytest.mark.slow),
        pytest.param("tdn", "weighted", marks=pytest.mark.slow),
    ],
)
def test_passes_validation(net: str, term: str) -> None:
    report = validate(make(net, term), crystal(), md_steps=0)
    assert not set(report.failed) - {"dimers", "drift"}, str(report)


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("net", NETS)
def test_training_and_evaluation_agree(net: str, term: str) -> None:
    model, batch = make(net, term), mixed()
    written = model(batch)
    taped = model.train()(batch)
    assert taped["energy"].requires_grad
    for name in set(written) & set(taped):
        torch.testing.assert_close(
            taped[name].detach(), written[name], rtol=1e-8, atol=1e-8, equal_nan=True, msg=name
        )
    virials = torch.zeros(6, 3, 3).index_add(0, batch.batch, written["virials"])
    torch.testing.assert_close(virials, written["virial"], rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        plain = make(net, None)(batch)
    assert (written["energy"] - plain["energy"]).abs()[[0, 1, 3]].min() > 1e-4
    assert float(written["energy"][2]) == pytest.approx(REFERENCES[8], abs=1e-9)


def test_forces_are_the_gradient_of_the_energy() -> None:
    """In both modes, by finite differences, for charges that follow the positions."""
    model = make("gaunt", "weighted")
    for atoms in (molecule(-1.0), crystal(), layer()):
        found = model(graph(atoms, 3.5))
        rng = np.random.default_rng(0)
        move = rng.normal(size=atoms.positions.shape)
        sides = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions += sign * 1e-4 * move
            sides.append(float(model(graph(moved, 3.5), forces=False)["interaction_energy"]))
        slope = (sides[0] - sides[1]) / 2e-4
        assert float(-(found["forces"].numpy() * move).sum()) == pytest.approx(slope, rel=1e-5)
        strain = rng.normal(size=(3, 3))
        sides = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.set_cell(
                atoms.cell.array @ (np.eye(3) + sign * 1e-4 * (strain + strain.T)), scale_atoms=True
            )
            if not atoms.pbc.any():
                moved.positions = atoms.positions @ (np.eye(3) + sign * 1e-4 * (strain + strain.T))
            sides.append(float(model(graph(moved, 3.5), forces=False)["interaction_energy"]))
        slope = (sides[0] - sides[1]) / 2e-4
        virial = found["virial"][0].numpy()
        assert float((virial * (strain + strain.T)).sum()) == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("net", NETS)
def test_second_derivatives_reach_every_parameter(net: str, term: str) -> None:
    model, g = make(net, term).train(), graph(crystal(1.0), 3.5)
    direction = torch.randn(3, 3, generator=torch.Generator().manual_seed(1))

    def projected() -> Tensor:
        out = model(g)
        total: Tensor = (out["forces"] * direction).sum() + out["virial"][0, 0, 1]
        return total

    parameters = [p for p in model.parameters() if p.requires_grad]
    grads = torch.autograd.grad(projected(), parameters, allow_unused=True)
    random = torch.Generator().manual_seed(2)
    moves = [torch.randn(p.shape, generator=random) for p in parameters]
    expected = sum(float((g * m).sum()) for g, m in zip(grads, moves, strict=True) if g is not None)
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            for p, m in zip(parameters, moves, strict=True):
                p.add_(sign * 1e-5 * m)
        values.append(float(projected().detach()))
        with torch.no_grad():
            for p, m in zip(parameters, moves, strict=True):
                p.sub_(sign * 1e-5 * m)
    assert (values[0] - values[1]) / 2e-5 == pytest.approx(expected, rel=3e-6)
    if term != "fixed":
        named = dict(zip([n for n, _ in model.named_parameters()], grads, strict=True))
        for name in ("long_range.readout.weight", "long_range.element"):
            assert named[name] is not None
            assert named[name].abs().max() > 0


@pytest.mark.parametrize("term", ["predicted", "weighted"])
def test_charges_add_up_to_the_total(term: str) -> None:
    batch = mixed()
    found = make("gaunt", term)(batch)["charges"]
    sums = torch.zeros(6).index_add(0, batch.batch, found)
    torch.testing.assert_close(sums, batch.charge, rtol=0, atol=1e-12)
    assert found[:9].std() > 0.01
    neutral = make("gaunt", term)(graph(molecule(), 3.5))["charges"]
    more = (found[:9] - neutral).numpy()  # what the charge of the whole adds
    softness = {"H": 0.3, "C": -0.5, "O": 0.2} if term == "weighted" else dict.fromkeys("HCO", 0)
    weights = np.exp([softness[s] for s in molecule().symbols])
    np.testing.assert_allclose(more, -weights / weights.sum(), atol=1e-12)


def test_energy_is_the_sum_of_network_and_electrostatics() -> None:
    model, plain, g = make("gaunt", "fixed"), make("gaunt", None), graph(molecule(), 3.5)
    q = torch.tensor([{1: 0.4, 6: 0.1, 8: -0.6}[int(z)] for z in g.z])
    own = electrostatics(g.pos, q, smearing=0.6)
    difference = float(model(g)["energy"] - plain(g)["energy"])
    assert difference == pytest.approx(float(own.energy), rel=1e-10)
    assert torch.equal(model(g)["charges"], q)


@pytest.mark.parametrize("tables", [False, True])
def test_fixed_charges_are_evaluated_without_autograd(tables: bool) -> None:
    model, batch = make("gaunt", "fixed"), mixed()
    expected = model(batch)
    assert infer(model, tables=tables)
    found = model(batch)
    assert set(found) == set(expected)
    for name, x in expected.items():
        scale = max(1e-3, float(x.nan_to_num().abs().max()))
        torch.testing.assert_close(
            found[name], x, rtol=0, atol=1e-7 * scale, equal_nan=True, msg=name
        )


def test_predicted_charges_are_evaluated_by_autograd(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert not infer(make("gaunt", "predicted"))
    assert "predicted charges" in caplog.text


def test_ase_knows_the_total_charge() -> None:
    model = make("gaunt", "predicted")
    atoms = crystal()
    atoms.calc = PotentialCalculator(model)
    neutral = atoms.get_potential_energy()
    np.testing.assert_allclose(atoms.get_stress(), atoms.get_stresses().sum(0), atol=1e-10)
    atoms.info["charge"] = 2.0
    charged = atoms.get_potential_energy()
    assert charged == pytest.approx(float(model(graph(crystal(2.0), 3.5))["energy"]), abs=1e-8)
    assert abs(charged - neutral) > 1e-3
    atoms.positions[0, 0] += 0.01  # within the skin of the list
    moved = crystal(2.0)
    moved.positions[0, 0] += 0.01
    expected = model(graph(moved, 3.5))
    np.testing.assert_allclose(atoms.get_forces(), expected["forces"], atol=1e-8)
    atoms.info["charge"] = "plus one"
    assert np.isnan(total_charge(atoms))
    with pytest.raises(ValueError, match="must be a finite number: the total charge"):
        atoms.get_potential_energy()


def test_engines_that_see_a_part_refuse() -> None:
    model, g = make("gaunt", "fixed"), graph(molecule(), 3.5)
    with pytest.raises(ValueError, match="whose charges see all atoms"):
        share(
            model, g.z, g.edge_index, torch.zeros(g.num_edges, 3), torch.ones(9, dtype=torch.bool)
        )
    with pytest.raises(ValueError, match=r"`LammpsMLIAP\(model=...\)` must have energies"):
        LammpsMLIAP(model)


def test_files_keep_it_and_old_files_load(tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    g = graph(molecule(-1.0), 3.5)
    for term in TERMS:
        model = make("gaunt", term)
        save(model, tmp_path / "model.safetensors")
        found = load(tmp_path / "model.safetensors")(g)
        for name, x in model(g).items():
            assert torch.equal(found[name].nan_to_num(), x.nan_to_num()), name
    model = make("gaunt", None)
    save(model, tmp_path / "new.safetensors")
    with safe_open(tmp_path / "new.safetensors", "pt") as file:
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        about = file.metadata()
    before = json.loads(about["config"])
    assert before.pop("long_range") is None
    save_file(
        tensors, tmp_path / "old.safetensors", metadata={**about, "config": json.dumps(before)}
    )
    assert torch.equal(load(tmp_path / "old.safetensors")(g)["energy"], model(g)["energy"])


def test_single_precision() -> None:
    model, batch = make("gaunt", "predicted"), mixed()
    exact, low = model(batch), model.float()(batch)
    assert low["energy"].dtype == torch.float64
    assert low["forces"].dtype == low["virials"].dtype == torch.float32
    torch.testing.assert_close(low["energy"], exact["energy"], rtol=0, atol=1e-4)
    torch.testing.assert_close(low["forces"].double(), exact["forces"], rtol=1e-3, atol=1e-4)
    taped = model.train()(batch)["forces"]
    torch.testing.assert_close(taped.detach(), low["forces"], rtol=1e-3, atol=1e-4)


def test_to_train_further() -> None:
    old = make("gaunt", "weighted")
    new = build(old.config, elements=[1, 8, 9], reference_energies={1: 0.0, 8: 0.0, 9: 0.0}, seed=3)
    assert isinstance(new, Network)
    assert isinstance(old, Network)
    new.begin_from(old)
    assert new.long_range is not None
    assert old.long_range is not None
    for name in ("element", "softness"):
        theirs, mine = (getattr(m.long_range, name).detach() for m in (old, new))
        assert torch.equal(mine[:2], theirs[[0, 2]])
        assert float(mine[2]) == pytest.approx(float(theirs[[0, 2]].mean()))
    assert new.long_range.readout is not None
    assert old.long_range.readout is not None
    assert torch.equal(new.long_range.readout.weight, old.long_range.readout.weight)
    g = graph(molecule(), 3.5)
    expected = old(g)["energy"]
    add_low_rank(old, 2)
    torch.testing.assert_close(merged(old)(g)["energy"], expected, rtol=1e-12, atol=0)


def test_refusals() -> None:
    block = {"name": "gaunt", "long_range": {"charges": "fixed"}}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"charges": "fixed"}, "needs values"),
        ({"charges": "guessed"}, "Input should be 'fixed' or 'predicted'"),
        ({"charges": "predicted", "values": {"H": 1.0}}, "values need charges: fixed"),
        ({"charges": "fixed", "values": {"Xy": 1.0}}, "symbols of elements, not Xy"),
        ({"charges": "predicted", "smearing": 0}, "greater than 0"),
        ({"charges": "predicted", "width": 1}, "Extra inputs"),
        ({}, "Field required"),
    ]
    for term, message in cases:
        with pytest.raises(ValueError, match=message):
            config({**block, "long_range": term})
    with pytest.raises(ValueError, match="long_range needs forces: conservative"):
        config({"name": "tdn", "forces": "direct", "long_range": {"charges": "predicted"}})
    term = {"charges": "fixed", "values": {"H": 1.0}}
    with pytest.raises(ValueError, match="a charge for every element"):
        build(
            {"name": "gaunt", "long_range": term},
            elements=[1, 8],
            reference_energies={1: 0.0, 8: 0.0},
        )


def fragments(n: int, rng: np.random.Generator) -> Data:
    """Two ions, Na2+ and Cl2-, 9 to 14 Å apart: springs inside, charges of a half on each atom."""

    def turn() -> Any:
        return np.linalg.qr(rng.normal(size=(3, 3)))[0][0]

    graphs = []
    for _ in range(n):
        bonds = [3.6 + 0.1 * rng.normal(), 2.6 + 0.1 * rng.normal()]
        x = np.zeros((4, 3))
        for k, (bond, place) in enumerate(zip(bonds, [0.0, rng.uniform(9, 14)], strict=True)):
            along, centre = turn(), place * turn()
            x[2 * k], x[2 * k + 1] = centre + bond / 2 * along, centre - bond / 2 * along
        energy, forces = 0.0, np.zeros((4, 3))
        pairs = [
            (0, 1, 1.0, 3.6),
            (2, 3, 3.0, 2.6),
            *((i, j, 0.0, 0.0) for i in (0, 1) for j in (2, 3)),
        ]
        for i, j, spring, rest in pairs:
            d = x[i] - x[j]
            r = float(np.linalg.norm(d))
            far = -0.25 * COULOMB / r if not spring else 0.0
            energy += spring * (r - rest) ** 2 + far
            pull = (2 * spring * (r - rest) - far / r) * d / r
            forces[i] -= pull
            forces[j] += pull
        data = graph(Atoms("Na2Cl2", x), 5.0)
        data.energy = data.interaction_energy = torch.tensor([energy])
        data.forces, data.stress = torch.tensor(forces), torch.full((1, 3, 3), torch.nan)
        graphs.append(data)
    return collate(graphs)


def learnt(term: dict[str, Any] | None, train: Data, test: Data) -> tuple[float, Tensor | None]:
    """Train on energies and forces; the error of energies, eV."""
    model = build(
        {
            "name": "gaunt", "cutoff": 5.0, "channels": 8, "l_max": 0, "l_features": 0, "layers": 1,
            "order": 1, "n_basis": 6, "radial_hidden": 16, "repulsion": False, "long_range": term,
        },
        elements=[11, 17], reference_energies={11: 0.0, 17: 0.0}, seed=0,
        shift=dict.fromkeys((11, 17), float(train.energy.mean()) / 4),
    ).train()  # fmt: skip
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=120, line_search_fn="strong_wolfe", tolerance_change=0
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        found = model(train)
        error: Tensor = (found["energy"] - train.energy).square().mean()
        error = error + 10 * (found["forces"] - train.forces).square().mean()
        error.backward()
        return error

    optimizer.step(loss)
    found = model.eval()(test)
    return float((found["energy"] - test.energy).square().mean().sqrt()), found.get("charges")


def test_it_learns_what_a_cutoff_hides() -> None:
    rng = np.random.default_rng(0)
    train, test = fragments(32, rng), fragments(32, rng)
    spread = float(test.energy.std())
    blind, _ = learnt(None, train, test)
    seeing, charges = learnt({"charges": "predicted", "smearing": 0.5}, train, test)
    assert blind > 0.7 * spread  # the distance of the ions is what energies differ by
    assert seeing < 0.1 * blind
    assert charges is not None
    np.testing.assert_allclose(charges.abs(), 0.5, atol=0.03)
