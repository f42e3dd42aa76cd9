"""Potentials as ASE calculators: relaxation, molecular dynamics, and whatever else speaks ASE."""

import warnings
from collections.abc import Iterable, Sequence
from os import PathLike
from typing import Any, cast

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import all_changes
from ase.data import chemical_symbols
from numpy.typing import NDArray

from tensornet.atoms import total_charge
from tensornet.calculators.dispersion import Dispersion
from tensornet.calculators.prepared import prepared
from tensornet.calculators.properties import Explaining, voigt
from tensornet.calculators.verlet import VerletList
from tensornet.models import Potential, members

Model = str | PathLike[str] | Potential


class PotentialCalculator(Explaining):
    """An ASE calculator that runs a potential, or a committee of potentials.

    Units are ASE's: eV, eV/Å, and eV/Å³ for stress (tension positive, Voigt order xx, yy, zz, yz,
    xz, xy). All properties come from one evaluation, so it does not matter which is asked for
    first. Stress exists for structures that are periodic in all three directions.

    A committee answers with the mean of its members, and `results` also holds ``energy_std``,
    ``forces_std`` (n, 3) and, where there is a stress, ``stress_std`` (6,): standard deviations
    over the members (divided by their number, as `numpy.std` does). A single network that knows
    how uncertain its last layer is gives ``energy_std`` and ``energies_std`` (n,).

    Args:
        model: A model file, the folder of a run or of a committee, a potential, or a list of
            these. A potential is copied: the calculator does not follow its later changes, and
            does not change it.
        device: Where to compute, as torch names it. By default where the model is.
        dtype: ``"float64"`` or ``"float32"``. In float32, relaxations stop at larger forces.
        skin: Width added to the cutoff in Å, so that the neighbour list is kept while atoms move
            less than half of it. It changes the speed, not the result. Zero makes a list at each
            call.
        dispersion: A D3 correction to add, as ``"d3bj:pbe"``, by the library ``dftd3``; then
            there are no energies and stresses per atom. See `Dispersion`.

    Attributes:
        models: The potentials that are evaluated.
        conservative: Whether forces are derivatives of the energy.
        n_builds: How many neighbour lists were made so far.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a file is no model file, members of a committee do not fit together, or
            there is no such dispersion correction.
        ModuleNotFoundError: If dispersion is asked for and ``dftd3`` is not installed.
        TypeError: If `model` is something else.

    Examples:
        >>> from ase.build import bulk
        >>> from tensornet.models import build
        >>> model = build({"name": "lennard_jones"}, elements=[18], reference_energies={18: 0.0})
        >>> atoms = bulk("Ar", a=4.0)
        >>> atoms.calc = PotentialCalculator(model)
        >>> atoms.get_stress().shape
        (6,)
    """

    implemented_properties = [  # noqa: RUF012
        "energy",
        "energies",
        "free_energy",
        "forces",
        "stress",
        "stresses",
    ]
    ignored_changes = {"initial_charges", "initial_magmoms"}  # noqa: RUF012

    def __init__(
        self,
        model: Model | Sequence[Model],
        device: str | torch.device | None = None,
        dtype: str = "float64",
        skin: float = 0.5,
        dispersion: str | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if not (np.isfinite(skin) and skin >= 0):
            raise ValueError(
                "`PotentialCalculator(skin=...)` must be zero or a positive length in Å. "
                f"Got {skin}."
            )
        # What is neither a model nor a list of them is refused by name in `prepared`.
        one = isinstance(model, str | PathLike | Potential) or not isinstance(model, Iterable)
        listed = [cast(Model, model)] if one else list(cast(Sequence[Model], model))
        files = [_files(item) for item in listed]
        self.models = tuple(
            prepared(member, device, dtype, "PotentialCalculator")
            for some in files
            for member in some
        )
        _check_committee(self.models)
        self.conservative = bool(self.models[0].conservative)
        if not self.conservative:
            warnings.warn(
                "The forces of this model come from a head of their own and are not derivatives "
                "of its energy: molecular dynamics will not conserve energy, and there is no "
                "stress.",
                UserWarning,
                stacklevel=2,
            )
        self._list = VerletList(max(member.cutoff for member in self.models), skin)
        self._dispersion = None if dispersion is None else Dispersion(dispersion)

    @property
    def n_builds(self) -> int:
        """How many neighbour lists were made so far."""
        return self._list.n_builds

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Compute all properties of a structure and keep them in `results`.

        Args:
            atoms: The structure. By default the one of the last call.
            properties: Ignored: one evaluation gives everything.
            system_changes: Ignored: ASE only calls when something changed.

        Raises:
            ValueError: If the structure is empty, has an element the model does not know, a
                position that is not a number, atoms on top of each other, or a cell without
                volume; or if the model gives an energy or a force that is no finite number.
        """
        atoms = self.atoms if atoms is None else atoms
        if atoms is None:
            raise ValueError("`PotentialCalculator.calculate(atoms=...)` must be a structure.")
        _check_elements(atoms, self.models[0])
        graph, device = self._list.graph(atoms), self.models[0].device
        graph = graph if device.type == "cpu" else graph.to(device)
        outputs = [_arrays(model(graph)) for model in self.models]
        names = ["energy", "energies", "forces"]
        self._why_no_stress = self._no_stress(atoms)
        if not self._why_no_stress:
            volume = abs(float(np.linalg.det(np.array(atoms.cell.array))))
            for output in outputs:
                output["stress"] = voigt(output["stress"][0])
                output["stresses"] = voigt(output["virials"] / volume)
            names += ["stress", "stresses"]
        results: dict[str, Any] = {
            name: np.mean([output[name] for output in outputs], axis=0)
            if len(outputs) > 1
            else outputs[0][name]
            for name in names
        }
        if len(outputs) == 1:
            known = {"energy_std", "energies_std"}.intersection(outputs[0])
            results |= {name: outputs[0][name] for name in known}
        else:
            for name in {"energy", "forces", "stress"}.intersection(names):
                results[f"{name}_std"] = np.std([output[name] for output in outputs], axis=0)
        for name in {"energy", "energy_std"}.intersection(results):
            results[name] = float(results[name].item())
        if self._dispersion is not None:
            for name, value in self._dispersion.results(atoms).items():
                if name in results:
                    results[name] = results[name] + value
            for name in ("energies", "stresses"):  # the library has none
                results.pop(name, None)
            results["energy"] = float(results["energy"])
        results["free_energy"] = results["energy"]
        if not (np.isfinite(results["energy"]) and np.isfinite(results["forces"]).all()):
            raise ValueError(
                "`PotentialCalculator.calculate(atoms=...)` must give finite energies and forces. "
                f"Got an energy of {results['energy']} eV and forces up to "
                f"{np.abs(results['forces']).max()} eV/Å. (Atoms that are too close, or a model "
                "with weights that are no numbers.)"
            )
        self.atoms, self.results = atoms.copy(), results

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Say what changed since the last call; in dynamics a look at the positions is enough.

        Args:
            atoms: The structure.
            tol: Numbers that differ by less are the same.

        Returns:
            Names of what changed, as ASE has them; not all of them if positions are among them.
        """
        known = self.atoms
        if known is not None and len(known) == len(atoms):
            if not np.abs(known.positions - atoms.positions).max(initial=0.0) <= tol:
                return ["positions"]  # what else may have changed does not matter to `calculate`
            if total_charge(known) != total_charge(atoms):
                return ["charge"]
            if all(
                np.array_equal(x, y)
                for x, y in (
                    (known.numbers, atoms.numbers),
                    (known.cell.array, atoms.cell.array),
                    (known.pbc, atoms.pbc),
                )
            ):
                return []
        return list(super().check_state(atoms, tol))  # type: ignore[no-untyped-call]

    def set(self, **kwargs: Any) -> dict[str, Any]:
        """Refuse parameters: a calculator is made with what it needs.

        Args:
            kwargs: None must be given.

        Returns:
            An empty dictionary: nothing changed.

        Raises:
            ValueError: If there is one.
        """
        if kwargs:
            raise ValueError(
                "`PotentialCalculator.set(...)` has no parameters. Got "
                f"{', '.join(kwargs)}. (Make a new calculator.)"
            )
        return {}

    def _no_stress(self, atoms: Atoms) -> str:
        if not self.conservative:
            return (
                "`get_stress()` must be the derivative of an energy. Got a model with a head for "
                "forces, which has none."
            )
        if not all(atoms.pbc):
            return (
                "`get_stress()` must have a structure that is periodic in three directions. Got "
                f"pbc = {np.array(atoms.pbc).tolist()}."
            )
        return ""


def _files(model: Model) -> Sequence[Model]:
    return members(model) if isinstance(model, str | PathLike) else [model]


def _check_committee(models: Sequence[Potential]) -> None:
    if not models:
        raise ValueError(
            "`PotentialCalculator(model=...)` must hold at least one model. Got an empty list."
        )
    first = models[0]
    for k, model in enumerate(models):
        if model.elements != first.elements:
            raise ValueError(
                "`PotentialCalculator(model=...)` must be models of the same elements. Got "
                f"{_symbols(first.elements)} in number 0 and {_symbols(model.elements)} in number "
                f"{k}."
            )
        if model.conservative != first.conservative:
            raise ValueError(
                "`PotentialCalculator(model=...)` must not mix models with and without a head for "
                f"forces. Number {k} is unlike number 0."
            )
        if model.device != first.device:
            raise ValueError(
                "`PotentialCalculator(model=...)` must be models on one device. Got "
                f"{first.device} and {model.device}. (Say `device=`.)"
            )


def _check_elements(atoms: Atoms, model: Potential) -> None:
    unknown = sorted(set(atoms.numbers.tolist()).difference(model.elements))
    if unknown:
        raise ValueError(
            "`PotentialCalculator.calculate(atoms=...)` must hold only elements the model was "
            f"trained on. Got {_symbols(unknown)}; this model knows {_symbols(model.elements)}."
        )


def _symbols(elements: Sequence[int]) -> str:
    return ", ".join(chemical_symbols[z] for z in elements)


def _arrays(output: dict[str, torch.Tensor]) -> dict[str, NDArray[np.float64]]:
    return {name: x.detach().cpu().numpy().astype(np.float64) for name, x in output.items()}
