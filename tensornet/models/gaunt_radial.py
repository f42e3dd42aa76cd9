"""The radial networks of `Gaunt` for inference: tables per pair of species, or the networks."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from tensornet.kernels.spline.cpu import slopes_of_tables, values_of_tables
from tensornet.layers import RadialMLP, TableCertificate, polynomial_envelope
from tensornet.layers.radial import FLAT
from tensornet.layers.table import derivatives, tabulate
from tensornet.models.gaunt_layers import filled

if TYPE_CHECKING:
    from tensornet.models.gaunt import Gaunt

Array = np.ndarray[Any, Any]
TOLERANCE = {torch.float32: 1e-7, torch.float64: 1e-10}  # of values, over the largest value
_OF_SLOPES = 30.0  # times that
_START = 0.1  # of the cutoff, where no contact is known: closer pairs take the networks
_INTERVALS = (64, 128, 256, 512, 1024, 2048)
_MOST = 2**29  # bytes
_ROUNDING = 1e-6  # of the cutoff: so far below its lowest a levelled distance may come
_LOCK = threading.Lock()  # while tables are made


class Weights(ABC):
    """Radial weights of the edges in one evaluation."""

    @abstractmethod
    def layer(self, t: int, out: Array) -> None:  # (e or more, p, c)
        """Write the weights of a layer."""

    @abstractmethod
    def slope(self, t: int, g: Array) -> Array:  # (e or more, p, c) -> (e,)
        """Differentiate the sum of `g` times the weights of a layer in the distances."""


class _Tables(NamedTuple):
    """Tables of some pairs of species; never changed, so that threads may share them."""

    n: int  # intervals
    first: Array  # (species, species) row where a table begins, or -1
    layers: tuple[Array, ...]
    certificates: dict[tuple[int, int], TableCertificate]


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
        tables: Whether tables are made.
        certificates: For each pair of species (sender, receiver) how good its table is.
    """

    def __init__(self, model: Gaunt, *, tables: bool = True) -> None:
        self.model, self.tables = model, tables
        self.nets = [cast(RadialMLP, layer.radial) for layer in model.layers]
        self.shapes = [net.last[0].shape[1:] for net in self.nets]
        self.starts = _starts(model)
        self._n_species = len(model.elements) if model.pair_species else 1
        self._start = self.starts.flatten().numpy()
        self._made = self._none()

    @property
    def certificates(self) -> dict[tuple[int, int], TableCertificate]:
        """For each pair of species how good its table is."""
        return self._made.certificates

    def __call__(
        self,
        pair: Array,  # (e,) species of the sender, times their number, and of the receiver
        distances: Array,  # (e,) as the networks see them
    ) -> Weights:
        """Find the weights of every edge."""
        if self.tables:
            at = pair if self.model.pair_species else np.zeros_like(pair)
            start = self._start.take(at)
            inside = distances - start
            if inside.min() > -_ROUNDING * self.model.cutoff:
                made = self._made
                rows = made.first.take(at)
                if rows.min() < 0:
                    with _LOCK:
                        made = self._made = self._extended(at)
                    rows = made.first.take(at)
                if self.tables:
                    step = (self.model.cutoff - start) / made.n
                    x = np.maximum(inside, 0, out=inside)
                    x /= step
                    return _FromTables(made.layers, x, rows, 3 * (made.n + 1), step)
        return _FromNetworks(self, torch.from_numpy(pair), torch.from_numpy(distances))

    def _none(self) -> _Tables:
        return _Tables(_INTERVALS[0], np.full((self._n_species,) * 2, -1), (), {})

    def _extended(self, at: Array) -> _Tables:
        """The tables with those that are missing; without any if there shall be none."""
        old = self._made
        pairs = [divmod(pair, self._n_species) for pair in np.unique(at).tolist()]
        wanted = {**old.certificates, **dict.fromkeys(pairs)}
        size = sum(shape.numel() for shape in self.shapes) * self.model.dtype.itemsize
        least = float(old.n)
        for n in _INTERVALS:
            if n >= least and 3 * (n + 1) * size * len(wanted) <= _MOST:
                kept = old if n == old.n else self._none()._replace(n=n)
                made, excess = self._make(n, [p for p in wanted if p not in kept.certificates])
                if made is not None:
                    return self._joined(kept, made)
                least = 0.7 * n * excess ** (1 / 6)  # the error is of sixth order in the step
        self.tables = False
        return self._none()

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

    def _joined(
        self, old: _Tables, made: dict[tuple[int, int], tuple[Tensor, TableCertificate]]
    ) -> _Tables:
        """New tables behind those that stay."""
        first, certificates = old.first.copy(), dict(old.certificates)
        for pair, (_, certificate) in made.items():
            first[pair] = 3 * (old.n + 1) * len(certificates)
            certificates[pair] = certificate
        layers, column = [], 0
        for t, shape in enumerate(self.shapes):
            part = slice(column, column + shape.numel())
            new = [filled(table[:, part].unflatten(1, shape), 1) for table, _ in made.values()]
            rows = [x.reshape(len(x), -1) for x in new]
            layers.append(np.concatenate([*(old.layers[t : t + 1]), *rows]))
            column += shape.numel()
        return _Tables(old.n, first, tuple(layers), certificates)

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
        tables: Sequence[Array],
        x: Array,  # (e,) in units of the step
        rows: Array,  # (e,)
        k: int,
        step: Array,  # (e,)
    ) -> None:
        self.tables, self.x, self.rows, self.k, self.step = tables, x, rows, k, step

    def layer(self, t: int, out: Array) -> None:
        values_of_tables(self.x, self.rows, self.tables[t], self.k, out)

    def slope(self, t: int, g: Array) -> Array:
        return slopes_of_tables(self.x, self.rows, self.tables[t], g, self.k) / self.step


class _FromNetworks(Weights):
    def __init__(self, made_by: PairWeights, pair: Tensor, distances: Tensor) -> None:
        model = made_by.model
        self.distances = distances.clone().requires_grad_()
        with torch.enable_grad():
            radial = made_by._features(self.distances)
            if model.pair_species:
                s, r = pair // len(model.elements), pair % len(model.elements)
                radial = torch.cat([radial, model.one_hot[s], model.one_hot[r]], 1)
            self.found: list[Tensor] = [net(radial)[0] for net in made_by.nets]

    def layer(self, t: int, out: Array) -> None:
        found = self.found[t].detach().numpy()
        out[: len(found), :, found.shape[2] :] = 0
        out[: len(found), :, : found.shape[2]] = found

    def slope(self, t: int, g: Array) -> Array:
        n, _, c = self.found[t].shape
        given = torch.from_numpy(g[:n, :, :c])
        (slope,) = torch.autograd.grad(self.found[t], self.distances, given, retain_graph=True)
        return slope.numpy()
