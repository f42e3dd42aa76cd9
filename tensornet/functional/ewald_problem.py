"""Charges made ready for summation: checked, in groups of structures of about one size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tensornet._check import shapes
from tensornet.functional.ewald_choice import Splitting, choose, gap
from tensornet.functional.ewald_pairs import half_list
from tensornet.functional.ewald_waves import Waves, waves

Whole = NDArray[np.int64]
Flags = NDArray[np.bool_]

FLAT = 1e-8  # a unit cell of edges of length one has this volume when it is degenerate


class Problem:
    """Charges of one or more structures, and how they are summed.

    Args:
        where: Who asks, for messages.
        positions: (n, 3), Å.
        charges: (n,), e.
        cell: (s, 3, 3) or (3, 3), Å.
        pbc: (s, 3) or (3,).
        batch: (n,).
        smearing: As in `electrostatics`.
        tolerance: As in `electrostatics`.
        width: As in `electrostatics`.

    Attributes:
        x: Positions, float64.
        q: Charges, float64.
        batch: Structure of each charge.
        n: Number of structures.
        high: Rate of the whole interaction erf(high r)/r; infinite for points.
        clusters: Groups of structures without periodicity: the place of each charge, with room up
            to the largest of the group, and whether there is one.
        crystals: Groups of periodic ones: their numbers, and the same.

    Raises:
        TypeError: If positions or charges are no real tensors, or the batch is of no whole numbers.
        ValueError: If something does not fit.
    """

    def __init__(
        self,
        where: str,
        positions: Tensor,
        charges: Tensor,
        cell: Tensor | None,
        pbc: Tensor | None,
        batch: Tensor | None,
        smearing: float,
        tolerance: float,
        width: float | None,
    ) -> None:
        _check_numbers(where, smearing, tolerance, width)
        for name, x in (("positions", positions), ("charges", charges)):
            if not isinstance(x, Tensor) or x.is_complex():
                got = x.dtype if isinstance(x, Tensor) else type(x).__name__
                raise TypeError(f"`{where}({name}=...)` must be a real torch.Tensor. Got {got}.")
        shapes(where, positions=(positions, "n 3"), charges=(charges, "n"))
        self.where, self.smearing = where, float(smearing)
        self.x, self.q = positions.to(torch.float64), charges.to(positions.device, torch.float64)
        _check_finite(where, positions=self.x, charges=self.q)
        self.batch, self.n, counts = _batch(where, self.x, cell, batch)
        self.starts = np.concatenate(([0], np.cumsum(counts))).tolist()
        periodic = _periodic(where, cell, pbc, self.n)
        self.high = 0.5 / smearing if smearing else math.inf
        dimensions = periodic.sum(1)
        self.clusters = [
            (places, there)
            for _, places, there in self._groups(np.flatnonzero(dimensions == 0), counts)
        ]
        lattices = np.flatnonzero(dimensions > 0)
        self.crystals = list(self._groups(lattices, counts))
        if self.crystals:
            assert cell is not None
            self._lattices(cell, periodic, counts, tolerance, width)

    def _groups(self, members: Whole, counts: Whole) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Structures of about one size, with at most half of their room empty."""
        order = members[np.argsort(-counts[members], kind="stable")]
        order = order[counts[order] > 0]
        device = self.x.device
        while len(order):
            sizes = counts[order]
            fits = sizes[0] * np.arange(1, len(order) + 1) <= 2 * np.cumsum(sizes)
            take = len(fits) if fits.all() else int(fits.argmin())
            chosen, order = order[:take], order[take:]
            column = np.arange(sizes[0])
            there = column < counts[chosen][:, None]
            places = np.where(there, np.asarray(self.starts)[chosen][:, None] + column, 0)
            arrays = (chosen, places, there)
            one, two, three = (torch.from_numpy(a).to(device) for a in arrays)
            yield one, two, three

    def _lattices(
        self,
        cell: Tensor,
        periodic: Flags,  # (s, 3)
        counts: Whole,  # (s,)
        tolerance: float,
        width: float | None,
    ) -> None:
        """Cells with periods along all of their vectors, and how to sum over them."""
        given = cell.to(self.x.device, torch.float64).expand(self.n, 3, 3)
        dimensions = periodic.sum(1)
        cells = list(given)
        for k in np.flatnonzero(dimensions == 0).tolist():
            cells[k] = torch.eye(3, dtype=torch.float64, device=self.x.device)
        for k in np.flatnonzero(dimensions == 2).tolist():
            a, b = (given[k, axis] for axis in np.flatnonzero(periodic[k]).tolist())
            cells[k] = torch.stack((a, b, self._across(k, a, b, tolerance)))
        _check_cells(self.where, cells, dimensions)
        self.slabs = torch.from_numpy(dimensions == 2).to(self.x.device)
        self.cells = torch.stack(cells)
        boxes = self.cells.detach().cpu().numpy()
        self.splitting: Splitting = choose(
            np.maximum(counts, 1).astype(np.float64),
            boxes, smearing=self.smearing, tolerance=tolerance, width=width,
        )  # fmt: skip
        none = dimensions == 0
        self.splitting.cutoff[none] = 0.0
        self.rates, self.largest = (
            torch.from_numpy(a).to(self.x.device)
            for a in (self.splitting.rate, self.splitting.largest)
        )

    def _across(self, k: int, a: Tensor, b: Tensor, tolerance: float) -> Tensor:  # (3,)
        """A period across a slab."""
        normal = torch.linalg.cross(a, b)
        length = float(torch.linalg.vector_norm(normal.detach()))
        if not length > FLAT * float(a.detach().norm() * b.detach().norm()):
            raise ValueError(
                f"`{self.where}(cell=...)` must have linearly independent lattice vectors along "
                f"the periodic directions. Got {a.tolist()} and {b.tolist()}."
            )
        normal = normal / torch.linalg.vector_norm(normal)
        mine = slice(self.starts[k], self.starts[k + 1])
        heights = (self.x[mine] @ normal).detach()
        height = float(heights.max() - heights.min()) if len(heights) else 0.0
        first, second = a.detach().cpu().numpy(), b.detach().cpu().numpy()
        wide = height + 6 * self.smearing  # waves across Gaussians reach further than their centres
        period: float = gap(wide, max(1, len(heights)), first, second, tolerance)
        return torch.mul(normal, period)

    def pairs(self) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
        """Pairs in real space: both ends (p,), their vectors (p, 3), and rates (p,)."""
        i, j, shift, owner = half_list(
            self.x, self.cells, self.slabs, self.starts, self.splitting.cutoff
        )
        offset = (shift[:, None] @ self.cells.index_select(0, owner))[:, 0]
        d = self.x.index_select(0, j) + offset - self.x.index_select(0, i)
        return (i, j), d, self.rates.index_select(0, owner)

    def waves(self, members: Tensor) -> Waves:
        """Wave vectors of some of the structures."""
        return waves(self.cells[members], self.rates[members], self.largest[members])

    def offsets(
        self,
        members: Tensor,  # (g,)
        x: Tensor,  # (g, m, 3)
        q: Tensor,  # (g, m)
    ) -> tuple[Tensor, Tensor, Tensor]:  # (g, m), (g, m, 3), (g, m, 3, 3)
        """What is no sum over pairs: potentials, gradients of the energy, and virials.

        The smooth potential of a charge on itself, the uniform background, and for slabs what
        their images do through dipole and net charge.
        """
        cells, rates, flat = self.cells[members], self.rates[members], self.slabs[members]
        volume = torch.linalg.det(cells).abs()
        total = q.sum(1)
        spread = math.pi * (rates**-2 - self.high**-2) * total / volume
        background = -spread[:, None].expand_as(q)
        potentials = background - 2 / math.sqrt(math.pi) * rates[:, None] * q
        one = torch.eye(3, dtype=x.dtype, device=x.device)
        gradients = torch.zeros_like(x)
        virials = -0.5 * (q * background)[..., None, None] * one
        if bool(flat.any()):
            factor = (4 * math.pi * flat.to(x.dtype) / volume)[:, None]
            normal = torch.linalg.cross(cells[:, 0], cells[:, 1])
            normal = normal / torch.linalg.vector_norm(normal, dim=-1, keepdim=True)
            z = ((x - x[:, :1].detach()) * normal[:, None]).sum(-1)
            dipole, charge = (q * z).sum(1, keepdim=True), total[:, None]
            period = (cells[:, 2] * normal).sum(-1, keepdim=True)
            images = z * dipole - 0.5 * (charge * z**2 + (q * z**2).sum(1, keepdim=True))
            images = factor * (images - charge * period**2 / 12)
            smeared = -factor * charge * self.smearing**2
            potentials = potentials + images + smeared
            gradients = (factor * q * (dipole - charge * z))[..., None] * normal[:, None]
            along = 2 * normal[:, :, None] * normal[:, None] - one
            virials = virials + 0.5 * (q * images)[..., None, None] * along[:, None]
            virials = virials - 0.5 * (q * smeared)[..., None, None] * one
        return potentials, gradients, virials


