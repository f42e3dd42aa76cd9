"""Reference energies: what the atoms of a structure would have without each other."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tensornet.datasets.regression import LeastSquares

METHODS = ("auto", "isolated", "fit", "none")


class HasEnergies(Protocol):
    """Structures with energies, in memory or on disk."""

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers."""

    @property
    def isolated(self) -> Mapping[int, float]:
        """Energies of isolated atoms, eV."""

    @property
    def n_labels(self) -> Mapping[str, int]:
        """How many structures have each label."""

    def __len__(self) -> int: ...

    def compositions(
        self, elements: tuple[int, ...]
    ) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Give counts of elements and energies, in parts."""


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
    frames: HasEnergies,
    how: str | Mapping[str, float] = "auto",
) -> ReferenceEnergies:
    """Choose the reference energy of each element.

    They are subtracted from the total energies, in float64, so that a model learns the energy
    of interaction. A fit solves, with ``c[s, z]`` the number of atoms of element z in
    structure s of ``n[s]`` atoms and ``E[s]`` its energy,

        minimise over e: sum over s of ((E[s] - sum over z of c[s, z] e[z]) / n[s])^2

    When the compositions do not determine it, the solution of smallest norm is taken: sums over
    such compositions are right, and single values have no meaning.

    Args:
        frames: Structures with energies, for instance those of the training set: `Frames`, or
            a `ShardDataset`.
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
    has_energy = frames.n_labels["energy"] > 0
    if how == "none" or (how == "auto" and not has_energy):
        why = "no energy labels" if how == "auto" else "as asked"
        zeros = dict.fromkeys(frames.elements, 0.0)
        return _finish(frames, zeros, "none", None, f"zero ({why})")
    return _fit(frames)


def _given(frames: HasEnergies, how: Mapping[str, float]) -> ReferenceEnergies:
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


def _fit(frames: HasEnergies) -> ReferenceEnergies:
    elements = frames.elements
    fit = LeastSquares(len(elements))
    present = np.zeros(len(elements), dtype=bool)
    for counts, energies in frames.compositions(elements):
        n_atoms = counts.sum(axis=1)
        fit.add(counts / n_atoms[:, None], energies / n_atoms)
        present |= counts.any(axis=0)
    if not fit.n_rows:
        raise ValueError(
            "`reference_energies(how='fit')` must have structures with energies to fit to. Got "
            f"{len(frames)} structures, none with an energy. (Choose how='none', or give values.)"
        )
    solution, rank = fit.solve()
    absent = [z for z, there in zip(elements, present, strict=True) if not there]
    values = dict(zip(elements, solution.tolist(), strict=True))
    how = f"by least squares over {fit.n_rows} energies, rank {rank} of {len(elements)}"
    if rank < len(elements):
        how += (
            f" (the compositions determine {rank} of {len(elements)} values: this is the solution "
            "of smallest norm, single values have no meaning)"
        )
    if absent:
        how += f" (no energy has {_names(absent)}: zero)"
    return _finish(frames, values, "fit", rank, how)


def _finish(
    frames: HasEnergies, values: dict[int, float], method: str, rank: int | None, how: str
) -> ReferenceEnergies:
    from ase.data import chemical_symbols

    listed = ", ".join(f"{chemical_symbols[z]} {value:.6f}" for z, value in values.items())
    message = f"Reference energies, {how}: {listed} eV."
    n, mean, squares = 0, 0.0, 0.0  # of what remains; squares are those of the deviations
    reference = np.array(list(values.values()))
    for counts, energies in frames.compositions(tuple(values)):
        rest = (energies - counts @ reference) / counts.sum(axis=1)
        step = rest.mean() - mean
        share = len(rest) / (n + len(rest))
        squares += ((rest - rest.mean()) ** 2).sum() + step**2 * n * share
        mean, n = mean + share * step, n + len(rest)
    if n:
        variance = squares / n
        message += (
            f" What remains has an RMSE of {1e3 * np.sqrt(variance + mean**2):.3f} meV/atom "
            f"(mean {1e3 * mean:.3f}, standard deviation {1e3 * np.sqrt(variance):.3f})."
        )
    return ReferenceEnergies(values, method, rank, message)


def _names(elements: Mapping[int, float] | list[int]) -> str:
    from ase.data import chemical_symbols

    return ", ".join(chemical_symbols[z] for z in sorted(elements))
