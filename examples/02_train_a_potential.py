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
import matplotlib as mpl
import numpy as np

from tensornet.calculators import evaluate_many
from tensornet.datasets import read, sample
from tensornet.models import load
from tensornet.train import evaluate, fit, recipe_from

mpl.use("Agg")
import matplotlib.pyplot as plt

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

# %% The picture: the errors as they fall, forces beside their labels, and one molecule with both
curve = np.genfromtxt(folder / "run" / "metrics.csv", delimiter=",", names=True)
predicted = evaluate_many(test.structures, folder / "run" / "model.safetensors")
found = [atoms.get_forces() for atoms in predicted]
figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
axes[0].semilogy(curve["epoch"], curve["valid_forces_rmse"], "o-", label="forces, meV/Å")
axes[0].semilogy(curve["epoch"], curve["valid_energy_rmse"], "s-", label="energy, meV/atom")
axes[0].set(title="error on structures not trained on", xlabel="epoch")
axes[0].legend()
axes[1].plot(forces.ravel(), np.concatenate(found).ravel(), ".", alpha=0.3)
axes[1].axline((0, 0), slope=1, color="k", linewidth=1)
axes[1].set(title="forces, eV/Å", xlabel="GFN2-xTB", ylabel="trained in a minute")
x, y, numbers = *predicted[0].positions.T[:2], predicted[0].numbers
axes[2].scatter(x, y, s=100 * numbers**0.7, c=numbers, cmap="Pastel1", edgecolors="0.5")
for field, colour, name in ((forces[:9], "k", "GFN2-xTB"), (found[0], "C3", "trained")):
    axes[2].quiver(x, y, *field.T[:2], color=colour, label=name, width=0.008, alpha=0.7)
axes[2].set(title="forces on a molecule of the test", xlabel="x, Å", ylabel="y, Å", aspect="equal")
axes[2].margins(0.3)
axes[2].legend()
figure.savefig("train_a_potential.png", dpi=100)

# %% What this example claims
assert results["test"]["forces_rmse"] < 0.35 * mean["forces_rmse"], results["test"]
assert results["test"]["energy_rmse"] < 0.6 * mean["energy_rmse"], results["test"]
assert again.forces_rmse is not None
assert abs(again.forces_rmse - results["test"]["forces_rmse"]) < 1e-3 * again.forces_rmse
