"""Which parts of a potential pay? Train it again and again, each time with one setting changed.

Every variant is trained by `tensornet train`, as a user would, on the same frames and for the same
number of epochs, and judged by validation frames that are never those of a published test set.
Seconds are CPU time of the whole process; a change of a few per cent in the errors is noise, which
the seeds of the first variant show. Variants that the JSON holds already are not trained again.

    OMP_NUM_THREADS=1 python examples/benchmarks/ablation.py \
        --train train_300K.extxyz@0:325 isolated_atoms.extxyz --out models/gaunt-acac/ablation.json
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from origin import origin, write

from tensornet.datasets import sample

RECIPE = """
model: {name: gaunt, cutoff: 5.0}
data: {train: [data], valid: 100}
loss: {kind: mse, energy: 10, forces: 1}
optimizer: {name: soap, lr: 5e-3, final_factor: 0.002}
training: {epochs: 30, batch_size: 5, ema: 0.99, dtype: float32, n_threads: 1, progress: false}
"""
VARIANTS = {
    "as it is": (),
    "as it is, seed 1": ("training.seed=1",),
    "as it is, seed 2": ("training.seed=2",),
    "AdamW": ("optimizer.name=adamw",),
    "weight_decay 0.1": ("optimizer.weight_decay=0.1",),
    "basis_decay 0": ("model.basis_decay=0",),
    "basis_decay 2": ("model.basis_decay=2",),
    "n_basis 8": ("model.n_basis=8",),
    "n_basis 16": ("model.n_basis=16",),
    "pair_species off": ("model.pair_species=false",),
    "cutoff 4": ("model.cutoff=4",),
    "order 2": ("model.order=2",),
    "cutoff 6": ("model.cutoff=6",),
    "order 4": ("model.order=4",),
    "l_max 2": ("model.l_max=2",),
    "l_max 4": ("model.l_max=4",),
    "l_features 0": ("model.l_features=0",),
    "l_features 2": ("model.l_features=2",),
    "radial_hidden 128": ("model.radial_hidden=128",),
    "1 layer": ("model.layers=1",),
    "3 layers": ("model.layers=3",),
    "32 channels": ("model.channels=32",),
    "96 channels": ("model.channels=96",),
    "powers only": ("model.coupling=gaunt",),
    "powers only, path_rank 2": ("model.coupling=gaunt", "model.path_rank=2"),
    "tdn": ("model.name=tdn",),
    "tdn, AdamW": ("model.name=tdn", "optimizer.name=adamw"),
}
SMOKE = {
    "as it is": ("model.channels=4", "training.epochs=1", "data.valid=20", "model.l_max=1"),
    "1 layer": ("model.channels=4", "training.epochs=1", "data.valid=20", "model.layers=1"),
}
KEPT = ("energy_rmse", "energy_mae", "forces_rmse", "forces_mae")  # meV/atom, meV/Å


def train(frames: list[str], changes: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """Train one variant in a process of its own; give its errors, parameters and CPU seconds."""
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    words = [f"data.train=[{', '.join(frames)}]", *changes, "--out", str(folder / "run")]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "tensornet", "train", str(recipe), *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    metrics = json.loads((folder / "run" / "metrics.json").read_text(encoding="utf-8"))
    return {
        "settings": list(changes),
        "parameters": metrics["model"]["n_parameters"],
        "cpu_seconds": round(seconds, 1),
        **{split: {k: metrics[split][k] for k in KEPT} for split in ("train", "valid")},
    }


def table(variants: dict[str, dict[str, Any]]) -> str:
    """Set the variants out as Markdown."""
    lines = [
        "| variant | parameters | CPU, s | energy RMSE, meV/atom | forces RMSE, meV/Å |",
        "|---|---|---|---|---|",
    ]
    for name, made in variants.items():
        errors = made["valid"]
        lines.append(
            f"| {name} | {made['parameters']:,} | {made['cpu_seconds']:.0f} "
            f"| {errors['energy_rmse']:.3f} | {errors['forces_rmse']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Train what is missing, write the JSON after each variant, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", nargs="+", help="frames, FILE or FILE@0:60")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", help="names of the variants wanted")
    parser.add_argument("--smoke", action="store_true", help="two tiny variants")
    arguments = parser.parse_args()
    variants = SMOKE if arguments.smoke else VARIANTS
    given = arguments.train or [f"{sample('ethanol') / 'train.extxyz.gz'}@0:60"]
    frames = [str(Path(name).resolve()) for name in given]
    made: dict[str, Any] = {}
    if arguments.out.exists():
        made = json.loads(arguments.out.read_text(encoding="utf-8"))["variants"]
    for name in arguments.only or variants:
        if name in made:
            continue
        with tempfile.TemporaryDirectory() as folder:
            row = train(frames, variants[name], Path(folder))
        here = origin(())  # of this row: runs may be several, on several machines
        made[name] = {**row, "date": here["date"], "processor": here["machine"]["processor"]}
        ordered = {k: made[k] for k in variants if k in made}
        names = [Path(name).name for name in frames]
        content = {"smoke": arguments.smoke, "frames": names, "recipe": RECIPE.strip()}
        write(arguments.out, {**origin(("torch",)), **content, "variants": ordered})
    print(table({k: made[k] for k in variants if k in made}))


if __name__ == "__main__":
    main()
