"""The long-range term of a network: electrostatics of smeared charges, given or predicted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

import torch
from ase.data import atomic_numbers, chemical_symbols
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, model_validator
from torch import Tensor, nn

from tensornet.functional import electrostatic_forces, electrostatics

if TYPE_CHECKING:
    from torch_geometric.data import Data


class LongRangeConfig(BaseModel):
    """Settings of `LongRange`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    charges: Literal["fixed", "predicted"] = Field(
        description="one per element, as in `values`; or read from the features of each atom"
    )
    values: dict[str, float] = Field({}, description="charges by symbol, e, if they are fixed")
    correction: Literal["uniform", "weighted"] = Field(
        "uniform",
        description="what predicted charges lack of the total: evenly for all atoms, or with a "
        "trained weight per element (an inverse hardness)",
    )
    smearing: PositiveFloat = Field(
        1.0, description="width of the Gaussians that stand for the charges, Å"
    )
    tolerance: float = Field(
        1e-6, ge=1e-13, le=1e-2, description="error of the lattice sums, for charges of one e"
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        unknown = sorted(set(self.values) - set(atomic_numbers))
        if unknown:
            raise ValueError(f"values must be by symbols of elements, not {', '.join(unknown)}")
        if self.charges == "fixed" and not self.values:
            raise ValueError("charges: fixed needs values, as {Na: 1, Cl: -1}")
        if self.charges == "predicted" and self.values:
            raise ValueError("values need charges: fixed")
        return self


class Taped(NamedTuple):
    """Energies of a long-range term, differentiable, and what they are functions of.

    Args:
        charges: Of the atoms, (n,), e.
        energies: Of the atoms, (n,), eV.
        positions: Of the atoms, (n, 3), to differentiate by.
        strain: Of the structures, (s, 3, 3), to differentiate by.
    """

    charges: Tensor
    energies: Tensor
    positions: Tensor
    strain: Tensor


class Written(NamedTuple):
    """Energies of a long-range term, and their derivatives for charges that are kept.

    Args:
        charges: Of the atoms, (n,), e.
        energies: Of the atoms, (n,), eV.
        potentials: Derivatives of the energy by the charges, (n,), V.
        forces: On the atoms, (n, 3), eV/Å.
        virials: Of the atoms, (n, 3, 3), eV.
    """

    charges: Tensor
    energies: Tensor
    potentials: Tensor
    forces: Tensor
    virials: Tensor


class LongRange(nn.Module):
    """Charges of the atoms, and what these do to each other at any distance.

    Each charge is a Gaussian, so that charges close to each other have a finite, smooth energy,
    which the network corrects within its cutoff. Periodic structures are summed by Ewald's method.

    Predicted charges are a number per element plus a linear function of the last layer of the
    network, which is zero for an atom without neighbours. What they lack of the total charge of
    the structure (`graph.charge`, from ``atoms.info["charge"]``, zero by default) is added to all
    atoms, evenly or weighted. Fixed charges are taken as they are. A crystal whose charges do not
    add up to zero has a uniform background.

    Args:
        config: Settings.
        elements: Atomic numbers of the model.
        width: Length of the last layer.

    Raises:
        ValueError: If an element has no fixed charge.

    References:
        Ko et al., A fourth-generation high-dimensional neural network potential, Nature
        Communications 12, 398 (2021); Cheng, Latent Ewald summation, arXiv 2408.15165 (2024).
    """

    charge: Tensor

    def __init__(self, config: LongRangeConfig, elements: Sequence[int], width: int) -> None:
        super().__init__()
        self.smearing, self.tolerance = config.smearing, config.tolerance
        self.predicted = config.charges == "predicted"
        self.readout: nn.Linear | None = None
        self.element: nn.Parameter | None = None
        self.softness: nn.Parameter | None = None
        if self.predicted:
            self.readout = nn.Linear(width, 1, bias=False)
            # Not zero: the energy is quadratic in the charges, and flat where all are zero.
            nn.init.normal_(self.readout.weight, std=0.3 / width**0.5)
            self.element = nn.Parameter(0.3 * torch.randn(len(elements)))
            if config.correction == "weighted":
                self.softness = nn.Parameter(torch.zeros(len(elements)))
            return
        missing = [
            chemical_symbols[z] for z in elements if chemical_symbols[z] not in config.values
        ]
        if missing:
            raise ValueError(
                "`model: {long_range: {values: ...}}` must have a charge for every element. "
                f"Missing: {', '.join(missing)}."
            )
        values = [config.values[chemical_symbols[z]] for z in elements]
        self.register_buffer("charge", torch.tensor(values, dtype=torch.float64))

    def charges(
        self,
        species: Tensor,  # (n,)
        last: Tensor,  # (n, d)
        total: Tensor,  # (s,)
        batch: Tensor,  # (n,)
    ) -> Tensor:  # (n,)
        """Give the charge of each atom, e, float64.

        Args:
            species: Which element each atom is.
            last: The last layer of the network.
            total: Charges of the structures.
            batch: The structure of each atom.

        Raises:
            ValueError: If the charge of a structure is no finite number.
        """
        if self.readout is None or self.element is None:
            return self.charge.to(torch.float64).index_select(0, species)
        if not bool(torch.isfinite(total).all()):
            raise ValueError(
                '`atoms.info["charge"]` must be a finite number: the total charge in e. Got '
                f"{total[~torch.isfinite(total)][0].item()}."
            )
        found = self.readout(last)[:, 0] + self.element.index_select(0, species)
        found = found.to(torch.float64)
        share = torch.ones_like(found)
        if self.softness is not None:
            share = self.softness.to(torch.float64).exp().index_select(0, species)
        sums = torch.stack((found, share), 1)
        sums = sums.new_zeros(len(total), 2).index_add(0, batch, sums).index_select(0, batch)
        lack = total.to(torch.float64).index_select(0, batch) - sums[:, 0]
        charges: Tensor = found + share / sums[:, 1] * lack
        return charges

    def taped(self, graph: Data, batch: Tensor, species: Tensor, last: Tensor) -> Taped:
        """Give energies that can be differentiated by positions, strain, and what `last` is of.

        Args:
            graph: The structures.
            batch: The structure of each atom.
            species: Which element each atom is.
            last: The last layer of the network.
        """
        charges = self.charges(species, last, total_charge(graph), batch)
        x, cell = graph.pos.to(torch.float64), graph.cell.to(torch.float64)
        # By itself, so that the caller may differentiate by `graph.pos` too.
        x = 1.0 * x if x.requires_grad else x.detach().clone().requires_grad_()
        strain = torch.zeros_like(cell).requires_grad_()
        symmetric = (strain + strain.mT) / 2
        moved = x + (x[:, None] @ symmetric.index_select(0, batch))[:, 0]
        found = electrostatics(
            moved, charges, cell + cell @ symmetric, graph.pbc, batch,
            smearing=self.smearing, tolerance=self.tolerance,
        )  # fmt: skip
        return Taped(charges, found.energies, x, strain)

    def written(self, graph: Data, batch: Tensor, species: Tensor, last: Tensor) -> Written:
        """Give energies and derivatives without autograd, but for the charges.

        Args:
            graph: The structures.
            batch: The structure of each atom.
            species: Which element each atom is.
            last: The last layer of the network.
        """
        charges = self.charges(species, last, total_charge(graph), batch)
        found = electrostatic_forces(
            graph.pos, charges.detach(), graph.cell, graph.pbc, batch,
            smearing=self.smearing, tolerance=self.tolerance,
        )  # fmt: skip
        return Written(charges, *found[1:])


def total_charge(graph: Data) -> Tensor:  # (s,)
    """Give the charges of the structures of a graph, e: zero where it does not say."""
    known: Tensor | None = graph.get("charge")
    return graph.cell.new_zeros(len(graph.cell)) if known is None else known
