"""Model files: one safetensors file with weights and everything needed to build the model again."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from tensornet import __version__
from tensornet._typing import AnyPath
from tensornet.models.potential import Potential
from tensornet.models.registry import build

FORMAT = "tensornet.potential"
FORMAT_VERSION = 1


class ModelFileError(ValueError):
    """A file that is no model file of ours, or a damaged one."""


def write_atomically(path: AnyPath, data: bytes) -> None:
    """Write a whole file or nothing: a full disk or a kill leaves the previous file as it was.

    Args:
        path: Where the file shall be. Its folder must exist.
        data: The content.

    Raises:
        OSError: If writing fails; the previous file is then untouched.
    """
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


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
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "tensornet_version": __version__,
        "config": json.dumps(model.config),
        "elements": json.dumps(model.elements),
        "dtype": str(model.dtype).removeprefix("torch."),
        "units": json.dumps({"energy": "eV", "length": "angstrom"}),
        "provenance": json.dumps(dict(model.provenance if provenance is None else provenance)),
    }
    tensors = {name: x.detach().cpu().contiguous() for name, x in model.state_dict().items()}
    write_atomically(path, to_bytes(tensors, metadata))


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
        The model in evaluation mode.

    Raises:
        FileNotFoundError: If there is no such file.
        ModelFileError: If the file is foreign, truncated, or of a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"`load(path=...)` must name a model file. Got {path}: no file.")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelFileError(
            f"`load(path=...)` must be a whole model file. Got {path}: {error}. "
            "(Truncated, or of another kind?)"
        ) from None
    if metadata.get("format") != FORMAT:
        raise ModelFileError(
            f"`load(path=...)` must be a model file of tensornet. Got {path}, a safetensors file "
            "of another program."
        )
    if int(metadata["format_version"]) > FORMAT_VERSION:
        raise ModelFileError(
            f"`load(path=...)` must have format version {FORMAT_VERSION} or older. Got "
            f"{metadata['format_version']} in {path}. (Update tensornet.)"
        )
    try:
        elements = json.loads(metadata["elements"])
        model = build(
            json.loads(metadata["config"]),
            elements=elements,
            reference_energies=dict.fromkeys(elements, 0.0),
            seed=0,
        ).to(getattr(torch, metadata["dtype"]))
        model.load_state_dict(tensors)
    except (KeyError, ValidationError, RuntimeError, ValueError) as error:
        raise ModelFileError(
            f"`load(path=...)` must hold the weights its header promises. Got {path}: {error}"
        ) from None
    model.provenance = json.loads(metadata.get("provenance", "{}"))
    if isinstance(dtype, str):
        dtype = getattr(torch, dtype)
    if dtype is not None:
        model = model.to(dtype)
    return model.to(device=device).eval()
