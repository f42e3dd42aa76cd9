"""Read data sets that come as arrays: NumPy's npz of MD17 and rMD17, HDF5 of MACE and of SPICE."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tensornet._typing import AnyPath
from tensornet.datasets.lmdb import BOHR, HARTREE, make_frame

if TYPE_CHECKING:
    import ase

KCAL_PER_MOL = 4184 / 96485.33212331001  # eV; the Faraday constant is exact since 2019
# Names of species, positions, energies and forces.
_NPZ = (
    ("nuclear_charges", "coords", "energies", "forces"),  # rMD17
    ("z", "R", "E", "F"),  # MD17
)
_SPICE = ("atomic_numbers", "conformations", "dft_total_energy", "dft_total_gradient")
_MACE = ("atomic_numbers", "positions", "properties")


def npz_frames(path: AnyPath) -> "Iterator[ase.Atoms]":
    """Go through the structures of an npz file of MD17 or rMD17 (kcal/mol, Å).

    Args:
        path: The file.

    Yields:
        The structures, labels in eV and eV/Å.

    Raises:
        ValueError: If the file is damaged, would need pickle, or has other names in it.
    """
    try:
        # Pickled objects could run code.
        with np.load(path, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
    except Exception as error:
        raise _damaged(path, error) from None
    names = next((n for n in _NPZ if set(n) <= set(content)), None)
    if names is None:
        raise _unknown(path, content, ("rMD17", "MD17"))
    numbers, *labels = (content[name] for name in names)
    for k, (positions, energy, forces) in enumerate(zip(*labels, strict=True)):
        energy, forces = KCAL_PER_MOL * float(np.asarray(energy).item()), KCAL_PER_MOL * forces
        yield make_frame(numbers, positions, energy, forces, {"frame": k})


def hdf5_frames(path: AnyPath) -> "Iterator[ase.Atoms]":
    """Go through the structures of an HDF5 file of SPICE or of ``mace_prepare_data``.

    Memory does not grow with the file. SPICE is in Hartree and Bohr, what MACE prepared in eV, Å.

    Args:
        path: The file.

    Yields:
        The structures, labels in ASE's units. A stress of zeros that MACE gave no weight is left.

    Raises:
        ImportError: If the package h5py is missing.
        ValueError: If the file is damaged or of another kind.
    """
    try:
        import h5py
    except ImportError:
        raise ImportError(
            f"Reading {str(path)!r} needs the package h5py. (pip install h5py)"
        ) from None
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise _damaged(path, error) from None
    with file:
        for name, group in file.items():
            if set(_SPICE) <= set(group):
                yield from _spice(name, group)
            elif name.startswith("config_batch_"):
                for config in sorted(group, key=lambda text: int(text.rpartition("_")[2])):
                    yield _mace(group[config], f"{path}, {name}/{config}")
            else:
                raise _unknown(path, group, ("SPICE", "mace_prepare_data"))


def _spice(name: str, group: Any) -> "Iterator[ase.Atoms]":
    numbers = group[_SPICE[0]][()]
    for k in range(len(group[_SPICE[1]])):
        positions, energy, gradient = (group[key][k] for key in _SPICE[1:])
        info = {"molecule": name, "frame": k}
        forces = -HARTREE / BOHR * np.asarray(gradient, float)
        yield make_frame(numbers, BOHR * positions, HARTREE * float(energy), forces, info)


def _mace(group: Any, name: str) -> "ase.Atoms":
    if not set(_MACE) <= set(group):
        raise _unknown(name, group, ("mace_prepare_data",))
    properties = {key: _value(value) for key, value in group["properties"].items()}
    weights = group.get("property_weights", {})
    kept = {
        key: value
        for key, value in properties.items()
        if value is not None and (key not in weights or _value(weights[key]) != 0)
    }
    more = {key: _value(group[key]) for key in ("cell", "pbc") if key in group}
    info = {"config_type": kind} if (kind := _value(group.get("config_type"))) else {}
    atoms = make_frame(
        group["atomic_numbers"][()], group["positions"][()], kept.get("energy"),
        kept.get("forces"), info, **{k: v for k, v in more.items() if v is not None},
    )  # fmt: skip
    if "stress" in kept:
        atoms.calc.results["stress"] = np.asarray(kept["stress"], float)
    return atoms


def _value(item: Any) -> Any:
    """What stands in a data set of MACE, which writes None as a word."""
    if item is None:
        return None
    value = item[()]
    text = value.decode() if isinstance(value, bytes) else str(value)
    return None if text == "None" else text if isinstance(value, bytes | str) else value


def _damaged(path: AnyPath, error: Exception) -> ValueError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return ValueError(f"`read(paths=...)` must name intact files. Got {str(path)!r}: {reason}.")


def _unknown(path: AnyPath, content: Any, kinds: tuple[str, ...]) -> ValueError:
    names = ", ".join(sorted(map(str, content))[:12]) or "nothing"
    return ValueError(
        f"`read(paths=...)` must name files of a known kind ({', '.join(kinds)}). "
        f"Got {str(path)!r}, which holds {names}. (Convert it to extended XYZ.)"
    )
