"""Files of functional Tucker and CP models: messages and settings in safetensors, no pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from tensornet._files import read_tensors, write_tensors
from tensornet._typing import AnyPath
from tensornet.functional.funbat_fit import Inference, Mode
from tensornet.functional.funbat_moments import Moments
from tensornet.functional.funbat_run import Outcome
from tensornet.functional.matern import Matern

_KIND, _VERSION = "functional", "1"


def write(path: AnyPath, name: str, settings: Mapping[str, Any], outcome: Outcome) -> None:
    """Write a fitted model, whole or not at all.

    Args:
        path: Where to.
        name: Of its class.
        settings: Those of the class.
        outcome: What the fit found. Of the observations nothing is kept but the messages.

    Raises:
        OSError: If the folder does not exist or cannot be written to.
    """
    fitted = outcome.inference
    tensors = {"core": fitted.core.mean, "core_covariance": fitted.core.covariance}
    tensors["bounds"] = torch.tensor(outcome.bounds, dtype=torch.float64)
    for k, mode in enumerate(fitted.modes):
        tensors |= {
            f"{k}.coordinates": mode.coordinates, f"{k}.precision": mode.precision,
            f"{k}.shift": mode.shift,
        }  # fmt: skip
    content = {
        "settings": dict(settings),
        "kernels": [asdict(mode.kernel) for mode in fitted.modes],
        "ranks": fitted.moments.ranks,
        "noise": [fitted.shape, fitted.rate, fitted.offset],
        "values": [outcome.shift, outcome.scale],
        "converged": outcome.converged,
        "message": outcome.message,
    }
    metadata = {
        "tensornet": _KIND, "version": _VERSION, "kind": name, "content": json.dumps(content),
    }  # fmt: skip
    write_tensors(f"{name}.save", path, tensors, metadata)


def read(path: AnyPath, name: str, diagonal: bool) -> tuple[dict[str, Any], Outcome]:
    """Read what `write` wrote; functions follow again from their messages.

    Args:
        path: The file.
        name: Of the class that reads it.
        diagonal: Whether its core is the superdiagonal.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such file, truncated, or a model of another kind.
    """
    tensors, metadata = read_tensors(f"{name}.load", path)
    where = f"`{name}.load(path=...)`"
    if metadata.get("tensornet") != _KIND or metadata.get("kind") != name:
        raise ValueError(
            f"{where} must be a file of `{name}.save`. Got {path}, of "
            f"{metadata.get('kind', 'another program')}."
        )
    if metadata.get("version") != _VERSION:
        raise ValueError(
            f"{where} must be of version {_VERSION}. Got {metadata.get('version')} in {path}. (Use "
            "a newer tensornet.)"
        )
    try:
        content = json.loads(metadata["content"])
        return content["settings"], _restored(content, tensors, diagonal)
    except (KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{where} must hold a whole model. Got {path} ({error}).") from None


def _restored(content: dict[str, Any], tensors: dict[str, Tensor], diagonal: bool) -> Outcome:
    modes = []
    for k, kernel in enumerate(content["kernels"]):
        precision, shift = tensors[f"{k}.precision"], tensors[f"{k}.shift"]
        mode = Mode(tensors[f"{k}.coordinates"], Matern(**kernel), shift, shift, learn=False)
        mode.set(precision, shift, damping=0.0)
        modes.append(mode)
    nothing = [torch.zeros(0, dtype=torch.long) for _ in modes]
    moments = Moments(nothing, content["ranks"], diagonal)
    empty = tensors["core"].new_zeros(0)
    inference = Inference(moments, modes, empty, 0.0, tuple(content["settings"]["noise_prior"]))
    inference.core.mean, inference.core.covariance = tensors["core"], tensors["core_covariance"]
    inference.shape, inference.rate, inference.offset = content["noise"]
    (shift, scale), bounds = content["values"], tuple(tensors["bounds"].tolist())
    return Outcome(inference, shift, scale, content["converged"], content["message"], bounds)
