"""Values as users write them in recipes: numbers, paths, and how messages show them."""

from __future__ import annotations

import glob
import math
from pathlib import Path
from typing import Any

LARGEST = 2**31 - 1  # of whole numbers: more are a slip of the finger, and overflow somewhere


def shown(value: Any) -> str:
    """Write a value for a message, cut where it is long.

    Args:
        value: Anything that came from a user.

    Returns:
        Its `repr`, of at most 80 characters.

    Examples:
        >>> shown("a" * 1000)[-5:]
        'a ...'
    """
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of more than 4300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:76]} ..."


def is_energy(value: Any) -> bool:
    """Tell whether a value is a finite number, also one that is written as text.

    Args:
        value: Anything that came from a user.

    Returns:
        Whether `float` makes a finite number of it, and it is not true or false.
    """
    try:
        return not isinstance(value, bool) and math.isfinite(float(value))
    except (OverflowError, TypeError, ValueError):
        return False


def paths_of_value(value: Any, folder: Path) -> tuple[Path, ...]:
    """Read one path or a list of them.

    Args:
        value: A path, a list of paths, or none.
        folder: What relative paths are relative to.

    Returns:
        Absolute paths. Patterns such as ``data/*.xyz`` stay patterns.

    Raises:
        ValueError: If the value is something else, or a path leads nowhere.
    """
    if value is None:
        return ()
    items = [value] if isinstance(value, str | Path) else value
    if not isinstance(items, list | tuple) or not all(isinstance(x, str | Path) for x in items):
        raise ValueError("must be a file or a list of files")
    try:
        return tuple(_absolute(folder, Path(x).expanduser()) for x in items)
    except (OSError, RuntimeError) as error:  # too long, in a circle, of an unknown user
        reason = error.strerror if isinstance(error, OSError) else str(error).rstrip(".")
        raise ValueError(f"must be a path that leads somewhere ({reason})") from None


def path_of_value(value: Any, folder: Path) -> Path | None:
    """Read one path or none, as `paths_of_value` does.

    Args:
        value: A path or none.
        folder: What relative paths are relative to.

    Returns:
        The absolute path.

    Raises:
        ValueError: If the value is something else, or leads nowhere.
    """
    paths = paths_of_value(value, folder)
    if len(paths) > 1:
        raise ValueError("must be one path")
    return paths[0] if paths else None


def _absolute(folder: Path, path: Path) -> Path:
    plain = (folder / path).resolve()
    if not glob.has_magic(str(path)) or plain.exists():
        return plain
    return (Path(glob.escape(str(folder))) / path).resolve()  # the folder is no pattern
