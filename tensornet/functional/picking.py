"""Tensor trains from picked entries, with derivatives to what gives the entries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tensornet import _check
from tensornet.formats import TensorTrain, cross
from tensornet.functional.picking_sets import IndexSets, interpolated, nested_sets

Axis = int | Tensor
"""The size of a mode, for a function of indices; or its coordinates (d,), for one of these."""


def pick(
    function: Callable[[Tensor], Any],
    axes: Sequence[Axis],
    *,
    tolerance: float = 1e-6,
    max_rank: int = 50,
    seed: int = 0,
    max_evaluations: int | None = None,
    start_points: Tensor | None = None,  # (k, order)
) -> Picking:
    """Choose the entries of a tensor from which all others follow, by cross approximation.

    The tensor is given by a function and never stored. A train is found by `formats.cross`; its
    nested index sets are then made such that the entries they cross in have nearly the largest
    volume (determinant), without further entries. No derivative is taken of the choice. Given it,
    the train is a smooth function of the entries that were picked, and of nothing else: see
    `Picking`.

    Args:
        function: Takes indices (n, order), int64, or with `axes` of coordinates points (n, order),
            and gives n values.
        axes: Per mode its size; or for all modes their coordinates (d,).
        tolerance: Relative error to reach.
        max_rank: Largest rank of the train.
        seed: Of all random choices.
        max_evaluations: Largest number of entries to ask for in the choice.
        start_points: Indices at which something is known to happen.

    Returns:
        The picked entries, a map from their values to trains.

    Raises:
        TypeError: If an axis is neither a size nor coordinates, or the function gives no numbers.
        ValueError: If axes are empty or mixed, the function gives another shape or NaN, or it is
            zero wherever it was looked at.

    References:
        Savostyanov & Oseledets, nDS 2011; Usvyatsov et al., Cherry-Picking Gradients, ICCV 2021.

    Examples:
        >>> found = pick(lambda i: 1 / (1 + i.double().sum(1)), (20,) * 4, tolerance=1e-9)
        >>> len(found.indices) < 0.05 * 20**4
        True
        >>> a = torch.ones((), dtype=torch.float64, requires_grad=True)
        >>> total = found(lambda i: 1 / (a + i.double().sum(1))).sum()
        >>> (gradient,) = torch.autograd.grad(total, a)
        >>> bool(gradient < 0)
        True
    """
    shape, coordinates = _axes(axes)
    asked = _asked("pick", function, coordinates)
    least = torch.zeros(1, len(shape), dtype=torch.int64)
    first = asked(torch.cat([least, torch.tensor([shape]) - 1]))
    dtype = torch.complex128 if first.is_complex() else torch.float64
    found = cross(
        asked, shape, tolerance=tolerance, max_rank=max_rank, seed=seed, dtype=dtype,
        max_evaluations=max_evaluations, start_points=start_points,
    )  # fmt: skip
    if not bool(found.value.norm() > 0):
        raise ValueError(
            f"`pick(function=...)` must not be zero everywhere. Got {found.n_evaluations} zeros. "
            "(Give `start_points=...` where it is not.)"
        )
    sets = nested_sets(found.value)
    return Picking(
        sets, coordinates, found.relative_error, found.converged, found.message,
        found.n_evaluations,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Picking:
    """Picked entries of a tensor, and how the others follow from them. Made by `pick`.

    With left index sets ``I_k`` and right ones ``J_k``, core k of the train is the fibres
    ``x[I_{k-1}, :, J_k]`` times the inverse of ``x[I_k, J_k]``, the last one fibres alone. The
    train takes the given values at all picked entries, and is the tensor where that has the ranks
    of the picking.

    Args:
        sets: The index sets.
        coordinates: Of each mode, or none where the function takes indices.
        relative_error: Of the train when the entries were picked, as `formats.cross` measures it.
        converged: Whether the tolerance was reached then.
        message: A sentence about it.
        n_evaluations: Entries asked for in the choice.

    Derivatives:
        Of `train` and of calls, to the values, of any order. Round-off in them is that of the
        values, divided by the smallest singular value of the crossings (about the tolerance).
    """

    sets: IndexSets
    coordinates: tuple[Tensor, ...] | None
    relative_error: float
    converged: bool
    message: str
    n_evaluations: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the modes."""
        return self.sets.shape

    @property
    def ranks(self) -> tuple[int, ...]:
        """Ranks of the trains, with the outer ones, which are 1."""
        return self.sets.ranks

    @property
    def indices(self) -> Tensor:  # (n, order)
        """Indices of the picked entries, each once."""
        return self.sets.indices

    @property
    def points(self) -> Tensor:  # (n, order)
        """What the function is given: the indices, or their coordinates."""
        return _points(self.indices, self.coordinates)

    def __call__(self, function: Callable[[Tensor], Any]) -> TensorTrain:
        """Make the train of a function's values at the picked entries.

        Args:
            function: As in `pick`; it may be another one than was picked from.

        Returns:
            The train, with the dtype of the values.

        Raises:
            TypeError: If it gives no tensor of numbers.
            ValueError: If it gives another shape or NaN, or is singular where entries cross.
        """
        asked = _asked("Picking", function, self.coordinates)
        return interpolated("Picking(function=...)", self.sets, asked(self.indices))

    def train(
        self,
        values: Tensor,  # (n,)
    ) -> TensorTrain:
        """Make the train of values at the picked entries.

        Args:
            values: One per row of `indices`.

        Returns:
            The train, with the dtype of the values.

        Raises:
            TypeError: If these are no floating or complex numbers.
            ValueError: If their number is another, one is NaN, or entries cross singularly: the
                tensor has lower ranks than when it was picked from.
        """
        _check.dense("Picking.train", "values", values, order=1)
        if len(values) != len(self.indices):
            raise ValueError(
                f"`Picking.train(values=...)` must have shape ({len(self.indices)},), one per "
                f"picked entry. Got {tuple(values.shape)}."
            )
        return interpolated("Picking.train(values=...)", self.sets, values)

    def error(self, function: Callable[[Tensor], Any], *, n: int = 1000, seed: int = 0) -> float:
        """Measure how well the picked entries tell the others, at random ones.

        Where this has grown, it is time to pick again.

        Args:
            function: As in `pick`.
            n: Number of entries asked for.
            seed: Of the draw.

        Returns:
            Root of the mean square difference over that of the values; zero if both are zero.
        """
        _check.at_least("Picking.error", 1, n=n)
        generator = torch.Generator().manual_seed(seed)
        drawn = [torch.randint(0, size, (n,), generator=generator) for size in self.shape]
        with torch.no_grad():
            asked = _asked("Picking.error", function, self.coordinates)
            exact = asked(torch.stack(drawn, 1))
            away = (self(function)[tuple(x.to(exact.device) for x in drawn)] - exact).norm()
        return float(away / exact.norm()) if bool(away > 0) else 0.0


