"""All equivariant polynomials of features up to some order, with weights by element."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from itertools import combinations_with_replacement

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tensornet import _check
from tensornet.kernels import symmetric_polynomial
from tensornet.products.base import Constants
from tensornet.so3 import degrees, dim, wigner_3j

Array = NDArray[np.float64]
Word = tuple[int, ...]


class SymmetricContraction(Constants):
    """Every equivariant polynomial of a channel's own features, weighted by element and channel.

    Features and results have natural parity (-1)^l. For each order from 1 to `correlation` and
    each degree of the result, an orthonormal basis of all O(3)-equivariant polynomials is built
    from the couplings; a result is their sum, with weights that belong to the element of the atom.

    Args:
        l_max: Highest degree of the features.
        correlation: Highest order of the polynomials: how many features are multiplied.
        channels: Channels; they are not mixed.
        n_elements: Number of elements.
        l_max_out: Highest degree of the result.

    Attributes:
        weight: (elements, basis polynomials, channels).
        paths: For each basis polynomial its degree and its order.

    Raises:
        TypeError: If an argument is no whole number.
        ValueError: If a number is too small.

    Derivatives:
        Any order, in the features and weights; the first two are fused.

    References:
        Batatia et al., MACE (2022), equations 10 and 11; Dusson et al., Atomic cluster expansion:
        completeness, efficiency and stability (2022), section 5, for the size of the basis.

    Examples:
        >>> layer = SymmetricContraction(2, 3, channels=4, n_elements=2, l_max_out=1)
        >>> layer(torch.randn(5, 9, 4), torch.tensor([0, 1, 1, 0, 0])).shape
        torch.Size([5, 4, 4])
        >>> layer.paths.count((0, 3))  # invariants of third order
        5
    """

    def __init__(
        self, l_max: int, correlation: int, channels: int, n_elements: int, l_max_out: int = 0
    ) -> None:
        super().__init__()
        name = type(self).__name__
        _check.at_least(name, 0, l_max=l_max, l_max_out=l_max_out)
        _check.at_least(name, 1, correlation=correlation, channels=channels, n_elements=n_elements)
        self.shape = dim(l_max), channels
        self.n_out, self.n_elements = dim(l_max_out), n_elements
        monomials, at_k, coupling, self.paths = _basis(l_max, correlation, l_max_out)
        self.register_buffer("monomials", monomials.clone(), persistent=False)
        self.register_buffer("at_k", at_k.clone(), persistent=False)
        self._constant("coupling", coupling)
        self.monomials: Tensor
        self.at_k: Tensor
        self.coupling: Tensor
        degrees = [degree for degree, _ in self.paths]
        sizes = [math.factorial(order) * degrees.count(degree) for degree, order in self.paths]
        scale = torch.tensor(sizes, dtype=torch.get_default_dtype()).rsqrt()
        self.weight = nn.Parameter(torch.randn(n_elements, len(sizes), channels) * scale[:, None])
        self._recent = Recent()

    def forward(
        self,
        x: Tensor,  # (n, m, c)
        species: Tensor,  # (n,)
    ) -> Tensor:  # (n, m', c)
        """Multiply and weigh.

        Args:
            x: Features.
            species: Which element each atom is, 0 to n_elements - 1.

        Returns:
            Weighted sums of the polynomials, (l_max_out + 1)² components.

        Raises:
            ValueError: If the features have another shape than the layer was made for.
            TypeError: If `species` is not of int64, or the dtypes differ.
            IndexError: If an element is out of range.
        """
        name = type(self).__name__
        if x.ndim != 3 or x.shape[1:] != self.shape:
            raise ValueError(
                f"`{name}(x=...)` must have shape (n, {self.shape[0]}, {self.shape[1]}). "
                f"Got {tuple(x.shape)}."
            )
        weight: Tensor = self.weight
        if not torch.compiler.is_compiling() and self.n_elements > 1 and len(species):
            species, weight = present(name, species, weight)
        coefficients = self._recent(torch.matmul, self.coupling, weight)
        return symmetric_polynomial(x, coefficients, species, self.monomials, self.at_k, self.n_out)


class Recent:
    """Remembers the last result of a function, where no gradient in its inputs is asked for.

    Inputs are compared by their numbers, so that no change of theirs, however it came about, is
    overlooked. On a GPU, where to compare would mean to wait, nothing is remembered.
    """

    def __init__(self) -> None:
        self._kept: tuple[list[Tensor], Tensor] | None = None

    def __call__(self, function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """Give ``function(*inputs)``."""
        if (
            torch.compiler.is_compiling()
            or inputs[0].device.type != "cpu"
            or torch.is_inference_mode_enabled()
            or (torch.is_grad_enabled() and any(x.requires_grad for x in inputs))
        ):
            return function(*inputs)
        if self._kept is not None:
            old, result = self._kept
            pairs = zip(inputs, old, strict=True)
            if all(x.dtype == y.dtype and torch.equal(x, y) for x, y in pairs):
                return result
        with torch.no_grad():
            result = function(*inputs)
        self._kept = [x.detach().clone() for x in inputs], result
        return result


def present(
    name: str,
    species: Tensor,  # (n,)
    *weights: Tensor,  # (s, ...)
) -> tuple[Tensor, ...]:
    """Leave out the elements that do not occur.

    Args:
        name: Of the caller, for messages.
        species: For each atom its element; at least one atom.
        weights: One row per element.

    Returns:
        The species among the elements that occur, and the weights of these.

    Raises:
        TypeError: If `species` is not of int64.
        IndexError: If an element is out of range. With a single one, the kernel says so.
    """
    if species.dtype != torch.int64:
        raise TypeError(f"`{name}(species=...)` must hold torch.int64. Got {species.dtype}.")
    n = len(weights[0])
    if n == 1:
        return species, *weights
    found, places = torch.unique(species, return_inverse=True)
    if found[0] < 0 or found[-1] >= n:
        raise IndexError(
            f"`{name}(species=...)` must be from 0 to {n - 1}. "
            f"Got {int(found[0])} to {int(found[-1])}."
        )
    if len(found) == n:
        return species, *weights
    return places, *(w.index_select(0, found) for w in weights)


@cache
def _basis(
    l_max: int, correlation: int, l_max_out: int
) -> tuple[Tensor, Tensor, Tensor, tuple[tuple[int, int], ...]]:
    """Monomials (t, correlation), their component of the result, coupling (t, b), paths."""
    d = dim(l_max)
    orders = _polynomials(l_max, correlation, l_max_out)
    monomials: list[Word] = []
    at_k: list[int] = []
    paths: list[tuple[int, int]] = []
    blocks: list[Tensor] = []
    for degree in range(l_max_out + 1):
        for order, (words, found) in enumerate(orders, 1):
            basis = found.get((degree, (-1) ** degree))
            if basis is None:
                continue
            basis = basis * math.sqrt(2 * degree + 1)  # each component a tensor of norm one
            used = np.abs(basis).max(0) > 1e-12 * np.abs(basis).max()
            for k, t in np.argwhere(used).tolist():
                monomials.append((*words[t], *[d] * (correlation - order)))
                at_k.append(degree * degree + k)
            blocks.append(torch.from_numpy(basis[:, used].T.copy()))
            paths += [(degree, order)] * len(basis)
    table = torch.tensor(monomials, dtype=torch.int64).view(-1, correlation)
    coupling = torch.block_diag(*blocks) if blocks else torch.zeros(0, 0, dtype=torch.float64)
    return table, torch.tensor(at_k, dtype=torch.int64), coupling, tuple(paths)


def _polynomials(
    l_max: int, correlation: int, l_max_out: int
) -> list[tuple[list[Word], dict[tuple[int, int], Array]]]:
    """For each order its monomials, and by degree and parity an orthonormal basis (b, k, t).

    Polynomials of one order times the features, coupled to every degree, span those of the next.
    The inner product is that of the symmetric tensors.
    """
    d = dim(l_max)
    words: list[Word] = [(i,) for i in range(d)]
    eye = np.eye(d)[None] / np.sqrt(2 * degrees(l_max).numpy() + 1)
    found = {(l, (-1) ** l): eye[:, l * l : (l + 1) ** 2] for l in range(l_max + 1)}
    orders = [(words, found)]
    for order in range(2, correlation + 1):
        longer = list(combinations_with_replacement(range(d), order))
        number = {word: t for t, word in enumerate(longer)}
        up = np.array([[number[tuple(sorted((*word, i)))] for i in range(d)] for word in words])
        weights = np.array([math.prod(math.factorial(w.count(i)) for i in set(w)) for w in longer])
        highest = l_max_out + (correlation - order) * l_max
        spans: dict[tuple[int, int], list[Array]] = {}
        for (first, parity), basis in sorted(found.items()):
            for l in range(l_max + 1):
                for degree in range(abs(first - l), min(first + l, highest) + 1):
                    product = _product(basis, wigner_3j(first, l, degree).numpy(), l, up)
                    spans.setdefault((degree, parity * (-1) ** l), []).append(product)
        scale = np.sqrt(weights / math.factorial(order))
        made = {at: _orthonormal(np.concatenate(span) * scale) for at, span in spans.items()}
        words, found = longer, {at: basis / scale for at, basis in made.items() if len(basis)}
        orders.append((words, found))
    return orders


def _product(basis: Array, coupling: Array, l: int, up: NDArray[np.int64]) -> Array:
    """Couple polynomials with the features of degree l, monomial by monomial."""
    out = np.zeros((len(basis), coupling.shape[2], int(up.max()) + 1))
    for m in range(2 * l + 1):
        out[:, :, up[:, l * l + m]] += np.einsum("bat,ak->bkt", basis, coupling[:, m])
    return out


def _orthonormal(span: Array) -> Array:
    """Keep what is new in each polynomial, in order, so that the basis is the same everywhere."""
    flat = span.reshape(len(span), -1)
    kept = np.zeros((0, flat.shape[1]))
    for row in flat:
        size = np.linalg.norm(row)
        if size < 1e-9:  # antisymmetric
            continue
        rest = row / size
        for _ in range(2):
            rest = rest - (kept @ rest) @ kept
        if np.linalg.norm(rest) > 1e-6:
            rest = rest / np.linalg.norm(rest)
            rest = rest - (kept @ rest) @ kept
            kept = np.concatenate([kept, rest[None] / np.linalg.norm(rest)])
    return kept.reshape(-1, *span.shape[1:])
