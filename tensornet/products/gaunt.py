"""The Gaunt product: features are functions on the sphere, and functions are multiplied."""

from __future__ import annotations

import torch
from torch import Tensor

from tensornet import _check
from tensornet.products.base import Cost, Product
from tensornet.products.gaunt_ways import WAYS, Way, gaunt_target, make_way

METHODS = ("auto", *WAYS)
# What was fastest on a CPU, value and gradient, up to which degree: with one channel in both
# inputs, in the second only, and with many in both. Without odd paths, and with them.
_FASTEST = {
    False: (
        (("grid", 4), ("separable", None)),
        (("dense", 8), ("separable", None)),
        (("sparse", 4), ("grid", 5), ("separable", None)),
    ),
    True: (
        (("grid", None),),
        (("dense", 8), ("grid", None)),
        (("sparse", 4), ("grid", None)),
    ),
}


class GauntProduct(Product):
    """The product of two functions on the sphere: all even paths, for the price of a grid.

    Features are coefficients of orthonormal harmonics; the product is that of the functions, cut
    at `l_max`. It is the coupling of integrals of three harmonics, exact to round-off in every
    method. Weights act per degree of the first input and of the output; there are none per path.

    Args:
        l_max: Highest degree.
        method: ``"sparse"``: the coupling number by number. ``"grid"``: values at the fewest
            quadrature nodes known (6, 24, 32, 62, 86, 126, 168, 212 for degrees one to eight), by
            one matrix. ``"separable"``: at Gauss-Legendre heights and uniform longitudes, one after
            the other, from high degrees on. ``"fourier"``: Fourier series on a torus.
            ``"dense"``: the coupling itself, with the second input contracted first. ``"auto"``:
            what was fastest on a CPU, by degree and by whether the inputs have one channel or many;
            `select` measures on the machine at hand.
        odd_paths: Whether the Poisson bracket r·(∇f x ∇g) is added, which has all odd paths and
            none of the even ones. It takes the slopes of both functions at the same nodes.
        path_weights: ``"none"``, ``"shared"`` or ``"separable"``, as in `Product`.

    Raises:
        ValueError: If the method is unknown, or weights per path are asked for.

    Derivatives:
        Any order, to all inputs.

    References:
        Luo et al., Gaunt tensor products (2024), section 3.1; Xie et al., The Price of Freedom
        (2025), for grids.

    Examples:
        >>> product = GauntProduct(2, "grid").double()
        >>> one = torch.zeros(9, 1, dtype=torch.float64)
        >>> one[0] = (4 * torch.pi) ** 0.5  # the function that is one everywhere
        >>> x = torch.randn(9, 5, dtype=torch.float64)
        >>> torch.allclose(product(x, one), x)
        True
    """

    kind = "gaunt"

    def __init__(
        self,
        l_max: int,
        method: str = "auto",
        odd_paths: bool = False,
        *,
        path_weights: str = "none",
    ) -> None:
        super().__init__(l_max, path_weights, odd_paths=odd_paths)
        _check.one_of("GauntProduct", METHODS, method=method)
        if path_weights == "path":
            raise ValueError(
                "`GauntProduct(path_weights=...)` must be none, shared or separable, since a "
                "product of functions has no paths. Got 'path'. (Take `ClebschGordanProduct` or "
                "`EdgeProduct`.)"
            )
        self.method = method
        self.methods = _chosen(method, l_max, odd_paths)
        self._ways: dict[str, Way] = {}
        self._keys: dict[str, list[tuple[str, str]]] = {}  # names of constants, here and there
        for name in sorted({*self.methods}):
            self._ways[name] = make_way(name, l_max, odd_paths)
            self._keys[name] = [(key, f"{name}_{key}") for key in self._ways[name].constants]
            for key, value in self._ways[name].constants.items():
                self._constant(f"{name}_{key}", value)

    def _product(self, x1: Tensor, x2: Tensor, expanded: Tensor | None) -> Tensor:
        method = self.methods[0 if x1.shape[-1] == 1 else 1 + (x2.shape[-1] > 1)]
        way, stored = self._ways[method], self._stored(method)
        if expanded is None:
            return way.both(stored, x1, x2)
        return self._on_output(way.both(stored, self._on_input(x1, expanded), x2), expanded)

    def prepare(
        self,
        x2: Tensor,  # (..., j, c) or (..., j, 1)
    ) -> Tensor:  # (..., q, c) or (..., q, 1)
        """Evaluate the second function, or contract it with the coupling."""
        method = self.methods[1 + (x2.shape[-1] > 1)]
        return self._ways[method].prepare(self._stored(method), x2)

    def multiply(self, x1: Tensor, prepared: Tensor, expanded: Tensor | None) -> Tensor:
        """Multiply the functions at every point, and integrate."""
        method = self.methods[1 + (prepared.shape[-1] > 1)]
        way, x1 = self._ways[method], self._on_input(x1, expanded)
        return self._on_output(way.multiply(self._stored(method), x1, prepared), expanded)

    def _stored(self, method: str) -> dict[str, Tensor]:
        kept = self._buffers
        return {name: kept[key] for name, key in self._keys[method]}  # type: ignore[misc]

    def to_dense(self) -> Tensor:  # (i, j, k)
        """Multiply all pairs of harmonics, by the method for a second input of one channel."""
        eye = torch.eye(self.dim, dtype=self._dtype() or torch.float64, device=self.degrees.device)
        first = eye.expand(self.dim, -1, -1)  # channels are components of the first input
        out = self.multiply(first, self.prepare(eye[..., None]), self._ones(eye))
        return out.permute(2, 0, 1)

    def _ones(self, like: Tensor) -> Tensor | None:
        if self.path_weights == "none":
            return None
        return self.expand(like.new_ones(self.weight_shape(len(like))))

    def target(self) -> Tensor:  # (i, j, k)
        """Give the integrals of three harmonics, and of the bracket of two with the third."""
        return gaunt_target(self.l_max, self.odd_paths)

    def cost(self, n: int, channels: int) -> Cost:
        """Count the multiplications of the method for a second input of one channel."""
        method = self.methods[0 if channels == 1 else 1]
        prepared = self.dim**2 if method == "dense" else self.dim
        return Cost(
            n * self._ways[method].count(channels, 1),
            self._traffic(n, channels) + 8 * n * prepared,
        )

    def extra_repr(self) -> str:
        """Say the settings in `print(model)`."""
        return f"{super().extra_repr()}, method={self.method!r}"


def _chosen(method: str, l_max: int, odd_paths: bool) -> tuple[str, str, str]:
    """Give the methods for one channel, for one in the second input, and for many in both."""
    if method != "auto":
        return method, method, method
    found = []
    for row in _FASTEST[odd_paths]:
        found.append(next(name for name, most in row if most is None or l_max <= most))
    return found[0], found[1], found[2]
