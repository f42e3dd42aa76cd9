"""How good, how lawful and how fast is a trained potential?

Errors on test structures; the laws in float64 (equivariance of the whole model, forces against
finite differences, symmetry of the Hessian); time per atom of energy and forces.

    OMP_NUM_THREADS=1 python examples/benchmarks/potential.py MODEL.safetensors TEST.extxyz \
        [--out FILE.json] [--threads 1] [--smoke]
"""

import argparse
import hashlib
import math
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from origin import origin, write
from torch_geometric.data import Batch

from tensornet.atoms import graph
from tensornet.calculators import validate
from tensornet.datasets import read
from tensornet.models import Potential, load
from tensornet.train import evaluate


def checks(model: Potential, atoms: Atoms) -> dict[str, Any]:
    """Measure the laws on one structure, in float64; the whole table comes along."""
    report = validate(model, atoms, md_steps=0)
    values = {row.name: row.value for row in report.rows}
    values = {k: v if v is not None and math.isfinite(v) else None for k, v in values.items()}
    symmetries = ("rotation", "inversion", "translation", "permutation")
    return {
        "equivariance": max(v for name in symmetries if (v := values[name]) is not None),
        "forces_against_differences": values["forces"],
        "stress_against_differences": values["stress"],
        "hessian_asymmetry": values["hessian"],
        "failed": list(report.failed),
        "all": values,
    }


def speed(model: Potential, atoms: Atoms, dtype: torch.dtype, repeats: int) -> dict[str, Any]:
    """Time energy and forces of one structure and of a batch; neighbour lists are not counted."""
    model = model.to(dtype).eval()
    single = graph(atoms, model.cutoff)
    batch = Batch.from_data_list([single] * 16)
    found: dict[str, Any] = {"dtype": str(dtype).removeprefix("torch."), "n_atoms": len(atoms)}
    for name, data in (("", single), ("_in_a_batch_of_16", batch)):
        times = []
        for _ in range(repeats + 2):
            begin = time.perf_counter()
            model(data)
            times.append(time.perf_counter() - begin)
        seconds = statistics.median(times[2:])  # the first two warm up
        found[f"milliseconds{name}"] = 1e3 * seconds
        found[f"microseconds_per_atom{name}"] = 1e6 * seconds / len(data.z)
    return found


def main() -> None:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("test", type=Path, help="labelled structures, in any format that ASE reads")
    parser.add_argument("--out", type=Path, help="default: beside the model, potential.json")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="seconds: speed tells nothing then")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    frames = read(arguments.test)
    errors = evaluate(load(arguments.model), frames)
    laws = checks(load(arguments.model), frames.structures[0])
    repeats = 3 if arguments.smoke else 50
    own = load(arguments.model)
    fast = speed(own, frames.structures[0], own.dtype, repeats)
    for title, part in (("errors", errors.to_dict()), ("checks", laws), ("speed", fast)):
        print(f"{title}:")
        for key, value in part.items():
            if key not in ("all", "groups") and value is not None:
                print(f"  {key:36} {value if not isinstance(value, float) else f'{value:.4g}'}")
    content = {
        **origin(("torch", "ase", "torch-geometric")),
        "smoke": arguments.smoke,
        "model": {
            "file": arguments.model.name,
            "sha256": hashlib.sha256(arguments.model.read_bytes()).hexdigest(),
            "n_parameters": own.n_parameters,
            "config": own.config,
        },
        "test": {
            "file": arguments.test.name,
            "sha256": hashlib.sha256(arguments.test.read_bytes()).hexdigest(),
        },
        "errors": errors.to_dict(),
        "checks": laws,
        "speed": fast,
    }
    write(arguments.out or arguments.model.with_name("potential.json"), content)


if __name__ == "__main__":
    main()
