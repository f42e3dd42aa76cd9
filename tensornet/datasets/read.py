"""Read structures and labels from every file that ASE reads, and say what was found."""

import glob
import importlib
import io
import os
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tensornet._typing import AnyPath
from tensornet.datasets.labels import LABELS, LabelError, LabelKeys, Labels, extract, search
from tensornet.datasets.summary import found_in, summarise

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


@dataclass(frozen=True, eq=False)
class Frames:
    """Structures with their labels.

    Args:
        structures: The structures, without calculators; isolated atoms are not among them.
        labels: The labels of each structure.
        isolated: Energy of the isolated atom, by atomic number, eV.
        summary: What was read from each file, as a table to show.
        found: Every key in the files, for messages about labels that are not there.
        names: For each structure, its frame and file, for messages.
    """

    structures: "tuple[ase.Atoms, ...]"
    labels: tuple[Labels, ...]
    isolated: dict[int, float]
    summary: str = ""
    found: str = ""
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.structures) != len(self.labels):
            raise ValueError(
                "`Frames(labels=...)` must have one entry for each structure. Got "
                f"{len(self.labels)} for {len(self.structures)} structures."
            )
        if not self.names:
            numbered = tuple(f"structure {k} (counted from 0)" for k in range(len(self)))
            object.__setattr__(self, "names", numbered)

    def __len__(self) -> int:
        return len(self.structures)

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers in the structures, sorted."""
        return tuple(sorted({int(z) for atoms in self.structures for z in set(atoms.numbers)}))

    def subset(self, indices: Iterable[int]) -> "Frames":
        """Take some of the structures; isolated atoms stay."""
        chosen = list(indices)
        return Frames(
            tuple(self.structures[k] for k in chosen),
            tuple(self.labels[k] for k in chosen),
            self.isolated,
            self.summary,
            self.found,
            tuple(self.names[k] for k in chosen),
        )

    def require(self, *labels: str) -> None:
        """Check that each label is on at least one structure.

        Args:
            labels: Any of ``energy``, ``forces``, ``stress``.

        Raises:
            LabelError: If no structure has the label; it lists what the files hold.
        """
        for label in labels:
            if label not in LABELS:
                raise ValueError(f"`require(labels=...)` must be among {LABELS}. Got {label!r}.")
            if all(getattr(frame, label) is None for frame in self.labels):
                raise LabelError(
                    f"The data must have {label} labels. Got none in {len(self)} structures. "
                    f"{self.found}\n{_recipe_line(label)}, or do not ask for the {label}.)"
                )


def read(
    paths: AnyPath | Sequence[AnyPath],
    *,
    keys: LabelKeys | None = None,
) -> Frames:
    """Read structures and their energies, forces and stresses.

    Every format that ASE reads is read, compressed (``.gz``, ``.bz2``, ``.xz``) or not; besides
    LMDB files of PubChemQCR, OC20, OC22 and ASE (``.lmdb``, ``.aselmdb``), npz of MD17 and rMD17,
    and HDF5 of SPICE and of MACE, all without running code that came with a file. Labels
    are found in ASE's calculator, in ``info`` and in ``arrays``, under the usual names in any
    case (``energy``, ``REF_energy``, ``dft_energy``, ``total_energy``, ...). A virial (eV)
    becomes a stress, minus the virial over the volume. ``energy`` goes before
    ``free_energy``. Units are ASE's: Å, eV, eV/Å, eV/Å³, tension positive.

    Frames of one atom, with an energy, that are not periodic or have the ``config_type``
    ``isolated_atom`` become reference energies.

    Args:
        paths: Files; patterns such as ``data/*.xyz`` and ASE's ``file.xyz@0:100`` are allowed.
        keys: Keys of the labels, where the usual names do not do.

    Returns:
        The structures in the order of the files, with a summary to show.

    Raises:
        FileNotFoundError: If there is no such file.
        LabelError: If a label is not a finite number of the right shape, if it is ambiguous, or
            if a key in `keys` does not exist.
        ValueError: If a file cannot be read, holds no structure, or if isolated atoms of one
            element have different energies.
    """
    keys = LabelKeys() if keys is None else keys
    structures: list[ase.Atoms] = []
    labels: list[Labels] = []
    isolated: dict[int, tuple[float, str]] = {}
    summaries, found, kept = [], [], []
    everything: list[ase.Atoms] = []
    for path, index in _files(paths):
        frames = _read_file(path, index)
        everything += frames
        names = [f"frame {k} (counted from 0) of {path}" for k in range(len(frames))]
        _check_frames(frames, names)
        extracted = [
            extract(atoms, keys=keys, where=name) for atoms, name in zip(frames, names, strict=True)
        ]
        lone = [_is_isolated(a, b) for a, b in zip(frames, extracted, strict=True)]
        summaries.append(summarise(path, frames, extracted, lone))
        found.append(found_in(path, frames))
        for atoms, label, alone, name in zip(frames, extracted, lone, names, strict=True):
            if alone and label.energy is not None:
                _keep_isolated(isolated, atoms, label.energy, name)
            else:
                structures.append(atoms)
                labels.append(label)
                kept.append(name)
    _check_keys(keys, everything, "\n".join(found))
    for atoms in structures:
        atoms.calc = None
    return Frames(
        tuple(structures),
        tuple(labels),
        {z: energy for z, (energy, _) in sorted(isolated.items())},
        "\n".join(summaries),
        "\n".join(found),
        tuple(kept),
    )


def _files(paths: AnyPath | Sequence[AnyPath]) -> list[tuple[str, str]]:
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


def _read_file(path: str, index: str) -> "list[ase.Atoms]":
    if Path(path).suffix in DATABASES:
        return _read_database(path, index)
    return _read_with_ase(path, index)


def _read_database(path: str, index: str) -> "list[ase.Atoms]":
    from ase.utils import string2index

    module, function = DATABASES[Path(path).suffix].split(":")
    frames = list(getattr(importlib.import_module(module), function)(path))
    wanted = string2index(index)
    if isinstance(wanted, int):
        wanted = slice(wanted, wanted + 1 or None)
    assert isinstance(wanted, slice)  # names are of ASE's own databases
    frames = frames[wanted]
    if not frames:
        raise ValueError(
            f"`read(paths=...)` must name frames that exist. Got {index!r} of {path!r}."
        )
    return frames


def _read_with_ase(path: str, index: str) -> "list[ase.Atoms]":
    from ase.io import read as ase_read
    from ase.io.formats import UnknownFileTypeError

    if os.path.isdir(path):
        raise ValueError(
            f"`read(paths=...)` must name files. Got the folder {path!r}. "
            f"(Write {Path(path, '*.xyz').as_posix()!r}, or the files' names.)"
        )
    if os.path.getsize(path) == 0:
        raise ValueError(
            f"`read(paths=...)` must name files with content. Got {path!r}: it is empty."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file, kind = _unpacked(path)
            frames = ase_read(file, index, format=kind)
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
    except Exception as error:  # ASE's readers raise anything on a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"`read(paths=...)` must name intact files. Got {path!r}, which ASE cannot read: "
            f"{reason} ({type(error).__name__})."
        ) from None
    frames = frames if isinstance(frames, list) else [frames]
    if not frames:
        raise ValueError(
            f"`read(paths=...)` must name files with structures. Got {path!r}: it holds none."
        )
    return frames


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
    return io.StringIO(content.decode(kind.encoding or "utf-8"), newline=None), name


def _check_frames(frames: "list[ase.Atoms]", names: list[str]) -> None:
    for atoms, name in zip(frames, names, strict=True):
        if len(atoms) == 0:
            raise ValueError(
                f"`read(paths=...)` must name files of structures. Got no atom in {name}."
            )
        if atoms.numbers.min() < 1:
            raise ValueError(
                "`read(paths=...)` must name files of chemical elements. Got "
                f"{atoms.symbols[int(atoms.numbers.argmin())]!r} for atom "
                f"{int(atoms.numbers.argmin())} in {name}. (Remove the frame, or name the element.)"
            )
        if not np.isfinite(atoms.positions).all() or not np.isfinite(atoms.cell.array).all():
            raise ValueError(
                "`read(paths=...)` must name files with finite positions and cells. Got NaN or "
                f"infinite values in {name}. (Remove the frame.)"
            )


def _is_isolated(atoms: "ase.Atoms", labels: Labels) -> bool:
    named = re.sub(r"[\W_]", "", str(atoms.info.get("config_type", ""))).lower()
    lone = not atoms.pbc.any() or named == "isolatedatom"
    return len(atoms) == 1 and labels.energy is not None and lone


def _keep_isolated(
    isolated: dict[int, tuple[float, str]], atoms: "ase.Atoms", energy: float, where: str
) -> None:
    z = int(atoms.numbers[0])
    if z in isolated and abs(isolated[z][0] - energy) > 1e-3:
        raise ValueError(
            f"The isolated atoms of {atoms.symbols[0]} must have one energy. Got "
            f"{isolated[z][0]} eV in {isolated[z][1]} and {energy} eV in {where}. (Keep one.)"
        )
    isolated.setdefault(z, (energy, where))


def _check_keys(keys: LabelKeys, frames: "list[ase.Atoms]", found: str) -> None:
    for label in ("energy", "forces", "stress", "virial"):
        chosen = getattr(keys, label)
        if chosen is None:
            continue
        if not any(search(atoms, label, chosen) for atoms in frames):
            raise LabelError(
                f"`read(keys=...)` must name keys that are in the data. Got {label}: {chosen!r}, "
                f"which is in none of {len(frames)} frames. {found}\n{_recipe_line(label)}.)"
            )


def _recipe_line(label: str) -> str:
    return (
        f"(Name the key: data: {{keys: {{{label}: my_key}}}} in a recipe, "
        f'LabelKeys({label}="my_key") in Python'
    )
