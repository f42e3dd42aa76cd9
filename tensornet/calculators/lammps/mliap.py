"""Potentials in LAMMPS that was built with its package ML-IAP and Python: ``mliap unified``."""

import pickle
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols

from tensornet._files import write_atomically
from tensornet.calculators.lammps.external import known_elements
from tensornet.calculators.local import share, within_reach
from tensornet.calculators.prepared import prepared
from tensornet.models import Potential


class LammpsMLIAP:
    """A model for LAMMPS's ``pair_style mliap unified``, with its interface `MLIAPUnified`.

    LAMMPS gives the pairs of neighbours of its own atoms and of the ghosts around them; the energy
    of the own atoms is evaluated, and its forces on ghosts go back to their owners (``newton on``,
    which the pair style demands). A model with messages needs neighbours of ghosts out to
    `Potential.n_hops` times the cutoff, which LAMMPS makes when it is told to::

        pair_style mliap unified model.pickle 1
        pair_coeff * * Si Ge
        comm_modify cutoff 12.0

    with the cutoff of `communication`. (The 1 asks for neighbours of ghosts; old versions want the
    word ``ghostneigh`` before the file.) The object can be given from Python too, by
    `lammps.mliap.load_unified`. The file holds the path of the model file and no weights; as any
    pickle it is code, so load only your own.

    Args:
        model: A model file, or a potential, which is copied and cannot be written to a file.
        elements: Symbols that ``pair_coeff`` may name; by default all the model knows.
        device: Where to compute. By default where the model is.
        dtype: ``"float64"`` or ``"float32"``.

    Attributes:
        element_types: The symbols.
        rcutfac: Half of the cutoff, which LAMMPS doubles, Å.
        ndescriptors: One, since there must be some.
        nparams: One, since there must be some.
        interface: What LAMMPS puts there.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the model does not know an element, or has a head for forces.
    """

    def __init__(
        self,
        model: str | PathLike[str] | Potential,
        elements: Sequence[str] | None = None,
        *,
        device: str | None = None,
        dtype: str = "float64",
    ) -> None:
        self.model = prepared(model, device, dtype, "LammpsMLIAP")
        if elements is None:
            elements = [chemical_symbols[z] for z in self.model.elements]
        self._numbers = torch.from_numpy(known_elements(self.model, elements, "LammpsMLIAP"))
        self._source = None if isinstance(model, Potential) else Path(model).resolve()
        self._settings = {"device": device, "dtype": dtype}
        self.element_types = list(elements)
        self.rcutfac = self.model.cutoff / 2
        self.ndescriptors = self.nparams = 1
        self.interface: Any = None

    def communication(self, skin: float = 2.0) -> float:
        """How far ghost atoms must reach, Å: the value of ``comm_modify cutoff``.

        Args:
            skin: The distance of LAMMPS's command ``neighbor``, 2 Å with metal units.

        Returns:
            The cutoff times the number of layers of messages, plus the skin.
        """
        return self.model.n_hops * self.model.cutoff + skin

    def write(self, path: str | PathLike[str]) -> None:
        """Write the file that ``pair_style mliap unified`` reads.

        Args:
            path: A name that ends neither in ``.pt`` nor in ``.pth``, which LAMMPS would read in
                another way.

        Raises:
            ValueError: If the name ends so, or the model did not come from a file.
            OSError: If writing fails; a previous file of this name is then untouched.
        """
        if Path(path).suffix in (".pt", ".pth"):
            raise ValueError(
                f"`LammpsMLIAP.write(path=...)` must not end in .pt or .pth. Got {path}."
            )
        write_atomically(path, pickle.dumps(self))

    def __reduce__(self) -> tuple[Any, ...]:
        if self._source is None:
            raise ValueError(
                "`LammpsMLIAP.write()` must have a model that came from a file. (Save it first.)"
            )
        return _opened, (str(self._source), self.element_types, self._settings)

    def compute_descriptors(self, data: Any) -> None:
        """Do nothing: the model has no descriptors of its own.

        Args:
            data: Not used.
        """

    def compute_gradients(self, data: Any) -> None:
        """Do nothing: all is computed by `compute_forces`.

        Args:
            data: Not used.
        """

    def compute_forces(self, data: Any) -> None:
        """Evaluate a step and give LAMMPS the energies and the forces along pairs.

        Args:
            data: LAMMPS's `MLIAPDataPy`, with ``pair_i, pair_j, rij, elems, iatoms, nlistatoms``.

        Raises:
            ValueError: If the neighbours of ghosts are missing, an atom type has no element, or
                energies or forces are not finite.
        """
        n_own, n_pairs = int(data.nlistatoms), int(data.npairs)
        if n_own == 0:
            data.energy = 0.0
            return
        mine = np.asarray(data.iatoms)[:n_own].astype(np.int64)
        elements = np.asarray(data.elems).astype(np.int64)
        own = np.zeros(len(elements), bool)
        own[mine] = True
        pairs = np.zeros((2, 0), np.int64)
        vectors = np.zeros((0, 3))
        if n_pairs:
            pairs = np.stack([np.asarray(data.pair_j), np.asarray(data.pair_i)]).astype(np.int64)
            vectors = np.array(data.rij, dtype=np.float64)
        self._check(own, pairs)
        keep = np.flatnonzero(within_reach(pairs, own, self.model.n_hops))
        nodes, local = np.unique(np.append(pairs[:, keep], mine), return_inverse=True)
        if (elements[nodes] < 0).any():
            raise ValueError(
                "`pair_coeff` of `pair_style mliap` must name an element for each atom type. Got "
                "NULL for one of them."
            )
        device = self.model.device
        part = share(
            self.model,
            self._numbers[torch.from_numpy(elements[nodes])].to(device),
            torch.from_numpy(local[: 2 * len(keep)].reshape(2, -1)).to(device),
            torch.from_numpy(vectors[keep]).to(device),
            torch.from_numpy(own[nodes]).to(device),
        )
        energies = np.zeros(len(elements))
        energies[nodes] = part.energies.cpu().numpy()
        _set_energies(data, energies[mine])
        if n_pairs:
            # A pair's vector leads from i to j, and LAMMPS adds this to the force on i.
            along = np.zeros((n_pairs, 3))
            along[keep] = part.gradients.cpu().numpy()
            data.update_pair_forces(along)

    def _check(self, own: Any, pairs: Any) -> None:
        ghosts = np.setdiff1d(pairs[0], np.flatnonzero(own))
        if self.model.n_hops > 1 and len(ghosts) and own[pairs[1]].all():
            raise ValueError(
                "`pair_style mliap unified FILE 1` must ask for the neighbours of ghost atoms, "
                f"since this model's messages go {self.model.n_hops} times as far as its cutoff. "
                "Got none. (Add the 1, and `comm_modify cutoff "
                f"{self.communication():g}`.)"
            )


def _set_energies(data: Any, energies: Any) -> None:
    try:
        data.eatoms = energies
    except AttributeError:  # the KOKKOS version gives the array instead
        data.eatoms[:] = energies
    data.energy = float(energies.sum())


def _opened(path: str, elements: list[str], settings: dict[str, Any]) -> LammpsMLIAP:
    return LammpsMLIAP(path, elements, **settings)
