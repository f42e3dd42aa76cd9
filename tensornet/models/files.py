"""Model files: one safetensors file with weights and everything needed to build the model again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tensornet._typing import AnyPath
from tensornet.models.container import Container
from tensornet.models.potential import Potential
from tensornet.models.registry import build

MEMBER = "member-"  # folders of the members of a committee, with a number from one on


CONTAINER = Container("tensornet.potential", 1, "model file")


def save(model: Potential, path: AnyPath, *, provenance: Mapping[str, Any] | None = None) -> None:
    """Write a model file.

    Args:
        model: Any potential of `tensornet.models`.
        path: Name of the file, by custom ending in ``.safetensors``.
        provenance: What the file shall say of its training, JSON-able. By default what the model
            already carries.

    Raises:
        OSError: If writing fails; a previous file of this name is then untouched.
    """
    header = {
        "config": model.config,
        "elements": model.elements,
        "dtype": str(model.dtype).removeprefix("torch."),
        "units": {"energy": "eV", "length": "angstrom"},
        "provenance": dict(model.provenance if provenance is None else provenance),
    }
    CONTAINER.write(path, model, header)


def members(path: AnyPath) -> tuple[Path, ...]:
    """Find the model files that a path means.

    Args:
        path: A model file; the folder of a run; or the folder of a committee, with a run in each
            ``member-1``, ``member-2``, ...

    Returns:
        One file, or those of the members in their order.

    Raises:
        FileNotFoundError: If a folder holds neither.
    """
    path = Path(path)
    if not path.is_dir():
        return (path,)
    alone = path / "model.safetensors"
    if alone.is_file():
        return (alone,)
    listed = {
        int(number): file
        for file in path.glob(f"{MEMBER}*/model.safetensors")
        if (number := file.parent.name.removeprefix(MEMBER)).isdigit()
    }
    if not listed:
        raise FileNotFoundError(
            f"`members(path=...)` must be a model file, or the folder of a run or of a committee. "
            f"Got the folder {path} without model.safetensors or {MEMBER}1/model.safetensors."
        )
    return tuple(listed[number] for number in sorted(listed))


def load(
    path: AnyPath,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | None = None,
) -> Potential:
    """Read a model file. No code of the file is run.

    Args:
        path: A file written by `save`.
        device: Where to put the model. By default the CPU.
        dtype: Dtype of the parameters. By default that of the file.

    Returns:
        The model in evaluation mode, whose outputs are detached: call `train()` on it to train.

    Raises:
        FileNotFoundError: If there is no such file.
        ModelFileError: If the file is foreign, truncated or of a newer format, or has a weight
            that is not a finite number.
        ValueError: If there is no such dtype.
    """
    wanted = _dtype(dtype)
    header, tensors = CONTAINER.read(path)
    with CONTAINER.promises(path):
        elements = json.loads(header["elements"])
        model = build(
            json.loads(header["config"]),
            elements=elements,
            reference_energies=dict.fromkeys(elements, 0.0),
            seed=0,
        )
        # Only then the cast: constants must not be rounded on the way to float64.
        model.load_state_dict(tensors)
        model.to(_dtype(header["dtype"]) if wanted is None else wanted)
        model.provenance = dict(json.loads(header.get("provenance", "{}")))
    return model.to(device=device).eval()


def _dtype(name: torch.dtype | str | None) -> torch.dtype | None:
    found = getattr(torch, name, None) if isinstance(name, str) else name
    if found is None and name is None:
        return None
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(
            f"`load(dtype=...)` must be a dtype such as 'float32' or 'float64'. Got {name!r}."
        )
    return found
