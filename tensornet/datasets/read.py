"""Read structures and labels from every file that ASE reads, and say what was found."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tensornet._typing import AnyPath
from tensornet.datasets.labels import (
    LABELS,
    LARGEST,
    LabelError,
    LabelKeys,
    Labels,
    extract,
    search,
)
from tensornet.datasets.sources import frames_of, list_files
from tensornet.datasets.summary import Summary

if TYPE_CHECKING:
    import ase


GROUP_KEYS = ("config_type", "group")
ELEMENTS = 118
VALUES = ("energy", "forces", "stress", "virial")


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

    @property
    def n_atoms(self) -> int:
        """Number of atoms in all structures."""
        return sum(map(len, self.structures))

    @property
    def n_labels(self) -> dict[str, int]:
        """How many structures have each label, and under ``periodic`` could have a stress."""
        counts = {k: sum(getattr(one, k) is not None for one in self.labels) for k in LABELS}
        return {**counts, "periodic": sum(bool(atoms.pbc.all()) for atoms in self.structures)}

    @property
    def groups(self) -> set[str]:
        """Names of the groups that structures belong to."""
        return {name for atoms in self.structures if (name := group_of(atoms)) is not None}

    def compositions(
        self, elements: tuple[int, ...]
    ) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Give what energies are of.

        Args:
            elements: Atomic numbers.

        Yields:
            In parts, how many atoms of each element a structure has (s, k), and its energy (s,),
            eV, for the structures with an energy.
        """
        pairs = [
            ([(atoms.numbers == z).sum() for z in elements], one.energy)
            for atoms, one in zip(self.structures, self.labels, strict=True)
            if one.energy is not None
        ]
        if pairs:
            yield np.array([n for n, _ in pairs], float), np.array([e for _, e in pairs])

    def subset(self, indices: Iterable[int]) -> "Frames":
        """Take some of the structures; isolated atoms stay.

        Args:
            indices: Which structures, in the order they shall have.

        Returns:
            Structures, labels and names at these places; the summary is that of all.
        """
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
            ValueError: If a label is none of these.
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
    free_atoms: bool = False,
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
        free_atoms: Leave the forces on atoms out that a constraint `FixAtoms` held: NaN there. The
            Open Catalyst project neither trains on them nor counts them in errors.

    Returns:
        The structures in the order of the files, with a summary to show.

    Raises:
        FileNotFoundError: If there is no such file.
        LabelError: If a label is not a finite number of the right shape, if it is ambiguous, or
            if a key in `keys` does not exist.
        ValueError: If a file cannot be read, holds no structure, or if isolated atoms of one
            element have different energies.
    """
    reader = Reader(paths, keys=keys, free_atoms=free_atoms)
    frames = list(reader)
    return Frames(
        tuple(atoms for atoms, _, _ in frames),
        tuple(labels for _, labels, _ in frames),
        reader.isolated,
        reader.summary,
        reader.found,
        tuple(name for _, _, name in frames),
    )


class Reader:
    """Read files frame by frame: memory does not grow with them.

    Iteration gives what `read` gives, as a structure, its labels and its name. What is known only
    in the end stands in the attributes then: `isolated`, `summary` and `found`, as in `Frames`.

    Args:
        paths: As in `read`.
        keys: As in `read`.
        free_atoms: As in `read`.

    Raises:
        FileNotFoundError: If there is no such file. What else `read` raises comes on the way.
    """

    def __init__(
        self,
        paths: AnyPath | Sequence[AnyPath],
        *,
        keys: LabelKeys | None = None,
        free_atoms: bool = False,
    ) -> None:
        self.free_atoms = free_atoms
        self.keys = LabelKeys() if keys is None else keys
        self.files = list_files(paths)
        self.isolated: dict[int, float] = {}
        self.summary = ""
        self.found = ""

    def __iter__(self) -> "Iterator[tuple[ase.Atoms, Labels, str]]":
        isolated: dict[int, tuple[float, str]] = {}
        summaries = [Summary(path) for path, _ in self.files]
        wanted = {k for k in VALUES if getattr(self.keys, k) is not None}
        unseen = set(wanted)
        for (path, index), summary in zip(self.files, summaries, strict=True):
            for k, atoms in enumerate(frames_of(path, index)):
                name = f"frame {k} (counted from 0) of {path}"
                _check_frame(atoms, name)
                labels = extract(atoms, keys=self.keys, where=name)
                alone = _is_isolated(atoms, labels)
                summary.add(atoms, labels, alone)
                unseen -= {key for key in unseen if search(atoms, key, getattr(self.keys, key))}
                atoms.calc = None
                if self.free_atoms:
                    labels = _of_free_atoms(atoms, labels)
                if alone and labels.energy is not None:
                    _keep_isolated(isolated, atoms, labels.energy, name)
                else:
                    yield atoms, labels, name
        self.found = "\n".join(summary.found() for summary in summaries)
        self.summary = "\n".join(summary.text() for summary in summaries)
        self.isolated = {z: energy for z, (energy, _) in sorted(isolated.items())}
        for label in (k for k in VALUES if k in unseen):
            n = sum(summary.n_frames for summary in summaries)
            raise LabelError(
                f"`read(keys=...)` must name keys that are in the data. Got {label}: "
                f"{getattr(self.keys, label)!r}, which is in none of {n} frames. {self.found}\n"
                f"{_recipe_line(label)}.)"
            )


def _check_frame(atoms: "ase.Atoms", name: str) -> None:
    if len(atoms) == 0:
        raise ValueError(f"`read(paths=...)` must name files of structures. Got no atom in {name}.")
    foreign = np.flatnonzero((atoms.numbers < 1) | (atoms.numbers > ELEMENTS))
    if len(foreign):
        z, first = int(atoms.numbers[foreign[0]]), int(foreign[0])
        raise ValueError(
            "`read(paths=...)` must name files of chemical elements. Got "
            f"{repr('X') if z == 0 else f'atomic number {z}'} for atom {first} in {name}. (Remove "
            "the frame, or name the element.)"
        )
    # NaN is not below.
    if not all((np.abs(x) < LARGEST).all() for x in (atoms.positions, atoms.cell.array)):
        raise ValueError(
            "`read(paths=...)` must name files with finite positions and cells. Got NaN, infinite "
            f"or immense values in {name}. (Remove the frame.)"
        )


def _of_free_atoms(atoms: "ase.Atoms", labels: Labels) -> Labels:
    from ase.constraints import FixAtoms

    held = [c.index for c in atoms.constraints if isinstance(c, FixAtoms)]
    if labels.forces is None or not held:
        return labels
    forces = labels.forces.copy()
    forces[np.concatenate(held)] = np.nan
    return replace(labels, forces=None if np.isnan(forces).all() else forces)


def group_of(atoms: "ase.Atoms") -> str | None:
    """Give the ``config_type`` or ``group`` of a structure, if it has one."""
    for key in GROUP_KEYS:
        if key in atoms.info:
            return str(atoms.info[key])
    return None


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


def _recipe_line(label: str) -> str:
    return (
        f"(Name the key: data: {{keys: {{{label}: my_key}}}} in a recipe, "
        f'LabelKeys({label}="my_key") in Python'
    )
