"""Make the `results.json` of a model card from a finished training run.

Errors and the curve are those that training wrote; laws and speed are measured here.

    OMP_NUM_THREADS=1 python examples/benchmarks/results.py RUN_FOLDER TEST.extxyz \
        --out models/NAME/results.json
"""

import argparse
import csv
import json
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from origin import origin, write
from potential import checks, speed

from tensornet.datasets import read
from tensornet.models import load


def curve(path: Path, rows: int = 24) -> list[dict[str, float]]:
    """Thin the table of epochs out; minutes are those of training and validation so far."""
    with path.open(encoding="utf-8") as file:
        table = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    minutes = list(accumulate(row["seconds"] / 60 for row in table))
    step = max(1, len(table) // rows)
    chosen = sorted({*range(step - 1, len(table), step), len(table) - 1})
    keys = [k for k in table[0] if k.startswith("valid_") and k.endswith("_rmse")]
    return [
        {
            "epoch": int(table[i]["epoch"]),
            "minutes": round(minutes[i], 2),
            **{k: round(table[i][k], 3) for k in keys},
        }
        for i in chosen
    ]


def main() -> None:
    """Collect, measure, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a training run")
    parser.add_argument("test", type=Path, help="labelled structures; the first is used for laws")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    metrics: dict[str, Any] = json.loads((arguments.run / "metrics.json").read_text())
    provenance = metrics.pop("provenance")
    for file in provenance["data"]:  # the folder they lay in is of no use elsewhere
        file["path"] = Path(file["path"]).name
    model, atoms = load(arguments.run / "model.safetensors"), read(arguments.test).structures[0]
    kept = ("best_epoch", "seed", "data", "reference_energies")
    content = {
        **origin(("torch", "ase", "torch-geometric")),
        **metrics,
        "provenance": {k: provenance[k] for k in kept if k in provenance},
        "curve": curve(arguments.run / "metrics.csv"),
        "checks": checks(load(arguments.run / "model.safetensors", dtype="float64"), atoms),
        "evaluation": speed(model, atoms, model.dtype, 30),
    }
    write(arguments.out, content)


if __name__ == "__main__":
    main()
