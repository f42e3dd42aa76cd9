"""The exact product with the harmonics of an edge, where the edge is the polar axis."""

import math

import torch
from torch import Tensor

from tensornet.kernels import aligned_product, core_numbers
from tensornet.products.base import Cost, Product
from tensornet.products.coupling import block
from tensornet.so3 import gauss_legendre_grid, spherical_harmonics


class AlignedProduct(Product):
    """The Clebsch-Gordan product with harmonics of a direction, by turning it to the polar axis.

    On the axis only orders m with m, and m with -m, meet. A feature is turned there, multiplied by
    these few numbers and turned back, all in the cache: some l_max³ multiplications per channel
    instead of the (l_max + 1)⁴ of `EdgeProduct`. The turn itself is never differentiated: the
    product is equivariant, so that its derivative by the direction follows from infinitesimal
    rotations of the features, without a singularity on the axis.

    `x2` must be harmonics of a vector, one channel, times any number not zero: only its degrees
    zero and one are read, and its gradient stands there. Through `spherical_harmonics` that gives
    exact derivatives by positions, of every order; for an `x2` that is not harmonics, neither
    result nor gradient is that of `EdgeProduct`. A vector of length zero gives NaN.

    Args:
        l_max: Highest degree.
        path_weights: As in `Product`, but ``"path"`` takes one weight per path, (p, 1), for all
            samples and channels: they are summed to one set of numbers on the axis, at no cost per
            sample. Weights of a path that differ by channel or sample do not stay apart there.
        odd_paths: As in `Product`.

    Raises:
        ValueError: As in `Product`; in a call, if weights of paths differ by sample or channel.

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
        target = self.target()
        if path_weights != "path":
            self._constant("core", _on_axis(target, l_max))
            return
        alone = []
        for path in self.paths():
            only = torch.zeros_like(target)
            only[block(path)] = target[block(path)]
            alone.append(_on_axis(only, l_max))
        self._constant("core", torch.stack(alone))

    core: Tensor  # (q,), or (p, q) with a weight per path

    def prepare(
        self,
        x2: Tensor,  # (..., j, 1)
    ) -> Tensor:  # (..., 4, 1)
        """Keep the harmonics of degrees zero and one, which tell the vector and the factor.

        Raises:
            ValueError: If `x2` has more than one channel.
        """
        self._check_one_channel(x2)
        if self.l_max:
            return x2[..., :4, :]
        axis = x2.new_tensor([[0.0], [1.0], [0.0]]).expand(*x2.shape[:-2], 3, 1)
        return torch.cat([x2, axis], -2)  # degree zero knows no direction

    def expand(
        self,
        weight: Tensor,  # (..., *weight_shape), or (p, 1)
    ) -> Tensor:  # (..., c), (..., 2, k, c) or (q,)
        """Repeat weights for the components they act on; sum those of paths to numbers on the axis.

        Raises:
            ValueError: If weights of paths differ by sample or channel.
        """
        if self.path_weights != "path":
            return super().expand(weight)
        if weight.ndim != 2 or weight.shape[-1] != 1:
            raise ValueError(
                f"`AlignedProduct(weight=...)` must have shape ({len(self.core)}, 1), since paths "
                f"do not stay apart on the axis. Got {tuple(weight.shape)}. "
                "(Take `EdgeProduct` or `ClebschGordanProduct`.)"
            )
        out: Tensor = weight[:, 0] @ self.core
        return out

    def multiply(self, x1: Tensor, prepared: Tensor, expanded: Tensor | None) -> Tensor:
        """Turn, multiply and turn back."""
        shared = self.path_weights == "shared"
        core = expanded if self.path_weights == "path" else self.core
        assert core is not None
        x1 = self._on_input(x1, expanded)
        batch = torch.broadcast_shapes(x1.shape[:-2], prepared.shape[:-2])
        d, c = x1.shape[-2:]
        factor = prepared[..., 0, :]  # the harmonic of degree zero
        n = math.prod(batch)
        vectors = (prepared[..., 1:, 0] * factor).expand(*batch, 3).reshape(n, 3)
        weight = factor if expanded is None or not shared else factor * expanded
        weight = weight.expand(*batch, c).reshape(n, c)
        x1 = x1.expand(*batch, d, c).reshape(n, d, c)
        out = aligned_product(x1, vectors, weight, core).reshape(*batch, d, c)
        return out if shared else self._on_output(out, expanded)

    def to_dense(self) -> Tensor:  # (i, j, k)
        """Integrate what it does to unit features against harmonics of all directions."""
        points, weights = gauss_legendre_grid(3 * self.l_max)
        points, weights = points.to(self.core), weights.to(self.core)
        Y = spherical_harmonics(points, self.l_max)
        ones = torch.eye(self.dim).to(self.core).expand(len(points), -1, -1)
        core = self.core.sum(0) if self.path_weights == "path" else self.core
        plain = aligned_product(ones, points, core.new_ones(len(points), self.dim), core)
        return torch.einsum("g,gki,gj->ijk", weights / weights.sum(), plain, Y)

    def cost(self, n: int, channels: int) -> Cost:
        """Count the turns, which are made of two kinds of blocks, and the product on the axis."""
        degrees = range(self.l_max + 1)
        tilt = sum((l + 1) ** 2 + l**2 for l in degrees)
        about = 4 * sum(degrees)
        axis = sum((self.l_max + 1 - m) ** 2 * (4 if m else 1) for m in degrees)
        multiplies = n * (channels * (2 * (tilt + about) + axis) + tilt * (2 * self.l_max + 1))
        return Cost(multiplies, self._traffic(n, channels))


def _on_axis(coupling: Tensor, l_max: int) -> Tensor:  # (i, j, k) -> (q,)
    """Contract a coupling with the harmonics of the polar axis; the numbers that are left."""
    axis = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
    matrix = torch.einsum("ijk,j->ki", coupling, spherical_harmonics(axis, l_max)[0])
    numbers = core_numbers(l_max)
    rows = [l3 * (l3 + 1) + abs(m) for _, l3, m in numbers]
    columns = [l1 * (l1 + 1) + m for l1, _, m in numbers]
    return matrix[rows, columns]
