"""The exact product with the harmonics of an edge, where the edge is the polar axis."""

import torch
from torch import Tensor

from tensornet.kernels import aligned_product, core_numbers
from tensornet.products.base import Cost, Product
from tensornet.so3 import gauss_legendre_grid, spherical_harmonics


class AlignedProduct(Product):
    """The Clebsch-Gordan product with harmonics of a direction, by turning it to the polar axis.

    On the axis only orders m with m, and m with -m, meet. A feature is turned there, multiplied by
    these few numbers and turned back, all in the cache: some l_max³ multiplications per channel
    instead of the (l_max + 1)⁴ of `EdgeProduct`. The turn itself is never differentiated: the
    product is equivariant, so its slope in the direction is a torque, smooth on the axis too.

    `x2` must be harmonics of a vector, one channel, times any number not zero: only its degrees
    zero and one are read, and its slope stands there. Through `spherical_harmonics` that gives
    exact slopes in positions, of every order; for an `x2` that is no harmonics, neither result nor
    slope is that of `EdgeProduct`. A vector of length zero gives NaN.

    Args:
        l_max: Highest degree.
        path_weights: ``"none"``, ``"shared"`` or ``"separable"``, as in `Product`.
        odd_paths: As in `Product`.

    Raises:
        ValueError: If weights per path are asked for, which do not stay apart on the axis.

    Derivatives:
        Any order, to the features, weights, and the vectors behind `x2`.

    References:
        Passaro & Zitnick, Reducing SO(3) convolutions to SO(2) (2023).

    Examples:
        >>> product, x = AlignedProduct(1).double(), torch.ones(4, 2, dtype=torch.float64)
        >>> y = spherical_harmonics(torch.ones(1, 3, dtype=torch.float64), 1)[0, :, None]
        >>> from tensornet.products import EdgeProduct
        >>> torch.allclose(product(x, y), EdgeProduct(1).double()(x, y))
        True
    """

    def __init__(self, l_max: int, path_weights: str = "none", *, odd_paths: bool = True) -> None:
        super().__init__(l_max, path_weights, odd_paths=odd_paths)
        if path_weights == "path":
            raise ValueError(
                "`AlignedProduct(path_weights=...)` must be none, shared or separable. Got 'path'. "
                "(Take `EdgeProduct` or `ClebschGordanProduct`.)"
            )
        axis = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
        matrix = torch.einsum("ijk,j->ki", self.target(), spherical_harmonics(axis, l_max)[0])
        numbers = core_numbers(l_max)
        rows = [l3 * (l3 + 1) + abs(m) for _, l3, m in numbers]
        columns = [l1 * (l1 + 1) + m for l1, _, m in numbers]
        self._constant("core", matrix[rows, columns])

    core: Tensor  # (q,)

    def prepare(
        self,
        x2: Tensor,  # (..., j, 1)
    ) -> Tensor:  # (..., 4, 1)
        """Keep what tells the vector and its factor.

        Raises:
            ValueError: If `x2` has more than one channel.
        """
        if x2.shape[-1] != 1:
            raise ValueError(
                f"`AlignedProduct(x2=...)` must have 1 channel. Got {x2.shape[-1]}. "
                "(Take `ClebschGordanProduct` or `CPProduct`.)"
            )
        if self.l_max:
            return x2[..., :4, :]
        axis = x2.new_tensor([[0.0], [1.0], [0.0]]).expand(*x2.shape[:-2], 3, 1)
        return torch.cat([x2, axis], -2)  # degree zero knows no direction

    def multiply(self, x1: Tensor, prepared: Tensor, expanded: Tensor | None) -> Tensor:
        """Turn, multiply and turn back."""
        shared = self.path_weights == "shared"
        x1 = self._on_input(x1, expanded)
        batch = torch.broadcast_shapes(x1.shape[:-2], prepared.shape[:-2])
        d, c = x1.shape[-2:]
        factor = prepared[..., 0, :]  # the harmonic of degree zero
        vectors = (prepared[..., 1:, 0] * factor).expand(*batch, 3).reshape(-1, 3)
        weight = factor if expanded is None or not shared else factor * expanded
        weight = weight.expand(*batch, c).reshape(-1, c)
        x1 = x1.expand(*batch, d, c).reshape(-1, d, c)
        out = aligned_product(x1, vectors, weight, self.core).reshape(*batch, d, c)
        return out if shared else self._on_output(out, expanded)

    def to_dense(self) -> Tensor:  # (i, j, k)
        """Integrate what it does to unit features against harmonics of all directions."""
        points, weights = gauss_legendre_grid(3 * self.l_max)
        points, weights = points.to(self.core), weights.to(self.core)
        Y = spherical_harmonics(points, self.l_max)
        ones = torch.eye(self.dim).to(self.core).expand(len(points), -1, -1)
        plain = aligned_product(ones, points, self.core.new_ones(len(points), self.dim), self.core)
        return torch.einsum("g,gki,gj->ijk", weights / weights.sum(), plain, Y)

    def cost(self, n: int, channels: int) -> Cost:
        """Count the turns, which are made of two kinds of blocks, and the product on the axis."""
        degrees = range(self.l_max + 1)
        tilt = sum((l + 1) ** 2 + l**2 for l in degrees)
        about = 4 * sum(degrees)
        axis = sum((self.l_max + 1 - m) ** 2 * (4 if m else 1) for m in degrees)
        multiplies = n * (channels * (2 * (tilt + about) + axis) + tilt * (2 * self.l_max + 1))
        return Cost(multiplies, self._traffic(n, channels))
