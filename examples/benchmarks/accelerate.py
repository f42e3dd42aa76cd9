"""How much faster do MACE, NequIP and SevenNet become by `accelerate(model)`?

Models with random weights, float32, on a rattled crystal of silicon, each beside another of the
same weights that is accelerated: energies and forces (a step of molecular dynamics), and a step of
training on both (energies, forces, gradients of a loss in all parameters, Adam). MACE has 64x0e +
64x1o features, harmonics to degree 3, correlation 3, two layers and a radial network of 3 x 64;
NequIP has 32 features of degrees 0 to 2 and both parities in four layers; SevenNet 32 of degrees 0
to 2 in three. The cutoff is 5 Å: 28 neighbours. A package that is not there is skipped, and said.

Energies, forces and gradients agree before anything is timed. The two take turns; times are medians
of process CPU time on one thread, first with the allocator of the C library as it is, then told to
keep memory (which helps the models as they were most). `ratio` is before over after.

    OMP_NUM_THREADS=1 python examples/benchmarks/accelerate.py [--smoke] [--out FILE]
        [--models mace nequip sevennet] [--repeats 5]
"""

import argparse
import copy
import statistics
import time
import warnings
from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from origin import origin, write
from torch import Tensor, nn

from tensornet.atoms import edge_vectors, graph
from tensornet.interop.e3nn import accelerate, acceleration
from tensornet.kernels import tune_allocator

Evaluate = Callable[[nn.Module, bool], tuple[Tensor, Tensor]]  # energy and forces
CUTOFF = 5.0
PACKAGES = {"mace": "mace-torch", "nequip": "nequip", "sevennet": "sevenn"}
SIZES = {  # of the crystal, cells of 8 atoms along each edge, for dynamics and for training
    "mace": ((2, 4), (2,)),
    "nequip": ((2, 3), (2,)),
    "sevennet": ((2, 3), (2,)),
}


def crystal(cells: int) -> Atoms:
    """Silicon out of its places."""
    atoms = bulk("Si", cubic=True).repeat(cells)
    atoms.rattle(0.05, seed=1)
    return atoms


def mace(cells: int, smoke: bool) -> tuple[nn.Module, Evaluate]:
    """Make a model of mace-torch, and what evaluates it."""
    torch.serialization.add_safe_globals([slice])
    from e3nn.o3 import Irreps
    from mace import data, modules, tools
    from mace.tools.torch_geometric.dataloader import DataLoader

    model = modules.ScaleShiftMACE(
        r_max=CUTOFF, num_bessel=8, num_polynomial_cutoff=5, max_ell=2 if smoke else 3,
        interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        interaction_cls_first=modules.interaction_classes["RealAgnosticInteractionBlock"],
        num_interactions=2, num_elements=1, atomic_numbers=[14], avg_num_neighbors=28.0,
        hidden_irreps=Irreps("8x0e + 8x1o" if smoke else "64x0e + 64x1o"),
        MLP_irreps=Irreps("16x0e"), gate=torch.nn.functional.silu, radial_MLP=[64, 64, 64],
        correlation=2 if smoke else 3, radial_type="bessel",
        atomic_energies=np.zeros((1, 1)), atomic_inter_scale=1.0, atomic_inter_shift=0.0,
    )  # fmt: skip
    table = tools.AtomicNumberTable([14])
    made = data.AtomicData.from_config(
        data.config_from_atoms(crystal(cells)), z_table=table, cutoff=CUTOFF, heads=["Default"]
    )
    batch = next(iter(DataLoader(dataset=[made], batch_size=1, shuffle=False))).to_dict()

    def evaluate(model: nn.Module, training: bool) -> tuple[Tensor, Tensor]:
        out = model(batch, training=training, compute_force=True)
        return out["energy"].sum(), out["forces"]

    return model, evaluate


