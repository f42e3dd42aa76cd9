"""What a machine may refuse, said in one line: room on disk, permission, memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from tensornet.train.recipe import RecipeError, TrainingError


@contextmanager
def writing(path: Path, *, advice: str = "make room and resume") -> Iterator[Path]:
    """Say in one line that a file could not be written, with the disk full for instance.

    Args:
        path: The file that is written inside.
        advice: What the user can do about it.

    Raises:
        TrainingError: If writing fails.
    """
    try:
        yield path
    except OSError as error:
        reason = error.strerror or str(error)
        raise TrainingError(
            f"Cannot write {path}: {reason}. (The previous file of this name is as it was; "
            f"{advice}.)"
        ) from error


def must_be_writable(folder: Path, name: str) -> None:
    """Check that a folder is there or can be made, and that files can be written to it.

    Args:
        folder: The folder. Nothing is made.
        name: What it is, for messages.

    Raises:
        RecipeError: If a file is in its place or its way, or permission is missing.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        why = "it" if there == folder else f"{there}"
        raise RecipeError(f"The {name} {folder} cannot be made: {why} is a file.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise RecipeError(f"The {name} {folder} cannot be written: no permission in {there}.")


@contextmanager
def enough_memory(advice: str) -> Iterator[None]:
    """Say in one line that memory does not suffice, of the computer or of its GPU.

    Args:
        advice: What the user can do about it.

    Raises:
        TrainingError: If what is done inside runs out of memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        full = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not full and "can't allocate memory" not in str(error):  # of torch, on a CPU
            raise
        raise TrainingError(f"There is not enough memory. ({advice.capitalize()}.)") from error
