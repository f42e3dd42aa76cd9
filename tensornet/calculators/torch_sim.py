"""Potentials in torch-sim, which must be installed: ``pip install torch-sim-atomistic``."""

from os import PathLike
from typing import Any

import torch
from ase import Atoms
from torch import Tensor
from torch_geometric.data import Batch

from tensornet.calculators.prepared import prepared
from tensornet.calculators.verlet import VerletList
from tensornet.models import Potential

try:
    from torch_sim.models.interface import ModelInterface
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        f"torch-sim cannot be imported: {_error}. (`pip install torch-sim-atomistic`. Without it, "
        "`tensornet.calculators.relax_many` relaxes many structures.)"
    ) from _error


class TorchSimModel(ModelInterface):  # type: ignore[misc]
    """A potential as torch-sim's `ModelInterface`, for its dynamics and optimisers in batches.

    Args:
        model: A model file or a potential, which is copied.
        device: Where to compute. By default where the model is.
        dtype: ``"float64"`` or ``"float32"``: of the model and of what it gives.
        skin: Width added to the cutoff in Å, so that lists of neighbours last for some steps.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no model file, there is no such dtype, the skin is negative, or
            the model has a head for forces, which leaves no stress.
        TypeError: If `model` is something else.
    """

    def __init__(
        self,
        model: str | PathLike[str] | Potential,
        device: str | torch.device | None = None,
        dtype: str = "float64",
        skin: float = 0.5,
    ) -> None:
        super().__init__()
        self.potential = prepared(model, device, dtype, "TorchSimModel")
        if not self.potential.conservative:
            raise ValueError(
                "`TorchSimModel(model=...)` must have forces that are derivatives of its energy. "
                "Got a model with a head for forces."
            )
        self._device, self._dtype = self.potential.device, self.potential.dtype
        self._compute_stress = self._compute_forces = True
        self._memory_scales_with = "n_atoms_x_density"
        self._skin = skin
        self._lists = [VerletList(self.potential.cutoff, skin)]  # one per system, more when needed

    def forward(self, state: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Evaluate the systems of a state.

        Args:
            state: A `SimState`, or the dictionary of its fields: ``positions, cell`` (columns are
                lattice vectors), ``pbc, atomic_numbers, system_idx``.
            kwargs: Ignored.

        Returns:
            ``energy`` (s,) eV, ``forces`` (n, 3) eV/Å, ``stress`` (s, 3, 3) eV/Å³, NaN for systems
            that are not periodic in all directions.

        Raises:
            ValueError: If an element was not trained or a system makes no sense.
        """
        known = state if isinstance(state, dict) else vars(state)
        positions = known["positions"].detach().cpu().double().numpy()
        cells = known["cell"].detach().cpu().double().mT.reshape(-1, 3, 3).numpy()
        numbers = known["atomic_numbers"].cpu().numpy()
        pbc = torch.as_tensor(known["pbc"]).cpu().expand(3).numpy()
        system = known.get("system_idx", known.get("_system_idx"))
        system = torch.zeros(len(numbers), dtype=torch.int64) if system is None else system.cpu()
        while len(self._lists) < len(cells):
            self._lists.append(VerletList(self.potential.cutoff, self._skin))
        graphs = []
        for k, (cell, lists) in enumerate(zip(cells, self._lists, strict=False)):
            mine = (system == k).numpy()
            graphs.append(lists.graph(Atoms(numbers[mine], positions[mine], cell=cell, pbc=pbc)))
        output = self.potential(Batch.from_data_list(graphs).to(self._device))
        return {name: output[name].to(self._dtype) for name in ("energy", "forces", "stress")}
