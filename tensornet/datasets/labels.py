"""Find the energy, forces and stress of a structure, wherever they were put.

ASE moves some columns of a file into a calculator and leaves others in ``info`` or ``arrays``,
depending on their spelling and on its version. All three places are searched here, under the
names in use; what was taken is recorded, and what is ambiguous is an error.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import ase

Array = NDArray[np.float64]

LABELS = ("energy", "forces", "stress")
PREFIXES = ("", "ref_", "dft_", "qm_")
ALIASES: Mapping[str, tuple[str, ...]] = {
    "energy": (*(p + "energy" for p in PREFIXES), "total_energy", "potential_energy"),
    "forces": tuple(p + name for p in PREFIXES for name in ("forces", "force")),
    "stress": tuple(p + "stress" for p in PREFIXES),
    "virial": tuple(p + name for p in PREFIXES for name in ("virial", "virials")),
}
WEIGHT = "config_weight"  # in ``info``
PLACES = ("calculator", "info", "arrays")
LARGEST = 1e100  # in the unit of the label; squares of more may overflow
SAME = {"energy": 1e-4, "forces": 1e-4, "stress": 1e-5}  # in the unit of the label
FROM_VIRIAL = " (-virial/volume)"
VOIGT = ([0, 5, 4], [5, 1, 3], [4, 3, 2])  # positions of xx yy zz yz xz xy in the matrix


class LabelError(ValueError):
    """A label is missing, ambiguous, or not a label."""


@dataclass(frozen=True)
class LabelKeys:
    """Say under which key each label is, where the usual names do not do.

    ``None`` searches the usual names. A key is looked up in the calculator's results, in
    ``info`` and in ``arrays``; write ``info/energy`` to look in one place only.

    Args:
        energy: Key of the total energy, eV.
        forces: Key of the forces, eV/Å.
        stress: Key of the stress, eV/Å³, positive under tension.
        virial: Key of the virial, eV; the stress is minus the virial over the volume.
    """

    energy: str | None = None
    forces: str | None = None
    stress: str | None = None
    virial: str | None = None


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of one structure; ``None`` where there is none.

    Args:
        energy: Total energy, eV.
        forces: Forces ``(n, 3)``, eV/Å.
        stress: Stress ``(3, 3)``, eV/Å³, positive under tension.
        source: For each label that is there, the place and key it was taken from.
        notes: What the reader should know: names that were passed over, conversions made.
        weight: What errors of the structure are multiplied by in a loss; from ``config_weight``.
    """

    energy: float | None = None
    forces: Array | None = None
    stress: Array | None = None
    source: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    weight: float = 1.0


class Hit(NamedTuple):
    """A value that could be a label."""

    source: str
    value: Array


def items(atoms: "ase.Atoms") -> Iterator[tuple[str, str, Any]]:
    """List everything attached to a structure, as place, key and value."""
    results = getattr(atoms.calc, "results", None) or {}
    stores = (results, atoms.info, atoms.arrays)
    for place, store in zip(PLACES, stores, strict=True):
        for key, value in store.items():
            if value is not None and key not in ("numbers", "positions"):
                yield place, str(key), value


def extract(
    atoms: "ase.Atoms",
    *,
    keys: LabelKeys,
    where: str,
) -> Labels:
    """Find the labels of a structure.

    Args:
        atoms: The structure, as ASE read it.
        keys: Keys to use instead of the usual names.
        where: Name of the frame for messages, such as ``frame 3 of train.xyz``.

    Returns:
        The labels, and where they were found.

    Raises:
        LabelError: If a label is not made of finite numbers (below 1e100) of the right shape, or
            if several keys hold different values and none was chosen.
    """
    source: dict[str, str] = {}
    notes: list[str] = []
    found: dict[str, Array] = {}
    for label in LABELS:
        if label == "stress":
            hits = _stresses(atoms, keys, where, notes)
        else:
            chosen = getattr(keys, label)
            shape = () if label == "energy" else (len(atoms), 3)
            hits = [
                Hit(s, _number(v, shape, label, s, where)) for s, v in search(atoms, label, chosen)
            ]
            if label == "energy" and chosen is None:
                hits = _without_free_energy(atoms, hits, where, notes)
        if hits:
            _finite(atoms, label, hits[0], where)
            _agree(label, hits, where)
            found[label], source[label] = hits[0].value, hits[0].source
    energy = found.get("energy")
    return Labels(
        energy=None if energy is None else float(energy),
        forces=found.get("forces"),
        stress=found.get("stress"),
        source=source,
        weight=_weight(atoms, where, notes),
        notes=tuple(notes),
    )


def _weight(atoms: "ase.Atoms", where: str, notes: list[str]) -> float:
    if WEIGHT not in atoms.info:
        return 1.0
    value = float(_number(atoms.info[WEIGHT], (), WEIGHT, f"info {WEIGHT}", where))
    if not 0 <= value < np.inf:
        raise LabelError(
            f"The {WEIGHT} of {where} must be a finite number, not negative. Got {value}."
        )
    notes.append(f"errors are weighted by info {WEIGHT}")
    return value


def search(
    atoms: "ase.Atoms",
    label: str,
    chosen: str | None = None,
) -> list[tuple[str, Any]]:
    """Find what could be a label: pairs of a source, such as ``info REF_energy``, and a value.

    Args:
        atoms: The structure, as ASE read it.
        label: One of ``energy``, ``forces``, ``stress``, ``virial``.
        chosen: The key to look for instead of the usual names.

    Returns:
        The candidates, the one to prefer first.
    """
    # Columns called energy or virial hold values per atom, which are something else.
    places = PLACES if label == "forces" else PLACES[:2]
    if chosen is None:
        return _named(atoms, places, ALIASES[label])
    place, _, key = chosen.partition("/")
    if key and place in PLACES:
        return _named(atoms, (place,), (key,))
    return _named(atoms, places, (chosen,)) or _named(atoms, PLACES, (chosen,))


