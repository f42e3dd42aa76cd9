"""The Clebsch-Gordan product in CP format: the core of tensor decomposition networks."""

from functools import cache

import torch
from torch import Tensor

from tensornet import _check
from tensornet.formats import CP, cp
from tensornet.products.base import Cost, Product
from tensornet.products.coupling import coupling, even_part
from tensornet.so3 import dim

# Smallest ranks at which `formats.cp` reached round-off, found by search, with and without odd
# paths. From degree four on that of the trivial decomposition, one term per pair of inputs.
EXACT_RANKS = {
    True: {0: 1, 1: 8, 2: 30, 3: 90},
    False: {0: 1, 1: 6, 2: 18, 3: 52},
}


class CPProduct(Product):
    """The product as a sum of `rank` products of numbers: out = C ((Aᵀ x1) * (Bᵀ x2)).

    At the ranks known to be exact, the default, it is equivariant to round-off. A lower rank is
    an approximation that breaks equivariance; `certificate` says by how much. Factors come from
    `formats.cp`, deterministic, once per process: in seconds up to degree two, in about a minute
    at degree three.

    Args:
        l_max: Highest degree.
        rank: Number of terms. By default the smallest known exact rank.
        tolerance: Largest allowed relative error of the factors at an exact rank.
        path_weights: ``"none"``, ``"shared"`` or ``"separable"``, as in `Product`.
        odd_paths: As in `Product`.

    Raises:
        ValueError: If weights per path are asked for (one CP mixes the paths), or `rank` is
            below one.
        RuntimeError: If no start reaches `tolerance` at the default rank.

    Derivatives:
        Any order, to all inputs.

    References:
        Lin et al., Tensor Decomposition Networks (2025), section 3.

    Examples:
        >>> CPProduct(1).double().certificate().equivariance < 1e-12
        True
    """

    def __init__(
        self,
        l_max: int,
        rank: int | None = None,
        tolerance: float = 1e-12,
        *,
        path_weights: str = "none",
        odd_paths: bool = True,
    ) -> None:
        super().__init__(l_max, path_weights, odd_paths=odd_paths)
        if path_weights == "path":
            raise ValueError(
                "`CPProduct(path_weights=...)` must be none, shared or separable, since one CP "
                "mixes the paths. Got 'path'. (Take `ClebschGordanProduct` or `EdgeProduct`.)"
            )
        if rank is not None:
            _check.at_least("CPProduct", 1, rank=rank)
        value = _factors(self.kind, l_max, rank, tolerance, odd_paths)
        for name, factor in zip("ABC", value.factors, strict=True):
            self._constant(name, factor.mT)
        self.rank = value.rank

    A: Tensor  # (r, i)
    B: Tensor  # (r, j)
    C: Tensor  # (r, k)

    def prepare(self, x2: Tensor) -> Tensor:  # (..., r, c) or (..., r, 1)
        """Take the second input to the terms."""
        return self.B @ x2

    def multiply(self, x1: Tensor, prepared: Tensor, expanded: Tensor | None) -> Tensor:
        """Take the first input to the terms, multiply there, and come back."""
        terms = (self.A @ self._on_input(x1, expanded)) * prepared
        return self._on_output(self.C.mT @ terms, expanded)

    def to_dense(self) -> Tensor:  # (i, j, k)
        """Sum the terms up."""
        return CP((self.A.mT, self.B.mT, self.C.mT)).to_dense()

    def cost(self, n: int, channels: int) -> Cost:
        """Count the three small matrix products and the product of terms."""
        multiplies = n * self.rank * (channels * (2 * self.dim + 1) + self.dim)
        return Cost(multiplies, self._traffic(n, channels))


@cache
def _factors(product: str, l_max: int, rank: int | None, tolerance: float, odd_paths: bool) -> CP:
    target = even_part(coupling(product, l_max)) if not odd_paths else coupling(product, l_max)
    exact = EXACT_RANKS[odd_paths].get(l_max, dim(l_max) ** 2)
    asked = exact if rank is None else rank
    if asked >= dim(l_max) ** 2:
        return _trivial(target)
    # Below the exact rank there are local minima, so the best of a few starts is taken; and the
    # last digits of the error would be bought with terms that grow and cancel, so ALS is enough.
    known = asked >= exact
    starts, steps, method = (10, 3000, "auto") if known else (4, 1000, "als")
    best = cp(target, asked, method=method, tolerance=1e-14, max_iterations=steps, seed=0)
    for seed in range(1, starts):
        if best.relative_error <= tolerance:
            break
        other = cp(target, asked, method=method, tolerance=1e-14, max_iterations=steps, seed=seed)
        best = min(best, other, key=lambda result: result.relative_error)
    if asked >= exact and best.relative_error > tolerance:
        raise RuntimeError(
            f"`CPProduct(tolerance=...)` must be reachable: rank {asked} gave a relative error of "
            f"{best.relative_error:.1e}, above {tolerance:.1e}. (Loosen it or give a higher rank.)"
        )
    return best.value


def _trivial(target: Tensor) -> CP:
    """One term per pair of inputs: exact for any tensor."""
    d1, d2, d3 = target.shape
    first = torch.eye(d1, dtype=target.dtype).repeat_interleave(d2, dim=1)
    second = torch.eye(d2, dtype=target.dtype).repeat(1, d1)
    return CP((first, second, target.reshape(d1 * d2, d3).mT))
