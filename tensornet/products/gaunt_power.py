"""Many-body products: powers of a function on the sphere, in one pass."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from tensornet import _check
from tensornet.kernels import symmetric_polynomial
from tensornet.products.base import Constants, Cost
from tensornet.products.gaunt_polynomial import gaunt_polynomials
from tensornet.products.gaunt_transform import Count, Nodes, Separable, Transform
from tensornet.so3 import degrees, dim

_TRANSFORMS: dict[str, type[Transform]] = {"grid": Nodes, "separable": Separable}
# What a multiplication takes on a CPU, beside one of a large matrix, value and gradient.
_DEAR = {"grid": 1.0, "separable": 3.0, "polynomial": 1 / 3}
_SETS = 4000  # "auto" considers the polynomial up to so many products of components


class GauntPower(Constants):
    """The product of several functions on the sphere, cut at `l_max` once, at the end.

    What a chain of Gaunt products gives whose intermediate results keep all degrees up to
    `order` times `l_max`: features of many bodies, as many as factors. Every factor is evaluated
    at nodes that integrate ``(order + 1) l_max`` exactly, values are multiplied, and come back.

    Args:
        l_max: Highest degree of factors and output.
        order: Number of factors.
        method: ``"grid"``, ``"separable"``: as in `GauntProduct`. ``"polynomial"``: the sum over
            the monomials of `gaunt_polynomials`, in the kernel `symmetric_polynomial`. It serves
            calls with a single factor whose weights, if any, all samples share; other calls run on
            the cheaper of the two grids. ``"auto"``: what costs least.

    Raises:
        TypeError: If `l_max` or `order` is no whole number.
        ValueError: If the method is unknown, `l_max` negative, or `order` below one.

    Derivatives:
        Any order, to all inputs.

    References:
        Luo et al., Gaunt tensor products (2024): many-body interactions.

    Examples:
        >>> cube = GauntPower(1, 3).double()
        >>> x = torch.zeros(4, 1, dtype=torch.float64)
        >>> x[2] = 1  # sqrt(3 / 4 pi) y, and the mean of y⁴ is 3 / 5 of that of y²
        >>> round(float(cube(x)[2] * 4 * torch.pi / 3), 12)
        0.6
    """

    def __init__(self, l_max: int, order: int, method: str = "auto") -> None:
        super().__init__()
        _check.at_least("GauntPower", 0, l_max=l_max)
        _check.at_least("GauntPower", 1, order=order)
        _check.one_of("GauntPower", ("auto", *_TRANSFORMS, "polynomial"), method=method)
        self.l_max, self.order, self.dim = l_max, order, dim(l_max)
        grid = method if method in _TRANSFORMS else _cheapest(l_max, order)
        self.method = grid if method == "auto" else method
        if method == "auto" and _polynomial_pays(l_max, order, grid):
            self.method = "polynomial"
        self._transform = _TRANSFORMS[grid](l_max, order=order)
        for name, value in self._transform.constants.items():
            self._constant(name, value)
        self.register_buffer("degrees", degrees(l_max), persistent=False)
        if self.method == "polynomial":
            monomials, at_k, values = gaunt_polynomials(l_max, order)
            self._constant("monomials", monomials)
            self._constant("at_k", at_k)
            self._constant("values", values)
            powers = (monomials < self.dim).sum(1)
            # Which weight a monomial has, of order times degrees; where the highest power begins.
            self._constant("at_weight", (powers - 1) * (l_max + 1) + degrees(l_max)[at_k])
            self._highest = int((powers < order).sum())

    degrees: Tensor
    monomials: Tensor  # (t, q)
    at_k: Tensor  # (t,)
    values: Tensor  # (t,)
    at_weight: Tensor  # (t,)

    def forward(
        self,
        *factors: Tensor,  # each (..., m, c)
        weight: Tensor | None = None,  # (..., order, l_max + 1, c)
    ) -> Tensor:  # (..., m, c)
        """Multiply as many factors as `order` says, or take the power of a single one.

        Args:
            factors: One feature, or `order` features of one width, whose batches broadcast.
            weight: For a single factor: a weight for each power from one to `order` and each
                degree of the output; the result is the weighted sum of all powers, from one
                evaluation. Without it the highest power alone.

        Returns:
            The product, or the weighted sum of powers.

        Raises:
            TypeError: If the dtypes of features, weights and constants differ.
            ValueError: If shapes or the number of factors do not fit, or several factors meet
                a weight.
        """
        self._check_call(factors, weight)
        alone = len(factors) == 1 and (weight is None or weight.ndim == 3)
        if self.method == "polynomial" and alone:
            return self._polynomial(factors[0], weight)
        stored = {name: getattr(self, name) for name in self._transform.constants}
        values = [self._transform.values(stored, x) for x in factors]
        if weight is None:
            product = values[0]
            for k in range(1, self.order):
                product = product * values[k % len(values)]
            return self._transform.features(stored, product)
        powers = [values[0]]
        for _ in range(1, self.order):
            powers.append(powers[-1] * values[0])
        n_channels = values[0].shape[-1]
        features = self._transform.features(stored, torch.cat(powers, -1))
        by_power = features.unflatten(-1, (self.order, n_channels)).movedim(-2, -3)
        out: Tensor = (by_power * weight.index_select(-2, self.degrees)).sum(-3)
        return out

    def _polynomial(self, x: Tensor, weight: Tensor | None) -> Tensor:
        """Sum over monomials: those of the highest power, or all of them, with weights."""
        first, c = 0 if weight is not None else self._highest, x.shape[-1]
        coefficients = self.values[first:, None]
        if weight is not None:
            coefficients = coefficients * weight.flatten(0, 1).index_select(0, self.at_weight)
        rows = x.reshape(-1, self.dim, c)
        out = symmetric_polynomial(
            rows, coefficients.expand(-1, c)[None], self.at_k.new_zeros(rows.shape[0]),
            self.monomials[first:], self.at_k[first:], self.dim,
        )  # fmt: skip
        return out.reshape(x.shape)

    def cost(self, n: int, channels: int) -> Cost:
        """Count a power of `n` features of `channels`; bytes of input and output in float64."""
        if self.method == "polynomial":
            one = self.order * (len(self.values) - self._highest)
        else:
            one = _total(type(self._transform).count(self.l_max, False, self.order), self.order)
        return Cost(n * channels * one, 16 * n * channels * self.dim)

    def _check_call(self, factors: tuple[Tensor, ...], weight: Tensor | None) -> None:
        if len(factors) not in (1, self.order):
            raise ValueError(
                f"`GauntPower(...)` must be given 1 or {self.order} factors. Got {len(factors)}."
            )
        if weight is not None and len(factors) > 1:
            raise ValueError("`GauntPower(weight=...)` must come with one factor. Got several.")
        for k, x in enumerate(factors):
            _check.shapes("GauntPower", **{f"factor{k}": (x, f"... {self.dim} c")})
        if len({x.shape[-1] for x in factors}) > 1:
            widths = [x.shape[-1] for x in factors]
            raise ValueError(f"`GauntPower(...)` must have factors of one width. Got {widths}.")
        expected = (self.order, self.l_max + 1, factors[0].shape[-1])
        if weight is not None and tuple(weight.shape[-3:]) != expected:
            raise ValueError(
                f"`GauntPower(weight=...)` must end in shape {expected}. Got {tuple(weight.shape)}."
            )

    def extra_repr(self) -> str:
        """Say the settings in `print(model)`."""
        return f"l_max={self.l_max}, order={self.order}, method={self.method!r}"


def _total(count: Count, order: int) -> int:
    return count.values + (order - 1) * count.points + count.features


@cache
def _cheapest(l_max: int, order: int) -> str:
    counts = {k: _total(t.count(l_max, False, order), order) for k, t in _TRANSFORMS.items()}
    return min(counts, key=lambda name: counts[name] * _DEAR[name])


@cache
def _polynomial_pays(l_max: int, order: int, grid: str) -> bool:
    if math.comb(dim(l_max) + order - 1, order) > _SETS:
        return False
    monomials, _, _ = gaunt_polynomials(l_max, order)
    sums = order * int((monomials < dim(l_max)).all(1).sum())
    count = _total(_TRANSFORMS[grid].count(l_max, False, order), order)
    return sums * _DEAR["polynomial"] < count * _DEAR[grid]
