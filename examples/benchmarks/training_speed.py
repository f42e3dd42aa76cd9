"""How many structures a second does training take in, and how much memory, beside MACE?

A step is energies and forces of a batch, the loss, gradients in all weights, clipping, Adam and the
moving average; for MACE (`mace_model.py`) it is mace-torch's own `take_step`, with the structures
and labels of the others, which are random. Batches of five molecules of 27 atoms (1-octanol) and of
two crystals of 64 (silicon). Models are those of the folders given, where they know the elements,
else `gaunt` and `tdn` as they are by default.

The sides take turns; times are medians of process CPU time on one thread, first with the allocator
of the C library as it is, then told to keep memory. `ratio` is structures per second over MACE's in
float32. Memory is what a step adds to the resident memory of a process of its own at its peak,
divided by the atoms of a batch four times as large, after a smaller step has warmed up;
`memory_ratio` is that over MACE's in float32.

    OMP_NUM_THREADS=1 python examples/benchmarks/training_speed.py [MODEL_FOLDER ...] [--smoke]
        [--systems molecule si64] [--repeats 5] [--out FILE]
"""

import argparse
import ctypes
import gc
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mace_model
import numpy as np
import torch
from md_speed import elements_of, models, n_neighbours, system
from origin import origin, write

from tensornet.datasets import Frames, GraphDataset, Labels
from tensornet.kernels import tune_allocator
from tensornet.models import Potential
from tensornet.train.average import WeightAverage
from tensornet.train.batches import collate

SIZES = {"molecule": 5, "si64": 2}  # structures in a batch
Step = Callable[[], None]


def labelled(name: str, number: int, smoke: bool) -> Frames:
    """Make structures with random labels."""
    random = np.random.default_rng(0)
    structures = []
    for _ in range(number):
        atoms = system(name, smoke)
        atoms.positions += random.normal(scale=0.05, size=atoms.positions.shape)
        structures.append(atoms)
    labels = [
        Labels(energy=random.normal(), forces=random.normal(size=atoms.positions.shape))
        for atoms in structures
    ]
    return Frames(tuple(structures), tuple(labels), {})


def own_step(model: Potential, frames: Frames) -> Step:
    """Make the step that training of this library does."""
    model.train()
    references = dict.fromkeys(elements_of(frames.structures[0]), 0.0)
    batch = collate(list(GraphDataset(frames, model.cutoff, references)))
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-4, fused=True)
    average, n_atoms = WeightAverage(weights, decay=0.99), torch.diff(batch.ptr)

    def step() -> None:
        optimizer.zero_grad()
        output = model(batch)
        energy = (output["interaction_energy"] - batch.interaction_energy) / n_atoms
        forces = output["forces"] - batch.forces
        (10 * energy.square().mean() + forces.square().mean()).backward()
        torch.nn.utils.clip_grad_norm_(weights, 10.0)
        optimizer.step()
        average.update()

    return step


def mace_step(frames: Frames, dtype: str, smoke: bool) -> Step:
    """Make the step that mace-torch does."""
    from mace.modules import WeightedEnergyForcesLoss
    from mace.tools.train import take_step
    from torch_ema import ExponentialMovingAverage

    torch.manual_seed(0)
    torch.set_default_dtype(getattr(torch, dtype))
    elements = elements_of(frames.structures[0])
    mean = n_neighbours(frames.structures[0], mace_model.CUTOFF)
    model = mace_model.make(elements, n_neighbours=mean, scale=0.1, smoke=smoke)
    references = dict.fromkeys(elements, 0.0)
    batch = next(iter(mace_model.batches(frames, references, len(frames.structures), False)))
    torch.set_default_dtype(torch.float32)
    loss = WeightedEnergyForcesLoss(energy_weight=1.0, forces_weight=1000.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, amsgrad=True)
    average = ExponentialMovingAverage(model.parameters(), decay=0.99)

    def step() -> None:
        torch.set_default_dtype(getattr(torch, dtype))
        take_step(
            model=model, loss_fn=loss, batch=batch, optimizer=optimizer, ema=average,
            output_args={"forces": True, "virials": False, "stress": False},
            max_grad_norm=10.0, device=torch.device("cpu"),
        )  # fmt: skip
        torch.set_default_dtype(torch.float32)

    return step


def steps(
    name: str, number: int, arguments: Any, only: tuple[str, str] | None = None
) -> dict[tuple[str, str], Step]:
    """Make the steps of all sides, or of one, on one batch: by model and dtype."""
    frames = labelled(name, number, arguments.smoke)
    made: dict[tuple[str, str], Step] = {}
    for title, (_, model) in models(arguments.models, system(name), arguments.smoke).items():
        if only in (None, (title, "float32")):
            made[title, "float32"] = own_step(model.to(torch.float32), frames)
    for dtype in ("float32", "float64"):
        if arguments.mace and only in (None, ("mace", dtype)):
            made["mace", dtype] = mace_step(frames, dtype, arguments.smoke)
    return made


