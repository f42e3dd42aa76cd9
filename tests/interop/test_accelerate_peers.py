"""`accelerate` on the models themselves, where their packages are there."""

import copy
import io
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from torch import Tensor, nn

from tensornet.atoms import edge_vectors, graph
from tensornet.interop.e3nn import accelerate, acceleration, restore

pytestmark = pytest.mark.filterwarnings("ignore")
Evaluate = Callable[[nn.Module], tuple[Tensor, Tensor]]  # energy and forces, to be trained
CUTOFF = 4.0


def crystal() -> Atoms:
    atoms = bulk("NaCl", "rocksalt", 5.0, cubic=True)
    atoms.rattle(0.1, seed=1)
    return atoms


def module(name: str) -> Any:
    return import_module(name)


@cache
def mace(interaction: str, head: str = "ScaleShiftMACE") -> tuple[nn.Module, Evaluate]:
    torch.serialization.add_safe_globals([slice])
    modules = pytest.importorskip("mace.modules")
    from e3nn.o3 import Irreps

    data, tools = module("mace.data"), module("mace.tools")
    loader = module("mace.tools.torch_geometric.dataloader").DataLoader

    torch.manual_seed(0)
    shift = {"atomic_inter_scale": 1.3, "atomic_inter_shift": 0.1}
    first = interaction.replace("Residual", "") if "Att" not in interaction else interaction
    model = getattr(modules, head)(
        r_max=CUTOFF, num_bessel=4, num_polynomial_cutoff=5, max_ell=2, num_interactions=2,
        interaction_cls=modules.interaction_classes[interaction],
        interaction_cls_first=modules.interaction_classes[first],
        num_elements=3, atomic_numbers=[8, 11, 17], avg_num_neighbors=6.0,
        hidden_irreps=Irreps("4x0e + 4x1o"), MLP_irreps=Irreps("4x0e"), correlation=2,
        gate=torch.nn.functional.silu, radial_MLP=[8], radial_type="bessel",
        atomic_energies=np.zeros((1, 3)), **(shift if head == "ScaleShiftMACE" else {}),
    )  # fmt: skip
    table = tools.AtomicNumberTable([8, 11, 17])
    made = data.AtomicData.from_config(
        data.config_from_atoms(crystal()), z_table=table, cutoff=CUTOFF, heads=["Default"]
    )
    batch = next(iter(loader(dataset=[made], batch_size=1, shuffle=False))).to_dict()

    def evaluate(model: nn.Module, **more: Any) -> tuple[Tensor, Tensor]:
        out = model(batch, training=True, **more)
        return out["energy"], out["hessian"] if more else out["forces"]

    return model, evaluate


@cache
def nequip(parity: bool) -> tuple[nn.Module, Evaluate]:
    pytest.importorskip("nequip")
    transforms = module("nequip.data.transforms")
    module("nequip.utils.global_state").set_global_state(allow_tf32=False)
    model = module("nequip.model").NequIPGNNModel(
        seed=0, model_dtype="float64", type_names=["Na", "Cl"], r_max=CUTOFF, parity=parity,
        num_layers=3, l_max=2, num_features=4, radial_mlp_depth=1, radial_mlp_width=8,
        avg_num_neighbors=6.0, per_type_energy_scales=1.3, per_type_energy_shifts=0.1,
    )  # fmt: skip
    made = module("nequip.data.ase").from_ase(crystal())
    made = transforms.ChemicalSpeciesToAtomTypeMapper(["Na", "Cl"])(made)
    made = transforms.NeighborListTransform(r_max=CUTOFF)(made)

    def evaluate(model: nn.Module) -> tuple[Tensor, Tensor]:
        out = model.train()({name: tensor.clone() for name, tensor in made.items()})
        return out["total_energy"], out["forces"]

    return model, evaluate


@cache
def sevennet() -> tuple[nn.Module, Evaluate]:
    pytest.importorskip("sevenn")
    key = module("sevenn._keys")
    torch.manual_seed(0)
    settings = {
        **copy.deepcopy(module("sevenn._const").DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG),
        key.CUTOFF: CUTOFF, key.LMAX: 2, key.NODE_FEATURE_MULTIPLICITY: 4,
        key.NUM_CONVOLUTION: 3, key.CONV_DENOMINATOR: 2.5, key.SHIFT: 0.0, key.SCALE: 1.0,
        key.CHEMICAL_SPECIES: ["Cl", "Na"], key.NUM_SPECIES: 2, key.TYPE_MAP: {11: 0, 17: 1},
    }  # fmt: skip
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)  # some of its buffers are, always
    model = module("sevenn.model_build").build_E3_equivariant_model(settings)
    torch.set_default_dtype(default)
    atoms = crystal()
    edges = graph(atoms, CUTOFF)
    more = {
        key.ATOMIC_NUMBERS: edges.z, key.EDGE_VEC: edge_vectors(edges).float(),
        key.CELL_VOLUME: torch.tensor([atoms.get_volume()]).float(),
        key.NUM_ATOMS: torch.tensor([len(atoms)]), key.BATCH: torch.zeros_like(edges.z),
    }  # fmt: skip
    data = module("sevenn.atom_graph_data").AtomGraphData
    made = data(edges.z, edges.edge_index.flip(0), edges.pos.float(), **more)

    def evaluate(model: nn.Module) -> tuple[Tensor, Tensor]:
        out = model.train()(made.clone())
        return out["inferred_total_energy"], out["inferred_force"]

    return model, evaluate


