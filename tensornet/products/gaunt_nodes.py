"""Quadrature nodes on the sphere with as few points as symmetry gives, computed when needed.

A rule that the rotations of a cube or an icosahedron leave unchanged is exact for all polynomials
of a degree as soon as it is exact for the few that those rotations leave unchanged, and these are
polynomials in three known ones, one of which only occurs to the first power. An orbit of a
general point brings three unknowns, its weight and two angles; those of vertices, faces and edges
bring a weight. With as many unknowns as equations, Newton's method finds the points.

References:
    McLaren, Optimal numerical integration on a sphere, Math. Comp. 17, 361 (1963);
    Ahrens & Beylkin, Proc. R. Soc. A 465, 3103 (2009), for the icosahedron.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tensornet.so3 import gauss_legendre_grid

Array = NDArray[Any]


class _Rule(NamedTuple):
    """Which orbits make a rule: the solid, its special points, the number of general orbits."""

    solid: str
    special: str  # v: vertices, f: faces, e: edges
    general: int
    start: int  # the random start from which Newton's method arrives


# The smallest rules found by search, by the highest degree that they integrate exactly.
_RULES = {
    3: _Rule("cube", "f", 0, 0),
    7: _Rule("cube", "", 1, 0),
    9: _Rule("icosahedron", "vf", 0, 0),
    12: _Rule("cube", "fv", 2, 0),
    14: _Rule("icosahedron", "v", 1, 0),
    15: _Rule("cube", "fv", 3, 1),
    18: _Rule("cube", "f", 5, 0),
    21: _Rule("cube", "", 7, 1),
    24: _Rule("icosahedron", "vf", 3, 0),
}
_SIZES = {
    "cube": {"v": 8, "f": 6, "e": 12, "": 24},
    "icosahedron": {"v": 12, "f": 20, "e": 30, "": 60},
}
_STARTS, _STEPS = 20, 80


def sphere_rule(degree: int) -> tuple[Tensor, Tensor]:  # (g, 3), (g,)
    """Give the smallest rule known here that is exact for polynomials up to `degree`.

    Up to degree 24 it has the symmetry of a cube or an icosahedron, positive weights, and no more
    points than Lebedev's; beyond, it is the product rule of `gauss_legendre_grid`.

    Args:
        degree: Highest total degree.

    Returns:
        Points on the unit sphere and weights that sum to 4 pi, in float64.
    """
    exact = _smallest(degree)
    found = None if exact is None else _solved(exact)
    if found is None:
        return gauss_legendre_grid(degree)
    return torch.tensor(found[0]), torch.tensor(found[1])


def n_nodes(degree: int) -> int:
    """Give the number of points of `sphere_rule`, without looking for them.

    Args:
        degree: Highest total degree.
    """
    exact = _smallest(degree)
    return _size_of_product(degree) if exact is None else _size(_RULES[exact])


def _smallest(degree: int) -> int | None:
    """Find the smallest rule that is smaller than the product rule too."""
    sizes = {exact: _size(rule) for exact, rule in _RULES.items() if exact >= degree}
    best = min(sizes, key=lambda exact: sizes[exact], default=None)
    if best is None or sizes[best] >= _size_of_product(degree):
        return None
    return best


def _size_of_product(degree: int) -> int:
    """Count the points of `gauss_legendre_grid`."""
    return (degree // 2 + 1) * (degree + 1)


def _size(rule: _Rule) -> int:
    sizes = _SIZES[rule.solid]
    return sum(sizes[key] for key in rule.special) + rule.general * sizes[""]


@cache
def _solved(degree: int) -> tuple[Array, Array] | None:
    rule = _RULES[degree]
    for start in range(rule.start, rule.start + _STARTS):
        found = _solve(rule, degree, start)
        if found is not None:
            return found
    return None


def _solve(rule: _Rule, degree: int, start: int) -> tuple[Array, Array] | None:
    """Find weights and angles by Newton's method from a random start."""
    rotations, special = _SOLIDS[rule.solid]()
    fixed = np.array([special[key] for key in rule.special]).reshape(-1, 3)
    moments, means = _equations(rule.solid, degree)
    n_special, n = len(fixed), len(fixed) + rule.general
    rng = np.random.default_rng(start)
    angles = np.stack(
        [np.arccos(rng.uniform(-1, 1, rule.general)), rng.uniform(0, 2 * np.pi, rule.general)]
    )
    x = np.concatenate([np.full(n, 1 / n), angles.ravel()])

    def residual(unknown: Array) -> Array:
        general = _on_sphere(unknown[n:].reshape(2, -1))
        return np.asarray(moments(np.concatenate([fixed, general])) @ unknown[:n] - means)

    x, error = _newton(residual, x)
    if not error < 1e-14 or x[:n].min() <= 0:
        return None
    representatives = np.concatenate([fixed, _on_sphere(x[n:].reshape(2, -1))])
    points, weights = [], []
    for k, (p, w) in enumerate(zip(representatives, x[:n], strict=True)):
        orbit = rotations @ p
        if k < n_special:
            orbit = np.unique(orbit.round(9), axis=0, return_index=True)[1]
            orbit = (rotations @ p)[orbit]
        points.append(orbit)
        weights.append(np.full(len(orbit), 4 * np.pi * w / len(orbit)))
    return np.concatenate(points), np.concatenate(weights)


