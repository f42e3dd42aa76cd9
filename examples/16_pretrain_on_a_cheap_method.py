"""Few labels: train on a cheap method first, and on the labels that matter after it.

You learn how to make structures like yours and label them with tight binding, how to begin a
training where another ended, and what that is worth. Here GFN2-xTB takes the part of the expensive
method, of which there are 8 to 32 structures of ethanol; GFN1-xTB is the cheap one. From
nothing, a network sees each of them three times as often. With DFT labels: `models/gaunt-acac`.
"""

# %% The labels that matter: 32 structures, some of them, and 50 others to test
import tempfile
from pathlib import Path

import ase.io
import matplotlib as mpl

from tensornet.datasets import generate, sample
from tensornet.train import fit, recipe_from

mpl.use("Agg")
import matplotlib.pyplot as plt

folder = Path(tempfile.mkdtemp(prefix="tensornet-"))
data = sample("ethanol")
atoms = ase.io.read(data / "train.extxyz.gz", index=":3")  # free atoms come first
molecules = ase.io.read(data / "train.extxyz.gz", index="3:387:12")  # 300 K
ase.io.write(folder / "test.extxyz", ase.io.read(data / "test.extxyz.gz", index=":200:4"))
NUMBERS = 8, 16, 32
for n in NUMBERS:
    ase.io.write(folder / f"train_{n}.extxyz", atoms + molecules[:: len(molecules) // n][:n])

# %% Cheap labels: hot trajectories from eight of the structures, with another method
source = generate.Source.model_validate(
    {
        "name": "cheap",
        "structure": {"kind": "file", "path": folder / "train_8.extxyz"},
        "method": {"hamiltonian": "GFN1-xTB", "accuracy": 0.1},
        "dynamics": {"time_step": 1, "friction": 0.02, "warm_up": 40, "settle": 40, "stride": 10},
        "isolated_atoms": {"H": 2, "C": 3, "O": 3},
        "runs": [
            {"split": "train", "temperature": 500, "seeds": [1, 2], "cells": 4, "frames": 25},
            {"split": "test", "temperature": 500, "seeds": [3], "cells": 1, "frames": 10},
        ],
    }
)
generate.write(generate.generate(source), folder / "cheap")


# %% Train on them; then on the labels that matter, from there and from nothing
def train(name, frames, passes, **blocks):
    """Train a small model; give its errors on the test file of the expensive method."""
    recipe = {
        "model": {"name": "gaunt", "cutoff": 4.0, "channels": 16, "l_max": 2},
        "data": {"train": frames, "valid": 0.1, "test": "test.extxyz"},
        "training": {"epochs": passes, "batch_size": 4, "progress": False, "n_threads": 1},
        **blocks,
    }
    return fit(recipe_from(recipe, folder=folder), folder / name)["test"]["forces_rmse"]


CHEAP, DEAR, ALONE = 3000, 512, 1536  # structures that are seen, often the same ones
alone = train("cheap_run", "cheap/train.extxyz.gz", CHEAP // 200)
begin = {"start": {"model": folder / "cheap_run" / "model.safetensors"}, "optimizer": {"lr": 2e-3}}
errors = {"from nothing": [], "from the cheap method": []}
for n in NUMBERS:
    data = f"train_{n}.extxyz"
    errors["from nothing"].append(train(f"new_{n}", data, ALONE // n))
    errors["from the cheap method"].append(train(f"tuned_{n}", data, DEAR // n, **begin))
print(f"{'labels':>22} " + " ".join(f"{n:7d}" for n in NUMBERS))
for name, found in errors.items():
    print(f"{name:>22} " + " ".join(f"{error:7.1f}" for error in found) + "  meV/Å")
print(f"{'cheap method alone':>22} {alone:7.1f}")

# %% The picture: what a label is worth
figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
for (name, found), mark in zip(errors.items(), "os", strict=True):
    axis.loglog(NUMBERS, found, f"{mark}-", label=f"trained {name}")
axis.axhline(alone, color="0.5", linestyle="--", label="the cheap method alone")
axis.set(xlabel="labels of the expensive method", ylabel="RMSE of forces, meV/Å")
axis.set_xticks(NUMBERS, [str(n) for n in NUMBERS])
axis.set_yticks(TICKS := (50, 75, 100, 150), [str(n) for n in TICKS])
axis.minorticks_off()
axis.legend()
figure.savefig("pretrain_on_a_cheap_method.png", dpi=100)

# %% What this example claims
new, tuned = errors["from nothing"], errors["from the cheap method"]
assert all(b < 0.75 * a for a, b in zip(new, tuned, strict=True))
assert tuned[0] < new[2]  # a quarter of the labels, and better
assert tuned[0] < alone
