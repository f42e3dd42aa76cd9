"""Files of networks: weights in safetensors, and a header that says how to make the network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from tensornet import __version__
from tensornet._files import write_atomically
from tensornet._typing import AnyPath


class ModelFileError(ValueError):
    """A file that is no model file of ours, or a damaged one."""


@dataclass(frozen=True)
class Container:
    """A kind of file.

    Args:
        format: What its header says it is.
        version: The newest version of the format that is known here, and the one written.
        kind: What files of this kind are called, for messages: ``"model file"``.
        where: The public call that reads it, for messages.
    """

    format: str
    version: int
    kind: str
    where: str = "load(path=...)"

    def write(self, path: AnyPath, network: nn.Module, header: Mapping[str, Any]) -> None:
        """Write a file.

        Args:
            path: Its name.
            network: Whose weights.
            header: What else is needed to make the network again, JSON-able.

        Raises:
            OSError: If writing fails; a previous file of this name is then untouched.
        """
        metadata = {
            "format": self.format,
            "format_version": str(self.version),
            "tensornet_version": __version__,
            **{k: v if isinstance(v, str) else json.dumps(v) for k, v in header.items()},
        }
        tensors = {name: x.detach().cpu().contiguous() for name, x in network.state_dict().items()}
        write_atomically(path, to_bytes(tensors, metadata))

    def read(self, path: AnyPath) -> tuple[dict[str, str], dict[str, Tensor]]:
        """Read the header and the weights of a file. No code of the file is run.

        Args:
            path: Its name.

        Returns:
            The header, whose values are text or JSON, and the weights by name, on the CPU.

        Raises:
            FileNotFoundError: If there is no such file.
            ModelFileError: If it is a folder, foreign, truncated, of a newer format, or has a
                weight that is not a finite number.
        """
        path, where = Path(path), self.where
        if path.is_dir():
            raise ModelFileError(
                f"`{where}` must name a {self.kind}. Got the folder {path}. (A training "
                "run writes model.safetensors into its folder.)"
            )
        if not path.is_file():
            raise FileNotFoundError(f"`{where}` must name a {self.kind}. Got {path}: no file.")
        try:
            with safe_open(path, framework="pt", device="cpu") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ModelFileError(
                f"`{where}` must be a whole {self.kind}. Got {path}: {error}. (Truncated, "
                "or of another kind?)"
            ) from None
        if header.get("format") != self.format:
            found = header.get("format", "another program")
            raise ModelFileError(
                f"`{where}` must be a {self.kind}, of the format {self.format}. Got "
                f"{path}, a safetensors file of {found}."
            )
        version = header.get("format_version", "")
        if not version.isdecimal():
            raise ModelFileError(f"`{where}` must say its version. Got {path}, which does not.")
        if int(version) > self.version:
            raise ModelFileError(
                f"`{where}` must have format version {self.version} or older. Got {version} in "
                f"{path}. (Update tensornet.)"
            )
        bad = [name for name, x in tensors.items() if not bool(torch.isfinite(x).all())]
        if bad:
            raise ModelFileError(
                f"`{where}` must hold finite weights. Got NaN or infinite numbers in `{bad[0]}` of "
                f"{path}. (The file is damaged, or the training went wrong.)"
            )
        return header, tensors

    @contextmanager
    def promises(self, path: AnyPath) -> Iterator[None]:
        """Turn errors of the code inside, which makes the network, into errors of the file.

        Args:
            path: Name of the file.

        Raises:
            ModelFileError: Instead of the errors that wrong headers and weights lead to.
        """
        try:
            yield
        except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
            said = " ".join(str(error).split())
            raise ModelFileError(
                f"`{self.where}` must hold the weights its header promises. Got {path}: "
                f"{type(error).__name__} {said[:300]}"
            ) from None
