"""How long does a step of molecular dynamics take, with the models here and with MACE?

Energy, forces and the neighbour list, as each package's ASE calculator gives them to ASE's
VelocityVerlet: 64 and 512 atoms of silicon, and 1-octanol, a molecule of 27. MACE (`mace_model.py`)
has random weights, whose number and not whose values decide the time. Models are those of the
folders given, on the systems whose elements they know; where none is given that does, `gaunt` and
`tdn` as they are by default, with random weights.

The sides take turns; times are medians of process CPU time on one thread, first with the allocator
of the C library as it is, then told to keep memory (which helps MACE most). `ratio` is MACE in the
same precision over the model. MACE makes its neighbour list in every step; the calculator here
keeps one while atoms move less than half a skin, which no median shows: `milliseconds_of_a_list` is
what one takes, and `lists` how many there were in `steps` steps.

    OMP_NUM_THREADS=1 python examples/benchmarks/md_speed.py [MODEL_FOLDER ...] [--smoke]
        [--systems si64 si512 molecule] [--repeats 5] [--out FILE]
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mace_model
import numpy as np
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
from origin import origin, write

from tensornet.atoms import graph
from tensornet.calculators import PotentialCalculator
from tensornet.kernels import tune_allocator
from tensornet.models import Potential, build, load

SYSTEMS = {"si64": 15, "si512": 5, "molecule": 25}  # rounds by the default --repeats
DTYPES = ("float32", "float64")


def octanol() -> Atoms:
    """1-octanol, 27 atoms: a zigzag of H, eight C, O and H, with two H at each C."""
    chain = np.array([[1.26 * k, 0.0, 0.43 * (-1) ** k] for k in range(11)])
    chain[0] = chain[1] + 1.1 / 1.53 * (chain[0] - chain[1])
    chain[10] = chain[9] + 0.97 / 1.53 * (chain[10] - chain[9])
    sides = [chain[k] + [0, y, 0.64 * (-1) ** k] for k in range(1, 9) for y in (-0.89, 0.89)]
    return Atoms("HC8OH17", positions=np.concatenate((chain, sides)))


def system(name: str, smoke: bool = False) -> Atoms:
    """Make a system, a little out of its places, at 300 K."""
    cells = {"si64": 2, "si512": 4}
    atoms = (
        bulk("Si", cubic=True).repeat(1 if smoke else cells[name]) if name in cells else octanol()
    )
    atoms.rattle(0.03, seed=1)
    MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=np.random.default_rng(1))
    return atoms


def elements_of(atoms: Atoms) -> list[int]:
    """Atomic numbers, each once."""
    return sorted({int(z) for z in atoms.numbers})


def n_neighbours(atoms: Atoms, cutoff: float) -> float:
    """Mean number of neighbours."""
    return graph(atoms, cutoff).edge_index.shape[1] / len(atoms)


def models(folders: Sequence[Path], atoms: Atoms, smoke: bool) -> dict[str, tuple[str, Potential]]:
    """Load the models that know the elements; if there is none, make some with random weights."""
    elements = elements_of(atoms)
    found = {folder.name: load(folder / "model.safetensors") for folder in folders}
    if len(found) < len(folders):
        raise ValueError(f"folders of models must have different names. Got {folders}.")
    known = {
        name: ("trained", model)
        for name, model in found.items()
        if set(elements) <= set(model.elements)
    }
    small = {"channels": 4, "layers": 1, "l_max": 1} if smoke else {}
    return known or {
        name: (
            "random",
            build(
                {"name": name, **small}, elements=elements, seed=0,
                reference_energies=dict.fromkeys(elements, 0.0),
                n_neighbours=n_neighbours(atoms, 5.0),
            ),
        )
        for name in ("gaunt", "tdn")
    }  # fmt: skip


@dataclass
class Side:
    """A model that runs molecular dynamics."""

    name: str
    weights: str
    dtype: str
    atoms: Any
    times: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.run: Any = VelocityVerlet(self.atoms, timestep=0.5 * units.fs)

    def step(self) -> None:
        """Do a step and take its time; mace makes its tensors in the default dtype."""
        torch.set_default_dtype(getattr(torch, self.dtype))
        begin = time.process_time()
        self.run.run(1)
        self.times.append(time.process_time() - begin)
        torch.set_default_dtype(torch.float32)


def sides(name: str, folders: Sequence[Path], smoke: bool, with_mace: bool) -> list[Side]:
    """Give a system to every model, in both precisions."""
    made = []
    for dtype in DTYPES:
        torch.set_default_dtype(torch.float32)
        for title, (weights, model) in models(folders, system(name, smoke), smoke).items():
            atoms = system(name, smoke)
            atoms.calc = PotentialCalculator(model, dtype=dtype)
            made.append(Side(title, weights, dtype, atoms))
        if with_mace:
            from mace.calculators import MACECalculator

            torch.manual_seed(0)
            torch.set_default_dtype(getattr(torch, dtype))
            atoms = system(name, smoke)
            mean = n_neighbours(atoms, mace_model.CUTOFF)
            model = mace_model.make(elements_of(atoms), n_neighbours=mean, scale=0.1, smoke=smoke)
            atoms.calc = MACECalculator(models=[model], device="cpu", default_dtype=dtype)
            made.append(Side("mace", "random", dtype, atoms))
    torch.set_default_dtype(torch.float32)
    return made


def milliseconds_of_a_list(calculator: Any, atoms: Atoms) -> float | None:
    """Time a neighbour list of a calculator of this library."""
    if not isinstance(calculator, PotentialCalculator):
        return None
    times = []
    for _ in range(4):
        begin = time.process_time()
        graph(atoms, calculator.models[0].cutoff, skin=0.5)
        times.append(time.process_time() - begin)
    return 1000 * statistics.median(times[1:])


def rows(name: str, arguments: Any, tuned: bool, with_mace: bool) -> list[dict[str, Any]]:
    """Let the models take turns at one system."""
    smoke = arguments.smoke
    made = sides(name, arguments.models, smoke, with_mace)
    rounds = 1 if smoke else max(2, SYSTEMS[name] * arguments.repeats // 5)
    for number in range(rounds + 2):  # the first two warm up, and compile
        for side in made:
            side.step()
            if number == 1:
                side.times.clear()
    medians = {(side.name, side.dtype): statistics.median(side.times) for side in made}
    found = []
    for side in made:
        time_, peer = medians[side.name, side.dtype], medians.get(("mace", side.dtype))
        calculator = side.atoms.calc
        found.append({
            "system": name, "atoms": len(side.atoms), "model": side.name, "weights": side.weights,
            "dtype": side.dtype, "allocator": "keeps freed memory" if tuned else "default",
            "milliseconds": 1000 * time_, "ratio": peer and peer / time_, "steps": rounds + 2,
            "lists": getattr(calculator, "n_builds", rounds + 3),
            "milliseconds_of_a_list": milliseconds_of_a_list(calculator, side.atoms),
            "kelvin": side.atoms.get_temperature(),
        })  # fmt: skip
        show(found[-1])
    return found


def show(row: dict[str, Any]) -> None:
    """Print a row."""
    ratio = "" if row["ratio"] is None else f"{row['ratio']:7.2f}"
    print(
        f"{row['system']:9} {row['model']:14} {row['weights']:8} {row['dtype']} "
        f"{row['allocator']:19} {row['milliseconds']:9.2f} {ratio}",
        flush=True,
    )


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="*", help="folders with model.safetensors")
    parser.add_argument("--smoke", action="store_true", help="tiny models: speed tells nothing")
    parser.add_argument("--systems", nargs="+", default=None, choices=list(SYSTEMS))
    parser.add_argument("--repeats", type=int, default=5, help="more or fewer rounds")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")  # of the package
    with_mace = mace_model.there()
    if arguments.systems is None:
        arguments.systems = [name for name in SYSTEMS if not (arguments.smoke and name == "si512")]
    print(f"{'system':9} {'model':14} {'weights':8} {'dtype':7} {'allocator':19} {'ms':>9}   ratio")
    packages = ("e3nn", "mace-torch") if with_mace else ()
    table: list[dict[str, Any]] = []
    for tuned in (False, True):
        if tuned and (arguments.smoke or not tune_allocator()):
            break
        for name in arguments.systems:
            table += rows(name, arguments, tuned, with_mace)
            content = {
                **origin(("torch", "ase", "numba", *packages)),
                "time": "process CPU time of a step, one thread, medians of interleaved rounds",
                "smoke": arguments.smoke, "rows": table,
                "skipped": [] if with_mace else ["mace-torch"],
            }  # fmt: skip
            write(arguments.out, content)


if __name__ == "__main__":
    main()
