"""Electrostatics of point charges and of Gaussian ones: clusters, crystals, slabs, in batches."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tensornet.atoms.units import COULOMB
from tensornet.functional.ewald_pairs import (
    cluster_potentials,
    cluster_slopes,
    list_potentials,
    list_slopes,
)
from tensornet.functional.ewald_problem import Problem
from tensornet.functional.ewald_waves import wave_potentials, wave_slopes


class Electrostatics(NamedTuple):
    """What charges do to each other, without what each does to itself.

    Attributes:
        energy: Of each structure, (s,), eV.
        energies: Half of each charge times its potential, (n,), eV; they add up to `energy`.
        potentials: At the charges, (n,), V: derivatives of `energy` by the charges.
    """

    energy: Tensor
    energies: Tensor
    potentials: Tensor


class ElectrostaticForces(NamedTuple):
    """The same with first derivatives.

    Attributes:
        energy: Of each structure, (s,), eV.
        energies: Half of each charge times its potential, (n,), eV.
        potentials: At the charges, (n,), V.
        forces: With all charges kept, (n, 3), eV/Å.
        virials: Shares of the atoms in the derivative of `energy` by strain, (n, 3, 3), eV.
    """

    energy: Tensor
    energies: Tensor
    potentials: Tensor
    forces: Tensor
    virials: Tensor


def electrostatics(
    positions: Tensor,  # (n, 3)
    charges: Tensor,  # (n,)
    cell: Tensor | None = None,  # (s, 3, 3)
    pbc: Tensor | None = None,  # (s, 3) bool
    batch: Tensor | None = None,  # (n,)
    *,
    smearing: float = 0.0,
    tolerance: float = 1e-8,
    width: float | None = None,
) -> Electrostatics:
    r"""Compute energies and potentials of charges, differentiable.

    Charges of a cluster see each other; those of a crystal all images of a lattice (Ewald's
    summation, in vacuum-independent "tin foil" convention); those of a slab, periodic along two
    lattice vectors, all images in the plane. Width and cutoffs of the summation are chosen for the
    least work within `tolerance`. Slabs are summed as crystals of slabs, so far apart that only the
    dipoles and the background of the others are felt, which are taken out exactly.

    A crystal with a net charge has a uniform background that makes it neutral; potentials are zero
    on average over the cell. In a slab with a net charge there is none: the potential of a plane is
    -2 pi |z| per charge and area.

    Args:
        positions: Å.
        charges: e.
        cell: Lattice vectors as rows, Å; `(3, 3)` for one structure. Not needed for clusters.
        pbc: Which of them are periodic; by default all where there is a cell, else none.
        batch: The structure of each charge, in order, as in PyTorch Geometric.
        smearing: Width (standard deviation of each coordinate) of Gaussians that stand for all the
            charges, Å: pairs then interact by erf(r/(2 smearing))/r, which is finite. Zero for
            points, whose energy is infinite where two are at one place.
        tolerance: Error of the potentials, in units of the root-mean-square charge over 1 Å (in
            volts times 14.4), and of fields, of the same over 1 Å². Estimated with a margin, for
            charges that are not correlated.
        width: Width of Gaussians whose interaction is summed over waves, Å. By default the
            cheapest; the result does not depend on it.

    Returns:
        Energies and potentials, float64.

    Raises:
        TypeError: If positions or charges are no real tensors, or the batch is of no whole numbers.
        ValueError: If shapes do not fit, numbers are not finite, a structure is periodic along one
            lattice vector only, or periodic lattice vectors span no area or volume.

    Derivatives:
        Of any order, with respect to positions, charges, and cell. For clusters, memory grows with
        the square of the number of charges.

    References:
        Ewald, Annalen der Physik 369, 253 (1921); Kolafa & Perram, Molecular Simulation 9, 351
        (1992), for errors; Yeh & Berkowitz, J. Chem. Phys. 111, 3155 (1999) and Ballenegger et al.,
        J. Chem. Phys. 131, 094107 (2009), for slabs.

    Examples:
        Madelung's constant of rock salt:

        >>> salt = torch.tensor([[0.0, 0, 0], [0, 0, 1]], dtype=torch.float64)
        >>> cell = torch.tensor([[0, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=torch.float64)
        >>> found = electrostatics(salt, torch.tensor([1.0, -1.0]), cell)
        >>> round(float(-found.energy / COULOMB), 8)
        1.74756459
    """
    made = Problem(
        "electrostatics", positions, charges, cell, pbc, batch, smearing, tolerance, width
    )
    potentials = torch.zeros_like(made.q)
    for places, there in made.clusters:
        x, q = made.x[places], made.q[places] * there
        found = cluster_potentials(x, q, there, made.high)
        potentials = potentials.index_add(0, places[there], found[there])
    if made.crystals:
        ends, d, low = made.pairs()
        potentials = potentials + list_potentials(d, ends, made.q, low, made.high)
        for members, places, there in made.crystals:
            x, q = made.x[places], made.q[places] * there
            found = wave_potentials(x, q, made.waves(members)) + made.offsets(members, x, q)[0]
            potentials = potentials.index_add(0, places[there], found[there])
    potentials = COULOMB * potentials
    energies = 0.5 * made.q * potentials
    energy = energies.new_zeros(made.n).index_add(0, made.batch, energies)
    return Electrostatics(energy, energies, potentials)


@torch.no_grad()
def electrostatic_forces(
    positions: Tensor,  # (n, 3)
    charges: Tensor,  # (n,)
    cell: Tensor | None = None,  # (s, 3, 3)
    pbc: Tensor | None = None,  # (s, 3) bool
    batch: Tensor | None = None,  # (n,)
    *,
    smearing: float = 0.0,
    tolerance: float = 1e-8,
    width: float | None = None,
) -> ElectrostaticForces:
    """Compute energies, potentials, forces and virials of charges, without autograd.

    The derivatives are written out: faster than to differentiate `electrostatics`, whose numbers
    and arguments these are, and in less memory, which grows with the number of charges and not
    with its square.

    Args:
        positions: Å.
        charges: e.
        cell: As in `electrostatics`.
        pbc: As in `electrostatics`.
        batch: As in `electrostatics`.
        smearing: As in `electrostatics`.
        tolerance: As in `electrostatics`.
        width: As in `electrostatics`.

    Returns:
        Energies, potentials, forces and virials, float64, detached.

    Raises:
        TypeError: As `electrostatics` does.
        ValueError: As `electrostatics` does.

    Examples:
        >>> pair = torch.tensor([[0.0, 0, 0], [0, 0, 2]])
        >>> electrostatic_forces(pair, torch.tensor([1.0, -1.0])).forces[0, 2].item()
        3.599911369606417
    """
    made = Problem(
        "electrostatic_forces", positions, charges, cell, pbc, batch, smearing, tolerance, width
    )
    total = [
        torch.zeros_like(made.q),
        torch.zeros_like(made.x),
        made.x.new_zeros(len(made.q), 3, 3),
    ]

    def add(places: Tensor, there: Tensor, found: tuple[Tensor, Tensor, Tensor]) -> None:
        for sums, part in zip(total, found, strict=True):
            sums.index_add_(0, places[there], part[there])

    for places, there in made.clusters:
        x, q = made.x[places], made.q[places] * there
        add(places, there, cluster_slopes(x, q, there, made.high))
    if made.crystals:
        ends, d, low = made.pairs()
        for sums, part in zip(total, list_slopes(d, ends, made.q, low, made.high), strict=True):
            sums += part
        for members, places, there in made.crystals:
            x, q = made.x[places], made.q[places] * there
            add(places, there, wave_slopes(x, q, made.waves(members)))
            add(places, there, made.offsets(members, x, q))
    potentials = COULOMB * total[0]
    energies = 0.5 * made.q * potentials
    energy = energies.new_zeros(made.n).index_add(0, made.batch, energies)
    return ElectrostaticForces(
        energy, energies, potentials, -COULOMB * total[1], COULOMB * total[2]
    )
