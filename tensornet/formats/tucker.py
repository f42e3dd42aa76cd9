"""The Tucker format: a small core tensor, and a matrix for each mode."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from tensornet import _check
from tensornet.formats import indexing
from tensornet.formats.format import HALF, Format, check_limits
from tensornet.formats.tucker_truncation import truncated_core
from tensornet.linalg.mode_product import checked_mode, mode_multiplied


@dataclass(frozen=True, eq=False, repr=False)
class Tucker(Format):
    """A tensor as a core multiplied by a matrix in every mode.

    ``x[i, j, ...] = sum over a, b, ... of core[a, b, ...] factors[0][i, a] factors[1][j, b] ...``

    Args:
        core: The core, (r_1, ..., r_d).
        factors: One matrix (d_k, r_k) per mode, as in TensorLy.

    Raises:
        TypeError: If the parts are not floating or complex tensors of one dtype.
        ValueError: If shapes do not fit, a mode is empty, or parts are on different devices.

    Derivatives:
        All orders in the core and the factors; `round` first order.

    Examples:
        >>> x = Tucker(torch.ones(1, 2), (torch.ones(3, 1), torch.ones(4, 2)))
        >>> x.shape, x.ranks
        ((3, 4), (1, 2))
        >>> (x + x).ranks
        (2, 4)
        >>> (x + x).round(tolerance=1e-6).ranks
        (1, 1)
    """

    core: Tensor
    factors: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "factors", tuple(self.factors))
        _check.one_kind("Tucker", **self.parts())
        if self.core.ndim != len(self.factors) or not self.factors:
            raise ValueError(
                "`Tucker(core=...)` must have one axis per factor, and at least one. Got shape "
                f"{tuple(self.core.shape)} and {len(self.factors)} factors."
            )
        for k, (factor, r) in enumerate(zip(self.factors, self.core.shape, strict=True)):
            if factor.ndim != 2 or factor.shape[1] != r:
                raise ValueError(
                    f"`Tucker(factors[{k}]=...)` must have shape (d{k}, {r}), with the size of "
                    f"axis {k} of the core. Got {tuple(factor.shape)}."
                )
            if factor.numel() == 0:
                raise ValueError(
                    f"`Tucker(factors[{k}]=...)` must not be empty. Got {tuple(factor.shape)}."
                )

    def parts(self) -> dict[str, Tensor]:
        """Give the core and the factors by name."""
        return {"core": self.core, **{f"factors.{k}": f for k, f in enumerate(self.factors)}}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Self:
        """Make the value again of what `parts` gave.

        Args:
            parts: The core and the factors by name.
            settings: Nothing.
        """
        return cls(parts["core"], tuple(parts[f"factors.{k}"] for k in range(len(parts) - 1)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of each mode."""
        return tuple(f.shape[0] for f in self.factors)

    @property
    def ranks(self) -> tuple[int, ...]:
        """Size of each mode of the core."""
        return tuple(self.core.shape)

    def to_dense(self) -> Tensor:  # (d_1, ..., d_n)
        """Compute every entry; modes that grow least come first."""
        x = self.core
        for k in sorted(range(self.order), key=lambda k: self.shape[k] / self.ranks[k]):
            x = mode_multiplied(x, self.factors[k], k)
        return x

    def inner(self, other: Self | Tensor) -> Tensor:  # ()
        """Sum of the products of entries, the first conjugated.

        Args:
            other: A value of the same kind and shape, or a dense tensor of that shape.
        """
        if isinstance(other, Tensor):
            _check.one_kind("Tucker.inner", core=self.core, other=other)
            if other.shape != self.shape:
                raise ValueError(
                    f"`Tucker.inner(other=...)` must have shape {self.shape}. Got "
                    f"{tuple(other.shape)}."
                )
            x = other
            for k in sorted(range(self.order), key=lambda k: self.ranks[k] / self.shape[k]):
                x = mode_multiplied(x, self.factors[k].mH, k)
        else:
            self._same(other, "inner")
            x = other.core
            for k, (mine, theirs) in enumerate(zip(self.factors, other.factors, strict=True)):
                x = mode_multiplied(x, mine.mH @ theirs, k)
        product: Tensor = torch.vdot(self.core.reshape(-1), x.reshape(-1))
        return product

    def norm(self) -> Tensor:  # ()
        """Frobenius norm, by QR decompositions: accurate for small differences too."""
        if self.dtype in HALF:
            return self.to(torch.float32).norm().to(self.dtype)
        with torch.no_grad():
            core = self.core
            for k, factor in enumerate(self.factors):
                core = mode_multiplied(core, torch.linalg.qr(factor, mode="r").R, k)
            norm: Tensor = torch.linalg.vector_norm(core)
        if not any(part.requires_grad for part in self.parts().values()):
            return norm
        # A triangular factor of dependent columns has no derivative; the inner product has one.
        scale = torch.where(norm > 0, norm, torch.ones_like(norm))
        unit = self._scaled(1 / scale)
        square = unit.inner(unit).real
        return norm * (square + (1 - square).detach()).sqrt()

    def __getitem__(self, index: Any) -> Any:
        """Entries or a smaller tensor: whole numbers, slices and ``...`` as for dense tensors.

        Args:
            index: With a whole number for every mode, a tensor without axes comes back; with index
                tensors of one shape for every mode, those entries; else a `Tucker`.
        """
        found, shape = indexing.parse("Tucker", self.shape, index)
        if shape is not None:
            return self._entries(found).reshape(shape)
        core, factors = self.core, []
        for k in reversed(range(self.order)):  # from the end, so that earlier modes stay in place
            if isinstance(found[k], slice):
                factors.append(self.factors[k][found[k]])
            else:
                core = torch.tensordot(core, self.factors[k][found[k]], dims=([k], [0]))
        return Tucker(core, tuple(reversed(factors))) if factors else core

    def _entries(self, index: Sequence[Tensor]) -> Tensor:  # (n,) each -> (n, 1)
        x = self.factors[0][index[0]] @ self.core.reshape(self.ranks[0], -1)
        for factor, i, r in zip(self.factors[1:], index[1:], self.ranks[1:], strict=True):
            x = (factor[i][:, None] @ x.reshape(len(x), r, -1))[:, 0]
        return x

    def __add__(self, other: Self) -> Self:
        self._same(other, "+")
        after = [size for r in reversed(other.ranks) for size in (0, r)]
        before = [size for r in reversed(self.ranks) for size in (r, 0)]
        first = torch.nn.functional.pad(self.core, after)
        second = torch.nn.functional.pad(other.core, before)
        pairs = zip(self.factors, other.factors, strict=True)
        return type(self)(first + second, tuple(torch.cat(pair, 1) for pair in pairs))

    def _scaled(self, factor: float | complex | Tensor) -> Self:
        core = self.core * factor
        return type(self)(core, tuple(f.to(core.dtype) for f in self.factors))

    def _hadamard(self, other: Self) -> Self:
        factors = (
            (f[:, :, None] * g[:, None, :]).flatten(1)
            for f, g in zip(self.factors, other.factors, strict=True)
        )
        return type(self)(torch.kron(self.core, other.core), tuple(factors))

    def mode_product(self, matrix: Tensor, mode: int) -> Self:
        """Multiply one mode by a matrix, without touching the core.

        Args:
            matrix: What the mode is multiplied by, (r, d_k).
            mode: Which mode, from zero; negative ones count from the end.

        Returns:
            A value with that mode of size r.

        Raises:
            ValueError: If there is no such mode, or the sizes do not fit.
            TypeError: If the dtypes differ.
        """
        mode = checked_mode("Tucker.mode_product", self.shape, matrix, mode)
        _check.one_kind("Tucker.mode_product", core=self.core, matrix=matrix)
        factors = list(self.factors)
        factors[mode] = matrix @ factors[mode]
        return type(self)(self.core, tuple(factors))

    def round(self, *, tolerance: float = 0.0, max_rank: int | None = None) -> Self:
        """Lower the ranks, by a sequentially truncated decomposition of the orthonormal form.

        Args:
            tolerance: Largest error, relative to the norm. What is below round-off is always
                dropped.
            max_rank: Largest rank to keep in any mode.

        Returns:
            A value with orthonormal factors.

        Raises:
            ValueError: If `tolerance` is negative, `max_rank` below one, or a part is not finite.

        Derivatives:
            First order, where the singular values on both sides of the cut differ.

        References:
            Vannieuwenhoven, Vandebril & Meerbergen, SIAM J. Sci. Comput. 34, A1027 (2012).
        """
        check_limits("Tucker.round", tolerance, max_rank)
        self._check_finite("Tucker.round")
        if self.dtype in HALF:
            single = self.to(torch.float32)
            return single.round(tolerance=tolerance, max_rank=max_rank).to(self.dtype)
        most = None if max_rank is None else [max_rank] * self.order
        return type(self)(*truncated_core(self.core, self.factors, most, tolerance))

    @classmethod
    def from_tensorly(cls, value: Any) -> Self:
        """Take the core and the factors of a TensorLy ``TuckerTensor``, or of any such pair.

        Args:
            value: The pair.

        Returns:
            The same tensor; arrays of NumPy become tensors that share their memory.
        """
        core, factors = value
        return cls(torch.as_tensor(core), tuple(torch.as_tensor(f) for f in factors))

    def to_tensorly(self) -> Any:
        """Return a TensorLy ``TuckerTensor`` of arrays of TensorLy's current backend.

        With the backend ``pytorch`` these are the tensors themselves, with their autograd history;
        with another they are NumPy arrays without.
        """
        import tensorly
        from tensorly.tucker_tensor import TuckerTensor

        if tensorly.get_backend() == "pytorch":
            return TuckerTensor((self.core, list(self.factors)))
        core, *factors = (part.detach().cpu().numpy() for part in self.parts().values())
        return TuckerTensor((tensorly.tensor(core), [tensorly.tensor(f) for f in factors]))


def largest_ranks(shape: Sequence[int]) -> tuple[int, ...]:
    """Give the largest ranks that a tensor can have.

    Args:
        shape: Size of each mode.

    Returns:
        For each mode its size, or the product of the others where that is smaller.

    Examples:
        >>> largest_ranks((2, 3, 10))
        (2, 3, 6)
    """
    total = math.prod(shape)
    return tuple(min(d, total // d) for d in shape)
