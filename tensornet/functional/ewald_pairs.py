"""Interactions of charges summed over pairs: all of a cluster, or those of a list."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tensornet.functional.ewald_choice import Array

CHUNK = 2**20  # pairs that are in memory at once, where no derivatives are kept
_TURN = 2 / math.sqrt(math.pi)


def rest(
    r: Tensor,  # (...)
    low: Tensor | float,  # (...)
    high: float,
) -> Tensor:  # (...)
    """Give what a slow interaction leaves of a fast one: (erf(high r) - erf(low r))/r.

    Args:
        r: Distances, Å.
        low: Rate of the slow one, 1/Å; zero for none.
        high: Rate of the fast one; infinite for points.
    """
    left = torch.erfc(low * r) if isinstance(low, Tensor) else 1.0
    return (left - torch.erfc(high * r) if math.isfinite(high) else left) / r


def slope(
    r: Tensor,  # (...)
    value: Tensor,  # (...)
    low: Tensor | float,  # (...)
    high: float,
) -> Tensor:  # (...)
    """Give the derivative of `rest` by the distance, over the distance.

    Args:
        r: Distances, Å.
        value: What `rest` gave.
        low: Rate of the slow interaction.
        high: Rate of the fast one.
    """
    total = -value
    if isinstance(low, Tensor):
        total = total - _TURN * low * torch.exp(-((low * r) ** 2))
    if math.isfinite(high):
        total = total + _TURN * high * torch.exp(-((high * r) ** 2))
    return total / r**2


def cluster_potentials(
    x: Tensor,  # (g, m, 3)
    q: Tensor,  # (g, m)
    there: Tensor,  # (g, m) bool
    high: float,
) -> Tensor:  # (g, m)
    """Give the potentials in clusters of charges, each of which sees all others.

    Args:
        x: Positions, Å.
        q: Charges, zero where there is none.
        there: Where there is one.
        high: As in `rest`.
    """
    _, kernel, _ = _kernel(x, x, there, there, 0, high)
    return (kernel @ q[..., None])[..., 0]


def cluster_slopes(
    x: Tensor,  # (g, m, 3)
    q: Tensor,  # (g, m)
    there: Tensor,  # (g, m) bool
    high: float,
) -> tuple[Tensor, Tensor, Tensor]:  # (g, m), (g, m, 3), (g, m, 3, 3)
    """Give potentials, gradients of the energy, and virials, in pieces that fit in memory.

    Args:
        x: Positions, Å.
        q: Charges, zero where there is none.
        there: Where there is one.
        high: As in `rest`.
    """
    found = []
    rows = max(1, CHUNK // max(1, x.shape[0] * x.shape[1]))
    for start in range(0, x.shape[1], rows):
        part = slice(start, start + rows)
        d, kernel, r = _kernel(x[:, part], x, there[:, part], there, start, high)
        force = slope(r, kernel, 0.0, high) * (kernel != 0) * q[:, None] * q[:, part, None]
        weighted = force[..., None] * d
        found.append(((kernel @ q[..., None])[..., 0], weighted.sum(2), 0.5 * weighted.mT @ d))
    if not found:
        return q, torch.zeros_like(x), x.new_zeros(*x.shape, 3)
    potentials, gradients, virials = (torch.cat(parts, 1) for parts in zip(*found, strict=True))
    return potentials, gradients, virials


def _kernel(
    x: Tensor, y: Tensor, here: Tensor, there: Tensor, first: int, high: float
) -> tuple[Tensor, Tensor, Tensor]:
    d = x[:, :, None] - y[:, None]
    pair = here[:, :, None] & there[:, None]
    pair = pair & ~torch.ones_like(pair).tril(first).triu(first)  # no charge sees itself
    r = _length(torch.where(pair, d.square().sum(-1), 1.0), high)
    return d, torch.where(pair, rest(r, 0.0, high), 0.0), r


def _length(square: Tensor, high: float) -> Tensor:
    """Distances; those of Gaussians at one place a little above zero, where formulas hold."""
    return (square.clamp(min=1e-8) if math.isfinite(high) else square).sqrt()


def half_list(
    x: Tensor,  # (n, 3)
    cells: Tensor,  # (s, 3, 3)
    slabs: Tensor,  # (s,) bool
    starts: list[int],
    cutoffs: Array,  # (s,)
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # (p,), (p,), (p, 3), (p,)
    """List the pairs closer than a cutoff, each once.

    Args:
        x: Positions, Å.
        cells: Lattice vectors.
        slabs: Which are not periodic along their third.
        starts: Where the charges of each structure start, and where the last ends.
        cutoffs: One per structure, Å; zero for no pairs.

    Returns:
        Both ends, lattice vectors to add to the second, and the structure.
    """
    import vesin  # takes a second

    found: list[tuple[Tensor, ...]] = []
    places, boxes = x.detach().cpu().double().numpy(), cells.detach().cpu().double().numpy()
    flat = slabs.tolist()
    for k, cutoff in enumerate(cutoffs.tolist()):
        first, last = starts[k], starts[k + 1]
        if cutoff == 0 or first == last:
            continue
        lists = vesin.NeighborList(cutoff=cutoff, full_list=False)
        i, j, shift = lists.compute(
            places[first:last], boxes[k], [True, True, not flat[k]], quantities="ijS"
        )
        ends = (torch.as_tensor(a.astype("int64")) + first for a in (i, j))
        owner = torch.full((len(i),), k)
        found.append((*ends, torch.as_tensor(shift.astype("float64")), owner))
    if not found:
        none = torch.zeros(0, dtype=torch.int64)
        found = [(none, none, torch.zeros(0, 3, dtype=torch.float64), none)]
    i, j, s, owner = (torch.cat(parts).to(x.device) for parts in zip(*found, strict=True))
    return i, j, s, owner


def list_potentials(
    d: Tensor,  # (p, 3)
    ends: tuple[Tensor, Tensor],  # (p,), (p,)
    q: Tensor,  # (n,)
    low: Tensor,  # (p,)
    high: float,
) -> Tensor:  # (n,)
    """Give the potentials of the pairs of a list.

    Args:
        d: From the first to the second end, Å.
        ends: Both ends.
        q: Charges.
        low: As in `rest`.
        high: As in `rest`.
    """
    i, j = ends
    kernel = rest(_length(d.square().sum(-1), high), low, high)
    out = torch.zeros_like(q).index_add(0, i, kernel * q.index_select(0, j))
    return out.index_add(0, j, kernel * q.index_select(0, i))


def list_slopes(
    d: Tensor,  # (p, 3)
    ends: tuple[Tensor, Tensor],  # (p,), (p,)
    q: Tensor,  # (n,)
    low: Tensor,  # (p,)
    high: float,
) -> tuple[Tensor, Tensor, Tensor]:  # (n,), (n, 3), (n, 3, 3)
    """Give potentials, gradients of the energy, and virials of the pairs of a list.

    Args:
        d: From the first to the second end, Å.
        ends: Both ends.
        q: Charges.
        low: As in `rest`.
        high: As in `rest`.
    """
    i, j = ends
    qi, qj = q.index_select(0, i), q.index_select(0, j)
    r = _length(d.square().sum(-1), high)
    kernel = rest(r, low, high)
    out = torch.zeros_like(q).index_add(0, i, kernel * qj).index_add(0, j, kernel * qi)
    g = (slope(r, kernel, low, high) * qi * qj)[:, None] * d
    gradients = g.new_zeros(len(q), 3).index_add(0, j, g).index_add(0, i, -g)
    half = 0.5 * g[:, :, None] * d[:, None]
    virials = g.new_zeros(len(q), 3, 3).index_add(0, i, half).index_add(0, j, half)
    return out, gradients, virials