def integral(
    train: TensorTrain,
    weights: Sequence[Tensor],  # each (d,)
) -> Tensor:  # ()
    """Sum a train over all its entries, with weights that are products of one per mode.

    With the weights of a quadrature this is the integral; with these times a coordinate in one
    mode, a first moment.

    Args:
        train: The train.
        weights: One vector per mode.

    Returns:
        The sum, without axes.

    Raises:
        TypeError: If it is no train, or weights are complex and the train is not.
        ValueError: If their number or a size is another, or a weight is NaN.

    Derivatives:
        Any order.

    Examples:
        >>> x = TensorTrain((torch.ones(1, 2, 1), torch.ones(1, 3, 1)))
        >>> float(integral(x, [torch.tensor([1.0, 2.0]), torch.ones(3)]))
        9.0
    """
    if not isinstance(train, TensorTrain):
        raise TypeError(
            f"`integral(train=...)` must be a `TensorTrain`. Got {type(train).__name__}."
        )
    if len(weights) != len(train.shape):
        raise ValueError(
            f"`integral(weights=...)` must be {len(train.shape)} vectors, one per mode. "
            f"Got {len(weights)}."
        )
    for k, (w, n) in enumerate(zip(weights, train.shape, strict=True)):
        _check.dense("integral", f"weights[{k}]", w, order=1)
        if w.is_complex() and not train.dtype.is_complex:
            raise TypeError(f"`integral(weights[{k}]=...)` must be real, as the train is.")
        if len(w) != n:
            raise ValueError(
                f"`integral(weights[{k}]=...)` must have shape ({n},). Got {tuple(w.shape)}."
            )
    like = train.cores[0]
    one = TensorTrain(tuple(w.to(like).conj()[None, :, None] for w in weights))
    return one.inner(train)


def _axes(axes: Sequence[Axis]) -> tuple[tuple[int, ...], tuple[Tensor, ...] | None]:
    """Sizes, and coordinates where these are given."""
    given = tuple(axes)
    if not given:
        raise ValueError("`pick(axes=...)` must have at least one mode. Got none.")
    if all(isinstance(x, Tensor) for x in given):
        tensors = tuple(x for x in given if isinstance(x, Tensor))
        for k, x in enumerate(tensors):
            _check.dense("pick", f"axes[{k}]", x, order=1)
        _check.one_kind("pick", **{f"axes[{k}]": x for k, x in enumerate(tensors)})
        return tuple(len(x) for x in tensors), tensors
    if any(isinstance(x, Tensor) for x in given):
        raise TypeError("`pick(axes=...)` must be sizes only, or coordinates only. Got both.")
    sizes = tuple(x for x in given if not isinstance(x, Tensor))
    _check.at_least("pick", 1, **{f"axes[{k}]": n for k, n in enumerate(sizes)})
    return sizes, None


def _points(indices: Tensor, coordinates: tuple[Tensor, ...] | None) -> Tensor:
    if coordinates is None:
        return indices
    pairs = zip(coordinates, indices.unbind(1), strict=True)
    return torch.stack([x[i.to(x.device)] for x, i in pairs], 1)


def _asked(
    where: str, function: Callable[[Tensor], Any], coordinates: tuple[Tensor, ...] | None
) -> Callable[[Tensor], Tensor]:
    """The function of indices, its answers checked."""

    def asked(indices: Tensor) -> Tensor:
        values = function(_points(indices, coordinates))
        if not isinstance(values, Tensor):
            raise TypeError(
                f"`{where}(function=...)` must give a torch.Tensor. Got {type(values).__name__}."
            )
        if tuple(values.shape) != (len(indices),):
            raise ValueError(
                f"`{where}(function=...)` must give shape ({len(indices)},), one value per row. "
                f"Got {tuple(values.shape)}."
            )
        if not (values.is_floating_point() or values.is_complex()):
            raise TypeError(
                f"`{where}(function=...)` must give floating or complex numbers. "
                f"Got {values.dtype}."
            )
        bad = (~values.detach().isfinite()).nonzero()[:, 0]
        if len(bad):
            place = tuple(indices[int(bad[0])].tolist())
            raise ValueError(
                f"`{where}(function=...)` must give finite values. Got {len(bad)} NaN or infinite "
                f"of {len(values)}, the first at index {place}."
            )
        return values

    return asked
