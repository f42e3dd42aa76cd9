"""From the Gaunt product to all of Clebsch-Gordan: one knob, the rank of the weights of paths."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tensornet import _check
from tensornet.products.base import dimension
from tensornet.products.coupling import Path, block, coupling, paths
from tensornet.products.gaunt_transform import Nodes
from tensornet.products.terms import TermProduct
from tensornet.so3 import degrees, wigner_3j

Array = np.ndarray[Any, Any]
_STARTS, _STEPS = 6, 300


class PathRankProduct(TermProduct):
    """The Clebsch-Gordan product with given weights of paths, as a sum of few Gaunt products.

    A Gaunt product whose inputs and output are scaled degree by degree gives the path (l1, l2, l3)
    the weight a[l1] b[l2] c[l3] times a fixed number; the Poisson bracket does so for odd paths.
    The weights of all paths are an array with holes, and a sum of `path_rank` scaled products is a
    CP of that array: any weights are met exactly at its rank, which is at most `l_max` for
    degrees one to four and almost all weights. Below, the weights are the nearest that were found,
    but the product is equivariant to rounding at every rank.

    Args:
        l_max: Highest degree.
        path_rank: Number of scaled products of each parity. By default the smallest that meets the
            weights.
        weights: One number per path, (p,), in the order of `paths`. By default one each, the bare
            coupling. They are constants of the product: no gradient reaches them.
        path_weights: ``"none"``, ``"shared"`` or ``"separable"``, on top of these weights.
        odd_paths: As in `Product`.

    Raises:
        TypeError: If `weights` is no tensor of floating numbers, or `path_rank` no whole number.
        ValueError: If weights per path are asked for, `path_rank` is below one, or `weights` has
            not one finite number per path.

    Derivatives:
        Any order, to both inputs and the weights of a call.

    References:
        Xie et al., The Price of Freedom (2025), for what one copy can express.

    Examples:
        >>> exact, gaunt = PathRankProduct(2).double(), PathRankProduct(2, 1).double()
        >>> exact.path_rank, exact.certificate().approximation < 1e-12
        (2, True)
        >>> gaunt.certificate().approximation > 0.01, gaunt.certificate().equivariance < 1e-12
        (True, True)
    """

    def __init__(
        self,
        l_max: int,
        path_rank: int | None = None,
        *,
        weights: Tensor | None = None,
        path_weights: str = "none",
        odd_paths: bool = True,
    ) -> None:
        super().__init__(l_max, path_weights, odd_paths=odd_paths)
        if path_weights == "path":
            raise ValueError(
                "`PathRankProduct(path_weights=...)` must be none, shared or separable, since its "
                "paths are weighed by `weights`. Got 'path'. (Take `ClebschGordanProduct`.)"
            )
        n_paths = len(self.paths())
        if weights is None:
            weights = torch.ones(n_paths, dtype=torch.float64)
        _check_scales("PathRankProduct", weights, n_paths, path_rank)
        self._weights = weights.detach().to("cpu", torch.float64)
        self.scales = path_scales(l_max, self._weights, path_rank, odd_paths=odd_paths)
        self.path_rank = max(len(scales) for scales in self.scales)
        for name, factor in zip("ABC", _terms(l_max, self.scales), strict=True):
            self._constant(name, factor)

    def target(self) -> Tensor:  # (i, j, k)
        """Give the coupling with the weights that were asked for, float64."""
        tensor = torch.zeros_like(coupling("clebsch_gordan", self.l_max))
        for path, weight in zip(self.paths(), self._weights, strict=True):
            tensor[block(path)] = weight * wigner_3j(*path)
        return tensor

    def expressivity(self, copies: int = 1) -> int:
        """Count the independent weights of paths that products of this rank can have.

        Even and odd paths have scales of their own.

        Args:
            copies: Number of products of this kind that are added up.

        Raises:
            ValueError: If `copies` is below one.
        """
        _check.at_least("PathRankProduct.expressivity", 1, copies=copies)
        return sum(
            dimension(same, copies * self.path_rank) for same in _by_parity(self.paths()) if same
        )

    def extra_repr(self) -> str:
        """Say the settings in `print(model)`."""
        return f"{super().extra_repr()}, path_rank={self.path_rank}"


def path_scales(
    l_max: int,
    weights: Tensor,  # (p,)
    path_rank: int | None = None,
    *,
    odd_paths: bool = True,
    tolerance: float = 1e-13,
) -> tuple[Tensor, ...]:  # (s, 3, l_max + 1) each
    """Write the weights of paths as a sum of few products of three scales per degree.

    Summed over s, ``scales[s, 0, l1] scales[s, 1, l2] scales[s, 2, l3]`` is what the path has to be
    multiplied by in a Gaunt product (even paths, first result) or in a Poisson bracket (odd paths,
    second result) to have its weight in a sum of bare `wigner_3j` blocks.

    Args:
        l_max: Highest degree.
        weights: One number per path, in the order of `paths`.
        path_rank: Number of terms. By default the smallest that is exact.
        odd_paths: Whether the paths of odd l1 + l2 + l3 are there.
        tolerance: Largest relative error that counts as exact.

    Returns:
        The scales of even paths, and those of odd paths if there are any.

    Raises:
        TypeError: If `weights` is no tensor of floating numbers, or `path_rank` no whole number.
        ValueError: If `weights` has not one finite number per path, or `path_rank` is below one.
        RuntimeError: If no rank up to (l_max + 1)² is exact.

    References:
        Xie et al., The Price of Freedom (2025), for what one copy can express.
    """
    listed = paths(l_max, odd_paths=odd_paths)
    _check_scales("path_scales", weights, len(listed), path_rank)
    _check.tolerance("path_scales", tolerance=tolerance)
    by_path = dict(zip(listed, weights.tolist(), strict=True))
    kinds = ("gaunt", "poisson")
    found = []
    for kind, same in zip(kinds, _by_parity(listed), strict=True):
        if same:
            fixed = _strengths(kind, l_max)
            wanted = tuple(by_path[path] / fixed[path] for path in same)
            found.append(torch.from_numpy(_solved(same, wanted, path_rank, tolerance).copy()))
    return tuple(found)


# --- parts ----------------------------------------------------------------------------------


def _check_scales(where: str, weights: Tensor, n_paths: int, path_rank: int | None) -> None:
    _check.dense(where, "weights", weights)
    if weights.shape != (n_paths,):
        raise ValueError(
            f"`{where}(weights=...)` must have shape ({n_paths},), one number per path. "
            f"Got {tuple(weights.shape)}."
        )
    if path_rank is not None:
        _check.at_least(where, 1, path_rank=path_rank)


def _by_parity(listed: tuple[Path, ...]) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    even = tuple(path for path in listed if sum(path) % 2 == 0)
    return even, tuple(path for path in listed if sum(path) % 2)


@cache
def _strengths(kind: str, l_max: int) -> dict[Path, float]:
    """The number that a coupling has in front of each `wigner_3j` block."""
    tensor = coupling(kind, l_max)
    return {path: float((tensor[block(path)] * wigner_3j(*path)).sum()) for path in paths(l_max)}


def _terms(l_max: int, scales: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Factors (r, m) of the sum of scaled products: nodes times copies, twice for odd paths."""
    slopes = len(scales) > 1
    nodes = Nodes(l_max, slopes=slopes).constants
    parts = nodes["there"].unflatten(0, (3 if slopes else 1, -1)).unbind(0)
    weighted = nodes["back"].mT
    pairs = [[(parts[0], parts[0])]]
    if slopes:
        pairs.append([(parts[1], parts[2]), (-parts[2], parts[1])])
    by_degree = degrees(l_max)
    rows: tuple[list[Tensor], ...] = ([], [], [])
    for same, found in zip(pairs, scales, strict=True):
        for a, b, c in found[..., by_degree]:
            for first, second in same:
                for list_, row in zip(rows, (first * a, second * b, weighted * c), strict=True):
                    list_.append(row)
    one, two, three = (torch.cat(list_) for list_ in rows)
    return one, two, three


