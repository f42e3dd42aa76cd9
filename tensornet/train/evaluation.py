"""Measure a model file on data files: what the command `evaluate` does."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tensornet._typing import AnyPath
from tensornet.datasets import Frames, read
from tensornet.models import Potential, load, members
from tensornet.train.committee import Calibration, average
from tensornet.train.limits import enough_memory, must_be_writable, writing
from tensornet.train.metrics import Metrics, Predictions, must_know, predict, together
from tensornet.train.plots import parity
from tensornet.train.prepare import checksum, files_of, find_device, input_errors
from tensornet.train.recipe import RecipeError
from tensornet.train.report import metrics_content, versions, write_json

if TYPE_CHECKING:
    import ase


def evaluate_files(
    model: AnyPath,
    data: Sequence[AnyPath],
    *,
    out: AnyPath | None = None,
    batch_size: int = 16,
    device: str | None = None,
    overwrite: bool = False,
    free_atoms: bool = False,
) -> tuple[dict[str, Metrics], dict[str, Calibration]]:
    """Measure the errors of a model, or of the mean of a committee, on labelled structures.

    Args:
        model: A model file, the folder of a run, or that of a committee.
        data: Files with structures.
        out: Folder for ``metrics.json`` and ``parity.png``. By default nothing is written.
        batch_size: Structures evaluated at once.
        device: Where to compute. By default the best there is.
        overwrite: Replace such files in `out`.
        free_atoms: Leave out the forces on atoms that were held fixed.

    Returns:
        The errors per file, and under ``all`` of all files if there are several; and of a
        committee how well its spread tells them, by ``energy`` and ``forces``.

    Raises:
        RecipeError: If a file is missing, foreign or without labels, or holds an element that the
            model does not know; or if `out` holds results. The message is one line.
        TrainingError: If memory does not suffice, or a result cannot be written.
    """
    if out is not None and not overwrite:
        _must_be_free(Path(out))
    with input_errors():
        files = members(model)
    where = str(find_device(device))
    potentials = [load_model(file, device=where) for file in files]
    frames = {str(path): _read(str(path), free_atoms=free_atoms) for path in data}
    started = time.perf_counter()
    with input_errors(), enough_memory("take a smaller batch size"):
        said = [
            [predict(potential, f, batch_size=batch_size) for f in frames.values()]
            for potential in potentials
        ]
    seconds = time.perf_counter() - started
    parts = {name: average(column)[0] for name, *column in zip(frames, *said, strict=True)}
    whole, told = average([together(row) for row in said])
    metrics = {name: part.metrics() for name, part in parts.items()}
    if len(parts) > 1:
        metrics["all"] = whole.metrics()
    if out is not None:
        more = {"calibration": {k: c.to_dict() for k, c in told.items()}} if told else {}
        _write(Path(out), potentials[0], files, metrics, whole, list(frames), seconds, more)
    return metrics, told


def _must_be_free(out: Path) -> None:
    with input_errors(f"The output folder {out} cannot be used: "):
        for path in (out / "metrics.json", out / "parity.png"):
            if path.exists():
                raise RecipeError(
                    f"The output folder {out} holds {path.name} already. (Choose another, or "
                    "replace it with --overwrite.)"
                )
        must_be_writable(out, "output folder")


def load_model(path: AnyPath, *, device: str | None = None) -> Potential:
    """Load a model file for a command.

    Args:
        path: The model file.
        device: Where to put it.

    Returns:
        The model in evaluation mode.

    Raises:
        RecipeError: If there is no such file, or it is no model file. The message is one line.
    """
    with input_errors():
        return load(path, device=find_device(device) if device else None)


def read_structure(path: AnyPath, model: Potential) -> ase.Atoms:
    """Read one structure that a model can be tried on.

    Args:
        path: Any file that ASE reads; the first structure is taken.
        model: The model that must know all elements.

    Returns:
        The structure.

    Raises:
        RecipeError: If the file cannot be read or holds an element the model does not know.
    """
    with input_errors():
        frames = read(str(path))
    if not len(frames):
        raise RecipeError(f"{path} holds isolated atoms only.")
    first = frames.subset([0])
    must_know(model, first)
    return first.structures[0]


def _read(path: str, *, free_atoms: bool) -> Frames:
    with input_errors():
        frames = read(path, free_atoms=free_atoms)
    if not any(one.energy is not None or one.forces is not None for one in frames.labels):
        raise RecipeError(f"{path} has no labels to compare with. {' '.join(frames.found.split())}")
    return frames


def _write(
    out: Path,
    model: Potential,
    paths: Sequence[Path],
    metrics: dict[str, Metrics],
    whole: Predictions,
    data: Sequence[str],
    seconds: float,
    more: dict[str, Any],
) -> None:
    n = len(whole.energy)
    speed = {
        "seconds": seconds,
        "structures_per_second": n / seconds,
        "device": str(model.device),
        "n_threads": torch.get_num_threads(),
    }
    files = [file for name in data for file in files_of(name)]
    provenance: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "model_file": [{"path": str(path), "sha256": checksum(str(path))} for path in paths],
        "data": [{"split": "test", "path": file, "sha256": checksum(file)} for file in files],
        "training": model.provenance,
    }
    if len(paths) == 1:
        (provenance["model_file"],) = provenance["model_file"]
    content = metrics_content({"test": whole.metrics()}, model, speed, provenance) | more
    if len(data) > 1:
        content["files"] = {name: metrics[name].to_dict() for name in data}
    with writing(out, advice="choose another folder, or make room"):
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "metrics.json", content)
        parity({"test": whole}, out / "parity.png")
