"""Ways to multiply two functions on the sphere: what `GauntProduct` chooses from."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import linear

from tensornet.kernels import cp_product, cp_scaled, sparse_product, sphere_product
from tensornet.products.base import one_batch
from tensornet.products.coupling import coupling
from tensornet.products.gaunt_fourier import Fourier
from tensornet.products.gaunt_transform import Count, Nodes, Separable, Stored, Transform
from tensornet.so3 import dim


class Way(ABC):
    """One way to compute the product; its constants are kept by the module.

    Args:
        l_max: Highest degree.
        odd_paths: Whether the Poisson bracket is added.
    """

    def __init__(self, l_max: int, odd_paths: bool) -> None:
        self.dim = dim(l_max)
        self.constants: dict[str, Tensor] = {}

    def prepare(
        self,
        stored: Stored,
        x2: Tensor,  # (..., j, c) or (..., j, 1)
    ) -> Tensor:  # (..., q, c) or (..., q, 1)
        """Do what concerns the second function alone: nothing, where a kernel does it."""
        return x2

    @abstractmethod
    def multiply(
        self,
        stored: Stored,
        x1: Tensor,  # (..., i, c)
        prepared: Tensor,  # (..., q, c) or (..., q, 1)
    ) -> Tensor:  # (..., k, c)
        """Multiply with what `prepare` gave."""

    def both(self, stored: Stored, x1: Tensor, x2: Tensor) -> Tensor:
        """Do `prepare` and `multiply` at once."""
        return self.multiply(stored, x1, self.prepare(stored, x2))

    @abstractmethod
    def count(self, channels: int, channels2: int) -> int:
        """Count the multiplications of one product."""


class Dense(Way):
    """The definition, with the second function contracted first: a small matrix for each."""

    def __init__(self, l_max: int, odd_paths: bool) -> None:
        super().__init__(l_max, odd_paths)
        target = gaunt_target(l_max, odd_paths)
        self.constants = {"unfolded": target.permute(1, 2, 0).flatten(1)}  # (j, k i)

    def prepare(self, stored: Stored, x2: Tensor) -> Tensor:  # (..., k i, c)
        """Contract the second function with the coupling."""
        if x2.shape[-1] == 1:
            return (x2.squeeze(-1) @ stored["unfolded"]).unsqueeze(-1)
        out: Tensor = stored["unfolded"].mT @ x2
        return out

    def multiply(self, stored: Stored, x1: Tensor, prepared: Tensor) -> Tensor:
        """Multiply matrices and vectors."""
        matrices = prepared.unflatten(-2, (self.dim, self.dim))
        if matrices.shape[-1] == 1:
            out: Tensor = matrices.squeeze(-1) @ x1
            return out
        summed: Tensor = (matrices * x1[..., None, :, :]).sum(-2)
        return summed

    def count(self, channels: int, channels2: int) -> int:
        """Count both contractions."""
        return self.dim**2 * (self.dim * channels2 + channels)


class Sparse(Way):
    """The definition without its zeros, number by number, in the kernel `sparse_product`."""

    def __init__(self, l_max: int, odd_paths: bool) -> None:
        super().__init__(l_max, odd_paths)
        target = gaunt_target(l_max, odd_paths)
        target[target.abs() < 1e-12 * target.abs().max()] = 0
        at = target.nonzero(as_tuple=True)
        self.constants = {f"at_{name}": index for name, index in zip("ijk", at, strict=True)}
        self.constants["values"] = target[at]

    def multiply(self, stored: Stored, x1: Tensor, prepared: Tensor) -> Tensor:
        """Run the kernel."""
        x1, prepared, batch = one_batch(x1, prepared)
        at = (stored["at_i"], stored["at_j"], stored["at_k"], stored["values"])
        other = prepared.expand(-1, -1, x1.shape[-1])
        out = sparse_product(x1, other, *at, self.dim)
        return out.reshape(*batch, *out.shape[-2:])

    def count(self, channels: int, channels2: int) -> int:
        """Count two multiplications for each number of the coupling."""
        return 2 * len(self.constants["values"]) * channels


class Sphere(Way):
    """Gauss-Legendre heights and uniform longitudes, one after the other: `sphere_product`."""

    def __init__(self, l_max: int, odd_paths: bool) -> None:
        super().__init__(l_max, odd_paths)
        self.n_heights, self.n_quads = 2 * (3 * l_max // 4 + 1), 3 * l_max // 4 + 1

    def multiply(self, stored: Stored, x1: Tensor, prepared: Tensor) -> Tensor:
        """Run the kernel."""
        x1, prepared, batch = one_batch(x1, prepared)
        out = sphere_product(x1, prepared, self.dim)
        return out.reshape(*batch, *out.shape[-2:])

    def count(self, channels: int, channels2: int) -> int:
        """Count the sums over degrees and orders, eight points at once, and the points."""
        orders = 2 * math.isqrt(self.dim)
        one = self.n_heights * (self.dim // 2 + self.n_quads * orders)
        points = 4 * self.n_heights * self.n_quads
        return one * (2 * channels + channels2) + points * channels


class Grid(Way):
    """The fewest quadrature nodes known, by one matrix: the CP format of the coupling.

    The Poisson bracket at a node is two products of slopes, so that it takes three terms a node.
    Functions of one channel are multiplied by large matrices, others by the kernels of the CP.
    """

    def __init__(self, l_max: int, odd_paths: bool) -> None:
        super().__init__(l_max, odd_paths)
        nodes = Nodes(l_max, slopes=odd_paths).constants
        there, back = nodes["there"], nodes["back"].mT
        second = there
        if odd_paths:
            f, f1, f2 = there.unflatten(0, (3, -1)).unbind(0)
            second, back = torch.cat([f, f2, -f1]), back.repeat(3, 1)
        self.constants = {"there": there, "second": second, "back": back}

    def prepare(self, stored: Stored, x2: Tensor) -> Tensor:  # (..., r, 1) or (..., j, c)
        """Evaluate a second function of one channel."""
        if x2.shape[-1] != 1:
            return x2
        return linear(x2.squeeze(-1), stored["second"]).unsqueeze(-1)

    def multiply(self, stored: Stored, x1: Tensor, prepared: Tensor) -> Tensor:
        """Evaluate, multiply, and sum over the nodes with their weights."""
        u, v, w = stored["there"], stored["second"], stored["back"]
        if x1.shape[-1] == 1:
            return ((linear(x1.squeeze(-1), u) * prepared.squeeze(-1)) @ w).unsqueeze(-1)
        x1, prepared, batch = one_batch(x1, prepared)
        if prepared.shape[-1] == 1:
            out = cp_scaled(x1, prepared.squeeze(-1), u, w)
        else:
            out = cp_product(x1, prepared, u, v, w)
        return out.reshape(*batch, *out.shape[-2:])

    def both(self, stored: Stored, x1: Tensor, x2: Tensor) -> Tensor:
        """Multiply functions of one channel with as few calls as there can be."""
        if x1.shape[-1] != 1:
            return super().both(stored, x1, x2)
        first = linear(x1.squeeze(-1), stored["there"])
        second = linear(x2.squeeze(-1), stored["second"])
        return ((first * second) @ stored["back"]).unsqueeze(-1)

    def count(self, channels: int, channels2: int) -> int:
        """Count the three matrices and the product of terms."""
        terms = len(self.constants["back"])
        return terms * (self.dim * (2 * channels + channels2) + channels)


class Transformed(Way):
    """Any transform of the room, in torch."""

    transform: type[Transform]

    def __init__(self, l_max: int, odd_paths: bool) -> None:
        super().__init__(l_max, odd_paths)
        self.made = self.transform(l_max, slopes=odd_paths)
        self.constants = self.made.constants
        self.counted: Count = self.transform.count(l_max, odd_paths)

    def prepare(self, stored: Stored, x2: Tensor) -> Tensor:
        """Evaluate the second function."""
        return self.made.values(stored, x2)

    def multiply(self, stored: Stored, x1: Tensor, prepared: Tensor) -> Tensor:
        """Evaluate the first function, multiply at every point, and integrate."""
        product = self.made.pointwise(stored, self.made.values(stored, x1), prepared)
        return self.made.features(stored, product)

    def count(self, channels: int, channels2: int) -> int:
        """Count transforms and the product at the points."""
        values, points, features = self.counted
        return values * (channels + channels2) + (points + features) * channels


class Torus(Transformed):
    """Fourier series on a torus."""

    transform = Fourier


class Slopes(Transformed):
    """Heights and longitudes with slopes, for the Poisson bracket."""

    transform = Separable


WAYS: dict[str, type[Way]] = {
    "sparse": Sparse,
    "grid": Grid,
    "separable": Sphere,
    "fourier": Torus,
    "dense": Dense,
}


def make_way(method: str, l_max: int, odd_paths: bool) -> Way:
    """Make the way that a method means."""
    kind = Slopes if odd_paths and method == "separable" else WAYS[method]
    return kind(l_max, odd_paths)


def gaunt_target(l_max: int, odd_paths: bool) -> Tensor:  # (i, j, k)
    """Give the integrals of three harmonics, and of the bracket of two with the third."""
    even = coupling("gaunt", l_max)
    return even + coupling("poisson", l_max) if odd_paths else even
