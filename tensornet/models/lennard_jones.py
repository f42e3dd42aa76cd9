"""The Lennard-Jones potential: every number of it is known, so it tests whatever drives a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat
from torch import Tensor, nn

from tensornet.layers import polynomial_envelope
from tensornet.models.potential import Potential


class LennardJonesConfig(BaseModel):
    """Parameters of `LennardJones`: energies in eV, lengths in Å."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Literal["lennard_jones"] = "lennard_jones"
    cutoff: PositiveFloat = Field(6.0, description="distance where the potential ends, Å")
    epsilon: PositiveFloat = Field(0.01, description="depth of the well, eV")
    sigma: PositiveFloat = Field(2.5, description="distance of zero energy, Å")


class LennardJones(Potential):
    """Pairs interact by 4 epsilon ((sigma/r)^12 - (sigma/r)^6), switched off smoothly.

    The switch is one up to 0.66 of the cutoff and falls to zero at the cutoff with three
    continuous derivatives. All elements share `epsilon` and `sigma`, which are trainable.

    Args:
        config: The parameters.
        elements: Atomic numbers.
        reference_energies: Energy of the free atom per atomic number, eV.
        scale: Not used, as the following: statistics of training data, which networks take.
        shift: Not used.
        n_neighbours: Not used.
        closest: Not used.
    """

    switch_on: float = 0.66

    def __init__(
        self,
        config: LennardJonesConfig,
        *,
        elements: Sequence[int],
        reference_energies: Mapping[int, float],
        scale: float = 1.0,
        shift: Mapping[int, float] | None = None,
        n_neighbours: float = 1.0,
        closest: Mapping[tuple[int, int], float] | None = None,
    ) -> None:
        super().__init__(config, elements=elements, reference_energies=reference_energies)
        self.epsilon = nn.Parameter(torch.tensor(config.epsilon, dtype=torch.float64))
        self.sigma = nn.Parameter(torch.tensor(config.sigma, dtype=torch.float64))

    def interaction_energies(
        self,
        species: Tensor,  # (n,)
        edge_index: Tensor,  # (2, e)
        vectors: Tensor,  # (e, 3)
    ) -> Tensor:  # (n,)
        """Give half of each pair's energy to either atom, eV."""
        r = vectors.norm(dim=-1)
        s6 = (self.sigma / r) ** 6
        on = self.switch_on
        switch = polynomial_envelope(((r / self.cutoff - on) / (1 - on)).clamp(min=0))
        pair: Tensor = 2 * self.epsilon * (s6 * s6 - s6) * switch
        return pair.new_zeros(species.shape[0]).index_add(0, edge_index[1], pair)
