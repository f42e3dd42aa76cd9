"""Dispersion corrections of Grimme's D3 kind, from the library ``dftd3``."""

from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed, InputError

_DAMPINGS = ("d3bj", "d3zero", "d3bjm", "d3zerom", "d3op")


class Dispersion:
    """The D3 energy of a structure, to be added to that of a potential without it.

    For a potential that learnt from a functional without dispersion. It does not belong to one
    whose training data have dispersion already.

    Args:
        name: Damping and functional, as ``"d3bj:pbe"``. Dampings: d3bj (rational), d3zero, d3bjm,
            d3zerom, d3op.

    Raises:
        ModuleNotFoundError: If the library is not installed.
        ValueError: If there is no such damping, or no parameters for the functional.

    References:
        Grimme et al., J. Chem. Phys. 132, 154104 (2010); Grimme, Ehrlich & Goerigk, J. Comput.
        Chem. 32, 1456 (2011), for the rational damping.
    """

    def __init__(self, name: str) -> None:
        damping, _, method = str(name).partition(":")
        if damping not in _DAMPINGS or not method:
            raise ValueError(
                "`PotentialCalculator(dispersion=...)` must be a damping and a functional, as "
                f"'d3bj:pbe', with a damping of {', '.join(_DAMPINGS)}. Got {name!r}."
            )
        try:
            from dftd3.ase import DFTD3
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "`PotentialCalculator(dispersion=...)` needs the library dftd3. "
                "(`pip install dftd3`.)"
            ) from error
        self.name = name
        self._calculator: Any = DFTD3(method=method, damping=damping)
        try:
            self.results(Atoms("H"))
        except InputError as error:
            raise ValueError(
                "`PotentialCalculator(dispersion=...)` must name a functional that dftd3 has "
                f"parameters for. Got {name!r}."
            ) from error

    def results(self, atoms: Atoms) -> dict[str, Any]:
        """Compute energy, forces and stress.

        Args:
            atoms: The structure.

        Returns:
            ``energy`` eV, ``forces`` (n, 3) eV/Å and, where all directions are periodic,
            ``stress`` (6,) eV/Å³ in Voigt order.

        Raises:
            ValueError: If the library cannot treat the structure.
        """
        atoms = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        try:
            self._calculator.calculate(atoms, ["energy", "forces"], ["numbers"])
        except CalculationFailed as error:
            raise ValueError(
                f"dftd3 cannot compute {self.name} for {atoms.get_chemical_formula()}."
            ) from error
        found: dict[str, Any] = self._calculator.results
        names = ["energy", "forces"] + ["stress"] * bool(all(atoms.pbc))
        return {name: np.array(found[name]) for name in names}
