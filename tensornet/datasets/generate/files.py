"""Generate a whole data set and write its files."""

import gzip
import io
import os
import platform
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import ase
import numpy as np
import yaml
from ase.io import write as ase_write

from tensornet.datasets.generate.decorrelation import autocorrelation
from tensornet.datasets.generate.dynamics import Trajectory, build, sample_dynamics
from tensornet.datasets.generate.source import File, Run, Source
from tensornet.datasets.generate.xtb import isolated_atoms


@dataclass(frozen=True)
class Generated:
    """A generated data set.

    Attributes:
        train: Frames for training, isolated atoms first.
        test: Frames for testing, from trajectories of their own.
        source: The settings, with what came out of them in `made`.
    """

    train: list[ase.Atoms]
    test: list[ase.Atoms]
    source: Source


def generate(source: Source, *, processes: int = 1) -> Generated:
    """Compute all trajectories and isolated atoms of a data set.

    Args:
        source: The settings.
        processes: Trajectories to run at the same time, each in a process of its own.

    Returns:
        The frames, and the settings with versions, counts and statistics added.

    Raises:
        ImportError: If `tblite` is not installed.
        RuntimeError: If the dynamics of a trajectory failed more than three times.
        ValueError: If the structure is unknown to ASE, an element has no isolated atom, or
            `processes` is below one.
        FileNotFoundError: If the file of structures is not there.
    """
    if processes < 1:
        raise ValueError(f"`generate(processes=...)` must be at least 1. Got {processes}.")
    elements = {symbol for start in build(source.structure) for symbol in start.symbols}
    if missing := sorted(elements - source.isolated_atoms.keys()):
        raise ValueError(
            "`generate(source=...)` must have the spin multiplicity of every element in "
            f"`isolated_atoms`. Missing: {', '.join(missing)}."
        )
    frames: dict[str, list[ase.Atoms]] = {
        "train": isolated_atoms(source.isolated_atoms, source.method),
        "test": [],
    }
    tasks = [(run, seed) for run in source.runs for seed in run.seeds]
    trajectories = _compute(source, tasks, processes)
    for (run, _), trajectory in zip(tasks, trajectories, strict=True):
        frames[run.split] += trajectory.frames
    done = iter(trajectories)
    runs = [(run, [next(done) for _ in run.seeds]) for run in source.runs]
    lone: Sequence[Any] = frames["train"][: len(source.isolated_atoms)]
    made = {
        "versions": _versions(),
        "isolated_atoms": {
            element: atoms.get_potential_energy()
            for element, atoms in zip(source.isolated_atoms, lone, strict=True)
        },
        "frames": {"train": len(frames["train"]) - len(lone), "test": len(frames["test"])},
        "runs": [_describe(source, run, trajectories) for run, trajectories in runs],
    }
    return Generated(frames["train"], frames["test"], source.model_copy(update={"made": made}))


def write(generated: Generated, out: str | Path) -> tuple[Path, ...]:
    """Write ``train.extxyz.gz``, ``test.extxyz.gz`` and ``source.yaml``.

    The same frames give the same bytes.

    Args:
        generated: What to write.
        out: Folder, made if absent; its files of these names are replaced.

    Returns:
        The paths of the three files.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    paths = tuple(folder / name for name in ("train.extxyz.gz", "test.extxyz.gz", "source.yaml"))
    for path, frames in zip(paths, (generated.train, generated.test), strict=False):
        text = io.StringIO()
        ase_write(text, frames, format="extxyz")
        path.write_bytes(gzip.compress(text.getvalue().encode(), compresslevel=9, mtime=0))
    settings = generated.source.model_dump(mode="json", exclude_none=True)
    if isinstance(structure := generated.source.structure, File):
        # As `load_source` reads it, so that folders may move together.
        settings["structure"]["path"] = os.path.relpath(structure.path, folder)
    paths[2].write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return paths


def _compute(source: Source, tasks: Sequence[tuple[Run, int]], processes: int) -> list[Trajectory]:
    if processes == 1:
        return [sample_dynamics(source, run, seed) for run, seed in tasks]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        runs, seeds = zip(*tasks, strict=True)
        return list(pool.map(sample_dynamics, repeat(source), runs, seeds))


def _describe(source: Source, run: Run, trajectories: Sequence[Trajectory]) -> dict[str, Any]:
    """Collect what a card says about the trajectories of one run."""
    energies = [trace for t in trajectories for trace in t.energies]
    lag = round(source.dynamics.stride / source.dynamics.time_step)
    temperature = np.concatenate([trace for t in trajectories for trace in t.temperatures])
    described: dict[str, Any] = {
        "split": run.split,
        "temperature": run.temperature,
        "frames": sum(len(t.frames) for t in trajectories),
        "dropped": sum(t.dropped for t in trajectories),
        "restarts": sum(t.restarts for t in trajectories),
        "mean_kinetic_temperature": round(float(temperature.mean()), 1),
    }
    if max(len(trace) for trace in energies) > 2 * lag:
        described["energy_autocorrelation"] = {
            f"{part * source.dynamics.stride:g} fs": round(
                autocorrelation(energies, max(round(part * lag), 1)), 3
            )
            for part in (0.25, 0.5, 1.0, 2.0)
        }
    return described


def _versions() -> dict[str, str]:
    packages = ("tblite", "ase", "numpy")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}