@cache
def _solved(
    listed: tuple[Path, ...], wanted: tuple[float, ...], rank: int | None, tolerance: float
) -> Array:  # (s, 3, l)
    """The nearest sum of products, of a rank or of the smallest exact one."""
    n = 1 + max(max(path) for path in listed)
    for tried in range(1, n * n + 1) if rank is None else (rank,):
        best, least = np.zeros((tried, 3, n)), 0.0 if not any(wanted) else math.inf
        for seed in range(_STARTS):
            if least <= tolerance:
                break
            x, error = _fitted(listed, wanted, tried, seed)
            if error < least:
                best, least = x, error
        if rank is not None or least <= tolerance:
            return best
    raise RuntimeError(
        f"`path_scales(weights=...)` must be met at some rank. Got an error of {least:.1e} at the "
        "last one. (Loosen `tolerance`.)"
    )


def _fitted(
    listed: tuple[Path, ...], wanted: tuple[float, ...], rank: int, seed: int
) -> tuple[Array, float]:
    """Damped least squares from a random start."""
    places, target = np.array(listed), np.array(wanted)
    norm = float(np.linalg.norm(target)) or 1.0
    n = int(places.max()) + 1
    rng = np.random.default_rng(seed)
    size = (norm / math.sqrt(len(target) * rank)) ** (1 / 3)
    x = size * (rng.standard_normal((rank, 3, n)) * 0.5 + 1)

    def residual(x: Array) -> tuple[Array, Array]:
        chosen = np.stack([x[:, k, places[:, k]] for k in range(3)])  # (3, s, p)
        return chosen, chosen.prod(0).sum(0) - target

    damping, idle = 1e-2, 0
    chosen, r = residual(x)
    for _ in range(_STEPS):
        J = np.zeros((len(target), rank, 3, n))
        for k in range(3):
            others = chosen[(k + 1) % 3] * chosen[(k + 2) % 3]  # (s, p)
            J[np.arange(len(target)), :, k, places[:, k]] = others.T
        flat = J.reshape(len(target), -1)
        gram = flat @ flat.T + damping**2 * np.eye(len(target))
        step = (flat.T @ np.linalg.solve(gram, r)).reshape(x.shape)
        chosen_next, r_next = residual(x - step)
        if np.linalg.norm(r_next) < np.linalg.norm(r):
            idle += int(np.linalg.norm(r_next) > (1 - 1e-5) * np.linalg.norm(r))
            x, chosen, r, damping = x - step, chosen_next, r_next, max(damping / 4, 1e-7)
        else:
            damping *= 4
        if idle > 9 or damping > 1e3 or np.linalg.norm(r) < 1e-15 * norm:
            break
    return x, float(np.linalg.norm(r)) / norm
