"""From harmonics to values on the sphere and back: what Gaunt products are made of."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from tensornet.products.coupling import with_gradients
from tensornet.products.gaunt_nodes import n_nodes, sphere_rule
from tensornet.so3 import dim, gauss_legendre_grid, spherical_harmonics

Stored = Mapping[str, Tensor]


class Count(NamedTuple):
    """Multiplications of `Transform.values`, at the points, and of `Transform.features`."""

    values: int
    points: int
    features: int


class Transform(ABC):
    """A pair of linear maps, features to values at points and back, exact for a product.

    With `slopes` every point has three values: the function, its slope along the meridian and
    its slope along the parallel. The Poisson bracket of two functions is then a product of slopes
    at the same point.

    Args:
        l_max: Highest degree.
        slopes: Whether slopes are needed.
        order: Number of factors whose product must come back exactly.
    """

    def __init__(self, l_max: int, slopes: bool = False, order: int = 2) -> None:
        self.l_max = l_max
        self.slopes = slopes
        self.degree = (order + 1) * l_max
        self.parts = 3 if slopes else 1
        self.constants: dict[str, Tensor] = {}
        self.n_points = 0

    @abstractmethod
    def values(
        self,
        stored: Stored,
        x: Tensor,  # (..., m, c)
    ) -> Tensor:  # (..., parts g, c)
        """Evaluate features at the points."""

    @abstractmethod
    def features(
        self,
        stored: Stored,
        values: Tensor,  # (..., g, c)
    ) -> Tensor:  # (..., m, c)
        """Integrate values against the harmonics."""

    @classmethod
    @abstractmethod
    def count(cls, l_max: int, slopes: bool, order: int = 2) -> Count:
        """Count the work for one channel, without making the transform."""

    def pointwise(
        self,
        stored: Stored,
        a: Tensor,  # (..., parts g, c)
        b: Tensor,  # (..., parts g, c) or (..., parts g, 1)
    ) -> Tensor:  # (..., g, c)
        """Multiply two functions, and add their Poisson bracket if there are slopes."""
        if not self.slopes:
            return a * b
        (f, f1, f2), (g, g1, g2) = (v.unflatten(-2, (3, -1)).unbind(-3) for v in (a, b))
        out: Tensor = f * g + (f1 * g2 - f2 * g1)
        return out


class Nodes(Transform):
    """Any quadrature nodes, by one matrix: the CP format of the Gaunt coupling."""

    def __init__(self, l_max: int, slopes: bool = False, order: int = 2) -> None:
        super().__init__(l_max, slopes, order)
        points, weights = sphere_rule(self.degree)
        Y, gradients = with_gradients(points, l_max)
        rows = [Y, *_slopes(points, gradients)] if slopes else [Y]
        self.n_points = len(weights)
        self.constants = {"there": torch.cat(rows), "back": (Y * weights[:, None]).mT}

    def values(self, stored: Stored, x: Tensor) -> Tensor:
        """Multiply by the harmonics at the nodes."""
        return stored["there"] @ x

    def features(self, stored: Stored, values: Tensor) -> Tensor:
        """Sum over the nodes with their weights."""
        return stored["back"] @ values

    @classmethod
    def count(cls, l_max: int, slopes: bool, order: int = 2) -> Count:
        """Count both matrices."""
        n, parts = n_nodes((order + 1) * l_max), 3 if slopes else 1
        return Count(parts * n * dim(l_max), parts * n, n * dim(l_max))


class Separable(Transform):
    """Gauss-Legendre heights and uniform longitudes, one after the other.

    A harmonic is a function of height times a cosine or sine of longitude. Orders -l_max to l_max
    are therefore summed over degrees first, to heights, and only then spread over longitudes.
    """

    def __init__(self, l_max: int, slopes: bool = False, order: int = 2) -> None:
        super().__init__(l_max, slopes, order)
        points, weights = gauss_legendre_grid(self.degree)
        n_longitudes = self.degree + 1
        self.n_heights = self.degree // 2 + 1
        self.n_points = len(weights)
        theta = points[::n_longitudes, 1].clamp(-1, 1).acos()
        phi = 2 * math.pi * torch.arange(n_longitudes, dtype=torch.float64) / n_longitudes
        P, dP = meridian(l_max, theta)
        weighted = P * (weights[::n_longitudes, None])  # one ring has one weight
        around, along = _longitudes(l_max, phi)
        self.constants = {
            "heights": by_order(P),
            "longitudes": around,
            "back": by_order(weighted).mT,
        }
        if slopes:
            self.constants["heights1"] = by_order(dP)
            self.constants["heights2"] = by_order(P / theta.sin()[:, None])
            self.constants["longitudes2"] = along
        self.constants |= orders(l_max)

    def values(self, stored: Stored, x: Tensor) -> Tensor:
        """Sum over degrees for every order, then over orders."""
        sorted_ = sort_by_order(stored, x)  # (..., v, l, c)
        names = [("heights", "longitudes")]
        if self.slopes:
            names += [("heights1", "longitudes"), ("heights2", "longitudes2")]
        parts = []
        for heights, longitudes in names:
            on_rings = (stored[heights] @ sorted_).flatten(-2)  # (..., v, h c)
            parts.append((stored[longitudes] @ on_rings).flatten(-2))
        flat = torch.cat(parts, -1) if self.slopes else parts[0]
        out: Tensor = flat.unflatten(-1, (self.parts * self.n_points, x.shape[-1]))
        return out

    def features(self, stored: Stored, values: Tensor) -> Tensor:
        """Sum over longitudes for every order, then over heights."""
        rings = values.unflatten(-2, (-1, self.n_heights)).flatten(-2)  # (..., longitude, h c)
        by_orders = (stored["longitudes"].mT @ rings).unflatten(-1, (self.n_heights, -1))
        return unsort(stored, stored["back"] @ by_orders)

    @classmethod
    def count(cls, l_max: int, slopes: bool, order: int = 2) -> Count:
        """Count sums over degrees and over orders."""
        degree, parts, n = (order + 1) * l_max, 3 if slopes else 1, 2 * l_max + 1
        heights = degree // 2 + 1
        one = n * heights * (l_max + 1) + n * heights * (degree + 1)
        return Count(parts * one, parts * heights * (degree + 1), one)


# --- parts ----------------------------------------------------------------------------------


def meridian(
    l_max: int,
    theta: Tensor,  # (h,)
) -> tuple[Tensor, Tensor]:  # (h, m), (h, m)
    """Give the part of each harmonic that depends on the angle from the pole, and its slope.

    Angles may go all the way round, where the sine is negative: a trigonometric polynomial.
    """

    def parts(angle: Tensor) -> Tensor:
        direction = torch.stack([torch.zeros_like(angle), angle.cos(), angle.sin()], -1)
        return spherical_harmonics(direction, l_max, normalization="integral")

    there = torch.tensor([l * l + l + abs(m) for l in range(l_max + 1) for m in range(-l, l + 1)])
    slopes = torch.func.vmap(torch.func.jacfwd(parts))(theta)
    return parts(theta)[:, there], slopes[:, there]


def orders(l_max: int) -> dict[str, Tensor]:
    """Give where each order and degree stands, (v l,), and which of them exist, (v, l, 1)."""
    place, exists = [], []
    for v in range(-l_max, l_max + 1):
        for l in range(l_max + 1):
            exists.append(float(abs(v) <= l))
            place.append(l * l + l + v if abs(v) <= l else 0)
    shape = (2 * l_max + 1, l_max + 1, 1)
    rank = {p: q for q, p in enumerate(place) if exists[q]}
    return {
        "place": torch.tensor(place),
        "exists": torch.tensor(exists, dtype=torch.float64).reshape(shape),
        "rank": torch.tensor([rank[p] for p in range(dim(l_max))]),
    }


def sort_by_order(stored: Stored, x: Tensor) -> Tensor:  # (..., v, l, c)
    """Sort harmonics by order and degree; what does not exist meets a zero of `by_order`."""
    v, l, _ = stored["exists"].shape
    out: Tensor = x.index_select(-2, stored["place"]).unflatten(-2, (v, l))
    return out


def unsort(
    stored: Stored,
    x: Tensor,  # (..., v, l, c)
) -> Tensor:  # (..., m, c)
    """Bring harmonics back into their order."""
    return x.flatten(-3, -2).index_select(-2, stored["rank"])


def by_order(
    columns: Tensor,  # (h, m)
) -> Tensor:  # (v, h, l)
    """Sort columns by order and degree, zero where there is no such harmonic."""
    l_max = math.isqrt(columns.shape[1]) - 1
    where = orders(l_max)
    sorted_ = sort_by_order(where, columns[..., None])[..., 0]  # (h, v, l)
    exists = where["exists"][..., 0].to(columns.real.dtype)
    return (sorted_ * exists).movedim(0, 1)


def _longitudes(l_max: int, phi: Tensor) -> tuple[Tensor, Tensor]:  # (g, v), (g, v)
    """Give sine, one and cosine of all orders, and their slopes."""
    m = torch.arange(l_max + 1, dtype=torch.float64)
    angle = phi[:, None] * m
    cos, sin = angle.cos(), angle.sin()
    around = torch.cat([sin[:, 1:].flip(1), cos], 1)
    along = torch.cat([(m * cos)[:, 1:].flip(1), -m * sin], 1)
    return around, along


def _slopes(points: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:  # (g, m), (g, m)
    """Give the slopes along two tangents that make a right-handed frame with the point."""
    far = torch.nn.functional.one_hot(points.abs().argmin(1), 3).to(points)
    first = torch.nn.functional.normalize(torch.linalg.cross(points, far), dim=1)
    second = torch.linalg.cross(points, first)
    return (gradients @ first[..., None])[..., 0], (gradients @ second[..., None])[..., 0]
