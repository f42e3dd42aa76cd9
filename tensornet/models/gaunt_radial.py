"""The radial networks of `Gaunt` for inference: tables per pair of species, or the networks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from tensornet.kernels.spline.cpu import slopes_of_tables, values_of_tables
from tensornet.layers import RadialMLP, TableCertificate, polynomial_envelope
from tensornet.layers.radial import FLAT
from tensornet.layers.table import derivatives, tabulate

if TYPE_CHECKING:
    from tensornet.models.gaunt import Gaunt

TOLERANCE = {torch.float32: 1e-7, torch.float64: 1e-10}  # of values, over the largest value
_OF_SLOPES = 30.0  # times that
_START = 0.1  # of the cutoff, where no contact is known: closer pairs take the networks
_INTERVALS = (64, 128, 256, 512, 1024, 2048)
_MOST = 2**29  # bytes
_ROUNDING = 1e-6  # of the cutoff: so far below its lowest a levelled distance may come


class Weights(ABC):
    """Radial weights of the edges in one evaluation."""

    @abstractmethod
    def layer(self, t: int) -> Tensor:  # (e, p, c)
        """Give the weights of a layer."""

    @abstractmethod
    def slope(self, g: Sequence[Tensor]) -> Tensor:  # (e,)
        """Differentiate the sum of `g`, one per layer, times the weights, in the distances."""


class PairWeights:
    """Makes the radial weights of all layers, where possible from tables of pairs of species.

    A table is made in float64 when a pair of species first occurs, with as many knots as keep its
    error below the tolerance at points between them. It begins where distances level out, since
    networks see none below; further in, trained networks are steep. Where tables would take too
    much memory or too many knots, or atoms come closer than they reach, the networks are evaluated.

    Args:
        model: The model, in evaluation mode.
        tables: Whether to make tables at all.

    Attributes:
        certificates: For each pair of species (sender, receiver) how good its table is.
    """

    def __init__(self, model: Gaunt, *, tables: bool = True) -> None:
        self.model, self.tables = model, tables
        self.nets = [cast(RadialMLP, layer.radial) for layer in model.layers]
        self.shapes = [net.last[0].shape[1:] for net in self.nets]
        self.starts = _starts(model)
        self.certificates: dict[tuple[int, int], TableCertificate] = {}
        self._n = _INTERVALS[0]
        self._n_species = len(model.elements) if model.pair_species else 1
        self._rows = torch.full((self._n_species, self._n_species), -1)  # where a table begins
        self._tables: list[Tensor] = []  # per layer

    def __call__(
        self,
        pair: Tensor,  # (e,) species of the sender, times their number, and of the receiver
        distances: Tensor,  # (e,) as the networks see them
    ) -> Weights:
        """Find the weights of every edge."""
        if self.tables and len(distances):
            at = pair if self.model.pair_species else torch.zeros_like(pair)
            start = self.starts.take(at)
            inside = distances - start
            if float(inside.min()) > -_ROUNDING * self.model.cutoff:
                rows = self._rows.take(at)
                if int(rows.min()) < 0 and self._extend(at):
                    rows = self._rows.take(at)
                if self.tables:
                    step = (self.model.cutoff - start) / self._n
                    x = inside.clamp_(min=0) / step
                    return _FromTables(self._tables, self.shapes, x, rows, 3 * (self._n + 1), step)
        return _FromNetworks(self, pair, distances)

    def _extend(self, at: Tensor) -> bool:
        """Make the tables that are missing; false if there shall be none."""
        pairs = [divmod(pair, self._n_species) for pair in torch.unique(at).tolist()]
        wanted = {**self.certificates, **dict.fromkeys(pairs)}
        size = sum(shape.numel() for shape in self.shapes) * self.model.dtype.itemsize
        least = float(self._n)
        for n in _INTERVALS:
            if n >= least and 3 * (n + 1) * size * len(wanted) <= _MOST:
                known = self.certificates if n == self._n else {}
                made, excess = self._make(n, [pair for pair in wanted if pair not in known])
                if made is not None:
                    self._join(n, made)
                    return True
                least = 0.7 * n * excess ** (1 / 6)  # the error is of sixth order in the step
        self.tables, self._tables, self.certificates = False, [], {}
        return False

    def _make(
        self, n: int, pairs: Sequence[tuple[int, int]]
    ) -> tuple[dict[tuple[int, int], tuple[Tensor, TableCertificate]] | None, float]:
        """Tables of some pairs; none if one is not good enough, and how far it is from that."""
        made, tolerance = {}, TOLERANCE[self.model.dtype]
        for pair in pairs:
            jet, held_out = partial(self._jet, pair), 3
            start = float(self.starts[pair])
            table, found = tabulate(jet, start, self.model.cutoff, n, held_out)
            if not (found.value <= tolerance and found.slope <= _OF_SLOPES * tolerance):
                return None, found.value / tolerance
            made[pair] = table.to(self.model.dtype), found
        return made, 0.0

    def _join(self, n: int, made: dict[tuple[int, int], tuple[Tensor, TableCertificate]]) -> None:
        """Put new tables behind those that stay."""
        if n != self._n:
            self._n, self._tables, self.certificates = n, [], {}
        for pair, (_, certificate) in made.items():
            self._rows[pair] = 3 * (n + 1) * len(self.certificates)
            self.certificates[pair] = certificate
        new = torch.cat([table for table, _ in made.values()])
        parts = new.split([shape.numel() for shape in self.shapes], 1)
        if self._tables:
            parts = [torch.cat(both) for both in zip(self._tables, parts, strict=True)]
        self._tables = [part.contiguous() for part in parts]

    def _jet(
        self,
        pair: tuple[int, int],
        r: Tensor,  # (e,) float64
    ) -> list[Tensor]:  # three of (e, q)
        """Weights of all layers for a pair of species, their slopes and curvatures."""
        y = derivatives(self._features, r)
        if self.model.pair_species:
            both = torch.eye(self._n_species, dtype=r.dtype)[list(pair)].flatten()
            ends = torch.stack([both, 0 * both, 0 * both])[:, None].expand(-1, len(r), -1)
            y = [torch.cat([a, b], 1) for a, b in zip(y, ends, strict=True)]
        return [torch.cat(parts, 1) for parts in zip(*(_jet(n, y) for n in self.nets), strict=True)]

    def _features(self, r: Tensor) -> Tensor:  # (e, r)
        x = r / self.model.cutoff
        out: Tensor = self.model.basis(x) * polynomial_envelope(x)[:, None]
        return out


def _jet(net: RadialMLP, y: list[Tensor]) -> list[Tensor]:
    """Values, slopes and curvatures of a radial network, from those of its features."""
    for linear in (cast(nn.Linear, net.net[0]), cast(nn.Linear, net.net[2])):
        a, a1, a2 = (x @ linear.weight.to(x.dtype).T for x in y)
        a = a + linear.bias.to(a.dtype)
        s = torch.sigmoid(a)
        slope, curvature = s * (1 + a * (1 - s)), s * (1 - s) * (2 + a * (1 - 2 * s))
        y = [a * s, slope * a1, curvature * a1.square() + slope * a2]
    last = net.last[0].flatten(1).to(y[0].dtype)
    out = [x @ last[1:] for x in y]
    return [out[0] + last[0], *out[1:]]


def _starts(model: Gaunt) -> Tensor:  # (species, species), or (1, 1)
    """Where tables begin: at the lowest distance that the networks of a pair are asked about."""
    lowest = (1 + FLAT) / 2 * model.contact * model.closest
    starts = torch.where(lowest > 0, lowest, _START * model.cutoff)
    return starts if model.pair_species else starts.min().view(1, 1)


class _FromTables(Weights):
    def __init__(
        self,
        tables: Sequence[Tensor],
        shapes: Sequence[torch.Size],
        x: Tensor,  # (e,) in units of the step
        rows: Tensor,  # (e,)
        k: int,
        step: Tensor,  # (e,)
    ) -> None:
        self.tables, self.shapes, self.x, self.rows = tables, shapes, x, rows
        self.k, self.step = k, step

    def layer(self, t: int) -> Tensor:
        found = values_of_tables(self.x, self.rows, self.tables[t], self.k)
        return found.view(-1, *self.shapes[t])

    def slope(self, g: Sequence[Tensor]) -> Tensor:
        total = torch.zeros_like(self.x)
        for table, part in zip(self.tables, g, strict=True):
            total += slopes_of_tables(self.x, self.rows, table, part.flatten(1), self.k)
        return total / self.step


class _FromNetworks(Weights):
    def __init__(self, made_by: PairWeights, pair: Tensor, distances: Tensor) -> None:
        model = made_by.model
        self.distances = distances.detach().requires_grad_()
        with torch.enable_grad():
            radial = made_by._features(self.distances)
            if model.pair_species:
                s, r = pair // len(model.elements), pair % len(model.elements)
                radial = torch.cat([radial, model.one_hot[s], model.one_hot[r]], 1)
            self.found: list[Tensor] = [net(radial)[0] for net in made_by.nets]

    def layer(self, t: int) -> Tensor:
        return self.found[t].detach()

    def slope(self, g: Sequence[Tensor]) -> Tensor:
        slope: Tensor = torch.autograd.grad(self.found, self.distances, g)[0]
        return slope
