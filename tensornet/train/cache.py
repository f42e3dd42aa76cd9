"""The data of a recipe in shards on disk: prepared once, read by every run of it."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tensornet._files import write_atomically
from tensornet.datasets import (
    Reader,
    ReferenceEnergies,
    ShardDataset,
    ShardWriter,
    reference_energies,
)
from tensornet.train.limits import must_be_writable
from tensornet.train.prepare import (
    check,
    checksum,
    cutoff_of,
    divide,
    files_of,
    input_errors,
    label_keys,
    paths_of,
)
from tensornet.train.processes import is_main, wait
from tensornet.train.recipe import Recipe, RecipeError, TrainingError
from tensornet.train.statistics import Statistics, statistics

log = logging.getLogger(__name__)

FORMAT, FORMAT_VERSION = "tensornet.cache", 1
CONTENT = {"settings": dict, "files": list, "references": dict, "statistics": dict, "splits": list}
SPLITS = ("train", "valid", "test")
TOLD = 50_000  # structures between two lines of the log
WHOLE = "whole"  # the training files before some of their frames validate


@dataclass(frozen=True)
class Cache:
    """Prepared data.

    Attributes:
        splits: The structures by split.
        references: Energies of the free atoms.
        statistics: What a model is told of the training data.
        files: Split, path and checksum of each source.
    """

    splits: dict[str, ShardDataset]
    references: ReferenceEnergies
    statistics: Statistics
    files: tuple[dict[str, str], ...]


def cached(recipe: Recipe) -> Cache:
    """Open the cache of a recipe; make it if there is none.

    Args:
        recipe: A checked recipe with `data.cache`.

    Returns:
        The data.

    Raises:
        RecipeError: If the cache was made of other data or with other settings, or is damaged, or
            if the data cannot be used.
        TrainingError: If it cannot be written.
    """
    folder = _folder(recipe)
    if is_main() and not (folder / "cache.json").exists():
        prepare_cache(recipe)
    wait()
    content = _content(folder)
    changed = _changed(recipe, content)
    if changed:
        raise RecipeError(
            f"The cache {folder} was made otherwise: {', '.join(changed)}. (Make it anew: "
            "tensornet prepare RECIPE --overwrite; or name another folder in `data.cache`.)"
        )
    with input_errors("`data.cache`: "):
        return _opened(folder, content, recipe.loss.groups)


def prepare_cache(recipe: Recipe, *, overwrite: bool = False) -> Cache:
    """Read the data of a recipe once, check them, and write them in shards.

    Frames are read one by one: memory does not grow with their number (where `data.valid` is a
    number, by 100 bytes a frame while it is chosen which frames validate). The folder appears when
    everything is in it, or not at all.

    Args:
        recipe: A checked recipe with `data.cache`.
        overwrite: Replace a cache that is there.

    Returns:
        The cache.

    Raises:
        RecipeError: If the data cannot be used, or the folder is there.
        TrainingError: If it cannot be written.
    """
    folder = _folder(recipe)
    with input_errors(f"The cache {folder} cannot be used: "):
        must_be_writable(folder, "cache")
        there = (folder / "cache.json").is_file()
        if folder.exists() and any(folder.iterdir()) and not there:
            raise RecipeError(
                f"The folder {folder} holds other files and no cache. (Choose another.)"
            )
    if there and not overwrite:
        raise RecipeError(
            f"The cache {folder} is there already. (Replace it with --overwrite, or name another "
            "folder in `data.cache`.)"
        )
    try:
        with _as_a_whole(folder) as temporary:
            files = _sources(recipe)
            _write(recipe, temporary)
            splits = {s: ShardDataset(temporary / s) for s in SPLITS if (temporary / s).is_dir()}
            check(recipe, splits)
            with input_errors():
                references = reference_energies(splits["train"], recipe.data.reference_energies)
            if any(_stamp(file["path"]).items() - file.items() for file in files):
                raise RecipeError("The data files changed while they were read.")
            train = ShardDataset(temporary / "train", references.values)
            content = {
                "format": FORMAT,
                "format_version": FORMAT_VERSION,
                "settings": _settings(recipe),
                "files": files,
                "references": asdict(references),
                "statistics": asdict(statistics(train, cutoff_of(recipe))),
                "splits": list(splits),
            }
            write_atomically(temporary / "cache.json", json.dumps(content, indent=1).encode())
    except OSError as error:
        reason = error.strerror or str(error)
        raise TrainingError(
            f"Cannot write the cache {folder}: {reason}. (Make room, or name another.)"
        ) from error
    return _opened(folder, _content(folder), recipe.loss.groups)


def _write(recipe: Recipe, folder: Path) -> None:
    """Write the splits."""
    keys, names = label_keys(recipe), paths_of(recipe)
    how: dict[str, Any] = {"cutoff": cutoff_of(recipe), "edges": recipe.data.cache_edges}
    for name, paths in names.items():
        place = WHOLE if name == "train" and "valid" not in names else name
        writer = ShardWriter(folder / place, **how)
        n = 0
        with input_errors(f"`data.{name}`: "):
            files = [str(path) for path in paths]
            reader = Reader(files, keys=keys, free_atoms=recipe.data.free_atoms)
            frames = iter(reader)
        while True:
            with input_errors(f"`data.{name}`: "):
                frame = next(frames, None)
            if frame is None:
                break
            try:
                writer.add(*frame)
            except ValueError as error:
                raise RecipeError(f"`data.{name}`: {' '.join(str(error).split())}") from error
            n += 1
            if n % TOLD == 0:
                told = ", ".join(f"{count} {label}" for label, count in writer.labels.items())
                log.info("%s: %d structures so far (%s)", name, n, told)
        if not n:
            raise RecipeError(f"`data.{name}` must hold structures. Got isolated atoms only.")
        writer.close(summary=reader.summary, found=reader.found, isolated=reader.isolated)
    if "valid" not in names:
        _divide(recipe, folder, how)


def _divide(recipe: Recipe, folder: Path, how: Mapping[str, Any]) -> None:
    """Divide the frames into those to train and those to validate on."""
    whole = ShardDataset(folder / WHOLE)
    _, valid = divide(recipe, len(whole))
    chosen = set(valid)
    writers = {name: ShardWriter(folder / name, **how) for name in ("train", "valid")}
    for number, shard in enumerate(whole.index["shards"]):
        begin, end = int(whole.starts[number]), int(whole.starts[number + 1])
        edges = whole.n_edges(range(begin, end))
        for k, n_edges in zip(range(begin, end), edges, strict=True):
            writer = writers["valid" if k in chosen else "train"]
            row = whole.row(k)
            if int(row["group"]) >= 0:
                name = whole.index["groups"][int(row["group"])]
                row["group"] = row["group"].new_tensor(writer.number_of(name))
            writer.add_row(row, n_edges)
        (folder / WHOLE / shard["file"]).unlink()
    for writer in writers.values():
        writer.close(summary=whole.summary, found=whole.found, isolated=whole.isolated)
    shutil.rmtree(folder / WHOLE)


@contextmanager
def _as_a_whole(folder: Path) -> Iterator[Path]:
    """Give a folder to write in, which takes the place of another when all went well."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    start = f".{folder.name}.{socket.gethostname()}-"
    for left in folder.parent.glob(f"{start}*"):
        if not _lives(left.name.removeprefix(start)):
            shutil.rmtree(left, ignore_errors=True)  # of a run that was killed
    temporary = folder.with_name(f"{start}{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    old = folder.with_name(f"{temporary.name}-old")
    try:
        yield temporary
        if folder.exists():
            os.replace(folder, old)
        os.replace(temporary, folder)
    finally:
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _lives(name: str) -> bool:
    """Whether the process of a temporary folder is there still."""
    number = name.partition("-")[0]
    if not number.isdigit():
        return True  # not one of ours
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _folder(recipe: Recipe) -> Path:
    if recipe.data.cache is None:
        raise RecipeError("`data.cache` must name a folder. (Add data: {cache: prepared}.)")
    return recipe.data.cache


def _settings(recipe: Recipe) -> dict[str, Any]:
    """What the content of a cache depends on, besides the files."""
    data = recipe.data
    valid: dict[str, Any] = {"data.valid": "files"}
    if not isinstance(data.valid, tuple):
        seed = recipe.training.seed if data.split_seed is None else data.split_seed
        valid = {"data.valid": data.valid, "data.split_seed": seed}
    return {
        "model.cutoff": cutoff_of(recipe),
        "data.keys": data.keys,
        "data.free_atoms": data.free_atoms,
        **valid,
        "data.reference_energies": data.reference_energies,
        "data.cache_edges": data.cache_edges,
    }


def _sources(recipe: Recipe) -> list[dict[str, Any]]:
    found = []
    for name, paths in paths_of(recipe).items():
        for path in paths:
            with input_errors(f"`data.{name}`: "):
                for file in files_of(str(path)):
                    known = {"split": name, "path": file, "sha256": checksum(file)}
                    found.append({**known, **_stamp(file)})
    return found


def _stamp(path: str) -> dict[str, Any]:
    state = os.stat(path)
    return {"size": state.st_size, "mtime_ns": state.st_mtime_ns}


def _changed(recipe: Recipe, content: Mapping[str, Any]) -> list[str]:
    """Name what differs between a recipe, with its files, and what a cache was made of."""
    before, now = content["settings"], _settings(recipe)
    changed = [
        f"`{key}` was {before.get(key)!r} and is {now.get(key)!r}"
        for key in {**before, **now}
        if before.get(key) != now.get(key)
    ]
    for name in SPLITS:
        known = [file for file in content["files"] if file["split"] == name]
        paths = [f for p in paths_of(recipe).get(name, ()) for f in files_of(str(p))]
        if known and not paths and recipe.data.model_dump()[name]:
            continue  # the sources are gone, and the cache stands for them
        same = len(paths) == len(known) and all(map(_same, paths, known))
        if not same:
            changed.append(f"`data.{name}` (other files, or other content)")
    return changed


def _same(path: str, known: Mapping[str, Any]) -> bool:
    now = _stamp(path)
    if now["size"] != known["size"]:
        return False
    return bool(now["mtime_ns"] == known["mtime_ns"] or checksum(path) == known["sha256"])


def _content(folder: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads((folder / "cache.json").read_text(encoding="utf-8"))
        version = int(content["format_version"]) if content["format"] == FORMAT else None
        lost = [key for key, kind in CONTENT.items() if not isinstance(content[key], kind)]
        if lost:
            raise ValueError(f"cache.json is damaged at {', '.join(lost)}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecipeError(
            f"`data.cache` must be a folder of tensornet's. Got {folder}: {error}."
        ) from None
    if version is None or version > FORMAT_VERSION:
        raise RecipeError(
            f"`data.cache` has format version {version}, this program reads up to "
            f"{FORMAT_VERSION}. (Update tensornet, or make the cache anew.)"
        )
    return content


def _opened(folder: Path, content: Mapping[str, Any], weights: Mapping[str, float]) -> Cache:
    said, known = content["references"], content["statistics"]
    values = {int(z): energy for z, energy in said["values"].items()}
    shift = {int(z): energy for z, energy in known["shift"].items()}
    return Cache(
        {s: ShardDataset(folder / s, values, weights=weights) for s in content["splits"]},
        ReferenceEnergies(**{**said, "values": values}),
        Statistics(**{**known, "shift": shift}),
        tuple({k: f[k] for k in ("split", "path", "sha256")} for f in content["files"]),
    )
