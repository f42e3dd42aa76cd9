"""Files that are whole or not there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

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
