"""The Gaunt product: features are functions on the sphere, and functions are multiplied."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from tensornet.products.base import Cost, Product
from tensornet.products.coupling import coupling
from tensornet.products.gaunt_fourier import Fourier
from tensornet.products.gaunt_transform import Count, Nodes, Separable, Transform
from tensornet.so3 import dim

METHODS = ("auto", "grid", "separable", "fourier", "dense")
_TRANSFORMS: dict[str, type[Transform]] = {
    "grid": Nodes,
    "separable": Separable,
    "fourier": Fourier,
}
# `auto` asks for the cost of this many channels, a usual width, with a weight on multiplications
# that are not done by one large matrix product: about what they took longer on a CPU.
_CHANNELS = 64
_WEIGHT = {"grid": 1, "separable": 4, "fourier": 10}


class GauntProduct(Product):
    """The product of two functions on the sphere: all even paths, for the price of a grid.

    Features are coefficients of orthonormal harmonics; the product is that of the functions, cut
    at `l_max`. It is the coupling of integrals of three harmonics, exact to round-off in every
    method. The product has one scale per degree of inputs and output, no weight per path.

    Args:
        l_max: Highest degree.
        method: ``"grid"``: values at the fewest quadrature nodes known (6, 24, 32, 62, 86, 126,
            168, 212 for degrees one to eight), by one matrix. ``"separable"``: at
            Gauss-Legendre heights and uniform longitudes, one after the other, from high degrees
            on. ``"fourier"``: Fourier series on a torus. ``"dense"``: the coupling itself, with
            the second input contracted first. ``"auto"``: what multiplies least at 64 channels,
            weighed by how fast it multiplies; one choice for a one-channel second input and one
            for many.
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
        if method not in METHODS:
            raise ValueError(
                f"`GauntProduct(method=...)` must be one of {', '.join(METHODS)}. Got {method!r}."
            )
        if path_weights == "path":
            raise ValueError(
                "`GauntProduct(path_weights=...)` must be none, shared or separable, since a "
                "product of functions has no paths. Got 'path'. (Take `ClebschGordanProduct` or "
                "`EdgeProduct`.)"
            )
        self.method = method
        auto = method == "auto"
        # One choice for a second input of one channel, one for many.
        self.methods = _cheapest(l_max, odd_paths) if auto else (method, method)
        if "dense" in self.methods:
            self._constant("unfolded", self.target().permute(2, 0, 1).flatten(0, 1))  # (k i, j)
        self._transforms: dict[str, Transform] = {}
        for name in sorted({*self.methods} - {"dense"}):
            self._transforms[name] = _TRANSFORMS[name](l_max, slopes=odd_paths)
            for key, value in self._transforms[name].constants.items():
                self._constant(f"{name}_{key}", value)

    unfolded: Tensor

    def prepare(
        self,
        x2: Tensor,  # (..., j, c) or (..., j, 1)
    ) -> Tensor:  # (..., g, c) or (..., k i, c), or with one channel
        """Evaluate the second function, or contract it with the coupling."""
        method = self.methods[x2.shape[-1] > 1]
        if method == "dense" and x2.shape[-1] == 1:
            return (x2[..., 0] @ self.unfolded.mT)[..., None]  # one large matrix product
        if method == "dense":
            return self.unfolded @ x2
        return self._transforms[method].values(self._stored(method), x2)

    def multiply(self, x1: Tensor, prepared: Tensor, expanded: Tensor | None) -> Tensor:
        """Multiply the functions at every point, and integrate."""
        method = self.methods[prepared.shape[-1] > 1]
        x1 = self._on_input(x1, expanded)
        if method == "dense":
            matrices = prepared.unflatten(-2, (self.dim, self.dim))
            if matrices.shape[-1] == 1:
                return self._on_output(matrices[..., 0] @ x1, expanded)
            return self._on_output((matrices * x1[..., None, :, :]).sum(-2), expanded)
        transform, stored = self._transforms[method], self._stored(method)
        product = transform.pointwise(stored, transform.values(stored, x1), prepared)
        return self._on_output(transform.features(stored, product), expanded)

    def _stored(self, method: str) -> dict[str, Tensor]:
        names = self._transforms[method].constants
        return {name: getattr(self, f"{method}_{name}") for name in names}

    def to_dense(self) -> Tensor:  # (i, j, k)
        """Multiply all pairs of harmonics, by the method for a second input of one channel."""
        if self.methods[0] == "dense":
            out: Tensor = self.unfolded.unflatten(0, (self.dim, self.dim)).permute(1, 2, 0)
            return out
        dtype = next(b.dtype for b in self.buffers() if b.is_floating_point())
        eye = torch.eye(self.dim, dtype=dtype, device=self.degrees.device)
        first = eye.expand(self.dim, -1, -1)  # channels are components of the first input
        out = self.multiply(first, self.prepare(eye[..., None]), self._ones(eye))
        return out.permute(2, 0, 1)

    def _ones(self, like: Tensor) -> Tensor | None:
        if self.path_weights == "none":
            return None
        return self.expand(like.new_ones(self.weight_shape(len(like))))

    def target(self) -> Tensor:  # (i, j, k)
        """Give the integrals of three harmonics, and of the bracket of two with the third."""
        even = coupling("gaunt", self.l_max)
        return even + coupling("poisson", self.l_max) if self.odd_paths else even

    def cost(self, n: int, channels: int) -> Cost:
        """Count transforms and the product at the points, or the dense definition."""
        if self.methods[0] == "dense":
            stored = self.dim**2
            return Cost(
                n * stored * (self.dim + channels), self._traffic(n, channels) + 8 * n * stored
            )
        count = type(self._transforms[self.methods[0]]).count(self.l_max, self.odd_paths)
        return Cost(
            n * _total(count, channels, 1), self._traffic(n, channels) + 8 * n * count.points
        )

    def extra_repr(self) -> str:
        """Say the settings in `print(model)`."""
        return f"{super().extra_repr()}, method={self.method!r}"


def _total(count: Count, channels: int, channels2: int) -> int:
    """Count the multiplications of one product."""
    return count.values * (channels + channels2) + (count.points + count.features) * channels


@cache
def _cheapest(l_max: int, odd_paths: bool) -> tuple[str, str]:
    """Give the methods that cost least with a second input of one channel and of many."""
    d, chosen = dim(l_max), []
    for channels2 in (1, _CHANNELS):
        counts = {"dense": d * d * (d * channels2 + _CHANNELS)}
        for name, transform in _TRANSFORMS.items():
            total = _total(transform.count(l_max, odd_paths), _CHANNELS, channels2)
            counts[name] = _WEIGHT[name] * total
        chosen.append(min(counts, key=lambda name: counts[name]))
    return chosen[0], chosen[1]
