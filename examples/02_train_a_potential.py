"""Train a potential: from labelled structures to a model file, in less than a minute.

You learn how a recipe says what to train on what, what a run leaves in its folder, and how to read
the errors: always beside those of a predictor that knows nothing but the mean. The data come with
the library: ethanol at 300 K and 600 K, computed with GFN2-xTB. The model and the run are tiny; for
the accuracy of a real run see the recipes in `models/`.
"""

# %% The data, and a small part of them: 80 structures to train on, 20 to validate, 60 to test
import tempfile
from pathlib import Path

import ase.io
import numpy as np

from tensornet.datasets import read, sample
from tensornet.models import load
from tensornet.train import evaluate, fit, recipe_from

folder = Path(tempfile.mkdtemp(prefix="tensornet-"))
data = sample("ethanol")
every = ase.io.read(data / "train.extxyz.gz", index=":")
atoms = [a for a in every if len(a) == 1]  # energies of the free atoms
molecules = [a for a in every if len(a) > 1]
ase.io.write(folder / "train.extxyz", atoms + molecules[::5])
ase.io.write(folder / "test.extxyz", ase.io.read(data / "test.extxyz.gz", index="::5"))

# %% The recipe: what is not said has a default; a misspelt key would be an error
recipe = recipe_from(
    {
        "model": {
            "name": "tdn",
            "cutoff": 4.0,
            "l_max": 1,
            "channels": 16,
            "layers": 2,
            "heads": 2,
            "n_basis": 8,
            "radial_hidden": 16,
        },
        "data": {"train": "train.extxyz", "valid": 20, "test": "test.extxyz"},
        "optimizer": {"lr": 0.01},
        "training": {"epochs": 16, "batch_size": 4, "progress": False, "n_threads": 1, "seed": 7},
    },
    folder=folder,
)

# %% Train: at most a minute on one core
results = fit(recipe, folder / "run")
speed = results["speed"]
print(f"{speed['epochs']} epochs in {speed['training_seconds']:.0f} s, in {folder / 'run'}:")
print(", ".join(sorted(path.name for path in (folder / "run").iterdir())))

# %% The errors, beside those of the mean: the mean energy, and the mean force, which is zero
test = read(folder / "test.extxyz")
forces = np.concatenate([labels.forces for labels in test.labels])
energies = np.array([labels.energy for labels in test.labels]) / len(test.structures[0])
mean = {
    "forces_rmse": 1000 * float(np.sqrt((forces**2).mean())),
    "energy_rmse": 1000 * float(energies.std()),
}
print(f"\n{'test error':24} {'mean':>8} {'trained':>8}")
for key, unit in (("energy_rmse", "meV/atom"), ("forces_rmse", "meV/Å")):
    print(f"{key + ', ' + unit:24} {mean[key]:8.1f} {results['test'][key]:8.1f}")

# %% The model file needs nothing else: read it and measure again
again = evaluate(load(folder / "run" / "model.safetensors"), test)

# %% What this example claims
assert results["test"]["forces_rmse"] < 0.35 * mean["forces_rmse"], results["test"]
assert results["test"]["energy_rmse"] < 0.6 * mean["energy_rmse"], results["test"]
assert again.forces_rmse is not None
assert abs(again.forces_rmse - results["test"]["forces_rmse"]) < 1e-3 * again.forces_rmse
