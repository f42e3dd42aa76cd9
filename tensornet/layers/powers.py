"""Powers of a function on the sphere, with weights by element."""

import math

import torch
from torch import Tensor, nn

from tensornet import _check
from tensornet.kernels import symmetric_polynomial
from tensornet.products import gaunt_polynomials
from tensornet.products.base import Constants
from tensornet.so3 import degrees, dim


class DensityPowers(Constants):
    """The powers of each channel's function on the sphere, weighted by element, power and degree.

    Features are coefficients of orthonormal harmonics, of natural parity. The powers from one to
    `order` are multiplied out exactly, as sparse polynomials, and cut at `l_max_out`. They are
    some of the polynomials of `SymmetricContraction`: one for each degree and power.

    Args:
        l_max: Highest degree of the features.
        order: Highest power.
        channels: Channels; they are not mixed.
        n_elements: Number of elements.
        l_max_out: Highest degree of the result.

    Attributes:
        weight: (elements, order (l_max_out + 1), channels): by power, then by degree.

    Raises:
        TypeError: If an argument is no whole number.
        ValueError: If a number is too small, or the list of monomials would be too long.

    Derivatives:
        Any order, in the features and weights; the first two are fused.

    References:
        Luo et al., Gaunt tensor products (2024): many-body interactions.

    Examples:
        >>> layer = DensityPowers(2, 3, channels=4, n_elements=2, l_max_out=1)
        >>> layer(torch.randn(5, 9, 4), torch.tensor([0, 1, 1, 0, 0])).shape
        torch.Size([5, 4, 4])
    """

    def __init__(
        self, l_max: int, order: int, channels: int, n_elements: int, l_max_out: int = 0
    ) -> None:
        super().__init__()
        name = type(self).__name__
        _check.at_least(name, 0, l_max=l_max, l_max_out=l_max_out)
        _check.at_least(name, 1, order=order, channels=channels, n_elements=n_elements)
        monomials, at_k, values = gaunt_polynomials(l_max, order, l_max_out)
        self.n_in, self.n_out = dim(l_max), dim(l_max_out)
        power = (monomials < self.n_in).sum(1) - 1
        of_weight = power * (l_max_out + 1) + degrees(l_max_out)[at_k]
        for key, table in (("monomials", monomials), ("at_k", at_k), ("of_weight", of_weight)):
            self.register_buffer(key, table, persistent=False)
        self._constant("values", values[:, None])
        # White features make a normal function of this size everywhere on the sphere, whose
        # powers q have the size (size^2q (2q - 1)!!)^(1/2).
        size = math.sqrt(dim(l_max) / (4 * math.pi))
        sizes = [size**q * math.prod(range(1, 2 * q, 2)) ** 0.5 for q in range(1, order + 1)]
        powers = torch.arange(order).repeat_interleave(l_max_out + 1)
        scale = size / math.sqrt(order) / torch.tensor(sizes)[powers]
        self.weight = nn.Parameter(torch.randn(n_elements, len(powers), channels) * scale[:, None])

    monomials: Tensor
    at_k: Tensor
    of_weight: Tensor
    values: Tensor

    def forward(
        self,
        x: Tensor,  # (n, m, c)
        species: Tensor,  # (n,)
    ) -> Tensor:  # (n, m', c)
        """Take the powers and weigh them.

        Args:
            x: Features.
            species: Which element each atom is, 0 to n_elements - 1.

        Returns:
            Weighted sums of the powers, (l_max_out + 1)² components.

        Raises:
            ValueError: If the features have another shape than the layer was made for.
            TypeError: If `species` is not of int64, or the dtypes differ.
            IndexError: If an element is out of range.
        """
        _check.shapes(type(self).__name__, x=(x, f"n {self.n_in} {self.weight.shape[-1]}"))
        coefficients = self.weight.index_select(1, self.of_weight) * self.values
        return symmetric_polynomial(x, coefficients, species, self.monomials, self.at_k, self.n_out)
