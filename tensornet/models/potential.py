"""The base of every interatomic potential: energies from a subclass, all else derived here.

A subclass says what the interaction energy of each atom is, as a function of the species and of
the vectors to the neighbours. Energies, forces, virials and stress follow by one derivative with
respect to the edge vectors, the same for every architecture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch
from ase.data import chemical_symbols
from pydantic import BaseModel
from torch import Tensor, nn

from tensornet.atoms import edge_vectors
from tensornet.models.long_range import LongRange, Taped, Written

if TYPE_CHECKING:
    from torch_geometric.data import Data


class Inferred(NamedTuple):
    """What an evaluation without autograd gives.

    Args:
        energies: Interaction energies, (n,), eV.
        last_layer: What they are linear in, (n, d).
        gradients: Derivatives of their sum by the edge vectors, (e, 3), eV/Å; zero for long ones.
        forces: On the atoms, (n, 3), eV/Å.
        virials: Half of each edge's at either atom, (n, 3, 3), eV.
    """

    energies: Tensor
    last_layer: Tensor
    gradients: Tensor
    forces: Tensor
    virials: Tensor


class Potential(nn.Module):
    """An interatomic potential: structures in, energies, forces and stress out.

    Units are Å and eV. Reference energies are kept and added in float64 whatever the dtype of the
    parameters is, because total energies of -17,000 eV leave float32 no digits for chemistry.

    Args:
        config: The validated block `model` of a recipe.
        elements: Atomic numbers the model knows.
        reference_energies: Energy of the free atom per atomic number, eV.

    Attributes:
        elements: Atomic numbers, sorted.
        config: The settings, JSON-able.
        cutoff: Radius of the neighbourhood, Å.
        conservative: Whether forces are derivatives of the energy.
        provenance: What the model file says of the training.
        inference: Evaluates the model without autograd, where there is a way; see
            `gaunt_inference`.
        long_range: Charges and their electrostatics, or None.

    Raises:
        ValueError: If there is no element, or one without a finite reference energy.
    """

    conservative: bool = True
    reference: Tensor

    def __init__(
        self,
        config: BaseModel,
        *,
        elements: Sequence[int],
        reference_energies: Mapping[int, float],
    ) -> None:
        super().__init__()
        self.elements = tuple(sorted({int(z) for z in elements}))
        if not self.elements or self.elements[0] < 1 or self.elements[-1] > 118:
            raise ValueError(
                "`Potential(elements=...)` must be one or more atomic numbers from 1 to 118. "
                f"Got {tuple(elements)}."
            )
        missing = [chemical_symbols[z] for z in self.elements if z not in reference_energies]
        if missing:
            raise ValueError(
                "`Potential(reference_energies=...)` must have an energy for every element. "
                f"Missing: {', '.join(missing)}."
            )
        values = [float(reference_energies[z]) for z in self.elements]
        if not all(map(math.isfinite, values)):
            raise ValueError(
                "`Potential(reference_energies=...)` must be finite, in eV. Got "
                f"{dict(zip(self.elements, values, strict=True))}."
            )
        self.config: dict[str, Any] = config.model_dump(mode="json")
        self.cutoff = float(self.config["cutoff"])
        self.provenance: dict[str, Any] = {}
        # Of species, edge_index and vectors, of which those beyond the cutoff count for nothing.
        self.inference: Callable[..., Inferred] | None = None
        self.long_range: LongRange | None = None
        self.register_buffer("reference", torch.tensor(values, dtype=torch.float64))
        index = torch.full((119,), -1)
        index[list(self.elements)] = torch.arange(len(self.elements))
        self.register_buffer("species_of", index, persistent=False)
        self.species_of: Tensor

    # --- what a subclass says ---------------------------------------------------------------

    def interaction_energies(
        self,
        species: Tensor,  # (n,)
        edge_index: Tensor,  # (2, e)
        vectors: Tensor,  # (e, 3)
    ) -> Tensor:  # (n,)
        """Give the interaction energy of each atom, eV: zero for an atom without neighbours.

        Args:
            species: Position of each atom's element in `elements`.
            edge_index: Rows sender (the neighbour) and receiver (the centre).
            vectors: From receiver to sender, Å, all shorter than `cutoff`.

        Returns:
            Energies without the references, in the dtype of `vectors`.
        """
        raise NotImplementedError

    def direct_forces(
        self,
        species: Tensor,  # (n,)
        edge_index: Tensor,  # (2, e)
        vectors: Tensor,  # (e, 3)
    ) -> tuple[Tensor, Tensor]:  # (n,), (n, 3)
        """Give energies and forces of a head of their own. Only if `conservative` is false.

        Args:
            species: As in `interaction_energies`.
            edge_index: As there.
            vectors: As there.

        Returns:
            Energies without the references, eV, and forces, eV/Å.
        """
        raise NotImplementedError

    # --- what follows for all of them -------------------------------------------------------

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the parameters; float64 if there are none."""
        return next((p.dtype for p in self.parameters()), torch.float64)

    @property
    def device(self) -> torch.device:
        """The device of parameters and buffers."""
        return self.reference.device

    @property
    def reference_energies(self) -> dict[int, float]:
        """Energy of the free atom per atomic number, eV."""
        return dict(zip(self.elements, self.reference.tolist(), strict=True))

    @property
    def n_hops(self) -> int:
        """How many edges lie between an atom and the furthest that its energy depends on."""
        return int(self.config.get("layers", 1))

    @property
    def n_parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def forward(self, graph: Data, *, forces: bool = True) -> dict[str, Tensor]:
        """Evaluate one structure or a batch of them.

        Args:
            graph: From `tensornet.atoms.graph`, alone or in a PyG `Batch`. Edges longer than the
                cutoff (from a list with a skin) are left out.
            forces: Whether to derive forces and virials too.

        Returns:
            ``energy`` (s,), ``energies`` (n,) and ``interaction_energy`` (s,), eV, float64; with
            forces also ``forces`` (n, 3) eV/Å, ``virial`` (s, 3, 3) = dE/dstrain and, in
            evaluation mode, ``virials`` (n, 3, 3), eV; ``stress`` (s, 3, 3) eV/Å³ with ASE's sign,
            NaN where a structure is not periodic in all directions. Differentiable in training
            mode, detached in evaluation mode. A model with a direct force head has no virials. A
            model with a long-range term also gives ``charges`` (n,), e.

        Raises:
            ValueError: If an element was not trained.
        """
        species = self._species(graph.z)
        batch = graph.get("batch")
        n_structures = int(graph.cell.shape[0])
        if batch is None:
            batch = torch.zeros_like(species)
        if self.inference is not None and not self.training:
            return self._inferred(self.inference, graph, species, batch, forces)
        with torch.enable_grad():
            vectors = edge_vectors(graph)
            keep = vectors.detach().norm(dim=-1) < self.cutoff
            edge_index = graph.edge_index
            if not bool(keep.all()):
                edge_index, vectors = edge_index[:, keep], vectors[keep]
            vectors = vectors.to(self.dtype)
            if not vectors.requires_grad:
                vectors.requires_grad_(forces and self.conservative)
            if forces and not self.conservative:
                interaction, head = self.direct_forces(species, edge_index, vectors)
                output = self._sums(interaction, species, batch, n_structures)
                output["forces"] = head
                output["stress"] = head.new_full((n_structures, 3, 3), torch.nan)
            else:
                interaction, last = self._evaluate(species, edge_index, vectors)
                far, interaction = self._far(graph, batch, species, interaction, last)
                output = self._sums(interaction, species, batch, n_structures)
                if last is not None and not self.training:
                    output |= self._more(last.detach(), batch, n_structures)
                if far is not None:
                    output["charges"] = far.charges
                if forces:
                    slopes = self._slopes(interaction, vectors, far)
                    output |= self._derivatives(graph, batch, slopes, edge_index, vectors, far)
        if not self.training:
            output = {name: value.detach() for name, value in output.items()}
        return output

    @torch.no_grad()
    def _inferred(
        self,
        inference: Callable[..., Inferred],
        graph: Data,
        species: Tensor,
        batch: Tensor,
        forces: bool,
    ) -> dict[str, Tensor]:
        """The same without autograd."""
        n = int(graph.cell.shape[0])
        found = inference(species, graph.edge_index, edge_vectors(graph))
        energies, on_atoms, virials = found.energies, found.forces, found.virials
        far, energies = self._far(graph, batch, species, energies, found.last_layer)
        output = self._sums(energies, species, batch, n)
        output |= self._more(found.last_layer, batch, n)
        if isinstance(far, Written):
            output["charges"] = far.charges
            on_atoms = on_atoms + far.forces.to(on_atoms.dtype)
            virials = virials + far.virials.to(virials.dtype)
        if forces:
            virial = sum_up(virials, batch, n)
            output |= {"forces": on_atoms, "virial": virial, "virials": virials}
            output["stress"] = _stress(graph, virial)
        return output

    def _sums(
        self, interaction: Tensor, species: Tensor, batch: Tensor, n: int
    ) -> dict[str, Tensor]:
        """Energies of atoms and structures."""
        interaction = interaction.to(torch.float64)
        energies = interaction + self.reference.index_select(0, species)
        return {
            "energies": energies,
            "interaction_energy": sum_up(interaction, batch, n),
            "energy": sum_up(energies, batch, n),
        }

    def _evaluate(
        self, species: Tensor, edge_index: Tensor, vectors: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Interaction energies, and the last layer of a network."""
        return self.interaction_energies(species, edge_index, vectors), None

    def _far(
        self, graph: Data, batch: Tensor, species: Tensor, near: Tensor, last: Tensor | None
    ) -> tuple[Taped | Written | None, Tensor]:
        """The long-range term, and the energies with it."""
        if self.long_range is None or last is None:
            return None, near
        how = self.long_range.taped if self.training else self.long_range.written
        far = how(graph, batch, species, last)
        return far, near.to(torch.float64) + far.energies

    def _slopes(
        self, interaction: Tensor, vectors: Tensor, far: Taped | Written | None
    ) -> list[Tensor]:
        """Derivatives by the edge vectors, and by positions and strain of the long-range term."""
        total = interaction.to(torch.float64).sum()
        if isinstance(far, Taped):
            return _gradients(total, [vectors, far.positions, far.strain], create_graph=True)
        if isinstance(far, Written):
            # Its derivatives are known but for those of the charges.
            total = total + (far.potentials * far.charges).sum()
        return _gradients(total, [vectors], create_graph=self.training)

    def _more(self, last: Tensor, batch: Tensor, n: int) -> dict[str, Tensor]:
        """What the last layer says besides, in evaluation mode."""
        return {}

    def _species(self, z: Tensor) -> Tensor:
        species = self.species_of.index_select(0, z)
        if len(species) and int(species.min()) < 0:
            unknown = sorted({int(i) for i in z[species < 0]})
            raise ValueError(
                "`Potential(graph)` must hold only elements that were trained. Got "
                f"{', '.join(chemical_symbols[i] for i in unknown)}; this model knows "
                f"{', '.join(chemical_symbols[i] for i in self.elements)}."
            )
        return species

    def _derivatives(
        self,
        graph: Data,
        batch: Tensor,
        slopes: Sequence[Tensor],
        edge_index: Tensor,
        vectors: Tensor,
        far: Taped | Written | None,
    ) -> dict[str, Tensor]:
        """Forces and virials from the derivative g with respect to the edge vectors.

        With v = x_s + shift - x_r: dE/dx_s gets +g, dE/dx_r gets -g, and under x -> x(1 + strain)
        every v moves by v strain, so dE/dstrain = sum over edges of v ⊗ g.
        """
        g = slopes[0]
        n, s = graph.z.shape[0], int(graph.cell.shape[0])
        sender, receiver = edge_index
        forces = g.new_zeros(n, 3).index_add(0, receiver, g).index_add(0, sender, -g)
        edge_virials = vectors[:, :, None] * g[:, None, :]
        edge_virials = (edge_virials + edge_virials.mT) / 2
        virial = sum_up(edge_virials, batch[receiver], s)
        if isinstance(far, Taped):
            forces, virial = forces - slopes[1].to(g.dtype), virial + slopes[2].to(g.dtype)
        elif far is not None:
            forces = forces + far.forces.to(g.dtype)
            virial = virial + sum_up(far.virials.to(g.dtype), batch, s)
        output = {"forces": forces, "virial": virial, "stress": _stress(graph, virial)}
        if not self.training:
            half = edge_virials.detach() / 2
            virials = half.new_zeros(n, 3, 3).index_add(0, receiver, half)
            output["virials"] = virials.index_add(0, sender, half)
            if isinstance(far, Written):
                output["virials"] += far.virials.to(g.dtype)
        return output

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.inference = None  # it was made for the numbers as they were
        reference = self.reference
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        # `.float()` and `.to(torch.float32)` must not round total energies.
        self.reference = reference.to(self.reference.device)
        return self


def sum_up(x: Tensor, index: Tensor, n: int) -> Tensor:
    """Sum rows by their index, one of n."""
    if n == 1:
        return x.sum(0, keepdim=True)
    return x.new_zeros((n, *x.shape[1:])).index_add(0, index, x)


def _stress(graph: Data, virial: Tensor) -> Tensor:  # (s, 3, 3)
    """Virials over volumes; what is not periodic in all directions has none."""
    periodic = graph.pbc.all(-1)
    if virial.device.type == "cpu" and not bool(periodic.any()):
        return torch.full_like(virial, torch.nan)
    volume = torch.where(periodic, torch.linalg.det(graph.cell).abs(), torch.nan)
    return virial / volume.to(virial.dtype)[:, None, None]


def _gradients(y: Tensor, xs: Sequence[Tensor], *, create_graph: bool) -> list[Tensor]:
    """Differentiate a scalar; zero where it does not depend on an x (a batch of lone atoms)."""
    if not y.requires_grad:
        return [torch.zeros_like(x) for x in xs]
    found = torch.autograd.grad(y, xs, create_graph=create_graph, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(xs, found, strict=True)]