def _newton(residual: Callable[[Array], Array], x: Array) -> tuple[Array, float]:
    """Take damped Newton steps until rounding is reached; slopes by complex steps, exact."""
    damping, error = 1e-2, float(np.linalg.norm(residual(x)))
    eye = np.eye(len(x))
    for _ in range(_STEPS):
        r = residual(x)
        J = np.stack([residual(x + 1e-30j * e).imag / 1e-30 for e in eye], 1)
        wide = np.concatenate([J, damping * eye])
        step = np.linalg.lstsq(wide, np.concatenate([r, 0 * x]), rcond=None)[0]
        now = float(np.linalg.norm(residual(x - step)))
        if now < error:
            x, damping, error = x - step, damping / 5, now
        elif error < 1e-13:
            break
        else:
            damping *= 5
        if damping > 1e3:
            break
    return x, error


def _on_sphere(angles: Array) -> Array:  # (n, 3)
    theta, phi = angles
    sine = np.sin(theta)
    return np.stack([sine * np.cos(phi), sine * np.sin(phi), np.cos(theta)], -1)


# --- invariants -----------------------------------------------------------------------------


@cache
def _equations(solid: str, degree: int) -> tuple[Callable[[Array], Array], Array]:
    """Give all invariants up to a degree as a function of points, and their means."""
    d1, d2, d3 = {"cube": (4, 6, 9), "icosahedron": (6, 10, 15)}[solid]
    powers = np.array([
        (a, b, c)
        for a, b, c in itertools.product(range(degree // d1 + 1), range(degree // d2 + 1), (0, 1))
        if d1 * a + d2 * b + d3 * c <= degree
    ])  # fmt: skip
    points, weights = (t.numpy() for t in gauss_legendre_grid(degree))
    raw = _INVARIANTS[solid](points)
    shift = np.array([[weights @ raw[0]], [weights @ raw[1]], [0.0]]) / (4 * np.pi)
    scale = np.abs(raw - shift).max(1, keepdims=True)
    scale[scale == 0] = 1

    def monomials(p: Array) -> Array:  # (equations, n)
        s, t, u = (_INVARIANTS[solid](p) - shift) / scale
        return np.stack([s**a * t**b * u**c for a, b, c in powers])

    R = np.linalg.qr((monomials(points) * np.sqrt(weights / (4 * np.pi))).T, mode="r")
    orthonormal = np.linalg.inv(R).T

    def moments(p: Array) -> Array:  # (equations, n)
        return np.asarray(orthonormal @ monomials(p))

    return moments, np.asarray(moments(points) @ weights / (4 * np.pi))


def _of_cube(p: Array) -> Array:  # (3, n)
    x, y, z = (p * p).T
    square = p[:, 0] * p[:, 1] * p[:, 2]
    return np.stack([x * y + y * z + z * x, x * y * z, square * (x - y) * (y - z) * (z - x)])


def _of_icosahedron(p: Array) -> Array:  # (3, n)
    axes = _icosahedron_axes()
    return np.stack([np.prod(p @ axes[key].T, axis=1) for key in "vfe"])


# --- solids ---------------------------------------------------------------------------------


@cache
def _cube() -> tuple[Array, dict[str, Array]]:
    """Give the 24 rotations, and one vertex, face centre and edge centre."""
    rotations = []
    for order, signs in itertools.product(
        itertools.permutations(range(3)), itertools.product((1.0, -1.0), repeat=3)
    ):
        R = np.diag(signs)[list(order)]
        if np.linalg.det(R) > 0:
            rotations.append(R)
    special = {"v": [1, 1, 1], "f": [0, 0, 1], "e": [0, 1, 1]}
    return np.array(rotations), {k: np.array(v) / np.linalg.norm(v) for k, v in special.items()}


@cache
def _icosahedron() -> tuple[Array, dict[str, Array]]:
    """Give the 60 rotations, and one vertex, face centre and edge centre."""
    axes = _icosahedron_axes()
    rotations = [np.eye(3)]
    for key, n in (("v", 5), ("f", 3), ("e", 2)):
        for axis, k in itertools.product(axes[key], range(1, n)):
            rotations.append(_about(axis, 2 * math.pi * k / n))
    return np.array(rotations), {key: axes[key][0] for key in "vfe"}


@cache
def _icosahedron_axes() -> dict[str, Array]:
    """Give one unit vector along each axis of order five, three and two."""
    g = (1 + math.sqrt(5)) / 2
    cyclic = [(0, 1, 2), (2, 0, 1), (1, 2, 0)]
    shapes: dict[str, list[tuple[float, float, float]]] = {
        "v": [(0, 1, g), (0, 1, -g)],
        "f": [(0, g, 1 / g), (0, g, -1 / g)],
        "e": [(1, 1 / g, g), (1, 1 / g, -g), (1, -1 / g, g), (1, -1 / g, -g)],
    }
    axes = {k: [[v[i] for i in c] for v in vs for c in cyclic] for k, vs in shapes.items()}
    axes["f"] += [[1, 1, 1], [1, 1, -1], [1, -1, 1], [-1, 1, 1]]
    axes["e"] += np.eye(3).tolist()
    return {k: np.array(v) / np.linalg.norm(v, axis=1, keepdims=True) for k, v in axes.items()}


def _about(axis: Array, angle: float) -> Array:  # (3, 3)
    K = np.cross(np.eye(3), -axis)
    return np.asarray(np.eye(3) + math.sin(angle) * K + (1 - math.cos(angle)) * K @ K)


_SOLIDS = {"cube": _cube, "icosahedron": _icosahedron}
_INVARIANTS = {"cube": _of_cube, "icosahedron": _of_icosahedron}
