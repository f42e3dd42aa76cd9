"""The energy of some of the atoms, and the part of a graph that it depends on.

A potential with messages sees as far as its layers carry it. Who computes only some of the atoms
(one process of several, or one piece of a large structure) needs the edges within that reach, and
gets forces on all atoms in it: the parts add up to the whole, exactly.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tensornet.models import Potential


@dataclass(frozen=True)
class Share:
    """What the energy of some atoms gives.

    Args:
        energies: Of all n atoms with references, eV; only those that were asked for mean anything.
        gradients: Of the sum over the atoms asked for, by edge vectors, (e, 3), eV/Å.
    """

    energies: Tensor
    gradients: Tensor


def within_reach(
    edge_index: NDArray[np.int64],  # (2, e)
    own: NDArray[np.bool_],  # (n,)
    n_hops: int,
) -> NDArray[np.bool_]:  # (e,)
    """Find the edges that the energy of some atoms depends on.

    Args:
        edge_index: Rows sender and receiver.
        own: The atoms whose energy is wanted.
        n_hops: How many edges away an atom may matter, as `Potential.n_hops`.

    Returns:
        Which edges end at an atom less than `n_hops` edges away.
    """
    sender, receiver = edge_index
    near, edges = own.copy(), np.zeros(len(sender), bool)
    for _ in range(n_hops):
        edges = near[receiver]
        near[sender[edges]] = True
    return edges


def must_be_local(model: Potential, caller: str) -> None:
    """Refuse a model whose energies depend on atoms at any distance.

    Args:
        model: The potential.
        caller: Who asks, for the message.

    Raises:
        ValueError: If it has a long-range term.
    """
    if model.long_range is not None:
        raise ValueError(
            f"`{caller}(model=...)` must have energies that depend on the neighbourhood alone. Got "
            "a model with a long-range term, whose charges see all atoms. (Run it in ASE, with "
            "`PotentialCalculator`.)"
        )


def share(
    model: Potential,
    z: Tensor,  # (n,)
    edge_index: Tensor,  # (2, e)
    vectors: Tensor,  # (e, 3)
    own: Tensor,  # (n,) bool
) -> Share:
    """Evaluate the energy of some atoms and its derivatives.

    Args:
        model: The potential, in evaluation mode.
        z: Atomic numbers, all of elements the model knows.
        edge_index: Rows sender and receiver; all edges of `within_reach`.
        vectors: From receiver to sender, Å, float64. Those beyond the cutoff count for nothing.
        own: The atoms whose energy is wanted.

    Returns:
        Energies and gradients, float64.

    Raises:
        ValueError: If energies or gradients are not finite, or the model has a long-range term.
    """
    must_be_local(model, "share")
    species = model.species_of[z]
    if model.inference is not None:
        inferred = model.inference(species, edge_index, vectors.detach(), own)
        energies, gradients = inferred.energies, inferred.gradients.to(torch.float64)
    else:
        keep = ~(vectors.norm(dim=-1) >= model.cutoff)  # what is no number shall be noticed
        inside, found = vectors[keep].detach().to(model.dtype), None
        with torch.enable_grad():
            inside.requires_grad_()
            energies = model.interaction_energies(species, edge_index[:, keep], inside)
            total = energies[own].sum()
            if total.requires_grad:
                (found,) = torch.autograd.grad(total, inside, allow_unused=True)
        gradients = torch.zeros_like(vectors)
        if found is not None:
            gradients[keep] = found.to(torch.float64)
    bad = [int((~torch.isfinite(x)).sum()) for x in (energies[own], gradients)]
    if any(bad):
        raise ValueError(
            f"The model must give finite energies and forces. Got {bad[0]} energies and {bad[1]} "
            "derivatives that are no finite numbers. (Atoms that are too close, or a model with "
            "weights that are no numbers.)"
        )
    return Share(energies.detach().to(torch.float64) + model.reference[species], gradients)
