"""The results of a run: metrics.json, the pictures, and where everything came from."""

from __future__ import annotations

import json
import logging
import math
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from ase.data import chemical_symbols

from tensornet import __version__
from tensornet._files import write_atomically
from tensornet.datasets import Frames, ShardDataset
from tensornet.models import Potential, load, save
from tensornet.models.network import Network
from tensornet.train.last_layer import fit_spread
from tensornet.train.limits import writing
from tensornet.train.metrics import Metrics, predict_graphs
from tensornet.train.plots import learning_curve, parity
from tensornet.train.prepare import Prepared, input_errors
from tensornet.train.recipe import Recipe

log = logging.getLogger(__name__)

PACKAGES = ("torch", "lightning", "torch-geometric", "ase", "numpy")


def report(
    recipe: Recipe, out: Path, prepared: Prepared, history: Sequence[dict[str, float]]
) -> dict[str, Any]:
    """Evaluate the best model and write its results.

    Args:
        recipe: The recipe.
        out: Folder of the run, with ``model.safetensors``.
        prepared: The data.
        history: The records of the epochs.

    Returns:
        The content of ``metrics.json``.

    Raises:
        RecipeError: If the model file is gone or damaged, as it may be when a run is resumed.
        TrainingError: If a file cannot be written.
    """
    with input_errors("Cannot report: "):
        model = load(out / "model.safetensors", device=prepared.device)
    size = max(16, recipe.training.batch_size)
    most = recipe.training.max_edges
    graphs = prepared.to_measure()
    if isinstance(model, Network):
        said = fit_spread(model, graphs["train"], graphs["valid"], batch_size=size, max_edges=most)
        log.info("%s", said)
    predictions = {
        name: predict_graphs(model, some, batch_size=size, max_edges=most)
        for name, some in graphs.items()
    }
    metrics = {name: p.metrics() for name, p in predictions.items()}
    provenance = provenance_of(recipe, prepared)
    provenance |= {
        "best_epoch": model.provenance["epoch"],
        "best_valid_loss": model.provenance["valid_loss"],
    }
    content = metrics_content(metrics, model, speed_of(recipe, prepared, history), provenance)
    errors = {name: content[name] for name in ("train", "valid", "test")}
    with writing(out / "metrics.json") as path:
        write_json(path, content)
    with writing(out / "model.safetensors") as path:
        save(model, path, provenance={**model.provenance, "metrics": errors})
    with writing(out / "parity.png") as path:
        parity(predictions, path)
    with writing(out / "learning_curve.png") as path:
        learning_curve(history, path, best_epoch=model.provenance["epoch"])
    return content


def metrics_content(
    metrics: dict[str, Metrics],
    model: Potential,
    speed: dict[str, Any],
    provenance: dict[str, Any],
) -> dict[str, Any]:
    """Put together what ``metrics.json`` holds.

    Args:
        metrics: By split; a missing split becomes null.
        model: The model.
        speed: Timings.
        provenance: Where the numbers come from.

    Returns:
        Plain values.
    """
    splits = ("train", "valid", "test")
    return {
        **{name: metrics[name].to_dict() if name in metrics else None for name in splits},
        "speed": speed,
        "model": {
            "name": model.config["name"],
            "n_parameters": model.n_parameters,
            "cutoff": model.cutoff,
            "elements": [chemical_symbols[z] for z in model.elements],
            "dtype": str(model.dtype).removeprefix("torch."),
        },
        "provenance": provenance,
    }


def speed_of(
    recipe: Recipe, prepared: Prepared, history: Sequence[dict[str, float]]
) -> dict[str, Any]:
    """Say how fast training was; an epoch includes its validation."""
    seconds = sum(record["seconds"] for record in history)
    settings = recipe.training
    n = len(prepared.graphs["train"])
    if settings.steps_per_epoch is not None:
        n = settings.steps_per_epoch * settings.batch_size * settings.accumulate
    return {
        "epochs": len(history),
        "steps": int(history[-1]["step"]),
        "training_seconds": seconds,
        "seconds_per_epoch": seconds / len(history),
        "structures_per_second": n * len(history) / seconds,
        "device": str(prepared.device),
        "n_threads": torch.get_num_threads(),
    }


def provenance_of(recipe: Recipe, prepared: Prepared) -> dict[str, Any]:
    """Say from which data, settings and programs a model comes, in plain values."""
    references = prepared.references
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "seed": recipe.training.seed,
        "data": list(prepared.files),
        "labels": {name: frames.summary for name, frames in prepared.frames.items()},
        "structures": {name: len(frames) for name, frames in prepared.frames.items()},
        "reference_energies": {
            "method": references.method,
            "values": {chemical_symbols[z]: e for z, e in sorted(references.values.items())},
        },
        "scale": prepared.statistics.scale,
        "recipe": recipe.model_dump(mode="json"),
    }


def example_of(frames: Frames | ShardDataset) -> dict[str, Any]:
    """Choose the calmest structure, for whoever wants to try the model on something.

    Args:
        frames: Structures, with forces or without; of data in shards the first thousand count.

    Returns:
        Numbers, positions and cell of the one with the smallest forces, in plain values.
    """
    if isinstance(frames, ShardDataset):
        known = [frames.row(k)["forces"] for k in range(min(len(frames), 1000))]
        unrest = [float(f.square().mean().nan_to_num(math.inf)) for f in known]
        row = frames.row(unrest.index(min(unrest)))
        return {name: row[name].tolist() for name in ("numbers", "positions", "cell", "pbc")}
    size = [
        math.inf if one.forces is None else float((one.forces**2).mean()) for one in frames.labels
    ]
    atoms = frames.structures[size.index(min(size))]
    return {
        "numbers": atoms.numbers.tolist(),
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.tolist(),
        "pbc": atoms.pbc.tolist(),
    }


def versions() -> dict[str, str]:
    """List the versions that numbers may depend on."""
    found = {"tensornet": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write plain values as indented JSON, as a whole or not at all.

    Args:
        path: The file.
        content: Numbers, none of them NaN or infinite, texts, and lists and dictionaries of them.

    Raises:
        OSError: If writing fails; a previous file of this name is then untouched.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    # What Python has in the place of bytes of a file's name that are no UTF-8 becomes \\udcff.
    write_atomically(path, (text + "\n").encode(errors="backslashreplace"))
