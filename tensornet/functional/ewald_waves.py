"""The smooth part of a lattice sum: structure factors of charges by matrix products."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

CHUNK = 2**22  # phases that are in memory at once, where no derivatives are kept


class Waves(NamedTuple):
    """Half of the wave vectors of g lattices, on one grid of integers.

    Args:
        numbers: The integers along each reciprocal vector, from zero along the first.
        vectors: Wave vectors, (g, a, b c, 3), 1/Å.
        weights: What the squares of structure factors are multiplied by, (g, a, b c), 1/Å; zero
            beyond the largest wave vector, and twice as large where the other half is left out.
        slopes: Twice the derivative of a weight by the square of its wave vector, less its sign,
            over the weight, (g, a, b c), Å².
        inverse: Inverse cells, (g, 3, 3).
    """

    numbers: tuple[Tensor, Tensor, Tensor]
    vectors: Tensor
    weights: Tensor
    slopes: Tensor
    inverse: Tensor


def waves(
    cells: Tensor,  # (g, 3, 3)
    rates: Tensor,  # (g,)
    largest: Tensor,  # (g,)
) -> Waves:
    """Make the wave vectors of lattices, and their weights for charges.

    Args:
        cells: Lattice vectors as rows, Å.
        rates: As in `Splitting`.
        largest: As in `Splitting`.
    """
    lengths = torch.linalg.vector_norm(cells.detach(), dim=-1)
    ends = (largest[:, None] * lengths / (2 * math.pi)).floor().amax(0).long().tolist()
    first, *others = (
        torch.arange(0 if k == 0 else -end, end + 1, dtype=cells.dtype, device=cells.device)
        for k, end in enumerate(ends)
    )
    inverse = torch.linalg.inv(cells)
    grid = torch.cartesian_prod(first, *others).reshape(len(first), -1, 3)
    vectors = 2 * math.pi * grid @ inverse.mT[:, None]
    square = vectors.square().sum(-1)
    inside = (square.detach() <= largest[:, None, None] ** 2) & grid.any(-1)
    square = torch.where(inside, square, 1.0)
    volume = torch.linalg.det(cells).abs()
    fall = 0.25 / rates[:, None, None] ** 2
    factor = inside.to(cells.dtype) * (1 + (grid[..., 0] > 0).to(cells.dtype)) * 4 * math.pi
    weights = factor * torch.exp(-fall * square) / (square * volume[:, None, None])
    return Waves((first, others[0], others[1]), vectors, weights, 2 / square + 2 * fall, inverse)


def wave_potentials(
    x: Tensor,  # (g, m, 3)
    q: Tensor,  # (g, m)
    lattice: Waves,
) -> Tensor:  # (g, m)
    """Give the potentials of the smooth part, that of each charge on itself included.

    Args:
        x: Positions, Å.
        q: Charges.
        lattice: The wave vectors.
    """
    one, others = _phases(x, lattice)
    factors = (q[..., None] * one).mT @ others  # (g, a, b c)
    back = others.conj() @ (lattice.weights * factors).mT  # (g, m, a)
    return (one.conj() * back).sum(-1).real


def wave_slopes(
    x: Tensor,  # (g, m, 3)
    q: Tensor,  # (g, m)
    lattice: Waves,
) -> tuple[Tensor, Tensor, Tensor]:  # (g, m), (g, m, 3), (g, m, 3, 3)
    """Give potentials, gradients of the energy, and virials, in pieces that fit in memory.

    Args:
        x: Positions, Å.
        q: Charges.
        lattice: The wave vectors.
    """
    g, a, waves, _ = lattice.vectors.shape
    rows = max(1, CHUNK // max(1, g * waves))
    parts = [slice(k, k + rows) for k in range(0, x.shape[1], rows)]
    phases = [_phases(x[:, part], lattice) for part in parts[:1]]  # kept where one part is all
    factors = torch.zeros(g, a, waves, dtype=torch.complex128, device=x.device)
    for number, part in enumerate(parts):
        one, others = phases[number] if len(parts) == 1 else _phases(x[:, part], lattice)
        factors += (q[:, part, None] * one).mT @ others
    filtered = lattice.weights * factors
    k = lattice.vectors
    i, j = torch.triu_indices(3, 3, device=x.device)
    second = filtered * lattice.slopes
    columns = [filtered, *(filtered * k[..., t] for t in range(3))]
    columns += [second * k[..., s] * k[..., t] for s, t in zip(i.tolist(), j.tolist(), strict=True)]
    every = torch.cat(columns, 1).mT  # (g, b c, 10 a)
    found = []
    for number, part in enumerate(parts):
        one, others = phases[number] if len(parts) == 1 else _phases(x[:, part], lattice)
        back = (others.conj() @ every).unflatten(-1, (10, a))
        sums = (one.conj()[..., None, :] * back).sum(-1)  # (g, m, 10)
        mine = q[:, part]
        potentials, gradients = sums[..., 0].real, mine[..., None] * sums[..., 1:4].imag
        virials = x.new_zeros(*mine.shape, 3, 3)
        virials[..., i, j] = virials[..., j, i] = sums[..., 4:].real
        virials -= potentials[..., None, None] * torch.eye(3, dtype=x.dtype, device=x.device)
        found.append((potentials, gradients, 0.5 * mine[..., None, None] * virials))
    return tuple(torch.cat(each, 1) for each in zip(*found, strict=True))  # type: ignore[return-value]


def _phases(x: Tensor, lattice: Waves) -> tuple[Tensor, Tensor]:  # (g, m, a), (g, m, b c)
    turns = 2 * math.pi * x @ lattice.inverse
    powers = []
    for axis, numbers in enumerate(lattice.numbers):
        angle = turns[..., axis, None] * numbers
        powers.append(torch.complex(angle.cos(), angle.sin()))
    return powers[0], (powers[1][..., :, None] * powers[2][..., None, :]).flatten(2)