def nequip(cells: int, smoke: bool) -> tuple[nn.Module, Evaluate]:
    """Make a model of nequip, and what evaluates it."""
    from nequip.data.ase import from_ase
    from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
    from nequip.model import NequIPGNNModel
    from nequip.utils.global_state import set_global_state

    set_global_state(allow_tf32=False)
    model = NequIPGNNModel(
        seed=0, model_dtype="float32", type_names=["Si"], r_max=CUTOFF, parity=True,
        num_layers=2 if smoke else 4, l_max=1 if smoke else 2, num_features=4 if smoke else 32,
        radial_mlp_depth=2, radial_mlp_width=64, avg_num_neighbors=28.0,
        per_type_energy_scales=1.0, per_type_energy_shifts=0.0,
    )  # fmt: skip
    made = ChemicalSpeciesToAtomTypeMapper(["Si"])(from_ase(crystal(cells)))
    made = NeighborListTransform(r_max=CUTOFF)(made)

    def evaluate(model: nn.Module, training: bool) -> tuple[Tensor, Tensor]:
        out = model({name: tensor.clone() for name, tensor in made.items()})
        return out["total_energy"].sum(), out["forces"]

    return model, evaluate


def sevennet(cells: int, smoke: bool) -> tuple[nn.Module, Evaluate]:
    """Make a model of sevenn, and what evaluates it."""
    import sevenn._keys as key
    from sevenn._const import DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG
    from sevenn.atom_graph_data import AtomGraphData
    from sevenn.model_build import build_E3_equivariant_model

    settings = {
        **copy.deepcopy(DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG),
        key.CUTOFF: CUTOFF, key.LMAX: 1 if smoke else 2,
        key.NODE_FEATURE_MULTIPLICITY: 4 if smoke else 32,
        key.NUM_CONVOLUTION: 2 if smoke else 3, key.CONV_DENOMINATOR: 28**0.5,
        key.CHEMICAL_SPECIES: ["Si"], key.NUM_SPECIES: 1, key.TYPE_MAP: {14: 0},
        key.SHIFT: 0.0, key.SCALE: 1.0,
    }  # fmt: skip
    model = build_E3_equivariant_model(settings)
    atoms = crystal(cells)
    edges = graph(atoms, CUTOFF)
    more = {
        key.ATOMIC_NUMBERS: edges.z, key.EDGE_VEC: edge_vectors(edges).float(),
        key.CELL_VOLUME: torch.tensor([atoms.get_volume()]).float(),
        key.NUM_ATOMS: torch.tensor([len(atoms)]), key.BATCH: torch.zeros_like(edges.z),
    }  # fmt: skip
    receiver_first = edges.edge_index.flip(0)
    made = AtomGraphData(edges.z, receiver_first, edges.pos.float(), **more)

    def evaluate(model: nn.Module, training: bool) -> tuple[Tensor, Tensor]:
        out = model(made.clone())
        return out["inferred_total_energy"].sum(), out["inferred_force"]

    return model, evaluate


@cache
def pair(name: str, cells: int, smoke: bool) -> tuple[nn.Module, nn.Module, Evaluate]:
    """Make a model, another of the same weights that is accelerated, and what evaluates them."""
    torch.manual_seed(65537)
    torch.set_default_dtype(torch.float32)
    (before, evaluate), (after, _) = (globals()[name](cells, smoke) for _ in range(2))
    accelerate(after).load_state_dict(before.state_dict())
    return before, after, evaluate


def step(model: nn.Module, evaluate: Evaluate, optimizer: torch.optim.Optimizer | None) -> None:
    """Do a step of dynamics, or of training."""
    energy, forces = evaluate(model, optimizer is not None)
    if optimizer is not None:
        optimizer.zero_grad()
        (energy.square() + forces.square().sum()).backward()
        optimizer.step()


