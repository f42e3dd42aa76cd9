"""How good does MACE become in a budget of CPU minutes, trained as its paper does?

The baseline of the model cards. Model (`mace_model.py`), loss, batches, steps and evaluation are
mace-torch's own: Adam (AMSGrad) at 0.01 with batches of 5, moving average 0.99, gradients clipped
at 10, weights of energy and forces 1 and 1000; from three quarters of the budget 1000 and 100
(stage two). The kept weights are those of the least validation loss of stage two.

What is scaled to the budget: the learning rate follows a cosine of the CPU time used, from 0.01 to
0.002 of it at the end, where the paper waits for plateaus of 50 epochs (the recipes of this library
do the same, in steps). What is better than in the paper: reference energies are subtracted from the
energies in float64 before training, so that float32 does not round them, and float32 is faster.

The budget is process CPU time of training and validation, on one thread, with the allocator of the
C library told to keep memory; reading data and the errors on the test files come on top. The split
is that of `tensornet train` with the same seed. A stopped run goes on where it was by `--resume`.

    OMP_NUM_THREADS=1 python examples/benchmarks/mace_budget.py --minutes 30 --run FOLDER \
        --train train_300K.extxyz isolated_atoms.extxyz --valid 50 --test test_300K.extxyz
    ... --train aspirin_train.extxyz --frames 50 --valid 50 --test aspirin_test.extxyz
"""

import argparse
import json
import math
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mace_model
import numpy as np
import torch
from ase import Atoms
from ase.calculators.lj import LennardJones
from ase.io import write as write_atoms
from origin import origin, write
from torch import nn

from tensornet.datasets import Frames, read, reference_energies, split
from tensornet.kernels import tune_allocator

OUTPUTS = {"forces": True, "virials": False, "stress": False}
STAGE_TWO, LAST = 0.75, 0.002  # share of the budget; last learning rate over the first
METRICS = {  # name of mace's: ours, in meV and meV/Å
    "rmse_e": "energy_rmse", "rmse_e_per_atom": "energy_per_atom_rmse", "mae_e": "energy_mae",
    "rmse_f": "forces_rmse", "mae_f": "forces_mae",
}  # fmt: skip


def choose(frames: Frames, valid: int, number: int | None, seed: int) -> tuple[Frames, Frames]:
    """Split as `tensornet train` does; of the rest, keep a number of frames drawn at random."""
    train, held = split(len(frames.structures), valid, seed)
    if number is not None and number < len(train):
        train = [train[i] for i in split(len(train), number, seed)[1]]
    return frames.subset(train), frames.subset(held)


def make(batches: Any, elements: list[int], smoke: bool) -> nn.Module:
    """Make the model, with mace's statistics of the training frames."""
    from mace import modules

    shift, scale = modules.compute_mean_rms_energy_forces(batches, np.zeros(len(elements)))
    n_neighbours = modules.compute_avg_num_neighbors(batches)
    return mace_model.make(
        elements, n_neighbours=n_neighbours, scale=scale, shift=shift, smoke=smoke
    )


class Run:
    """A training run that ends when its CPU time is used up."""

    def __init__(self, model: nn.Module, train: Any, valid: Any, arguments: Any) -> None:
        from mace import modules
        from mace.tools.scripts_utils import get_params_options
        from torch_ema import ExponentialMovingAverage

        self.model, self.train, self.valid = model, train, valid
        self.budget, self.folder = 60 * arguments.minutes, arguments.run
        parts = ("embedding", "interactions", "products", "readouts")
        options = SimpleNamespace(
            lr=arguments.lr, weight_decay=5e-7, amsgrad=True, beta=0.9, freeze=None,
            lr_params_factors=json.dumps({f"{part}_lr_factor": 1.0 for part in parts}),
        )  # fmt: skip
        self.optimizer = torch.optim.Adam(**get_params_options(options, model))
        self.ema = ExponentialMovingAverage(model.parameters(), decay=0.99)
        self.losses = [
            modules.WeightedEnergyForcesLoss(energy_weight=e, forces_weight=f)
            for e, f in ((1.0, 1000.0), (1000.0, 100.0))
        ]
        self.lr = arguments.lr
        self.used, self.step, self.epoch = 0.0, 0, 0
        self.best: dict[str, Any] = {"loss": math.inf, "stage": 0, "state": None}
        self.curve: list[dict[str, float]] = []

    @property
    def passed(self) -> float:
        """Share of the budget that is used."""
        return min(1.0, self.used / self.budget)

    @property
    def stage(self) -> int:
        """Which of the two losses."""
        return int(self.passed >= STAGE_TWO)

    def go(self, points: int) -> None:
        """Train to the end of the budget, with a number of looks at the validation frames."""
        from mace.tools.train import take_step

        looked = len(self.curve)
        while self.used < self.budget:
            self.epoch += 1
            for batch in self.train:
                begin = time.process_time()
                fall = LAST + (1 - LAST) * (1 + math.cos(math.pi * self.passed)) / 2
                for group in self.optimizer.param_groups:
                    group["lr"] = self.lr * fall
                take_step(
                    model=self.model, loss_fn=self.losses[self.stage], batch=batch,
                    optimizer=self.optimizer, ema=self.ema, output_args=OUTPUTS,
                    max_grad_norm=10.0, device=torch.device("cpu"),
                )  # fmt: skip
                self.step += 1
                self.used += time.process_time() - begin
                if self.passed * points >= looked + 1:
                    looked = int(self.passed * points)
                    self.look()
                if self.used >= self.budget:
                    return

    def look(self) -> None:
        """Validate with averaged weights, keep the best, write where things stand."""
        begin = time.process_time()
        with self.ema.average_parameters():
            loss, errors = measure(self.model, self.losses[self.stage], self.valid)
            if (self.stage, -loss) > (self.best["stage"], -self.best["loss"]):
                state = {k: v.clone() for k, v in self.model.state_dict().items()}
                self.best = {"loss": loss, "stage": self.stage, "state": state, "errors": errors}
        self.used += time.process_time() - begin
        self.curve.append({
            "minutes": round(self.used / 60, 2), "epoch": self.epoch, "step": self.step,
            **{f"valid_{k}": v for k, v in errors.items()},
        })  # fmt: skip
        print(json.dumps(self.curve[-1]), flush=True)
        self.save()

    def save(self) -> None:
        """Write a checkpoint, whole or not at all."""
        names = ("budget", "used", "step", "epoch", "best", "curve")
        content = {name: getattr(self, name) for name in names}
        for name in ("model", "optimizer", "ema"):
            content[name] = getattr(self, name).state_dict()
        path = self.folder / "checkpoint.pt"
        torch.save({**content, "random": torch.get_rng_state()}, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)

    def resume(self) -> None:
        """Go back to the last checkpoint; the epoch that was begun begins again."""
        content = torch.load(self.folder / "checkpoint.pt", weights_only=False)
        if (before := content.pop("budget")) != self.budget:
            raise ValueError(
                f"`--minutes` must be {before / 60:g}, as when the run began: the learning rate "
                f"follows it. Got {self.budget / 60:g}."
            )
        torch.set_rng_state(content.pop("random"))
        for name in ("model", "optimizer", "ema"):
            getattr(self, name).load_state_dict(content.pop(name))
        vars(self).update(content)