def _named(
    atoms: "ase.Atoms", places: tuple[str, ...], names: tuple[str, ...]
) -> list[tuple[str, Any]]:
    if len(names) == 1:
        exact = [(f"{p} {k}", v) for p, k, v in items(atoms) if p in places and k == names[0]]
        if exact:
            return exact
    lower = [name.lower() for name in names]
    hits = [(p, k, v) for p, k, v in items(atoms) if p in places and k.lower() in lower]
    hits.sort(key=lambda hit: (lower.index(hit[1].lower()), places.index(hit[0])))
    return [(f"{place} {key}", value) for place, key, value in hits]


def _without_free_energy(
    atoms: "ase.Atoms", hits: list[Hit], where: str, notes: list[str]
) -> list[Hit]:
    free = [
        Hit(f"{p} {k}", _number(v, (), "energy", f"{p} {k}", where))
        for p, k, v in items(atoms)
        if p != "arrays" and k.lower() == "free_energy"
    ]
    if not hits and free:
        notes.append("energy is `free_energy`, no other energy was found")
        return free[:1]
    if hits and free and not abs(hits[0].value - free[0].value) <= SAME["energy"]:
        notes.append(
            "`free_energy` differs from the energy and is not used "
            "(data: {keys: {energy: free_energy}} uses it)"
        )
    return hits


def _stresses(atoms: "ase.Atoms", keys: LabelKeys, where: str, notes: list[str]) -> list[Hit]:
    automatic = keys.stress is None and keys.virial is None
    stresses, virials = (
        [
            Hit(s, _matrix(v, name, s, where, notes))
            for s, v in search(atoms, name, getattr(keys, name))
        ]
        if automatic or getattr(keys, name) is not None
        else []
        for name in ("stress", "virial")
    )
    if not stresses and not virials:
        return []
    if not atoms.pbc.all():
        notes.append("stress is not used where a direction is not periodic")
        return []
    volume = abs(float(np.linalg.det(atoms.cell.array)))
    if volume == 0:
        notes.append("stress is not used where the cell has no volume")
        return []
    if virials and not stresses:
        notes.append("stress = -virial / volume")
    return stresses + [Hit(hit.source + FROM_VIRIAL, -hit.value / volume) for hit in virials]


def _number(value: Any, shape: tuple[int, ...], label: str, source: str, where: str) -> Array:
    array = _floats(value)
    if array is None:
        text = repr(value)
        raise LabelError(
            f"The {label} of {where} must be made of numbers. Got "
            f"{text if len(text) < 60 else text[:60] + ' ...'} (from {source})."
        )
    if not shape and array.size == 1:
        return array.reshape(())
    if array.shape != shape:
        raise LabelError(
            f"The {label} of {where} must have shape {shape}. Got {array.shape} (from {source})."
        )
    return array


def _floats(value: Any) -> Array | None:
    """Numbers, also written as text; nothing for what is none: true is not 1."""
    try:
        array = np.array(value, dtype=np.float64)
    except (OverflowError, TypeError, ValueError):
        return None
    return None if np.asarray(value).dtype.kind in "bc" else array


def _matrix(value: Any, label: str, source: str, where: str, notes: list[str]) -> Array:
    found = _floats(value)
    array = np.empty(0) if found is None else found
    if array.size == 9:
        array = array.reshape(3, 3)
        asymmetry = np.abs(array - array.T).max()
        if asymmetry > 1e-4 * np.abs(array).max():
            notes.append(f"{label} is not symmetric; its symmetric part is used")
        return (array + array.T) / 2
    if array.shape == (6,):
        return np.asarray(array[np.array(VOIGT)])
    raise LabelError(
        f"The {label} of {where} must be 3 x 3 numbers, 9 numbers, or 6 in the order xx, yy, zz, "
        f"yz, xz, xy. Got {str(value)[:60]} (from {source})."
    )


def _finite(atoms: "ase.Atoms", label: str, hit: Hit, where: str) -> None:
    good = np.abs(hit.value) < LARGEST  # neither are NaN
    if good.all():
        return
    if label == "forces":
        k = int(np.flatnonzero(~good.all(axis=1))[0])
        what, got = f"The forces on atom {k} ({atoms.symbols[k]})", hit.value[k].tolist()
    else:
        what, got = f"The {label}", hit.value.tolist()
    raise LabelError(
        f"{what} in {where} must be finite, and below {LARGEST:g}. Got {got} (from {hit.source}). "
        "(Remove the frame, or the label if there is none.)"
    )


def _agree(label: str, hits: list[Hit], where: str) -> None:
    first = hits[0]
    for other in hits[1:]:
        difference = float(np.abs(first.value - other.value).max())
        tolerance = SAME[label]
        if label == "stress":  # virials are often written with few digits
            tolerance += 1e-4 * float(np.abs(first.value).max())
        if not difference <= tolerance:
            unit = {"energy": "eV", "forces": "eV/Å", "stress": "eV/Å³"}[label]
            place, _, key = first.source.removesuffix(FROM_VIRIAL).partition(" ")
            name = "virial" if first.source.endswith(FROM_VIRIAL) else label
            raise LabelError(
                f"The {label} of {where} must be unambiguous. Got different values (by up to "
                f"{difference:.3g} {unit}) from {first.source} and {other.source}. (Choose one: "
                f"data: {{keys: {{{name}: {place}/{key}}}}}, in Python "
                f'LabelKeys({name}="{place}/{key}").)'
            )
