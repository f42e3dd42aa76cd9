"""How calculators give their properties."""

from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_properties
from ase.outputs import Properties
from numpy.typing import NDArray


class Explaining(Calculator):
    """A calculator that says why a structure has no stress, and gives more than ASE has names for.

    Attributes:
        _why_no_stress: The reason, as a sentence; empty where there is a stress.
    """

    _why_no_stress = ""

    def get_property(
        self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True
    ) -> Any:
        """Give one property, computed if need be, as a copy that is the caller's.

        Args:
            name: One of `implemented_properties`.
            atoms: The structure. By default the one of the last call.
            allow_calculation: Whether to compute; if not, None is returned for what is not known.

        Returns:
            A number or an array in ASE's units.

        Raises:
            PropertyNotImplementedError: If there is no such property here, or of this structure.
        """
        try:
            return super().get_property(  # type: ignore[no-untyped-call]
                name, atoms, allow_calculation
            )
        except PropertyNotImplementedError as error:
            if name in ("stress", "stresses") and self._why_no_stress:
                raise PropertyNotImplementedError(self._why_no_stress) from error
            raise

    def export_properties(self) -> Properties:
        """Give the results that ASE has names for."""
        return Properties({k: v for k, v in self.results.items() if k in all_properties})


def voigt(
    x: NDArray[np.float64],  # (..., 3, 3)
) -> NDArray[np.float64]:  # (..., 6)
    """Give symmetric tensors in Voigt order: xx, yy, zz, yz, xz, xy.

    Args:
        x: The tensors, symmetric up to rounding, which is averaged.

    Returns:
        Six components of each.
    """
    i, j = [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]
    return (x[..., i, j] + x[..., j, i]) / 2
