"""Can a potential be trusted where no test set looks?

Pairs of all its elements from very short distances to the cutoff: energy must fall all the way out
of the wall, and be above that of the free atoms inside it. Drift of the total energy in molecular
dynamics in float64. And for a cubic crystal with labelled frames (`--frames`, those of `group`
Elastic are strained copies of it): elastic constants by the same fit to the labels and to the
potential's stress on the same frames, with atoms where the frames have them; the potential's own
constants with relaxed atoms, its equation of state and vacancy, at its own lattice constant; and
energies of formation of the frames of `group` Vacancy against the labels.

    OMP_NUM_THREADS=1 python examples/benchmarks/trust.py MODEL [--ps 10] [--start FILE]
        [--frames TRAIN.extxyz TEST.extxyz] [--smoke] [--out FILE.json]
"""

import argparse
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import crystal
import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.data import chemical_symbols, covalent_radii
from ase.io import read
from numpy.typing import NDArray
from origin import origin, write

from tensornet.calculators import PotentialCalculator
from tensornet.calculators.validation.bench import evaluate, float64_copy
from tensornet.calculators.validation.dynamics import TIME_STEP, drift
from tensornet.calculators.validation.structures import bench, pairs
from tensornet.kernels import tune_allocator
from tensornet.models import Potential, build, load

Array = NDArray[np.float64]
SHORTEST, WALL = 0.25, 0.7  # of the sum of covalent radii; no bond is shorter than WALL
ROUNDING = 1e-6  # eV


def judge(
    distances: Array,  # (r,), rising
    energies: Array,  # (r,), eV, of two atoms less those of free atoms
    wall: float,
) -> dict[str, Any]:
    """Say whether a pair of atoms has a hole.

    Args:
        distances: From inside the wall to where the energy is zero.
        energies: Of the pair.
        wall: Where the wall ends, in the unit of distances.

    Returns:
        Energy at the shortest distance; the largest rise of the energy on the way out, until the
        wall ends or, further out, the energy is at its lowest there; place and depth of the well;
        whether all is in order.
    """
    inside = distances <= wall
    lowest = np.minimum.accumulate(energies)
    rise = float((energies - lowest)[inside].max())
    well = int(np.argmin(energies))
    outside = not inside[well]
    return {
        "shortest": float(distances[0]), "energy_there": float(energies[0]), "rise": rise,
        "lowest_inside": float(energies[inside].min()), "well": float(distances[well]),
        "depth": float(-energies[well]),
        "passed": bool(rise <= ROUNDING and energies[0] > 0 and (outside or energies[well] >= 0)),
    }  # fmt: skip


def dimers(model: Potential, points: int = 400) -> dict[str, dict[str, Any]]:
    """Scan every pair of elements, in float64, and judge it."""
    own, found = float64_copy(model), {}
    for first, second in pairs(own.elements):
        s = float(covalent_radii[[first, second]].sum())
        distances = np.linspace(SHORTEST * s, max(own.cutoff, 1.5 * s), points)
        scan = [Atoms([first, second], [[0.0, 0.0, 0.0], [r, 0.0, 0.0]]) for r in distances]
        free = sum(one.interaction for one in evaluate(own, _free(first, second), forces=False))
        energies = [pair.interaction - free for pair in evaluate(own, scan, forces=False)]
        name = f"{chemical_symbols[first]}-{chemical_symbols[second]}"
        found[name] = judge(distances, np.array(energies), WALL * s)
    return found


def _free(*numbers: int) -> list[Atoms]:
    return [Atoms([z], [[0.0, 0.0, 0.0]]) for z in numbers]


def dynamics(model: Potential, start: Atoms | None, ps: float) -> dict[str, Any]:
    """Measure the drift of the energy."""
    steps = round(1000 * ps / TIME_STEP)
    prepared, words = bench(float64_copy(model), start, seed=0, md_steps=steps)
    row = drift(prepared)
    value = row.value if row.value is not None and math.isfinite(row.value) else None
    return {"picoseconds": ps, "structure": words, "drift": value, "unit": row.unit,
            "note": row.note, "passed": value is not None and value < 0.1}  # fmt: skip


