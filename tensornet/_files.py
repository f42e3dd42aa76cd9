"""Files that are whole or not there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from tensornet._typing import AnyPath


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


def write_tensors(
    where: str, path: AnyPath, tensors: Mapping[str, Tensor], header: Mapping[str, str]
) -> None:
    """Write tensors and a header to a safetensors file, whole or not at all.

    Args:
        where: Name of the public call, for messages.
        path: Where to.
        tensors: By name.
        header: Words by name.

    Raises:
        FileNotFoundError: If the folder does not exist.
        OSError: If it cannot be written to; a previous file of this name is then untouched.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"`{where}(path=...)` must be in a folder that exists. Got {path}.")
    # Copies of their own: safetensors refuses tensors that share memory.
    copies = {
        name: x.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, x in tensors.items()
    }
    write_atomically(path, to_bytes(copies, dict(header)))


def read_tensors(where: str, path: AnyPath) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what `write_tensors` wrote, on the CPU.

    Args:
        where: Name of the public call, for messages.
        path: The file.

    Returns:
        The tensors by name, and the header.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no whole safetensors file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"`{where}(path=...)` must name a file. Got {path}.")
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(
            f"`{where}(path=...)` must be a whole safetensors file. Got {path} ({error})."
        ) from None