def measure(model: nn.Module, loss: nn.Module, batches: Any) -> tuple[float, dict[str, float]]:
    """Evaluate by mace's own; errors in meV and meV/Å."""
    from mace.tools.train import evaluate

    model.eval()
    value, errors = evaluate(
        model=model, loss_fn=loss, data_loader=batches, output_args=OUTPUTS,
        device=torch.device("cpu"),
    )  # fmt: skip
    model.train()
    found = {ours: 1000 * float(errors[theirs]) for theirs, ours in METRICS.items()}
    return float(value), {k: float(f"{v:.5g}") for k, v in found.items()}


def sample(folder: Path) -> Path:
    """Write a few labelled clusters, for a smoke run."""
    random, frames = np.random.default_rng(0), []
    for _ in range(12):
        atoms = Atoms("Ar4", 3.6 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]))
        atoms.positions += random.normal(scale=0.1, size=(4, 3))
        atoms.calc = LennardJones(sigma=3.4, epsilon=0.1, rc=9.0)
        atoms.get_forces()
        frames.append(atoms)
    write_atoms(folder / "sample.extxyz", frames)
    return folder / "sample.extxyz"


def train(arguments: Any) -> dict[str, Any]:
    """Train, and measure the kept weights on the test files."""
    seed, smoke = arguments.seed, arguments.smoke
    frames = read(arguments.train)
    references = reference_energies(frames)
    sides = choose(frames, arguments.valid, arguments.frames, seed)
    torch.manual_seed(seed)
    batches = mace_model.batches(sides[0], references.values, 5, shuffle=True)
    held = mace_model.batches(sides[1], references.values, 10, shuffle=False)
    model = make(batches, sorted(references.values), smoke)
    run = Run(model, batches, held, arguments)
    if arguments.resume and (arguments.run / "checkpoint.pt").exists():
        run.resume()
    run.go(2 if smoke else 48)
    if run.best["state"] is None or run.curve[-1]["step"] < run.step:
        run.look()
    model.load_state_dict(run.best["state"])
    tests = {}
    for path in arguments.test:
        batches = mace_model.batches(read([path]), references.values, 10, shuffle=False)
        tests[path.stem] = measure(model, run.losses[1], batches)[1]
        print(path.stem, tests[path.stem])
    return {
        "minutes": arguments.minutes, "dtype": arguments.dtype, "seed": seed,
        "time": "process CPU time of training and validation, one thread",
        "allocator": "keeps freed memory", "lr": arguments.lr,
        "n_train": len(sides[0].structures), "n_valid": len(sides[1].structures),
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "epochs": run.epoch, "steps": run.step,
        "milliseconds_per_step": 1000 * run.used / max(1, run.step),
        "units": "meV (of a structure, unless per atom) and meV/Å",
        "valid": run.best["errors"], "test": tests, "curve": run.curve,
    }  # fmt: skip


def main() -> None:
    """Train MACE, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="of CPU time")
    parser.add_argument("--train", type=Path, nargs="+", help="labelled structures to train on")
    parser.add_argument("--valid", type=int, default=50, help="how many of them validate")
    parser.add_argument("--frames", type=int, help="train on so many of the rest")
    parser.add_argument("--test", type=Path, nargs="*", default=[], help="each tested by itself")
    parser.add_argument("--run", type=Path, default=Path("mace"), help="folder of checkpoints")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="seconds, and its own data")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")  # of the package
    arguments.run.mkdir(parents=True, exist_ok=True)
    if not mace_model.there():
        write(arguments.out, {**origin(), "skipped": ["mace-torch"]})
        return
    if arguments.smoke:
        arguments.minutes, arguments.valid = 0.01, 2
        arguments.train = arguments.test = [sample(arguments.run)]
    elif not arguments.train:
        parser.error("--train must name a file")
    torch.set_default_dtype(getattr(torch, arguments.dtype))
    tune_allocator()
    write(
        arguments.out,
        {**origin(("torch", "e3nn", "mace-torch")), "smoke": arguments.smoke, **train(arguments)},
    )


if __name__ == "__main__":
    main()