def _batch(
    where: str, x: Tensor, cell: Tensor | None, batch: Tensor | None
) -> tuple[Tensor, int, Whole]:
    if cell is not None and (cell.shape[-2:] != (3, 3) or cell.ndim not in (2, 3)):
        raise ValueError(
            f"`{where}(cell=...)` must have shape (3, 3) or (structures, 3, 3). Got "
            f"{tuple(cell.shape)}."
        )
    if batch is None:
        n = 1 if cell is None or cell.ndim == 2 else len(cell)
        if n != 1:
            raise ValueError(
                f"`{where}(batch=...)` must say which of {n} structures each charge belongs to. "
                "Got none."
            )
        return torch.zeros(len(x), dtype=torch.int64, device=x.device), 1, np.array([len(x)])
    shapes(where, positions=(x, "n 3"), batch=(batch, "n"))
    if batch.is_floating_point() or batch.is_complex():
        raise TypeError(f"`{where}(batch=...)` must hold whole numbers. Got {batch.dtype}.")
    owner = batch.detach().cpu().numpy()
    n = int(owner.max(initial=0)) + 1 if cell is None or cell.ndim == 2 else len(cell)
    if len(owner) and (owner.min() < 0 or owner.max() >= n or (np.diff(owner) < 0).any()):
        raise ValueError(
            f"`{where}(batch=...)` must be numbers of structures from 0 to {n - 1}, in order. Got "
            f"numbers from {owner.min()} to {owner.max()}."
        )
    return batch.to(x.device), n, np.bincount(owner, minlength=n)


