"""Find the files that a user names, and go through the structures in them one by one."""

import glob
import importlib
import io
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from tensornet._typing import AnyPath
from tensornet.datasets.labels import ALIASES, WEIGHT
from tensornet.datasets.pickles import UnsafePickleError

if TYPE_CHECKING:
    import ase

DATABASES = {
    ".lmdb": "tensornet.datasets.lmdb:lmdb_frames",
    ".aselmdb": "tensornet.datasets.lmdb:lmdb_frames",
    ".npz": "tensornet.datasets.arrays:npz_frames",
    ".h5": "tensornet.datasets.arrays:hdf5_frames",
    ".hdf5": "tensornet.datasets.arrays:hdf5_frames",
}
COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".xz": "lzma"}
# In the second line of a frame of extended XYZ: what must stand there at most once, and patterns.
ONCE = {
    "lattice",
    "properties",
    "pbc",
    WEIGHT,
    *(name for names in ALIASES.values() for name in names),
}
QUOTED, KEY = re.compile(r'"[^"]*"|\[[^]]*\]|\{[^}]*\}'), re.compile(r"(?:^|\s)(\w+)\s*=")


def list_files(paths: AnyPath | Sequence[AnyPath]) -> list[tuple[str, str]]:
    """Find files, each once, and the frames that are wanted of them.

    Args:
        paths: As `tensornet.datasets.read` takes them.

    Returns:
        Pairs of a path and an index in ASE's form, ``:`` for all frames.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the list is empty.
    """
    listed = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not listed:
        raise ValueError("`read(paths=...)` must name at least one file. Got an empty list.")
    files: dict[tuple[str, str], None] = {}  # keeps the order, drops what is named twice
    for item in listed:
        path, index = os.fspath(item), ":"
        if not os.path.exists(path) and re.search(r"@[-\d:]+$", path):
            path, _, index = path.rpartition("@")
        if os.path.exists(path):
            matches = [path]
        elif glob.has_magic(path):
            matches = sorted(glob.glob(path, recursive=True))
        else:
            matches = []
        if not matches:
            raise FileNotFoundError(
                f"`read(paths=...)` must name existing files. Got {path!r} in the folder "
                f"{os.getcwd()!r}: there is no such file."
            )
        files.update(((os.path.normpath(match), index), None) for match in matches)
    return list(files)


def frames_of(path: str, index: str = ":") -> "Iterator[ase.Atoms]":
    """Go through the structures of a file, labels on them as ASE or our readers put them.

    All frames of extended XYZ (compressed or not), LMDB and HDF5, and what ASE reads frame by
    frame, are read one by one: memory does not grow with the file.

    Args:
        path: An existing file.
        index: Which frames, as ASE says it.

    Yields:
        The structures.

    Raises:
        ImportError: If a package is missing.
        ValueError: If the file is empty, damaged or of an unknown kind, or has no such frames.
    """
    database = Path(path).suffix in DATABASES
    _must_hold_something(path, database)
    reading = partial(_reading_database, path) if database else partial(_reading, path, index)
    found = False
    with reading():
        frames = _of_database(path, index) if database else _of_ase(path, index)
    while True:
        with reading():
            atoms = next(frames, None)
        if atoms is None:
            break
        found = True
        yield atoms
    if not found and index != ":":
        raise ValueError(
            f"`read(paths=...)` must name frames that exist. Got {index!r} of {path!r}."
        )
    if not found:
        raise ValueError(
            f"`read(paths=...)` must name files with structures. Got {path!r}: it holds none."
        )


def _must_hold_something(path: str, database: bool) -> None:
    if os.path.isdir(path) and not database:  # a folder may be a database
        raise ValueError(
            f"`read(paths=...)` must name files. Got the folder {path!r}. "
            f"(Write {Path(path, '*.xyz').as_posix()!r}, or the files' names.)"
        )
    if os.path.getsize(path) == 0:
        raise ValueError(
            f"`read(paths=...)` must name files with content. Got {path!r}: it is empty."
        )


def _of_database(path: str, index: str) -> "Iterator[ase.Atoms]":
    from ase.utils import string2index

    module, function = DATABASES[Path(path).suffix].split(":")
    frames: Iterator[ase.Atoms] = getattr(importlib.import_module(module), function)(path)
    wanted = string2index(index)
    if isinstance(wanted, int):
        wanted = slice(wanted, wanted + 1 or None)
    if not isinstance(wanted, slice):
        raise ValueError(f"{index!r} is no index of frames")
    if any(x is not None and x < 0 for x in (wanted.start, wanted.stop, wanted.step)):
        return iter(list(frames)[wanted])
    return islice(frames, wanted.start, wanted.stop, wanted.step)


