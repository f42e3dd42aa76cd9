"""Reference energies: what the atoms of a structure would have without each other."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tensornet.datasets.read import Frames

METHODS = ("auto", "isolated", "fit", "none")


@dataclass(frozen=True)
class ReferenceEnergies:
    """Reference energy of each element.

    Args:
        values: Energy by atomic number, eV.
        method: ``isolated``, ``fit``, ``given`` or ``none``.
        rank: Number of independent compositions behind a fit, ``None`` otherwise.
        message: What was done and what it leaves, to show.
    """

    values: dict[int, float]
    method: str
    rank: int | None
    message: str


def reference_energies(
    frames: Frames,
    how: str | Mapping[str, float] = "auto",
) -> ReferenceEnergies:
    r"""Choose the reference energy of each element.

    They are subtracted from the total energies, in float64, so that a model learns the energy
    of interaction. A fit solves, with :math:`c_{sz}` the number of atoms of element z in
    structure s of :math:`n_s` atoms,

    .. math:: \min_E \sum_s \left[(E_s - \sum_z c_{sz} E_z) / n_s\right]^2 .

    When the compositions do not determine it, the solution of smallest norm is taken: sums over
    such compositions are right, and single values have no meaning.

    Args:
        frames: Structures with energies, for instance those of the training set.
        how: ``isolated`` takes the isolated atoms in the data; ``fit`` is least squares;
            ``auto`` takes isolated atoms when every element has one and fits otherwise;
            ``none`` is zero; a mapping from symbol to eV gives the values.

    Returns:
        One value for each element in the structures.

    Raises:
        ValueError: If `how` is none of these, if an element has no value, or if there is
            nothing to fit to.

    References:
        Golub & Van Loan, Matrix Computations, 4th ed., section 5.5 (minimum norm).
    """
    if isinstance(how, Mapping):
        return _given(frames, how)
    if how not in METHODS:
        raise ValueError(
            f"`reference_energies(how=...)` must be one of {', '.join(METHODS)}, or a mapping such "
            f"as {{H: -13.6, O: -2041.8}} in eV. Got {how!r}."
        )
    missing = [z for z in frames.elements if z not in frames.isolated]
    if how == "isolated" or (how == "auto" and not missing):
        if missing:
            raise ValueError(
                "`reference_energies(how='isolated')` must find an isolated atom of every element. "
                f"Got none of {_names(missing)}; found {_names(frames.isolated) or 'none'}. (Add "
                "frames of one atom with its energy to the data, or choose how='fit'.)"
            )
        values = {z: frames.isolated[z] for z in frames.elements}
        return _finish(frames, values, "isolated", None, "from the isolated atoms in the data")
    has_energy = any(one.energy is not None for one in frames.labels)
    if how == "none" or (how == "auto" and not has_energy):
        why = "no energy labels" if how == "auto" else "as asked"
        zeros = dict.fromkeys(frames.elements, 0.0)
        return _finish(frames, zeros, "none", None, f"zero ({why})")
    return _fit(frames)


def _given(frames: Frames, how: Mapping[str, float]) -> ReferenceEnergies:
    from ase.data import atomic_numbers

    values = {}
    for symbol, value in how.items():
        if symbol not in atomic_numbers:
            close = str(symbol).strip().capitalize()
            raise ValueError(
                "`reference_energies(how=...)` must map symbols of elements to eV. Got "
                f"{symbol!r}.{f' (Did you mean {close}?)' if close in atomic_numbers else ''}"
            )
        if isinstance(value, bool | str) or not np.isfinite(value):
            raise ValueError(
                "`reference_energies(how=...)` must map symbols to finite energies in eV. Got "
                f"{value!r} for {symbol}."
            )
        values[int(atomic_numbers[symbol])] = float(value)
    missing = [z for z in frames.elements if z not in values]
    if missing:
        raise ValueError(
            "`reference_energies(how=...)` must have every element of the data. Got "
            f"{_names(values) or 'none'}; missing {_names(missing)}."
        )
    values = {z: values[z] for z in frames.elements}
    return _finish(frames, values, "given", None, "as given")


def _fit(frames: Frames) -> ReferenceEnergies:
    elements = frames.elements
    counts, energies = _system(frames, elements)
    if not len(energies):
        raise ValueError(
            "`reference_energies(how='fit')` must have structures with energies to fit to. Got "
            f"{len(frames)} structures, none with an energy. (Choose how='none', or give values.)"
        )
    n_atoms = counts.sum(axis=1)
    solution, _, rank, _ = np.linalg.lstsq(counts / n_atoms[:, None], energies / n_atoms)
    absent = [z for z, column in zip(elements, counts.T, strict=True) if not column.any()]
    values = dict(zip(elements, solution.tolist(), strict=True))
    how = f"by least squares over {len(energies)} energies, rank {rank} of {len(elements)}"
    if rank < len(elements):
        how += (
            f" (the compositions determine {rank} of {len(elements)} values: this is the solution "
            "of smallest norm, single values have no meaning)"
        )
    if absent:
        how += f" (no energy has {_names(absent)}: zero)"
    return _finish(frames, values, "fit", int(rank), how)


def _system(
    frames: Frames,
    elements: tuple[int, ...],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # (s, k), (s,)
    pairs = [
        (atoms.numbers, one.energy)
        for atoms, one in zip(frames.structures, frames.labels, strict=True)
        if one.energy is not None
    ]
    counts = np.array([[(numbers == z).sum() for z in elements] for numbers, _ in pairs])
    energies = np.array([energy for _, energy in pairs], dtype=np.float64)
    return counts.reshape(len(pairs), len(elements)).astype(np.float64), energies


def _finish(
    frames: Frames, values: dict[int, float], method: str, rank: int | None, how: str
) -> ReferenceEnergies:
    from ase.data import chemical_symbols

    listed = ", ".join(f"{chemical_symbols[z]} {value:.6f}" for z, value in values.items())
    message = f"Reference energies, {how}: {listed} eV."
    counts, energies = _system(frames, tuple(values))
    if len(energies):
        rest = (energies - counts @ np.array(list(values.values()))) / counts.sum(axis=1)
        message += (
            f" What remains has an RMSE of {1e3 * np.sqrt((rest**2).mean()):.3f} meV/atom "
            f"(mean {1e3 * rest.mean():.3f}, standard deviation {1e3 * rest.std():.3f})."
        )
    return ReferenceEnergies(values, method, rank, message)


def _names(elements: Mapping[int, float] | list[int]) -> str:
    from ase.data import chemical_symbols

    return ", ".join(chemical_symbols[z] for z in sorted(elements))
