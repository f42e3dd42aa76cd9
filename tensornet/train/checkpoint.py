"""The state of a run on disk: plain tensors, numbers and texts, replaced as a whole or never."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from tensornet._files import write_atomically
from tensornet.train.recipe import RecipeError

FORMAT = "tensornet.checkpoint"
FORMAT_VERSION = 1
CONTENT = (
    *("epoch", "step", "model", "average", "optimizer", "schedule", "fingerprint", "history"),
    *("best", "best_epoch", "stopped", "rng"),
)


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint to a temporary name, then rename it.

    Args:
        path: Where it shall be.
        state: Tensors, numbers, texts, and lists and dictionaries of them.

    Raises:
        OSError: If writing fails; a previous checkpoint of this name is then untouched.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "format_version": FORMAT_VERSION, **state}, buffer)
    write_atomically(path, buffer.getvalue())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint. No code of the file is run.

    Args:
        path: A file of `write_checkpoint`.

    Returns:
        The state, tensors on the CPU.

    Raises:
        RecipeError: If the file is damaged or something else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RecipeError(f"Cannot resume: {path} is no readable checkpoint ({reason}).") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise RecipeError(f"Cannot resume: {path} is no checkpoint of tensornet.")
    version = state.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise RecipeError(
            f"Cannot resume: {path} has format version {version}, this program reads up to "
            f"{FORMAT_VERSION}. (Update tensornet.)"
        )
    if lost := [key for key in CONTENT if key not in state]:
        raise RecipeError(f"Cannot resume: {path} is without {', '.join(lost)}.")
    return state


def rng_state() -> dict[str, Any]:
    """Give the state of torch's random numbers on all devices."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_rng_state(state: dict[str, Any]) -> None:
    """Put torch's random numbers back to a state of `rng_state`."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"] and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all(state["cuda"])
