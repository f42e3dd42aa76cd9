"""Many structures at once: evaluated in batches, relaxed in lockstep."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import chemical_symbols
from ase.filters import FrechetCellFilter
from ase.optimize import LBFGS
from ase.optimize.optimize import Optimizer
from numpy.typing import NDArray
from torch_geometric.data import Batch, Data

from tensornet.calculators.prepared import prepared
from tensornet.calculators.properties import voigt
from tensornet.calculators.verlet import VerletList
from tensornet.models import Potential

Model = str | PathLike[str] | Potential


@dataclass(frozen=True)
class Relaxation:
    """What became of structures that were relaxed.

    Args:
        structures: The last of each, in the order given, with its energy, forces and, where it
            has one, stress in a calculator of ASE that holds results.
        converged: Which reached the wanted forces, (s,).
        n_steps: Steps that each took, (s,).
        messages: Why a structure did not converge, else empty.
    """

    structures: tuple[Atoms, ...]
    converged: NDArray[np.bool_]
    n_steps: NDArray[np.int64]
    messages: tuple[str, ...]

    @property
    def energies(self) -> NDArray[np.float64]:  # (s,)
        """Energy of each structure, eV; NaN where it could not be had."""
        found = [atoms.calc.results.get("energy", np.nan) for atoms in self.structures]
        return np.array(found, dtype=np.float64)


def evaluate_many(
    structures: Iterable[Atoms],
    model: Model,
    *,
    device: str | torch.device | None = None,
    dtype: str = "float64",
    max_edges: int = 200_000,
) -> list[Atoms]:
    """Compute energies, forces and stress of many structures, several in one evaluation.

    Args:
        structures: The structures, which are left as they are.
        model: A model file or a potential.
        device: Where to compute. By default where the model is.
        dtype: ``"float64"`` or ``"float32"``.
        max_edges: Pairs of neighbours in one evaluation, which limits the memory. A structure
            with more of them is evaluated alone.

    Returns:
        Copies with their results in a calculator, as ASE's readers give them: `get_forces` works,
        and so does `ase.io.write`.

    Raises:
        ValueError: If a structure makes no sense, has an element that was not trained, or gives
            energies or forces that are no finite numbers. Its place in the list is said.
        FileNotFoundError: If there is no such model.
        TypeError: If `structures` is one structure, or `model` no model.

    Examples:
        >>> from ase.build import bulk
        >>> from tensornet.models import build
        >>> model = build({"name": "lennard_jones"}, elements=[18], reference_energies={18: 0.0})
        >>> many = evaluate_many([bulk("Ar", a=a) for a in (3.8, 3.9, 4.0)], model)
        >>> [atoms.get_stress().shape for atoms in many]
        [(6,), (6,), (6,)]
    """
    engine = _Engine(model, device, dtype, max_edges, skin=0.0, caller="evaluate_many")
    copies = engine.copies(structures)
    for number, found in engine.results(copies):
        if isinstance(found, ValueError):
            raise ValueError(f"Structure {number}: {found}") from found
        copies[number].calc = SinglePointCalculator(copies[number], **found)
    return list(copies.values())


def relax_many(
    structures: Iterable[Atoms],
    model: Model,
    *,
    fmax: float = 0.01,
    steps: int = 500,
    cell: bool = False,
    pressure: float = 0.0,
    optimizer: type[Optimizer] = LBFGS,
    device: str | torch.device | None = None,
    dtype: str = "float64",
    max_edges: int = 200_000,
) -> Relaxation:
    """Relax many structures, with one evaluation of the model for all that are not yet done.

    Every structure has an optimiser of ASE of its own and takes the steps it would take alone;
    only the evaluations are shared. Constraints are respected. A structure that fails on its way
    does not stop the others.

    Args:
        structures: The structures, which are left as they are.
        model: A model file or a potential.
        fmax: A structure is done when no force, and no row of the derivative by the cell that
            `FrechetCellFilter` gives, is longer than this, eV/Å.
        steps: A structure that took so many is given up.
        cell: Whether the cell is relaxed too. Structures are then periodic in all directions.
        pressure: Pressure on the cell, eV/Å³; only with `cell`.
        optimizer: A class of `ase.optimize` that evaluates once per step: LBFGS, BFGS, FIRE, ...
        device: Where to compute. By default where the model is.
        dtype: ``"float64"`` or ``"float32"``, which stops at larger forces.
        max_edges: Pairs of neighbours in one evaluation, which limits the memory.

    Returns:
        The relaxed structures, and which of them converged.

    Raises:
        ValueError: If a structure makes no sense at the start, has an element that was not
            trained, or no stress although its cell shall be relaxed; or a number is out of range.
        FileNotFoundError: If there is no such model.
        TypeError: If `structures` is one structure, or `model` no model.

    References:
        Liu & Nocedal, Mathematical Programming 45 (1989) 503, for L-BFGS.
    """
    if not (fmax > 0 and np.isfinite(fmax)):
        raise ValueError(f"`relax_many(fmax=...)` must be above zero, in eV/Å. Got {fmax}.")
    if not np.isfinite(pressure) or (pressure and not cell):
        raise ValueError(
            "`relax_many(pressure=...)` must be finite, in eV/Å³, and zero where the cell is kept. "
            f"Got {pressure}. (Say `cell=True` to relax the cell under it.)"
        )
    if steps < 0:
        raise ValueError(f"`relax_many(steps=...)` must be zero or more. Got {steps}.")
    engine = _Engine(model, device, dtype, max_edges, skin=0.5, caller="relax_many")
    copies = engine.copies(structures, cell=cell)
    found: dict[int, dict[str, Any]] = {}
    messages = dict.fromkeys(copies, f"not below {fmax} eV/Å after {steps} steps")
    n_steps, active, runs = dict.fromkeys(copies, 0), dict(copies), {}
    for step in range(steps + 1):
        for number, result in engine.results(active):
            atoms = copies[number]
            if isinstance(result, ValueError):
                if step == 0:
                    raise ValueError(f"Structure {number}: {result}") from result
                messages[number] = str(result)
                del active[number]
                continue
            if number not in runs:
                atoms.calc = _Known()  # type: ignore[no-untyped-call]
                target: Any = FrechetCellFilter(atoms, scalar_pressure=pressure) if cell else atoms
                runs[number] = (target, optimizer(target, logfile=None))
            atoms.calc.know(atoms, result)
            found[number] = result
            target, moves = runs[number]
            if np.linalg.norm(target.get_forces(), axis=1).max() < fmax:
                messages[number] = ""
                del active[number]
            elif step < steps:
                moves.step()
                n_steps[number] += 1
        if not active:
            break
    return _relaxation(copies, found, n_steps, messages)


def _relaxation(
    copies: dict[int, Atoms],
    found: dict[int, dict[str, Any]],
    n_steps: dict[int, int],
    messages: dict[int, str],
) -> Relaxation:
    for number, atoms in copies.items():
        # A structure that failed keeps the step that led astray, without results.
        known = atoms.calc is not None and not atoms.calc.check_state(atoms)
        atoms.calc = SinglePointCalculator(atoms, **(found[number] if known else {}))
    return Relaxation(
        tuple(copies.values()),
        np.array([not message for message in messages.values()], dtype=bool),
        np.array(list(n_steps.values()), dtype=np.int64),
        tuple(messages.values()),
    )


class _Known(Calculator):
    """Results that were computed elsewhere, for the positions they belong to."""

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012

    def know(self, atoms: Atoms, results: dict[str, Any]) -> None:
        self.atoms, self.results = atoms.copy(), dict(results)

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        raise PropertyNotImplementedError(
            "`relax_many(optimizer=...)` must evaluate once per step, and the structures must have "
            "what it asks for. Got an optimiser that asks for more. (Take LBFGS, BFGS or FIRE.)"
        )


class _Engine:
    """A model that evaluates structures in batches, and keeps their lists of neighbours."""

    def __init__(
        self,
        model: Model,
        device: str | torch.device | None,
        dtype: str,
        max_edges: int,
        *,
        skin: float,
        caller: str,
    ) -> None:
        if max_edges < 1:
            raise ValueError(f"`{caller}(max_edges=...)` must be at least 1. Got {max_edges}.")
        self.model = prepared(model, device, dtype, caller)
        self.max_edges, self.skin, self.caller = max_edges, skin, caller
        self.lists: dict[int, VerletList] = {}

    def copies(self, structures: Iterable[Atoms], *, cell: bool = False) -> dict[int, Atoms]:
        """Copy structures, by their numbers, and refuse at once what cannot be evaluated."""
        if isinstance(structures, Atoms):
            raise TypeError(
                f"`{self.caller}(structures=...)` must be a list of structures. Got one structure."
            )
        if cell and not self.model.conservative:
            raise ValueError(
                f"`{self.caller}(cell=True)` must have a stress. Got a model with a head for "
                "forces, which has none."
            )
        copies = {number: atoms.copy() for number, atoms in enumerate(structures)}
        for number, atoms in copies.items():
            unknown = sorted({int(z) for z in atoms.numbers} - set(self.model.elements))
            if unknown:
                raise ValueError(
                    f"`{self.caller}(structures=...)` must hold only elements that were trained. "
                    f"Got {', '.join(chemical_symbols[z] for z in unknown)} in structure {number}; "
                    f"the model knows {', '.join(chemical_symbols[z] for z in self.model.elements)}"
                    "."
                )
            if cell and not all(atoms.pbc):
                raise ValueError(
                    f"`{self.caller}(cell=True)` must have structures that are periodic in three "
                    f"directions. Got pbc = {np.array(atoms.pbc).tolist()} in structure {number}."
                )
        return copies

    def results(
        self, structures: dict[int, Atoms]
    ) -> Iterator[tuple[int, dict[str, Any] | ValueError]]:
        """Results of each structure, or why it has none."""
        waiting: list[tuple[int, Data]] = []
        edges = 0
        for number, atoms in list(structures.items()):
            lists = self.lists.setdefault(number, VerletList(self.model.cutoff, self.skin))
            try:
                graph = lists.graph(atoms)
            except ValueError as error:
                yield number, error
                continue
            if waiting and edges + graph.num_edges > self.max_edges:
                yield from self._batch(waiting)
                waiting, edges = [], 0
            waiting.append((number, graph))
            edges += graph.num_edges
        if waiting:
            yield from self._batch(waiting)

    def _batch(
        self, waiting: list[tuple[int, Data]]
    ) -> Iterator[tuple[int, dict[str, Any] | ValueError]]:
        batch = Batch.from_data_list([graph for _, graph in waiting]).to(self.model.device)
        output = self.model(batch)
        names = ("energy", "forces", "stress")
        energy, forces, stress = (output[name].detach().cpu().double().numpy() for name in names)
        ends = np.cumsum([graph.num_nodes for _, graph in waiting])[:-1]
        for k, ((number, _), force) in enumerate(zip(waiting, np.split(forces, ends), strict=True)):
            if not (np.isfinite(energy[k]) and np.isfinite(force).all()):
                yield (
                    number,
                    ValueError(
                        f"`{self.caller}(structures=...)` must give finite energies and forces. "
                        f"Got an energy of {energy[k]} eV. (Atoms that are too close, or a model "
                        "with weights that are no numbers.)"
                    ),
                )
                continue
            results: dict[str, Any] = {"energy": float(energy[k]), "forces": force}
            results["free_energy"] = results["energy"]
            if np.isfinite(stress[k]).all():
                results["stress"] = voigt(stress[k])
            yield number, results
