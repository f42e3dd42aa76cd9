"""Point charges in ASE: electrostatics of clusters, crystals and slabs by several methods."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import all_changes
from numpy.typing import ArrayLike, NDArray

from tensornet.calculators.properties import Explaining, voigt
from tensornet.functional import COULOMB, ChargeSum, electrostatic_forces

METHODS = ("ewald", "direct", "range_separated")


class PointChargeCalculator(Explaining):
    """An ASE calculator of charges that interact by Coulomb's law.

    Charges are given, or those of the structure (`atoms.set_initial_charges`). Crystals are summed
    by Ewald's method, in a uniform background where they have a net charge; slabs, periodic along
    two lattice vectors, too; see `tensornet.functional.electrostatics`. Beside ASE's properties
    `results` holds ``potentials``, (n,), V. Stress exists for structures that are periodic in all
    three directions.

    Args:
        charges: One per atom, e; or by symbol; by default those of the structure.
        method: ``"direct"``: all pairs of a cluster. ``"ewald"``: lattice sums. By default that of
            the two which fits. ``"range_separated"``: in Chebyshev-Tucker form, for many charges,
            of a cluster or in a rectangular cell without net charge, without stress
            (`tensornet.functional.ChargeSum`).
        smearing: Width of Gaussians that stand for the charges, Å; zero for points.
        tolerance: As in `electrostatics`, or, if range-separated, as in `ChargeSum`.

    Raises:
        ValueError: If there is no such method, or a number is out of range.

    Examples:
        >>> from ase.build import bulk
        >>> salt = bulk("NaCl", "rocksalt", a=5.64)
        >>> salt.calc = PointChargeCalculator({"Na": 1, "Cl": -1})
        >>> round(float(salt.get_potential_energy()), 4)  # -1.747565 * 14.399645 / 2.82
        -8.9235
    """

    implemented_properties = [  # noqa: RUF012
        "energy",
        "energies",
        "free_energy",
        "forces",
        "stress",
        "stresses",
    ]

    def __init__(
        self,
        charges: ArrayLike | Mapping[str, float] | None = None,
        *,
        method: str | None = None,
        smearing: float = 0.0,
        tolerance: float = 1e-6,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if method is not None and method not in METHODS:
            raise ValueError(
                f"`PointChargeCalculator(method=...)` must be one of {', '.join(METHODS)}. Got "
                f"{method!r}."
            )
        if not (np.isfinite(smearing) and smearing >= 0):
            raise ValueError(
                "`PointChargeCalculator(smearing=...)` must be zero or a length in Å. Got "
                f"{smearing}."
            )
        if smearing and method == "range_separated":
            raise ValueError(
                "`PointChargeCalculator(smearing=...)` must be zero if range-separated. Got "
                f"{smearing}."
            )
        if not 1e-12 <= tolerance <= 0.1:
            raise ValueError(
                "`PointChargeCalculator(tolerance=...)` must be from 1e-12 to 0.1. Got "
                f"{tolerance}."
            )
        self.charges = (
            charges
            if isinstance(charges, Mapping) or charges is None
            else (np.array(charges, dtype=np.float64))
        )
        self.method, self.smearing, self.tolerance = method, float(smearing), float(tolerance)
        self._sum: ChargeSum | None = None
        self._made_for: tuple[Any, ...] = ()

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
            ValueError: If the structure has no charges or not as many as atoms, atoms are at one
                place, the method does not go with its periodicity, or it makes no sense.
        """
        atoms = self.atoms if atoms is None else atoms
        if atoms is None or len(atoms) == 0:
            raise ValueError(
                "`PointChargeCalculator.calculate(atoms=...)` must be a structure with atoms. Got "
                "none."
            )
        q = torch.from_numpy(self._charges_of(atoms))
        x = torch.from_numpy(np.array(atoms.positions, dtype=np.float64))
        pbc = np.array(atoms.pbc, dtype=bool)
        method = self.method or ("ewald" if pbc.any() else "direct")
        self._why_no_stress = ""
        if not pbc.all():
            self._why_no_stress = (
                "`get_stress()` must have a structure that is periodic in three directions. Got "
                f"pbc = {pbc.tolist()}."
            )
        if method == "range_separated":
            results = self._range_separated(atoms, pbc, x, q)
            self._why_no_stress = self._why_no_stress or (
                "`get_stress()` must have method='ewald'. Got 'range_separated', which has forces "
                "only."
            )
        else:
            results = self._summed(atoms, method, pbc, x, q)
        results["free_energy"] = results["energy"]
        if not (np.isfinite(results["energy"]) and np.isfinite(results["forces"]).all()):
            raise ValueError(
                "`PointChargeCalculator.calculate(atoms=...)` must not hold two charges at the "
                f"same place. Got an energy of {results['energy']} eV."
            )
        self.atoms, self.results = atoms.copy(), results

    def _charges_of(self, atoms: Atoms) -> NDArray[np.float64]:
        if isinstance(self.charges, Mapping):
            missing = sorted(set(atoms.symbols) - set(self.charges))
            if missing:
                raise ValueError(
                    "`PointChargeCalculator(charges=...)` must have a charge for every element. "
                    f"Missing: {', '.join(missing)}."
                )
            return np.array([self.charges[s] for s in atoms.symbols], dtype=np.float64)
        if self.charges is not None:
            found: NDArray[np.float64] = self.charges
        elif atoms.has("initial_charges"):
            found = np.array(atoms.get_initial_charges(), dtype=np.float64)
        else:
            raise ValueError(
                "`PointChargeCalculator.calculate(atoms=...)` must have charges. Got a structure "
                "without. (`atoms.set_initial_charges(...)`, or say `charges=`.)"
            )
        if found.shape != (len(atoms),):
            raise ValueError(
                f"`PointChargeCalculator(charges=...)` must be one number for each of {len(atoms)} "
                f"atoms. Got shape {found.shape}."
            )
        return found

    def _summed(
        self, atoms: Atoms, method: str, pbc: NDArray[np.bool_], x: torch.Tensor, q: torch.Tensor
    ) -> dict[str, Any]:
        if method == "direct" and pbc.any():
            raise ValueError(
                "`PointChargeCalculator(method='direct')` must have a structure without "
                f"periodicity. Got pbc = {pbc.tolist()}. (Say method='ewald'.)"
            )
        cell = torch.from_numpy(np.array(atoms.cell.array, dtype=np.float64))
        found = electrostatic_forces(
            x, q, cell, torch.from_numpy(pbc), smearing=self.smearing, tolerance=self.tolerance
        )
        results: dict[str, Any] = {
            "energy": float(found.energy),
            "energies": found.energies.numpy(),
            "potentials": found.potentials.numpy(),
            "forces": found.forces.numpy(),
        }
        if pbc.all():
            shares = found.virials.numpy() / atoms.get_volume()
            results["stresses"] = voigt(shares)
            results["stress"] = results["stresses"].sum(0)
        return results

    def _range_separated(
        self, atoms: Atoms, pbc: NDArray[np.bool_], x: torch.Tensor, q: torch.Tensor
    ) -> dict[str, Any]:
        cell = np.array(atoms.cell.array, dtype=np.float64)
        sides = np.diag(cell)
        if pbc.any() and not (pbc.all() and (cell == np.diag(sides)).all() and (sides > 0).all()):
            raise ValueError(
                "`PointChargeCalculator(method='range_separated')` must have a structure without "
                "periodicity, or in a rectangular cell along x, y and z. Got pbc = "
                f"{pbc.tolist()} and cell = {cell.tolist()}. (Say method='ewald'.)"
            )
        low, high = x.numpy().min(0), x.numpy().max(0)
        known = self._made_for and self._made_for[0] == (bool(pbc.all()), len(atoms))
        if pbc.all():
            fits = known and np.array_equal(self._made_for[2], sides)
            low, high = np.zeros(3), sides
        else:  # with room, so that atoms may move
            fits = known and (low >= self._made_for[1]).all() and (high <= self._made_for[2]).all()
            room = 1.0 + 0.05 * (high - low)
            low, high = low - room, high + room
        if self._sum is None or not fits:
            self._sum = ChargeSum(
                list(zip(low.tolist(), high.tolist(), strict=True)), periodic=bool(pbc.all()),
                tolerance=self.tolerance, n_charges=len(atoms),
            )  # fmt: skip
            self._made_for = ((bool(pbc.all()), len(atoms)), low, high)
        found = self._sum.evaluate(x, q)
        potentials = COULOMB * found.potentials.numpy()
        return {
            "energy": COULOMB * float(found.energy),
            "energies": 0.5 * q.numpy() * potentials,
            "potentials": potentials,
            "forces": COULOMB * found.forces.numpy(),
        }
