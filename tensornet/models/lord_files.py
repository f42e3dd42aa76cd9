"""Files of LordNets: weights, and the problems they were made for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from tensornet import __version__
from tensornet._typing import AnyPath
from tensornet.models.files import ModelFileError, write_atomically
from tensornet.models.lord import LordNet
from tensornet.models.lord_problem import DiffusionFamily

FORMAT = "tensornet.lordnet"
FORMAT_VERSION = 1


def save_lordnet(
    net: LordNet, path: AnyPath, *, provenance: Mapping[str, Any] | None = None
) -> None:
    """Write a LordNet, with all that is needed to make it again.

    Args:
        net: The network.
        path: Name of the file, by custom ending in ``.safetensors``.
        provenance: What the file shall say of its training, JSON-able.

    Raises:
        OSError: If writing fails; a previous file of this name is then untouched.
    """
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "tensornet_version": __version__,
        "family": json.dumps(net.family.config()),
        "settings": json.dumps(net.settings),
        "dtype": str(net.steps.dtype).removeprefix("torch."),
        "provenance": json.dumps(dict(provenance or {})),
    }
    tensors = {name: x.detach().cpu().contiguous() for name, x in net.state_dict().items()}
    write_atomically(path, to_bytes(tensors, metadata))


def load_lordnet(path: AnyPath) -> LordNet:
    """Read a LordNet. No code of the file is run.

    Args:
        path: A file written by `save_lordnet`.

    Returns:
        The network in evaluation mode, with its family; what the file says of its training is in
        ``net.provenance``.

    Raises:
        FileNotFoundError: If there is no such file.
        ModelFileError: If the file is foreign, truncated or of a newer format, or has a weight
            that is not a finite number.
    """
    path, where = Path(path), "load_lordnet(path=...)"
    if not path.is_file():
        raise FileNotFoundError(f"`{where}` must name a file of a LordNet. Got {path}: no file.")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"`{where}` must be a whole file. Got {path}: {error}.") from None
    if metadata.get("format") != FORMAT:
        raise ModelFileError(
            f"`{where}` must be a file of a LordNet. Got {path}, of format "
            f"{metadata.get('format')!r}."
        )
    if not metadata.get("format_version", "").isdecimal():
        raise ModelFileError(f"`{where}` must say its format version. Got {path}, which does not.")
    if int(metadata["format_version"]) > FORMAT_VERSION:
        raise ModelFileError(
            f"`{where}` must have format version {FORMAT_VERSION} or older. Got "
            f"{metadata['format_version']} in {path}. (Update tensornet.)"
        )
    for name, x in tensors.items():
        if not bool(torch.isfinite(x).all()):
            raise ModelFileError(
                f"`{where}` must hold finite weights. Got NaN or infinite numbers in `{name}` of "
                f"{path}. (The file is damaged, or the training went wrong.)"
            )
    try:
        dtype = {"float32": torch.float32, "float64": torch.float64}[metadata["dtype"]]
        family = DiffusionFamily.from_config(json.loads(metadata["family"]), dtype=dtype)
        net = LordNet(family, **json.loads(metadata["settings"]))
        net.load_state_dict(tensors)
        net.provenance = dict(json.loads(metadata["provenance"]))
    except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise ModelFileError(
            f"`{where}` must hold the weights its header promises. Got {path}: "
            f"{type(error).__name__} {said[:300]}"
        ) from None
    return net.eval()