def against_labels(frames: Sequence[Atoms], calculator: Any) -> dict[str, Any]:
    """Compare what labels and a potential say of the same frames of a crystal."""
    groups = {name: [a for a in frames if a.info.get("group") == name] for name in
              ("Elastic", "Vacancy")}  # fmt: skip
    reference = crystal.perfect(groups["Elastic"])
    own = {name: [_with(a, calculator) for a in part] for name, part in groups.items()}
    ideal = own["Elastic"][next(k for k, a in enumerate(groups["Elastic"]) if a is reference)]
    sides = {"labels": (groups, reference), "potential": (own, ideal)}
    constants = {
        side: crystal.constants_of_frames(part["Elastic"], reference)
        for side, (part, _) in sides.items()
    }
    pressure = -reference.get_stress()[:3].mean()
    modulus = constants["labels"]["bulk_modulus"] * crystal.units.GPa
    per_atom = reference.get_volume() / len(reference)
    found: dict[str, Any] = {
        "elastic_GPa": constants,
        "volume_of_labels": per_atom * (1 + pressure / modulus),
    }
    for name, part in groups.items():
        energies = {
            side: np.array([
                a.get_potential_energy() - len(a) / len(zero) * zero.get_potential_energy()
                for a in frames_[name]
            ])
            for side, (frames_, zero) in sides.items()
        }  # fmt: skip
        if part:
            error = energies["potential"] - energies["labels"]
            found[f"{name.lower()}_frames"] = {
                "n": len(part), "mean_eV": float(energies["labels"].mean()),
                "mean_error_eV": float(error.mean()),
                "rmse_eV": float(np.sqrt(np.square(error).mean())),
            }  # fmt: skip
    return found


def _with(atoms: Atoms, calculator: Any) -> Atoms:
    """Copy a frame with what a calculator says of it; results stay with the copy."""
    from ase.calculators.singlepoint import SinglePointCalculator

    copied = atoms.copy()
    copied.calc = calculator
    results = {"energy": copied.get_potential_energy(), "stress": copied.get_stress()}
    copied.calc = SinglePointCalculator(copied, **results)
    return copied


def of_crystal(ideal: Atoms, calculator: Any) -> dict[str, Any]:
    """Compute what a potential says of a cubic crystal by itself, at its own lattice constant."""
    found: dict[str, Any] = {}
    try:
        state = found["equation_of_state"] = crystal.equation_of_state(ideal, calculator)
        own = ideal.copy()
        own.set_cell(ideal.cell * state["scale"], scale_atoms=True)
        found["elastic_GPa"] = crystal.elastic_constants(own, calculator)
        found["vacancy_eV"] = crystal.vacancy(own, calculator)
    except RuntimeError as error:  # no minimum, or no end of a relaxation: that is the finding
        found["failed"] = str(error)
    return found


def argon() -> tuple[Potential, Atoms]:
    """Make a Lennard-Jones crystal, for a smoke run."""
    settings = {"name": "lennard_jones", "epsilon": 0.0104, "sigma": 3.4, "cutoff": 7.0}
    model = build(settings, elements=[18], reference_energies={18: 0.0})
    return model, bulk("Ar", a=5.3, cubic=True).repeat(2)


def main() -> None:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?", help="model file, or folder with one")
    parser.add_argument("--frames", type=Path, nargs="*", default=[], help="labelled crystals")
    parser.add_argument("--start", type=Path, help="where the dynamics begins: its first frame")
    parser.add_argument("--ps", type=float, default=10.0, help="of dynamics; zero is none")
    parser.add_argument("--smoke", action="store_true", help="Lennard-Jones argon, seconds")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="Logging before")
    tune_allocator()
    ideal: Atoms | None = None
    frames: list[Atoms] = []
    if arguments.smoke:
        (model, ideal), arguments.ps = argon(), 0.01
    elif arguments.model is None:
        parser.error("a model must be given")
    else:
        file = arguments.model
        model = load(file / "model.safetensors" if file.is_dir() else file, dtype="float64")
    for path in arguments.frames:
        frames += read(path, ":")
    calculator = PotentialCalculator(model, skin=0.0)
    content: dict[str, Any] = {
        **origin(("torch", "ase")), "smoke": arguments.smoke, "config": model.config,
        "dimers": dimers(model, 40 if arguments.smoke else 400),
    }  # fmt: skip
    if frames:
        ideal = crystal.perfect([a for a in frames if a.info.get("group") == "Elastic"])
        content["against_labels"] = against_labels(frames, calculator)
    if ideal is not None:
        content["crystal"] = of_crystal(ideal, calculator)
    if arguments.ps:
        write(arguments.out, finite(content))  # dynamics may take hours
        start = read(arguments.start, 0) if arguments.start else ideal
        content["dynamics"] = dynamics(model, start, arguments.ps)
    show(content)
    write(arguments.out, finite(content))


def finite(content: dict[str, Any]) -> dict[str, Any]:
    """Put None where a number is not finite, which JSON has no word for."""
    return {
        name: finite(value) if isinstance(value, dict)
        else None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in content.items()
    }  # fmt: skip


def show(content: dict[str, Any], indent: str = "") -> None:
    """Print what was measured."""
    for name, value in content.items():
        if name in ("machine", "versions", "config"):
            continue
        if isinstance(value, dict):
            print(f"{indent}{name}")
            show(value, indent + "  ")
        else:
            print(f"{indent}{name:22} {f'{value:.5g}' if isinstance(value, float) else value}")


if __name__ == "__main__":
    main()
