"""From a recipe to graphs and statistics: all that can be wrong with the input is said here."""

from __future__ import annotations

import fnmatch
import hashlib
import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ase.data import chemical_symbols
from torch.utils.data import Subset

from tensornet.datasets import (
    Frames,
    GraphDataset,
    LabelKeys,
    ReferenceEnergies,
    ShardDataset,
    duplicates,
    read,
    reference_energies,
    split,
)
from tensornet.datasets.sources import list_files
from tensornet.models import Potential, build, load
from tensornet.models.low_rank import add_low_rank
from tensornet.models.network import Network
from tensornet.train.loss import TERMS
from tensornet.train.processes import local_rank, size
from tensornet.train.recipe import Recipe, RecipeError
from tensornet.train.statistics import Statistics, statistics

MEASURED = 10_000  # structures of a cached training set whose errors are computed at the end
EXTRAS = {"tensorboard": "tensorboard", "wandb": "wandb"}


@dataclass(frozen=True)
class Prepared:
    """Everything that training needs, in memory or in shards on disk.

    Attributes:
        frames: Structures and labels per split; test is missing if there is none.
        graphs: Their graphs, with interaction energies; of data in shards they are the same.
        references: Energies of the free atoms.
        statistics: What the model is told of the training data.
        files: Split, path and checksum of each file.
        device: Where to train.
        copies: How many structures of another split are in the training data too.
    """

    frames: Mapping[str, Frames | ShardDataset]
    graphs: Mapping[str, GraphDataset | ShardDataset]
    references: ReferenceEnergies
    statistics: Statistics
    files: tuple[dict[str, str], ...]
    device: torch.device
    copies: dict[str, int]

    def to_measure(self) -> dict[str, Any]:
        """Give the graphs whose errors are computed at the end, by split.

        Returns:
            All of them, but of a large training set on disk no more than `MEASURED`.
        """
        chosen: dict[str, Any] = dict(self.graphs)
        train = chosen["train"]
        if isinstance(train, ShardDataset) and len(train) > MEASURED:
            some = [k * len(train) // MEASURED for k in range(MEASURED)]
            chosen["train"] = Subset(train, some)
        return chosen


@contextmanager
def input_errors(what: str = "") -> Iterator[None]:
    """Turn what a reader says of bad input into a `RecipeError` of one line.

    Args:
        what: What the line begins with.
    """
    try:
        yield
    except RecipeError:
        raise
    except UnicodeDecodeError as error:
        raise RecipeError(f"{what}no text in UTF-8 ({error.reason}).") from error
    except (ValueError, OSError, ImportError) as error:
        raise RecipeError(what + " ".join(str(error).split())) from error


def prepare(recipe: Recipe) -> Prepared:
    """Read the data of a recipe and check that they can be trained on.

    Args:
        recipe: A checked recipe.

    Returns:
        Data, statistics and device. Nothing was written.

    Raises:
        RecipeError: If files are missing or damaged, labels that the loss asks for are not there,
            a split is empty, an element of validation or test is not in the training data, or a
            device or logger is not available. The message is one line.
    """
    device = find_device(recipe.training.device)
    if device.type == "cuda" and size() > 1:
        device = torch.device("cuda", local_rank())
    _loggers(recipe)
    if recipe.data.cache is not None:
        from tensornet.train.cache import cached

        cache = cached(recipe)
        check(recipe, cache.splits)
        splits, references, known = cache.splits, cache.references, cache.statistics
        return Prepared(splits, splits, references, known, cache.files, device, {})
    frames = _frames(recipe)
    check(recipe, frames)
    how, weights = recipe.data.reference_energies, recipe.loss.groups
    with input_errors():
        references = reference_energies(frames["train"], how)
        graphs = {
            name: GraphDataset(f, cutoff_of(recipe), references, weights=weights)
            for name, f in frames.items()
        }
    files = tuple(files_of_recipe(recipe))
    known = statistics(graphs["train"], cutoff_of(recipe))
    return Prepared(frames, graphs, references, known, files, device, _copies(frames))


def cutoff_of(recipe: Recipe) -> float:
    """Give the cutoff of a recipe's model, Å."""
    return float(recipe.model.model_dump()["cutoff"])


def check(recipe: Recipe, frames: Mapping[str, Frames | ShardDataset]) -> None:
    """Check that data can be trained on.

    Args:
        recipe: A checked recipe.
        frames: The splits.

    Raises:
        RecipeError: If labels that the loss asks for are not there, an element of validation or
            test is not in the training data, or no frame is of a group that has a weight.
    """
    _same_elements(frames)
    _labels(recipe, frames)
    known = {group for data in frames.values() for group in data.groups}
    unseen = sorted(set(recipe.loss.groups) - known)
    if unseen:
        raise RecipeError(
            f"`loss.groups` must name groups of the data. Got {', '.join(unseen)}; there are "
            f"{', '.join(sorted(known)) or 'none'}. (Frames tell their `config_type` or `group`.)"
        )


def make_model(recipe: Recipe, prepared: Prepared) -> Potential:
    """Build the model of a recipe for its data.

    Args:
        recipe: A checked recipe.
        prepared: Its data.

    Returns:
        A fresh model in training mode, in the dtype of the recipe.

    Raises:
        RecipeError: If model and loss do not go together.
    """
    known = prepared.statistics
    with input_errors():
        model = build(
            recipe.model,
            elements=known.elements,
            reference_energies=prepared.references.values,
            scale=known.scale,
            shift=known.shift,
            n_neighbours=known.n_neighbours,
            closest=known.closest_by_number,
            seed=recipe.training.seed,
        )
    _begin(recipe, model)
    if recipe.loss.stress > 0 and not model.conservative:
        raise RecipeError("`loss.stress` needs a model whose forces are derivatives of its energy.")
    return model.to(getattr(torch, recipe.training.dtype)).train()


def _begin(recipe: Recipe, model: Potential) -> None:
    """Take the weights to begin with, and keep from training what shall stay."""
    start = recipe.start
    if start.model is not None:
        with input_errors("`start.model`: "):
            before = load(start.model)
            if not isinstance(before, Network) or not isinstance(model, Network):
                raise RecipeError("`start.model` must be a neural network, as must be `model`.")
            model.begin_from(before)
    names = dict(model.named_parameters())
    for pattern in start.freeze:
        chosen = fnmatch.filter(names, pattern)
        if not chosen:
            raise RecipeError(
                f"`start.freeze` must match parameters. Got {pattern!r}; there are "
                f"{', '.join(sorted({n.split('.')[0] for n in names}))}."
            )
        for name in chosen:
            names[name].requires_grad_(False)
    if start.lora is not None:
        if start.model is None:
            raise RecipeError("`start.lora` needs a model to begin from. (Add `start.model`.)")
        frozen = [name for name, p in names.items() if not p.requires_grad]
        with input_errors("`start.lora`: "):
            add_low_rank(model, start.lora.rank, skip=frozen, seed=recipe.training.seed)
        return
    if not any(p.requires_grad for p in names.values()):
        raise RecipeError("`start.freeze` must leave something to train.")


def label_keys(recipe: Recipe) -> LabelKeys:
    """Give the keys of labels of a recipe.

    Raises:
        RecipeError: If a label is unknown.
    """
    unknown = set(recipe.data.keys) - set(LabelKeys.__dataclass_fields__)
    if unknown:
        known = ", ".join(LabelKeys.__dataclass_fields__)
        raise RecipeError(f"`data.keys` must be among {known}. Got {', '.join(sorted(unknown))}.")
    return LabelKeys(**recipe.data.keys)


def divide(recipe: Recipe, n: int) -> tuple[list[int], list[int]]:
    """Choose which of the training frames validate, where `data.valid` is a number.

    Args:
        recipe: A checked recipe.
        n: Number of frames.

    Returns:
        Indices for training and for validation.

    Raises:
        RecipeError: If nothing is left to train on.
    """
    data = recipe.data
    assert not isinstance(data.valid, tuple)
    number = data.valid if isinstance(data.valid, int) else max(1, round(data.valid * n))
    if number >= n:
        raise RecipeError(
            f"`data.valid` takes {number} of {n} training frame(s), which leaves none to train "
            "on. (Add frames, or name a file: data: {valid: valid.extxyz}.)"
        )
    with input_errors("`data.valid`: "):
        seed = recipe.training.seed if data.split_seed is None else data.split_seed
        return split(n, data.valid, seed)


def paths_of(recipe: Recipe) -> dict[str, tuple[Path, ...]]:
    """Give the paths of a recipe's data by split; of validation none if it is a number."""
    data = recipe.data
    groups = {"train": data.train, "test": data.test}
    if isinstance(data.valid, tuple):
        if not data.valid:
            raise RecipeError("`data.valid` must be a fraction, a number of frames, or file(s).")
        groups = {"train": data.train, "valid": data.valid, "test": data.test}
    return {name: paths for name, paths in groups.items() if paths}


def _frames(recipe: Recipe) -> dict[str, Frames]:
    keys, free = label_keys(recipe), recipe.data.free_atoms
    frames = {
        name: _read(name, paths, keys, free_atoms=free) for name, paths in paths_of(recipe).items()
    }
    if "valid" not in frames:
        whole = frames["train"]
        train, valid = divide(recipe, len(whole))
        frames |= {"train": whole.subset(train), "valid": whole.subset(valid)}
    order = ("train", "valid", "test")
    return {name: frames[name] for name in order if name in frames}


def _read(name: str, paths: Sequence[Path], keys: LabelKeys, *, free_atoms: bool) -> Frames:
    with input_errors(f"`data.{name}`: "):
        frames = read([str(path) for path in paths], keys=keys, free_atoms=free_atoms)
    if not len(frames):
        raise RecipeError(f"`data.{name}` must hold structures. Got isolated atoms only.")
    return frames


def _same_elements(frames: Mapping[str, Frames | ShardDataset]) -> None:
    trained = set(frames["train"].elements)
    for name in frames:
        unseen = sorted(set(frames[name].elements) - trained)
        if unseen:
            raise RecipeError(
                f"The {name} frames hold {', '.join(chemical_symbols[z] for z in unseen)}, which "
                "no training frame holds. (Add such frames to the training data, or remove them.)"
            )


def _copies(frames: dict[str, Frames]) -> dict[str, int]:
    copies = {
        name: len({k for _, k in duplicates(frames["train"], other)})
        for name, other in frames.items()
        if name != "train"
    }
    return {name: n for name, n in copies.items() if n}


def _labels(recipe: Recipe, frames: Mapping[str, Frames | ShardDataset]) -> None:
    """Check that each term of the loss has labels, in training and in validation."""
    for term in TERMS:
        if getattr(recipe.loss, term) == 0:
            continue
        for name in ("train", "valid"):
            one = frames[name]
            if one.n_labels[term]:
                continue
            if term == "stress" and not one.n_labels["periodic"]:
                raise RecipeError(
                    f"`loss.stress` is {recipe.loss.stress:g}, but no {name} frame is periodic in "
                    "all directions. (Set loss: {stress: 0}.)"
                )
            found = f"{one.found} " if one.found else ""
            raise RecipeError(
                f"`loss.{term}` is {getattr(recipe.loss, term):g}, but none of the {len(one)} "
                f"{name} frames has {term} labels. {found}(Set loss: {{{term}: 0}}, or name the "
                f"key: data: {{keys: {{{term}: ...}}}}.)".replace("\n", " ")
            )


def find_device(name: str | None) -> torch.device:
    """Find the device of a name.

    Args:
        name: ``cpu``, ``cuda`` or ``cuda:1``; by default a GPU if there is one.

    Returns:
        The device.

    Raises:
        RecipeError: If there is no such device.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise RecipeError(f"The device must be cpu, cuda or cuda:<number>. Got {name!r}.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RecipeError(
            f"The device {name} is not there: torch sees {torch.cuda.device_count()} CUDA devices."
        )
    return device


def _loggers(recipe: Recipe) -> None:
    for name in recipe.training.loggers:
        if name in EXTRAS and importlib.util.find_spec(name) is None:
            raise RecipeError(
                f"`training.loggers` asks for {name}, which is not installed. "
                f"(pip install {EXTRAS[name]})"
            )


def files_of_recipe(recipe: Recipe) -> Iterator[dict[str, str]]:
    """List the data files with a checksum, so that a result says what it was made from."""
    for name, paths in paths_of(recipe).items():
        for path in paths:
            for file in files_of(str(path)):
                yield {"split": name, "path": file, "sha256": checksum(file)}


def files_of(path: str) -> list[str]:
    """List the files that a path, a pattern, or a path with an ASE index stands for.

    Args:
        path: As `tensornet.datasets.read` takes it.

    Returns:
        Names of files, none if there are none. Of a database that is a folder, that of its content.
    """
    try:
        found = [file for file, _ in list_files(path)]
    except FileNotFoundError:
        return []
    return [os.path.join(file, "data.mdb") if os.path.isdir(file) else file for file in found]


def checksum(path: str) -> str:
    """Compute the SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