def memory_of_self(what: str) -> int:
    """Read VmRSS or VmHWM of this process, bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(what))


def peak(name: str, side: tuple[str, str], arguments: Any) -> float:
    """Measure what a step adds to the memory of this process at its peak, bytes per atom."""
    frames = 4 * SIZES[name]
    steps(name, 1, arguments, side)[side]()  # compiles, and imports what is imported late
    step = steps(name, frames, arguments, side)[side]
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = memory_of_self("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # VmHWM begins anew
    step()
    return (memory_of_self("VmHWM") - before) / (frames * len(system(name, arguments.smoke)))


def peak_elsewhere(name: str, side: tuple[str, str], arguments: Any) -> float | None:
    """Measure that in a process of its own; None where Linux is not there to ask."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    words = [str(path) for path in arguments.models] + ["--smoke"] * arguments.smoke
    words += ["--peak", name, *side]
    done = subprocess.run(
        [sys.executable, __file__, *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return float(json.loads(done.stdout.splitlines()[-1]))


def rows(name: str, arguments: Any, tuned: bool) -> list[dict[str, Any]]:
    """Let the sides take turns at one system; memory is measured where nothing is tuned."""
    number = SIZES[name]
    made = steps(name, number, arguments)
    times: dict[tuple[str, str], list[float]] = {side: [] for side in made}
    for repeat in range((1 if arguments.smoke else arguments.repeats) + 2):
        for side, step in made.items():
            begin = time.process_time()
            step()
            if repeat >= 2:
                times[side].append(time.process_time() - begin)
    rates = {side: number / statistics.median(values) for side, values in times.items()}
    bytes_: dict[tuple[str, str], float | None] = dict.fromkeys(made)
    if not tuned:
        del made, step
        bytes_ = {side: peak_elsewhere(name, side, arguments) for side in times}
    reference = rates.get(("mace", "float32")), bytes_.get(("mace", "float32"))
    found = []
    for side, rate in rates.items():
        memory = bytes_[side]
        found.append({
            "system": name, "structures": number, "atoms": len(system(name, arguments.smoke)),
            "model": side[0], "dtype": side[1],
            "allocator": "keeps freed memory" if tuned else "default",
            "structures_per_second": rate, "ratio": reference[0] and rate / reference[0],
            "megabytes_per_atom": memory and memory / 1e6,
            "memory_ratio": memory / reference[1] if memory and reference[1] else None,
        })  # fmt: skip
        show(found[-1])
    return found


def show(row: dict[str, Any]) -> None:
    """Print a row."""
    keys = ("structures_per_second", "ratio", "megabytes_per_atom", "memory_ratio")
    numbers = "".join(f"{row[key]:9.3f}" if row[key] is not None else " " * 9 for key in keys)
    print(
        f"{row['system']:9} {row['model']:14} {row['dtype']} {row['allocator']:19}{numbers}",
        flush=True,
    )


def parsed(words: Sequence[str] | None = None) -> Any:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="*", help="folders with model.safetensors")
    parser.add_argument("--smoke", action="store_true", help="tiny models: speed tells nothing")
    parser.add_argument("--systems", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peak", nargs=3, help="only the memory of SYSTEM MODEL DTYPE, printed")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args(words)
    arguments.mace = mace_model.there()
    return arguments


def main() -> None:
    """Measure, print a table, write the JSON."""
    arguments = parsed()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")  # of the package
    if arguments.peak:
        name, *side = arguments.peak
        print(json.dumps(peak(name, (side[0], side[1]), arguments)))
        return
    print(f"{'':44}  structures/s  ratio  MB/atom  ratio")
    packages = ("e3nn", "mace-torch") if arguments.mace else ()
    table: list[dict[str, Any]] = []
    for tuned in (False, True):
        if tuned and (arguments.smoke or not tune_allocator()):
            break
        for name in arguments.systems:
            table += rows(name, arguments, tuned)
            content = {
                **origin(("torch", "torch-geometric", "numba", *packages)),
                "time": "process CPU time of a step, one thread, medians of interleaved rounds",
                "smoke": arguments.smoke, "rows": table,
                "skipped": [] if arguments.mace else ["mace-torch"],
            }  # fmt: skip
            write(arguments.out, content)  # as it comes: all of it may take an hour


if __name__ == "__main__":
    main()
