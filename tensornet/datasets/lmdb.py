"""Read the LMDB files of PubChemQCR, OC20, OC22 and of ASE: frame by frame, running no code."""

import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tensornet._typing import AnyPath
from tensornet.datasets.pickles import loads

if TYPE_CHECKING:
    import ase

HARTREE = 27.211386245988  # eV, CODATA 2018
BOHR = 0.529177210903  # Å
STAGES = ("DFT_1st", "DFT_2nd")
_RESERVED = (b"length", b"nextid", b"deleted_ids", b"metadata")
_GZIP, _PICKLE = b"\x1f\x8b", b"\x80"


def lmdb_frames(
    path: AnyPath,
    *,
    stages: tuple[str, ...] = STAGES,
) -> "Iterator[ase.Atoms]":
    """Go through the structures of an LMDB file; memory does not grow with the file.

    The kind is seen from the content: gzipped pickles (PubChemQCR: optimisations in several
    stages), pickled PyG graphs (OC20 and OC22; IS2RE files give two structures each, the initial
    and the relaxed one), or compressed JSON (``.aselmdb``). Pickles are read by `pickles.loads`.
    Energies, forces and stress are in ASE's units, on a calculator; what else is known of a frame
    (``sid``, ``fid``, ``cid``, ``stage``, ``step``) is in its ``info``, atoms that were held
    fixed carry a constraint.

    Args:
        path: The file, or a folder with ``data.mdb``.
        stages: Which stages of PubChemQCR to give. By default those of DFT: PM3 and Hartree-Fock
            are other potential energy surfaces.

    Yields:
        The structures.

    Raises:
        ImportError: If the package lmdb is missing.
        UnsafePickleError: If a value is not data.
        ValueError: If the file is no LMDB, or of a kind that is not known.

    References:
        Chanussot et al., Open Catalyst 2020; Tran et al., Open Catalyst 2022; PubChemQCR, on
        huggingface.co/datasets/divelab/PubChemQCR.
    """
    with _opened(path) as values:
        for key, value in values:
            if key in _RESERVED:
                continue
            name = f"{key!r} of {path}"
            if value[:2] == _GZIP:
                yield from _optimisation(key.decode(), loads(gzip.decompress(value)), stages)
            elif value[:1] == _PICKLE:
                yield from _catalyst(loads(value), name)
            else:
                yield _ase_row(value, name)


@contextmanager
def _opened(path: AnyPath) -> Iterator[Iterator[tuple[bytes, bytes]]]:
    try:
        import lmdb
    except ImportError:
        raise ImportError(
            f"Reading {str(path)!r} needs the package lmdb. (pip install lmdb)"
        ) from None
    try:
        environment = lmdb.open(
            str(path), subdir=Path(path).is_dir(), readonly=True, lock=False, readahead=False
        )
    except lmdb.Error as error:
        raise ValueError(f"`read(paths=...)` must name intact files. Got {error}.") from None
    try:
        with environment.begin() as transaction:
            yield iter(transaction.cursor())
    finally:
        environment.close()


def make_frame(
    numbers: Any, positions: Any, energy: Any, forces: Any, info: dict[str, Any], **more: Any
) -> "ase.Atoms":
    """Make a structure with labels on a calculator; without those that are none."""
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    atoms = Atoms(np.asarray(numbers, dtype=int), np.asarray(positions, dtype=float), **more)
    atoms.info.update(info)
    found = {
        "energy": None if energy is None else float(energy),
        "forces": None if forces is None else np.asarray(forces, dtype=float),
    }
    results = {name: value for name, value in found.items() if value is not None}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def _optimisation(
    cid: str, stages: dict[str, Any], wanted: tuple[str, ...]
) -> "Iterator[ase.Atoms]":
    """The steps of PubChemQCR; those whose gradient is missing or of another length are left."""
    from ase.data import atomic_numbers

    for stage in wanted:
        for k, step in enumerate(stages.get(stage) or ()):
            atoms, gradient = step["coordinates"], step["gradient"]
            if not atoms or len(atoms) != len(gradient):
                continue
            numbers = [atomic_numbers[atom["atom"]] for atom in atoms]
            positions = [[atom[x] for x in ("x", "y", "z")] for atom in atoms]
            slope = np.array([[atom[x] for x in ("dx", "dy", "dz")] for atom in gradient])
            info = {"cid": cid, "stage": stage, "step": k}
            energy, forces = HARTREE * step["energy"], -HARTREE / BOHR * slope
            yield make_frame(numbers, positions, energy, forces, info)


def _catalyst(graph: dict[str, Any], name: str) -> "Iterator[ase.Atoms]":
    """A graph of the Open Catalyst project."""
    if "pos" not in graph or "atomic_numbers" not in graph:
        raise ValueError(
            f"`read(paths=...)` must name LMDB files of a known kind. Got {name} with "
            f"{', '.join(sorted(map(str, graph))) or 'nothing'}."
        )
    info: dict[str, Any] = {
        k: _number(graph[k]) for k in ("sid", "fid", "oc22", "nads") if k in graph
    }
    cell = np.asarray(graph["cell"], dtype=float).reshape(3, 3)
    more = {"cell": cell, "pbc": True}
    forces = graph.get("forces", graph.get("force"))
    energy = _number(graph.get("energy", graph.get("y", graph.get("y_init"))))
    frames = [make_frame(graph["atomic_numbers"], graph["pos"], energy, forces, info, **more)]
    if "pos_relaxed" in graph and "y_relaxed" in graph:
        end, numbers = _number(graph["y_relaxed"]), graph["atomic_numbers"]
        frames.append(make_frame(numbers, graph["pos_relaxed"], end, None, info, **more))
        for atoms, which in zip(frames, ("initial", "relaxed"), strict=True):
            atoms.info["is2re"] = which
    for atoms in frames:
        _mark(atoms, graph)
        yield atoms


def _mark(atoms: "ase.Atoms", graph: dict[str, Any]) -> None:
    from ase.constraints import FixAtoms

    if "tags" in graph:
        atoms.set_tags(np.asarray(graph["tags"], dtype=int))
    if "fixed" in graph and (fixed := np.asarray(graph["fixed"], dtype=bool)).any():
        atoms.set_constraint(FixAtoms(mask=fixed))


def _number(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _ase_row(value: bytes, name: str) -> "ase.Atoms":
    """A row of ASE's LMDB database."""
    from ase.db.row import AtomsRow
    from ase.io.jsonio import decode

    try:
        row = decode(zlib.decompress(value).decode(), always_array=False)
        if not isinstance(row, dict) or "numbers" not in row:
            raise KeyError("numbers")
    except (zlib.error, UnicodeDecodeError, json.JSONDecodeError, KeyError):
        raise ValueError(
            f"`read(paths=...)` must name LMDB files of a known kind. Got {name}, which is none of "
            "a pickle, a gzipped pickle and compressed JSON."
        ) from None
    defaults = {"ctime": 0.0, "mtime": 0.0, "user": "", "unique_id": "", "id": 0}
    atoms: ase.Atoms = AtomsRow({**defaults, **row}).toatoms()
    data = row.get("data", {})
    atoms.info.update(decode(data) if isinstance(data, str) else data)
    atoms.info.update(row.get("key_value_pairs", {}))
    return atoms
