"""Functions on a box in Chebyshev-Tucker form."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from tensornet import _check
from tensornet.formats import chebyshev, indexing
from tensornet.formats.chebyshev_box import Box, checked_box, scaled_points
from tensornet.formats.chebyshev_jet import jet
from tensornet.formats.format import Format
from tensornet.formats.tucker import Tucker


@dataclass(frozen=True, eq=False, repr=False)
class ChebyshevTucker(Format):
    """A function on a box: Chebyshev series in each variable, joined by a small core.

    ``f(x) = sum over a, b, ... of core[a, b, ...] v_a(x_1) w_b(x_2) ...``, where v_a is the
    Chebyshev series with the coefficients ``coefficients[0][:, a]`` on the first side of the box.

    As a tensor it is that of the Chebyshev coefficients: `shape`, `to_dense`, `norm`, `inner` and
    indexing are those of this tensor, and so are ``+``, ``-`` and scaling, which are those of
    functions too. ``*`` between two functions is the *product of the functions*, exactly: its
    tensor has more entries, and is no product of entries.

    Args:
        core: The core, (r_1, ..., r_d), real.
        coefficients: One matrix (m_k, r_k) per variable: coefficients of T_0, T_1, ...
        box: Lower and upper end of each variable, (d, 2).

    Raises:
        TypeError: If the parts are not real floating tensors of one dtype.
        ValueError: If shapes do not fit, or a side of the box has no length.

    Derivatives:
        Any order in the core, the coefficients and the points; `round` first order.

    Examples:
        >>> x = torch.tensor([[0.0], [1.0]])  # the series T_1, on [0, 4] the function x / 2 - 1
        >>> f = ChebyshevTucker(torch.ones(1, 1), (x, x), ((0, 4), (-1, 1)))
        >>> f.value(torch.tensor([[4.0, 0.5]]))
        tensor([0.5000])
        >>> f.gradient(torch.tensor([[4.0, 0.5]]))
        tensor([[0.2500, 1.0000]])
    """

    core: Tensor
    coefficients: tuple[Tensor, ...]
    box: Box

    def __post_init__(self) -> None:
        object.__setattr__(self, "coefficients", tuple(self.coefficients))
        object.__setattr__(self, "box", checked_box("ChebyshevTucker", self.box))
        _check.one_kind("ChebyshevTucker", **self.parts())
        if self.core.is_complex():
            raise TypeError(f"`ChebyshevTucker(core=...)` must be real. Got {self.core.dtype}.")
        d = len(self.box)
        if self.core.ndim != d or len(self.coefficients) != d:
            raise ValueError(
                "`ChebyshevTucker(core=...)` must have one axis per side of the box, and as many "
                f"matrices of coefficients. Got shape {tuple(self.core.shape)}, "
                f"{len(self.coefficients)} matrices and {d} sides."
            )
        for k, (c, r) in enumerate(zip(self.coefficients, self.core.shape, strict=True)):
            if c.ndim != 2 or c.shape[1] != r or c.numel() == 0:
                raise ValueError(
                    f"`ChebyshevTucker(coefficients[{k}]=...)` must have shape (m{k}, {r}), with "
                    f"the size of axis {k} of the core, and not be empty. Got {tuple(c.shape)}."
                )

    def parts(self) -> dict[str, Tensor]:
        """Give the core and the coefficients by name."""
        named = {f"coefficients.{k}": c for k, c in enumerate(self.coefficients)}
        return {"core": self.core, **named}

    def settings(self) -> dict[str, Any]:
        """Give the box."""
        return {"box": [list(side) for side in self.box]}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Self:
        """Make the value again of what `parts` and `settings` gave.

        Args:
            parts: The core and the coefficients by name.
            settings: The box.
        """
        coefficients = tuple(parts[f"coefficients.{k}"] for k in range(len(parts) - 1))
        return cls(parts["core"], coefficients, settings["box"])

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of coefficients in each variable: the degrees plus one."""
        return tuple(len(c) for c in self.coefficients)

    @property
    def ranks(self) -> tuple[int, ...]:
        """Size of each mode of the core."""
        return tuple(self.core.shape)

    @property
    def tensor(self) -> Tucker:
        """The tensor of coefficients in Tucker format."""
        return Tucker(self.core, self.coefficients)

    def to_dense(self) -> Tensor:  # (m_1, ..., m_d)
        """Compute the tensor of coefficients."""
        return self.tensor.to_dense()

    def norm(self) -> Tensor:  # ()
        """Frobenius norm of the tensor of coefficients."""
        return self.tensor.norm()

    def inner(self, other: Self | Tensor) -> Tensor:  # ()
        """Sum of the products of coefficients. For that of functions, integrate their product.

        Args:
            other: A function with the same shape and box, or a dense tensor of that shape.
        """
        if isinstance(other, Tensor):
            return self.tensor.inner(other)
        self._same(other, "inner")
        return self.tensor.inner(other.tensor)

    def __getitem__(self, index: Any) -> Any:
        """Coefficients: whole numbers, slices and ``...`` as for dense tensors.

        Args:
            index: With a whole number for every mode, a tensor without axes comes back; with index
                tensors of one shape for every mode, those entries; else a value of this kind.
        """
        found, shape = indexing.parse("ChebyshevTucker", self.shape, index)
        part = self.tensor[tuple(found)]
        if isinstance(part, Tensor):
            return part if shape is None else part.reshape(shape)
        box = [side for side, i in zip(self.box, found, strict=True) if isinstance(i, slice)]
        return type(self)(part.core, part.factors, tuple(box))

    def __add__(self, other: Self) -> Self:
        left, right = self, other
        if isinstance(other, ChebyshevTucker) and other.order == self.order:  # of any degrees
            sizes = [max(pair) for pair in zip(self.shape, other.shape, strict=True)]
            left, right = self.padded(sizes), other.padded(sizes)
        left._same(right, "+")
        return self._like(left.tensor + right.tensor)

    def _scaled(self, factor: float | complex | Tensor) -> Self:
        if isinstance(factor, complex):
            raise TypeError(f"`ChebyshevTucker * ...` must have a real number. Got {factor}.")
        return type(self)(self.core * factor, self.coefficients, self.box)

    def __mul__(self, other: Self | float | complex | Tensor) -> Self:
        if not isinstance(other, ChebyshevTucker):
            return super().__mul__(other)
        self._same_box(other, "*")
        return self._hadamard(other)

    def _hadamard(self, other: Self) -> Self:
        pairs = zip(self.coefficients, other.coefficients, strict=True)
        coefficients = tuple(chebyshev.product(a, b).flatten(1) for a, b in pairs)
        return type(self)(torch.kron(self.core, other.core), coefficients, self.box)

    def _same(self, other: Any, operation: str) -> None:
        super()._same(other, operation)
        self._same_box(other, operation)

    def _same_box(self, other: Self, operation: str) -> None:
        if self.box != other.box:
            raise ValueError(
                f"`ChebyshevTucker {operation} ...` must join functions on one box. Got "
                f"{self.box} and {other.box}. (Bring them to one by `restrict`.)"
            )
        _check.one_kind(f"ChebyshevTucker {operation}", left=self.core, right=other.core)

    def _like(self, tensor: Tucker) -> Self:
        return type(self)(tensor.core, tensor.factors, self.box)

    def padded(self, shape: Sequence[int]) -> Self:
        """Append zero coefficients, as is done where functions of different degrees are added.

        Args:
            shape: Number of coefficients in each variable, none below that of now.

        Returns:
            The same function.

        Raises:
            ValueError: If there are fewer, or not one per variable.
        """
        if len(shape) != self.order or any(m < d for m, d in zip(shape, self.shape, strict=True)):
            raise ValueError(
                f"`ChebyshevTucker.padded(shape=...)` must have at least {self.shape} "
                f"coefficients. Got {tuple(shape)}."
            )
        pairs = zip(self.coefficients, shape, strict=True)
        return type(self)(self.core, tuple(chebyshev.pad(c, m) for c, m in pairs), self.box)

    def round(self, *, tolerance: float = 0.0, max_rank: int | None = None) -> Self:
        """Lower the ranks, so that the error of the *function* is bounded.

        Norms are those of L2 with the Chebyshev weight, the product of 1 / sqrt(1 - t²) of the
        variables scaled to [-1, 1]. There the Chebyshev polynomials are orthogonal (Parseval), so
        the tolerance is a statement on the function, not only on its coefficients.

        Args:
            tolerance: Largest error, relative to the norm of the function, both in this L2.
            max_rank: Largest rank to keep in any mode.

        Returns:
            A function with as many coefficients.

        Raises:
            ValueError: If `tolerance` is negative, `max_rank` below one, or a part is not finite.

        Derivatives:
            First order, where the singular values on both sides of the cut differ.
        """
        weighted = tuple(chebyshev.weighted(c, math.sqrt(2)) for c in self.coefficients)
        low = Tucker(self.core, weighted).round(tolerance=tolerance, max_rank=max_rank)
        coefficients = tuple(chebyshev.weighted(c, math.sqrt(0.5)) for c in low.factors)
        return type(self)(low.core, coefficients, self.box)

    def value(self, points: Tensor) -> Tensor:  # (n, d) -> (n,)
        """Evaluate the function.

        Args:
            points: Points in the box.

        Returns:
            The values.

        Raises:
            ValueError: If points lie outside of the box, or have another shape.
            TypeError: If their dtype is not that of the function.
        """
        return jet(self.core, self.coefficients, self._scale(points, "value"), 0)[()]

    def gradient(self, points: Tensor) -> Tensor:  # (n, d) -> (n, d)
        """Evaluate the first derivatives.

        Args:
            points: Points in the box.

        Returns:
            One row of derivatives per point.

        Raises:
            ValueError: If points lie outside of the box, or have another shape.
            TypeError: If their dtype is not that of the function.
        """
        found = jet(self.core, self.coefficients, self._scale(points, "gradient"), 1)
        return torch.stack([slope * found[(k,)] for k, slope in enumerate(self._slopes)], 1)

    def hessian(self, points: Tensor) -> Tensor:  # (n, d) -> (n, d, d)
        """Evaluate the second derivatives.

        Args:
            points: Points in the box.

        Returns:
            A symmetric matrix per point.

        Raises:
            ValueError: If points lie outside of the box, or have another shape.
            TypeError: If their dtype is not that of the function.
        """
        found = jet(self.core, self.coefficients, self._scale(points, "hessian"), 2)
        rows = [
            torch.stack(
                [a * b * found[min(k, l), max(k, l)] for l, b in enumerate(self._slopes)], 1
            )
            for k, a in enumerate(self._slopes)
        ]
        return torch.stack(rows, 1)

    def integral(self, modes: Sequence[int] | int | None = None) -> Any:
        """Integrate over the box, or over some variables.

        Args:
            modes: The variables to integrate over, by default all; negative ones count from the
                end.

        Returns:
            A tensor without axes, or the function of the other variables.

        Raises:
            ValueError: If there is no such variable, or one is named twice.
        """
        modes = range(self.order) if modes is None else modes
        wanted = [modes] if isinstance(modes, int) else modes
        over = [self._mode("integral(modes=...)", k) for k in wanted]
        if len(set(over)) < len(over):
            raise ValueError(
                f"`ChebyshevTucker.integral(modes=...)` must name each once. Got {modes}."
            )
        core = self.core
        for k in sorted(over, reverse=True):  # from the end, so that earlier modes stay in place
            low, high = self.box[k]
            sums = 0.5 * (high - low) * chebyshev.integral(self.coefficients[k])
            core = torch.tensordot(core, sums, dims=([k], [0]))
        left = [k for k in range(self.order) if k not in over]
        if not left:
            return core
        box = tuple(self.box[k] for k in left)
        return type(self)(core, tuple(self.coefficients[k] for k in left), box)

    def differentiate(self, mode: int) -> Self:
        """Differentiate with respect to one variable, exactly.

        Args:
            mode: Which variable, from zero; negative ones count from the end.

        Returns:
            A function with one coefficient less in that variable (and at least one).

        Raises:
            ValueError: If there is no such variable.
        """
        k = self._mode("differentiate(mode=...)", mode)
        coefficients = list(self.coefficients)
        coefficients[k] = self._slopes[k] * chebyshev.derivative(coefficients[k])
        return type(self)(self.core, tuple(coefficients), self.box)

    def restrict(self, box: Sequence[Sequence[float]] | Tensor) -> Self:
        """Give the same function on a smaller box, exactly.

        Args:
            box: Lower and upper end of each variable, inside of the box of now.

        Returns:
            A function with as many coefficients.

        Raises:
            ValueError: If the box reaches out of that of now.
        """
        new = checked_box("ChebyshevTucker.restrict", box)
        outside = len(new) != self.order or any(
            low < a or high > b for (low, high), (a, b) in zip(new, self.box, strict=False)
        )
        if outside:
            raise ValueError(
                f"`ChebyshevTucker.restrict(box=...)` must be inside of {self.box}. Got {new}."
            )
        coefficients = [
            chebyshev.restrict(c, (2 * low - a - b) / (b - a), (2 * high - a - b) / (b - a))
            for c, (low, high), (a, b) in zip(self.coefficients, new, self.box, strict=True)
        ]
        return type(self)(self.core, tuple(coefficients), new)

    def on_grid(self, axes: Sequence[Tensor]) -> Tucker:
        """Evaluate on all points of a grid, in Tucker format: its core is that of the function.

        Args:
            axes: The values of each variable, one vector (d_k,) per variable.

        Returns:
            The tensor of values, (d_1, ..., d_n); `to_dense` gives all of them.

        Raises:
            ValueError: If an axis reaches out of the box, or there is not one per variable.
            TypeError: If their dtype is not that of the function.
        """
        if len(axes) != self.order:
            raise ValueError(
                f"`ChebyshevTucker.on_grid(axes=...)` must have {self.order} axes. Got {len(axes)}."
            )
        factors = []
        for k, (x, c) in enumerate(zip(axes, self.coefficients, strict=True)):
            _check.one_kind("ChebyshevTucker.on_grid", core=self.core, **{f"axes[{k}]": x})
            _check.shapes("ChebyshevTucker.on_grid", **{f"axes[{k}]": (x, "d")})
            t = scaled_points(
                x[:, None], self.box[k : k + 1], f"ChebyshevTucker.on_grid(axes[{k}]=...)"
            )
            factors.append(chebyshev.evaluate(t[:, 0], c))
        return Tucker(self.core, tuple(factors))

    @property
    def _slopes(self) -> list[float]:
        """Derivatives of the variables scaled to [-1, 1] by those of the box."""
        return [2 / (high - low) for low, high in self.box]

    def _mode(self, argument: str, mode: int) -> int:
        if not -self.order <= mode < self.order:
            raise ValueError(
                f"`ChebyshevTucker.{argument}` must be a variable of {self.order}. Got {mode}."
            )
        return mode % self.order

    def _scale(self, points: Tensor, method: str) -> Tensor:
        where = f"ChebyshevTucker.{method}"
        _check.one_kind(where, core=self.core, points=points)
        _check.shapes(where, points=(points, f"n {self.order}"))
        return scaled_points(points, self.box, f"{where}(points=...)")
