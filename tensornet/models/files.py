"""Model files: one safetensors file with weights and everything needed to build the model again."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from tensornet import __version__
from tensornet._typing import AnyPath
from tensornet.models.potential import Potential
from tensornet.models.registry import build

FORMAT = "tensornet.potential"
FORMAT_VERSION = 1
MEMBER = "member-"  # folders of the members of a committee, with a number from one on


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
        The model in evaluation mode.

    Raises:
        FileNotFoundError: If there is no such file.
        ModelFileError: If the file is foreign, truncated or of a newer format, or has a weight
            that is not a finite number.
        ValueError: If there is no such dtype.
    """
    path, wanted = Path(path), _dtype(dtype)
    metadata, tensors = _read(path)
    model = _rebuild(path, metadata, tensors, wanted)
    for name, x in tensors.items():
        if not bool(torch.isfinite(x).all()):
            raise ModelFileError(
                f"`load(path=...)` must hold finite weights. Got NaN or infinite numbers in "
                f"`{name}` of {path}. (The file is damaged, or the training went wrong.)"
            )
    return model.to(device=device).eval()


def _read(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """Read the header and the tensors of a model file of ours."""
    if path.is_dir():
        raise ModelFileError(
            f"`load(path=...)` must name a model file. Got the folder {path}. (A training run "
            "writes model.safetensors into its folder.)"
        )
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
    return metadata, tensors


def _rebuild(
    path: Path,
    metadata: Mapping[str, str],
    tensors: Mapping[str, torch.Tensor],
    dtype: torch.dtype | None,
) -> Potential:
    """Make the model that a header describes and fill in its weights."""
    try:
        version = int(metadata["format_version"])
        if version > FORMAT_VERSION:
            raise _NewerError(version)
        elements = json.loads(metadata["elements"])
        model = build(
            json.loads(metadata["config"]),
            elements=elements,
            reference_energies=dict.fromkeys(elements, 0.0),
            seed=0,
        )
        # Only then the cast: constants must not be rounded on the way to float64.
        model.load_state_dict(tensors)
        model.to(_dtype(metadata["dtype"]) if dtype is None else dtype)
        model.provenance = dict(json.loads(metadata.get("provenance", "{}")))
    except _NewerError as newer:
        raise ModelFileError(
            f"`load(path=...)` must have format version {FORMAT_VERSION} or older. Got {newer} in "
            f"{path}. (Update tensornet.)"
        ) from None
    except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise ModelFileError(
            f"`load(path=...)` must hold the weights its header promises. Got {path}: "
            f"{type(error).__name__} {said[:300]}"
        ) from None
    return model


class _NewerError(Exception):
    """A version of the format that this program does not know."""


def _dtype(name: torch.dtype | str | None) -> torch.dtype | None:
    found = getattr(torch, name, None) if isinstance(name, str) else name
    if found is None and name is None:
        return None
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(
            f"`load(dtype=...)` must be a dtype such as 'float32' or 'float64'. Got {name!r}."
        )
    return found