def _of_ase(path: str, index: str) -> "Iterator[ase.Atoms]":
    from ase.io import iread
    from ase.io import read as ase_read
    from ase.io.formats import filetype

    if index == ":" and filetype(path) == "extxyz":
        return _xyz_frames(path)
    file, kind = _unpacked(path)
    if index == ":":
        return iter(iread(file, index, format=kind))
    frames = ase_read(file, index, format=kind)
    return iter(frames if isinstance(frames, list) else [frames])


def _xyz_frames(path: str) -> "Iterator[ase.Atoms]":
    """Frames of extended XYZ in one pass; ASE's reader first makes a list of where they begin.

    It also ends at the first empty line, and takes the last of two values of one key. Here empty
    lines between frames are passed over, and a label that is given twice is an error.
    """
    from ase.io.extxyz import read_xyz

    module = COMPRESSIONS.get(Path(path).suffix)
    opening = importlib.import_module(module).open if module else open
    with opening(path, "rt", encoding="utf-8-sig") as file:
        line = file.readline()
        while line:
            if not line.strip():
                line = file.readline()
                continue
            lines = [line, *islice(file, int(line) + 1)]
            line = file.readline()
            while line.lstrip().startswith("VEC"):
                lines.append(line)
                line = file.readline()
            _no_key_twice("".join(lines[1:2]))
            yield from read_xyz(io.StringIO("".join(lines)), 0)


def _no_key_twice(comment: str) -> None:
    """Check the second line of a frame of extended XYZ, where it says something that counts."""
    keys = [key for key in KEY.findall(QUOTED.sub("", comment)) if key.lower() in ONCE]
    if len(keys) > len(set(keys)):
        twice = next(key for k, key in enumerate(keys) if key in keys[:k])
        raise ValueError(f"`{twice}` is given twice in {comment.strip()[:60]!r}")


@contextmanager
def _reading(path: str, index: str) -> Iterator[None]:
    """Say what is wrong with a file; ASE's readers raise anything, and warn of anything."""
    from ase.io.formats import UnknownFileTypeError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UnknownFileTypeError:
        raise ValueError(
            f"`read(paths=...)` must name files in a format that ASE knows. Got {path!r}, whose "
            "format was not recognised. (Give it the usual ending, .extxyz for extended XYZ.)"
        ) from None
    except ImportError as error:
        raise ImportError(f"Reading {path!r} needs a package that is missing: {error}") from None
    except (StopIteration, IndexError):
        raise ValueError(
            f"`read(paths=...)` must name frames that exist. Got {index!r} of {path!r}."
        ) from None
    except OSError as error:
        raise ValueError(
            f"`read(paths=...)` must name readable files. Got {path!r}: {error}."
        ) from None
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"`read(paths=...)` must name intact files. Got {path!r}, which ASE cannot read: "
            f"{reason} ({type(error).__name__})."
        ) from None


@contextmanager
def _reading_database(path: str) -> Iterator[None]:
    """Name the file in what our readers say of it; what is damaged may raise anything in them."""
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        if isinstance(error, ValueError) and path in str(error):
            raise
        reason = " ".join(str(error).split()) or "no reason given"
        kind = UnsafePickleError if isinstance(error, UnsafePickleError) else ValueError
        raise kind(
            f"`read(paths=...)` must name intact files. Got {path!r}: {reason} "
            f"({type(error).__name__})."
        ) from None


def _unpacked(path: str) -> tuple[str | io.StringIO | io.BytesIO, str | None]:
    """Unpack a compressed file into memory, once: ASE's readers seek, and unpack at each step.

    Args:
        path: Name of a file.

    Returns:
        What to give to ASE, and the name of its format; the path and None if it is not compressed.
    """
    from ase.io.formats import filetype, ioformats

    module = COMPRESSIONS.get(Path(path).suffix)
    if module is None:
        return path, None
    name: str = filetype(path)
    kind = ioformats[name]
    if not kind.acceptsfd:
        return path, None
    with importlib.import_module(module).open(path, "rb") as file:
        content: bytes = file.read()
    if kind.isbinary:
        return io.BytesIO(content), name
    text = io.StringIO(content.decode(kind.encoding or "utf-8"), newline=None)
    text.name = path  # ASE's reader of OUTCAR files looks for others beside it
    return text, name
