"""The canonical polyadic (CP) format: a sum of rank-one tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from tensornet import _check
from tensornet.formats import indexing
from tensornet.formats.format import HALF, Format

# Largest dense tensor formed to compute the norm of a value whose terms cancel.
_LARGEST_CORE = 10_000_000


@dataclass(frozen=True, eq=False, repr=False)
class CP(Format):
    """A tensor as a sum of `r` outer products of vectors.

    ``x[i, j, ...] = sum over r of weights[r] factors[0][i, r] factors[1][j, r] ...``

    Args:
        factors: One matrix (d_k, r) per mode, as in TensorLy.
        weights: One number per term, (r,). By default ones.

    Raises:
        TypeError: If dtypes differ or are not floating or complex.
        ValueError: If shapes or devices differ, or there is no factor or no term.

    Derivatives:
        Any order, of every operation but `round`.

    References:
        Kolda & Bader, SIAM Review 51, 455 (2009), section 3.

    Examples:
        >>> CP((torch.ones(2, 1), torch.ones(3, 1))).to_dense().shape
        torch.Size([2, 3])
    """

    factors: tuple[Tensor, ...]
    weights: Tensor | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "factors", tuple(self.factors))
        if not self.factors:
            raise ValueError("`CP(factors=...)` must have one factor per mode. Got none.")
        named = {f"factors[{k}]": f for k, f in enumerate(self.factors)}
        weights = {} if self.weights is None else {"weights": self.weights}
        _check.one_kind("CP", **named, **weights)
        _check.shapes("CP", **{name: (f, f"d{k} r") for k, (name, f) in enumerate(named.items())})
        if self.weights is not None and self.weights.shape != (self.rank,):
            raise ValueError(
                f"`CP(weights=...)` must have shape ({self.rank},), the rank of the factors. "
                f"Got {tuple(self.weights.shape)}."
            )
        if self.rank == 0:
            raise ValueError("`CP(factors=...)` must have at least one column. Got none.")

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of each mode."""
        return tuple(f.shape[0] for f in self.factors)

    @property
    def rank(self) -> int:
        """Number of terms."""
        return self.factors[0].shape[1]

    @property
    def ranks(self) -> tuple[int, ...]:
        """Number of terms, alone in a tuple."""
        return (self.rank,)

    def parts(self) -> dict[str, Tensor]:
        """Give the factors and, where there are any, the weights."""
        factors = {f"factors.{k}": f for k, f in enumerate(self.factors)}
        return factors if self.weights is None else {**factors, "weights": self.weights}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Self:
        """Make the value of `parts` and `settings` again.

        Args:
            parts: As the method `parts` gives them.
            settings: As the method `settings` gives them.
        """
        order = sum(name.startswith("factors.") for name in parts)
        return cls(tuple(parts[f"factors.{k}"] for k in range(order)), parts.get("weights"))

    @classmethod
    def from_tensorly(cls, value: Any) -> Self:
        """Take a `tensorly.cp_tensor.CPTensor`, or its weights and factors.

        Args:
            value: With torch or numpy arrays.

        Returns:
            The same tensor; arrays of NumPy become tensors that share their memory.

        Examples:
            >>> CP.from_tensorly((None, [torch.ones(2, 1), torch.ones(3, 1)])).shape
            (2, 3)
        """
        weights, factors = value
        return cls(
            tuple(torch.as_tensor(f) for f in factors),
            None if weights is None else torch.as_tensor(weights),
        )

    def to_tensorly(self) -> Any:
        """Return a `tensorly.cp_tensor.CPTensor` of torch tensors."""
        from tensorly import backend_context
        from tensorly.cp_tensor import CPTensor

        with backend_context("pytorch", local_threadsafe=True):
            return CPTensor((self._weights(), list(self.factors)))

    def to_dense(self) -> Tensor:  # (d_1, ..., d_n)
        """Sum the terms up."""
        first: Tensor = self._first()
        product = first
        for factor in self.factors[1:-1]:
            product = (product[:, None, :] * factor).reshape(-1, self.rank)
        if self.order == 1:
            total: Tensor = first.sum(-1)
            return total
        return (product @ self.factors[-1].mT).reshape(self.shape)

    def norm(self) -> Tensor:  # ()
        """Frobenius norm, from the Gram matrices of the factors.

        Where the terms cancel, that loses half of the digits, and the norm is taken of the
        entries, after an orthogonal compression, unless those are very many.
        """
        if self.dtype in HALF:
            return self.to(torch.float32).norm().to(self.dtype)
        squared = self._gram(self).real
        sizes = math.prod((f.detach().norm(dim=0) for f in self.factors), start=1.0)
        largest = (sizes * self._weights().detach().abs()).sum()
        if bool(squared.detach() < 1e-6 * largest**2):
            grad = torch.is_grad_enabled() and any(p.requires_grad for p in self.parts().values())
            core = self if grad else self._compressed()
            if math.prod(core.shape) <= _LARGEST_CORE:
                exact: Tensor = torch.linalg.vector_norm(core.to_dense())
                return exact
        zero = squared.detach() <= 0  # where the root has no derivative; like torch, give zero
        root = torch.where(zero, torch.ones_like(squared), squared).sqrt()
        norm: Tensor = torch.where(zero, torch.zeros_like(root), root)
        return norm

    def inner(self, other: Self | Tensor) -> Tensor:  # ()
        """Sum of the products of entries, the first conjugated.

        Args:
            other: A CP value of the same shape, or a dense tensor.
        """
        if not isinstance(other, Tensor):
            self._same(other, "inner")
            return self._gram(other)
        _check.one_kind("CP.inner", factors=self.factors[0], other=other)
        if tuple(other.shape) != self.shape:
            raise ValueError(
                f"`CP.inner(other=...)` must have the shape {self.shape}. Got {tuple(other.shape)}."
            )
        product = other @ self.factors[-1].conj()
        for factor in reversed(self.factors[:-1]):
            product = (product * factor.conj()).sum(-2)
        return product @ self._weights().conj()

    def __getitem__(self, index: Any) -> Any:
        """Entries or a smaller tensor; see `Format.__getitem__`."""
        found, shape = indexing.parse("CP", self.shape, index)
        pairs = list(zip(self.factors, found, strict=True))
        kept = [f[i] for f, i in pairs if isinstance(i, slice)]
        rows = [f[i] for f, i in pairs if not isinstance(i, slice)]  # (r,), or (n, r) of many
        product = math.prod(rows, start=self._weights())
        if kept:
            return type(self)(tuple(kept), product if rows else self.weights)
        return product.sum(-1) if shape is None else product.sum(-1).reshape(shape)

    def __add__(self, other: Self) -> Self:
        self._same(other, "+")
        pairs = zip(self.factors, other.factors, strict=True)
        weights = None
        if self.weights is not None or other.weights is not None:
            weights = torch.cat([self._weights(), other._weights()])
        return type(self)(tuple(torch.cat(pair, 1) for pair in pairs), weights)

    def round(self, *, tolerance: float = 0.0, max_rank: int | None = None) -> Self:
        """Lower the rank.

        Terms that are zero or multiples of each other are joined first, at no error. If that is
        not enough, ranks are tried with `cp`, which is no exact science: the result meets the
        tolerance, but a still lower rank may exist.

        Args:
            tolerance: Largest error, relative to the norm. Zero joins terms only.
            max_rank: Largest rank to keep, whatever the error.

        Returns:
            A value of the same kind.

        Raises:
            NotImplementedError: If joining terms is not enough, and a factor requires grad or is
                complex.
            ValueError: If `tolerance` is negative, `max_rank` below one, a part not finite, or the
                value too large to be fitted.
        """
        from tensornet.formats.cp_round import rounded

        if self.dtype in HALF:
            single = self.to(torch.float32)
            return single.round(tolerance=tolerance, max_rank=max_rank).to(self.dtype)
        joined = rounded(self, tolerance, max_rank)
        return type(self)(joined.factors, joined.weights)

    def _scaled(self, factor: float | complex | Tensor) -> Self:
        is_complex = factor.is_complex() if isinstance(factor, Tensor) else factor != factor.real
        if is_complex and not self.dtype.is_complex:
            return self.to(self.dtype.to_complex())._scaled(factor)
        return type(self)(self.factors, self._weights() * factor)

    def _hadamard(self, other: Self) -> Self:
        pairs = zip(self.factors, other.factors, strict=True)
        weights = None
        if self.weights is not None or other.weights is not None:
            weights = torch.outer(self._weights(), other._weights()).flatten()
        return type(self)(
            tuple((f[:, :, None] * g[:, None, :]).flatten(1) for f, g in pairs), weights
        )

    def _weights(self) -> Tensor:  # (r,)
        return self.factors[0].new_ones(self.rank) if self.weights is None else self.weights

    def _first(self) -> Tensor:  # (d_1, r)
        return self.factors[0] if self.weights is None else self.factors[0] * self.weights

    def _gram(self, other: Self) -> Tensor:  # ()
        pairs = zip(self.factors, other.factors, strict=True)
        grams = [f.mH @ g for f, g in pairs]  # (r, r')
        return self._weights().conj() @ math.prod(grams[1:], start=grams[0]) @ other._weights()

    def _compressed(self) -> Self:
        """Give a smaller tensor with the same norm."""
        factors = (self._first().detach(), *(f.detach() for f in self.factors[1:]))
        return type(self)(
            tuple(torch.linalg.qr(f).R if f.shape[0] > f.shape[1] else f for f in factors)
        )