def difference(before: nn.Module, after: nn.Module, evaluate: Evaluate, training: bool) -> float:
    """Largest relative difference of energy, forces and, in training, gradients."""
    found = []
    for model in (before, after):
        energy, forces = evaluate(model, training)
        grads: list[Tensor | None] = []
        if training:
            loss = energy.square() + forces.square().sum()
            grads = list(torch.autograd.grad(loss, list(trained(model)), allow_unused=True))
        found.append([energy.detach(), forces.detach(), *grads])
    pairs = [(a, b) for a, b in zip(*found, strict=True) if a is not None]
    whole = max(float(a.abs().max()) for a, _ in pairs[2:]) if training else 0.0
    worst = 0.0
    for number, (a, b) in enumerate(pairs):
        size = float(a.abs().max()) if number < 2 else whole
        worst = max(worst, float((a - b).abs().max()) / size)
    return worst


def trained(model: nn.Module) -> list[nn.Parameter]:
    """Parameters that change in training."""
    return [p for p in model.parameters() if p.requires_grad]


def rows(name: str, smoke: bool, repeats: int, tuned: bool) -> list[dict[str, Any]]:
    """Check agreement, then let the model and its copy take turns."""
    found = []
    sizes = ((1,), (1,)) if smoke else SIZES[name]
    for work, cells in [("dynamics", n) for n in sizes[0]] + [("training", n) for n in sizes[1]]:
        training = work == "training"
        model, after, evaluate = pair(name, cells, smoke)
        for side in (model, after):
            side.train(training)
            if name == "mace":  # whose calculator does so
                side.requires_grad_(training)
        worst = difference(model, after, evaluate, training)
        assert worst < 1e-4, (name, work, worst)
        sides: dict[str, nn.Module] = {"before": model, "after": after}
        optimizers = {
            side: torch.optim.Adam(trained(m), lr=1e-6) if training else None
            for side, m in sides.items()
        }
        times: dict[str, list[float]] = {side: [] for side in sides}
        for repeat in range(repeats + 2):
            for side, m in sides.items():
                begin = time.process_time()
                step(m, evaluate, optimizers[side])
                if repeat >= 2:
                    times[side].append(time.process_time() - begin)
        medians = {side: statistics.median(values) for side, values in times.items()}
        report = acceleration(after)
        found.append({
            "model": name, "work": work, "atoms": len(crystal(cells)),
            "allocator": "keeps freed memory" if tuned else "default",
            "seconds_before": medians["before"], "seconds": medians["after"],
            "ratio": medians["before"] / medians["after"], "largest_difference": worst,
            "swapped": len(report.swapped), "left": len(report.left),
        })  # fmt: skip
        show(found[-1])
    return found


def show(row: dict[str, Any]) -> None:
    """Print a row."""
    milliseconds = f"{1000 * row['seconds_before']:9.1f} {1000 * row['seconds']:9.1f}"
    print(
        f"{row['model']:9} {row['work']:9} {row['atoms']:5d} {row['allocator']:19} "
        f"{milliseconds} {row['ratio']:6.2f} {row['largest_difference']:.0e}",
        flush=True,
    )


def missing(name: str) -> bool:
    """Whether a package is not there."""
    try:
        version(PACKAGES[name])
    except PackageNotFoundError:
        return True
    return False


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few seconds: tells nothing")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--models", nargs="+", default=list(PACKAGES), choices=list(PACKAGES))
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")  # of the packages
    skipped = [name for name in arguments.models if missing(name)]
    names = [name for name in arguments.models if name not in skipped]
    repeats = 1 if arguments.smoke else arguments.repeats
    print(f"{'model':9} {'work':9} {'atoms':>5} {'allocator':19} {'before ms':>9} {'ms':>9}  ratio")
    table = [row for name in names for row in rows(name, arguments.smoke, repeats, False)]
    if not arguments.smoke and tune_allocator():
        table += [row for name in names for row in rows(name, False, repeats, True)]
    for name in skipped:
        print(f"{name}: not there, skipped")
    content = {
        **origin(("torch", "e3nn", "numba", *(PACKAGES[name] for name in names))),
        "time": "process CPU time, one thread, medians of interleaved rounds",
        "dtype": "float32", "repeats": repeats, "smoke": arguments.smoke, "rows": table,
        "skipped": skipped,
    }  # fmt: skip
    write(arguments.out, content)


if __name__ == "__main__":
    main()
