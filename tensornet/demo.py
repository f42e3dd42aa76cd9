"""The main job on embedded data, end to end: train a potential and run dynamics with it."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from tensornet import _check
from tensornet._typing import AnyPath

if TYPE_CHECKING:
    from tensornet.datasets import Frames

log = logging.getLogger(__name__)

RECIPE: dict[str, Any] = {
    "model": {"name": "gaunt", "cutoff": 5.0, "channels": 32},
    "loss": {"kind": "mse", "energy": 10.0, "stage_two": {"start": 0.75, "forces": 0.05}},
    "training": {"epochs": 20, "batch_size": 5, "ema": 0.99, "n_threads": 1},
}
TIME_STEP = 0.5  # fs
TEMPERATURE = 300.0  # K


def run(
    out: AnyPath, *, overwrite: bool = False, epochs: int | None = None, steps: int = 3000
) -> dict[str, Any]:
    """Train on the embedded ethanol data and run molecular dynamics with the model file.

    Args:
        out: Folder of the results: what training writes, ``md.png``, ``md.extxyz`` and
            ``demo.json``.
        overwrite: Replace the results of another run.
        epochs: Epochs of training, by default enough for a useful potential in some minutes.
        steps: Steps of molecular dynamics of 0.5 fs at constant energy.

    Returns:
        The content of ``demo.json``: test errors, those of a predictor of the mean, the drift of
        the total energy in meV/atom/ps, and seconds.

    Raises:
        RecipeError: If the folder holds other results and `overwrite` is not set, or this
            installation carries no data.
        TrainingError: If a result cannot be written.
        TypeError: If `steps` is no whole number.
        ValueError: If `steps` is below one.
        Interrupted: On Ctrl-C while training.
    """
    from tensornet.datasets import read, sample
    from tensornet.train import fit, recipe_from
    from tensornet.train.limits import writing
    from tensornet.train.prepare import input_errors
    from tensornet.train.report import write_json

    _check.at_least("run", 1, steps=steps)
    out = Path(out)
    with input_errors():
        data = sample("ethanol")
    recipe = {**RECIPE, "data": {k: str(data / f"{k}.extxyz.gz") for k in ("train", "test")}}
    if epochs is not None:
        recipe["training"] = {**RECIPE["training"], "epochs": epochs}
    started = time.perf_counter()
    metrics = fit(recipe_from(recipe), out, overwrite=overwrite)
    trained = time.perf_counter()
    test = read(data / "test.extxyz.gz")
    log.info("molecular dynamics: %d steps of %g fs from %g K", steps, TIME_STEP, TEMPERATURE)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # nine atoms are too few to share
    try:
        with writing(out / "md.extxyz", advice="make room"):
            drift = _dynamics(out, test, steps)
    finally:
        torch.set_num_threads(threads)
    result = {
        "test": {k: metrics["test"][k] for k in ("energy_rmse", "forces_rmse")},
        "mean_predictor": _mean_predictor(test),
        "drift_mev_atom_ps": drift,
        "seconds": {
            "training": round(trained - started, 1),
            "dynamics": round(time.perf_counter() - trained, 1),
        },
    }
    with writing(out / "demo.json", advice="make room") as path:
        write_json(path, result)
    log.info("%s", _story(out, result))
    return result


def _mean_predictor(frames: Frames) -> dict[str, float]:
    """Errors of always saying the mean energy per atom and no force: what a model must beat."""
    energies = [
        label.energy / len(atoms)
        for atoms, label in zip(frames.structures, frames.labels, strict=True)
        if label.energy is not None
    ]
    forces = [label.forces for label in frames.labels if label.forces is not None]
    rms = np.sqrt(np.mean(np.concatenate(forces) ** 2))
    return {"energy_rmse": float(1e3 * np.std(energies)), "forces_rmse": float(1e3 * rms)}


def _dynamics(out: Path, frames: Frames, steps: int) -> float:
    """Run at constant energy, write trajectory and picture, and fit the drift in meV/atom/ps."""
    from ase import units
    from ase.io import write
    from ase.md.verlet import VelocityVerlet

    from tensornet.calculators import PotentialCalculator

    atoms: Any = frames.structures[0].copy()
    atoms.calc = PotentialCalculator(out / "model.safetensors")
    rng = np.random.default_rng(20261)
    masses = atoms.get_masses()[:, None]
    momenta = np.sqrt(masses) * rng.standard_normal((len(atoms), 3))
    momenta -= masses * momenta.sum(axis=0) / masses.sum()
    atoms.set_momenta(momenta)
    atoms.set_momenta(momenta * np.sqrt(TEMPERATURE / atoms.get_temperature()))
    rows, snapshots = [], []
    dynamics: Any = VelocityVerlet(atoms, timestep=TIME_STEP * units.fs)
    for step, _ in enumerate(dynamics.irun(steps)):
        energies = (atoms.get_potential_energy(), atoms.get_kinetic_energy())
        rows.append((step * TIME_STEP * 1e-3, *energies, atoms.get_temperature()))
        if step % 20 == 0:
            snapshots.append(atoms.copy())
    write(out / "md.extxyz", snapshots)
    times, potential, kinetic, temperature = np.array(rows).T
    total = 1e3 * (potential + kinetic) / len(atoms)
    line = np.polyfit(times, total - total[0], 1)
    _draw(out / "md.png", times, potential - potential[0], kinetic, total - total[0], line)
    log.info("mean temperature %.0f K", temperature.mean())
    return float(line[0])


def _draw(
    path: Path,
    times: NDArray[np.float64],
    potential: NDArray[np.float64],
    kinetic: NDArray[np.float64],
    total: NDArray[np.float64],
    line: NDArray[np.float64],  # slope and value at the start
) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (upper, lower) = plt.subplots(2, 1, sharex=True, figsize=(7, 5), layout="constrained")
    upper.plot(times, potential, lw=0.8, label="potential, from its start")
    upper.plot(times, kinetic, lw=0.8, label="kinetic")
    upper.set_ylabel("energy (eV)")
    upper.margins(y=0.25)
    upper.legend(loc="upper right", frameon=False, ncols=2)
    upper.set_title("Ethanol at constant energy, started at 300 K", loc="left")
    lower.plot(times, total, lw=0.8, color="black")
    fit, label = np.polyval(line, times), f"drift {line[0]:+.1g} meV/atom/ps"
    lower.plot(times, fit, lw=1.2, color="tab:red", label=label)
    lower.set_ylabel("change of total\nenergy (meV/atom)")
    lower.margins(y=0.25)
    lower.set_xlabel("time (ps)")
    lower.legend(loc="upper right", frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _story(out: Path, result: dict[str, Any]) -> str:
    test, mean = result["test"], result["mean_predictor"]
    return (
        f"forces: test RMSE {test['forces_rmse']:.1f} meV/Å; a predictor of zero has "
        f"{mean['forces_rmse']:.0f}\n"
        f"energy: test RMSE {test['energy_rmse']:.2f} meV/atom; a predictor of the mean has "
        f"{mean['energy_rmse']:.1f}\n"
        f"constant energy: drift {result['drift_mev_atom_ps']:+.1g} meV/atom/ps\n"
        f"pictures: {out / 'learning_curve.png'}, {out / 'parity.png'}, {out / 'md.png'}\n"
        f"Go on with: tensornet validate {out / 'model.safetensors'}"
    )
