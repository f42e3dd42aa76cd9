"""Files of LordNets: weights, and the problems they were made for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch

from tensornet._typing import AnyPath
from tensornet.models.container import Container
from tensornet.models.lord import LordNet
from tensornet.models.lord_problem import DiffusionFamily

CONTAINER = Container("tensornet.lordnet", 1, "LordNet file", "load_lordnet(path=...)")


def save_lordnet(
    net: LordNet, path: AnyPath, *, provenance: Mapping[str, Any] | None = None
) -> None:
    """Write a LordNet, with all that is needed to make it again.

    Args:
        net: The network.
        path: Name of the file, by custom ending in ``.safetensors``.
        provenance: What the file shall say of its training, JSON-able. By default what the network
            already carries.

    Raises:
        OSError: If writing fails; a previous file of this name is then untouched.
    """
    header = {
        "family": net.family.config(),
        "settings": net.settings,
        "dtype": str(net.steps.dtype).removeprefix("torch."),
        "provenance": dict(net.provenance if provenance is None else provenance),
    }
    CONTAINER.write(path, net, header)


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
    header, tensors = CONTAINER.read(path)
    with CONTAINER.promises(path):
        dtype = {"float32": torch.float32, "float64": torch.float64}[header["dtype"]]
        family = DiffusionFamily.from_config(json.loads(header["family"]), dtype=dtype)
        net = LordNet(family, **json.loads(header["settings"]))
        net.load_state_dict(tensors)
        net.provenance = dict(json.loads(header["provenance"]))
    return net.eval()