def results(model: nn.Module, evaluate: Evaluate) -> list[Tensor]:
    """Energy, forces, and gradients of a loss in all parameters."""
    energy, forces = evaluate(model)
    loss = energy.square().sum() + forces.square().sum()
    parameters = [p for p in model.parameters() if p.requires_grad]
    grads = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [energy, forces, *(g for g in grads if g is not None)]


def check(model: nn.Module, evaluate: Evaluate, tolerance: float = 1e-10) -> str:
    """Results, names and pickles stay; gives the report."""
    before, names = results(model, evaluate), list(model.state_dict())
    parameters = [id(p) for p in model.parameters()]
    assert float(before[1].detach().abs().max()) > 1e-4
    try:
        report = str(acceleration(accelerate(model)))
        after = results(model, evaluate)
        assert list(model.state_dict()) == names
        assert [id(p) for p in model.parameters()] == parameters
    finally:
        restore(model)
    largest = max(float(g.abs().max()) for g in before[2:])
    assert len(before) == len(after)
    for number, (a, b) in enumerate(zip(before, after, strict=True)):
        size = float(a.detach().abs().max()) if number < 2 else largest
        assert float((a - b).detach().abs().max()) <= tolerance * size
    assert "0 left" in report, report
    return report


@pytest.mark.parametrize(
    "interaction",
    [
        "RealAgnosticResidualInteractionBlock",
        "RealAgnosticDensityResidualInteractionBlock",
        "RealAgnosticAttResidualInteractionBlock",
    ],
)
def test_mace(interaction: str) -> None:
    report = check(*mace(interaction))
    assert "TensorProduct (interactions.0.conv_tp, interactions.1.conv_tp): one kernel" in report
    assert "SymmetricContraction" in report


def test_mace_without_shift() -> None:
    check(*mace("RealAgnosticResidualInteractionBlock", "MACE"))


def test_mace_hessian_and_no_grad() -> None:
    model, evaluate = mace("RealAgnosticResidualInteractionBlock")
    hessian = evaluate(model, compute_hessian=True)[1]  # type: ignore[call-arg]
    with torch.no_grad():
        energy = evaluate(model, compute_force=False)[0]  # type: ignore[call-arg]
    try:
        accelerate(model)
        torch.testing.assert_close(evaluate(model, compute_hessian=True)[1], hessian)  # type: ignore[call-arg]
        with torch.no_grad():
            torch.testing.assert_close(evaluate(model, compute_force=False)[0], energy)  # type: ignore[call-arg]
    finally:
        restore(model)


def test_mace_with_tables() -> None:
    model, evaluate = mace("RealAgnosticResidualInteractionBlock")
    model = copy.deepcopy(model)
    before = results(model, evaluate)
    assert "a table" in str(acceleration(accelerate(model, splines=1e-7)))
    for a, b in zip(before, results(model, evaluate), strict=True):
        torch.testing.assert_close(a, b)  # weights want gradients: no tables
    exact = evaluate(model)
    model.requires_grad_(False)
    for _ in range(2):
        table = evaluate(copy.deepcopy(model))
        for a, b in zip(exact, table, strict=True):
            difference = float((a - b).detach().abs().max())
            assert 0 < difference < 1e-6 * float(a.detach().abs().max())
        for parameter in model.parameters():
            parameter.mul_(1.01)
        exact = evaluate(restore(copy.deepcopy(model)))


def test_mace_is_saved_as_mace() -> None:
    model, evaluate = mace("RealAgnosticResidualInteractionBlock")
    before = results(model, evaluate)
    stream = io.BytesIO()
    try:
        torch.save(accelerate(model), stream)
    finally:
        restore(model)
    assert b"interop.e3nn" not in stream.getvalue()
    stream.seek(0)
    loaded = torch.load(stream, weights_only=False)
    assert not hasattr(loaded.interactions[0], "conv_fusion")
    for a, b in zip(before, results(loaded, evaluate), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("parity", [False, True])
def test_nequip(parity: bool) -> None:
    report = check(*nequip(parity))
    assert "FullyConnectedTensorProduct" in report


def test_sevennet() -> None:
    assert "one kernel" in check(*sevennet(), tolerance=1e-5)