def _periodic(where: str, cell: Tensor | None, pbc: Tensor | None, n: int) -> Flags:  # (s, 3)
    if pbc is None:
        return np.full((n, 3), cell is not None)
    periodic = torch.as_tensor(pbc).detach().cpu().numpy().astype(bool)
    if periodic.shape not in ((3,), (n, 3)):
        raise ValueError(
            f"`{where}(pbc=...)` must have shape (3,) or ({n}, 3). Got {periodic.shape}."
        )
    periodic = np.broadcast_to(periodic, (n, 3))
    if periodic.any() and cell is None:
        raise ValueError(f"`{where}(cell=...)` must be given for periodic structures. Got none.")
    if (wires := np.flatnonzero(periodic.sum(1) == 1)).size:
        raise ValueError(
            f"`{where}(pbc=...)` must be periodic along no, two or three lattice vectors. Got one "
            f"in structure {wires[0]}. (Lattice sums of wires are not there: make it periodic in "
            "three, with a wide gap.)"
        )
    return periodic


def _check_cells(where: str, cells: Sequence[Tensor], dimensions: Whole) -> None:
    for k, cell in enumerate(cells):
        known = cell.detach()
        volume = float(torch.linalg.det(known).abs())
        edges = float(torch.linalg.vector_norm(known, dim=1).prod())
        if dimensions[k] and not (math.isfinite(edges) and volume > FLAT * edges):
            raise ValueError(
                f"`{where}(cell=...)` must have finite, linearly independent lattice vectors. Got "
                f"{known.tolist()} in structure {k}."
            )


def _check_finite(where: str, **args: Tensor) -> None:
    for name, x in args.items():
        finite = torch.isfinite(x.detach())
        if not bool(finite.all()):
            row = int((~finite).nonzero()[0, 0])
            raise ValueError(
                f"`{where}({name}=...)` must be finite. Got {x[row].tolist()} for charge {row}."
            )


def _check_numbers(where: str, smearing: float, tolerance: float, width: float | None) -> None:
    if not (math.isfinite(smearing) and smearing >= 0):
        raise ValueError(f"`{where}(smearing=...)` must be a length in Å or zero. Got {smearing}.")
    if not 1e-15 <= tolerance <= 0.1:
        raise ValueError(f"`{where}(tolerance=...)` must be from 1e-15 to 0.1. Got {tolerance}.")
    if width is not None and not (math.isfinite(width) and width > 0):
        raise ValueError(f"`{where}(width=...)` must be a length in Å. Got {width}.")
