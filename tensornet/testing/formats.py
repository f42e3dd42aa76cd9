"""The contract of tensor formats: every operation does what it does to the dense tensor."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tensornet.formats import Format, load
from tensornet.testing.closeness import TOLERANCE, assert_close, assert_gradients


def assert_format_contract(
    x: Format,
    y: Format,
    *,
    round_tolerance: float = 1e-9,
    hadamard: bool = True,
    gradients: bool = True,
) -> None:
    """Assert that two values of a format behave as their dense tensors do.

    Norm, inner product, sum, difference, scaling, product of entries, indexing, rounding, moves
    to another dtype, files, and derivatives to every part.

    Args:
        x: A value, small: everything is compared with `to_dense`.
        y: Another of the same kind and shape.
        round_tolerance: What `round` is asked for when it must bring x + x back to the ranks of x.
        hadamard: Whether ``x * y`` is the product of entries, and sums are of one shape; not so for
            functions, whose coefficients may be of any number.
        gradients: Whether to compare derivatives with finite differences (float64 only).

    Raises:
        AssertionError: If they do not, with the largest error.
    """
    kind = type(x).__name__
    tolerance = TOLERANCE[x.norm().dtype]
    dense, other = x.to_dense().detach(), y.to_dense().detach()
    if dense.shape != x.shape or x.order != len(x.shape):
        raise AssertionError(f"`{kind}.shape` is {x.shape}, and that of to_dense {dense.shape}.")
    if x.n_parameters != sum(part.numel() for part in x.parts().values()):
        raise AssertionError(f"`{kind}.n_parameters` is not the number of stored numbers.")
    if (x.dtype, x.device) != (dense.dtype, dense.device):
        raise AssertionError(f"`{kind}.dtype` or device is not that of its entries.")

    def same(got: Any, expected: Tensor, what: str) -> None:
        got = got.to_dense() if isinstance(got, Format) else got
        assert_close(got.detach(), expected, tolerance, f"`{kind}`: {what}")

    same(x.norm(), torch.linalg.vector_norm(dense), "norm")
    same(x.inner(y), torch.vdot(dense.flatten(), other.flatten()), "inner")
    same(x + y, dense + other, "sum")
    same(x - y, dense - other, "difference")
    same(-x, -dense, "negative")
    same(2.5 * x, 2.5 * dense, "number times value")
    same(x * torch.tensor(-0.5, dtype=x.dtype), -0.5 * dense, "value times tensor without axes")
    same(x / 4, dense / 4, "value divided by a number")
    if hadamard:
        same(x * y, dense * other, "product of entries")
    nothing = float((x - x).norm()) / float(x.norm())
    if not nothing <= 1e3 * tolerance:
        raise AssertionError(f"`{kind}`: the norm of x - x is {nothing:.1e} of that of x.")
    _assert_indexing(x, dense, same)
    _assert_rounding(x, dense, round_tolerance)
    _assert_stored(x, dense)
    _assert_refusals(x, x[..., :1] if hadamard else x[..., 0])
    if gradients:
        _assert_derivatives(x, y)


def _assert_indexing(x: Format, dense: Tensor, same: Callable[[Any, Tensor, str], None]) -> None:
    last = tuple(d - 1 for d in x.shape)
    same(x[last], dense[last], "entry")
    same(x[tuple(-1 for _ in last)], dense[last], "entry counted from the end")
    few = tuple(torch.tensor([0, d - 1, 0]) for d in x.shape)
    same(x[few], dense[few], "several entries")
    same(x[0], dense[0], "whole number in the first mode")
    same(x[..., -1], dense[..., -1], "whole number in the last mode")
    same(x[..., : x.shape[-1] - 1], dense[..., : x.shape[-1] - 1], "slice of the last mode")
    same(x[::2], dense[::2], "slice with a step")
    for index in (x.shape[0], -x.shape[0] - 1):
        try:
            x[index]
        except IndexError:
            continue
        raise AssertionError(f"`{type(x).__name__}[{index}]` must raise IndexError.")


def _assert_rounding(x: Format, dense: Tensor, tolerance: float) -> None:
    kind = type(x).__name__
    error = (x.round(tolerance=tolerance).to_dense() - dense).norm() / dense.norm()
    if not error <= 1.01 * tolerance + TOLERANCE[x.norm().dtype]:
        raise AssertionError(f"`{kind}.round(tolerance={tolerance})` has the error {error:.1e}.")
    twice = (x + x).round(tolerance=tolerance)
    error = (twice.to_dense() - 2 * dense).norm() / (2 * dense).norm()
    if not error <= 1.01 * tolerance + TOLERANCE[x.norm().dtype]:
        raise AssertionError(f"`{kind}`: rounding x + x has the error {error:.1e}.")
    if any(new > old for new, old in zip(twice.ranks, x.ranks, strict=True)):
        raise AssertionError(
            f"`{kind}`: x + x has ranks {twice.ranks} after rounding, x {x.ranks}."
        )
    if max(x.round(max_rank=1).ranks) != 1:
        raise AssertionError(f"`{kind}.round(max_rank=1)` must have rank one.")


def _assert_stored(x: Format, dense: Tensor) -> None:
    kind = type(x).__name__
    lower = torch.complex64 if x.dtype.is_complex else torch.float32
    single = x.to(lower)
    if single.dtype != lower:
        raise AssertionError(f"`{kind}.to({lower})` gave {single.dtype}.")
    error = (single.to_dense().to(dense.dtype) - dense).norm() / dense.norm()
    if not error <= 1e-5:
        raise AssertionError(f"`{kind}.to` a lower precision has the error {error:.1e}.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "value.safetensors"
        x.save(path)
        again = load(path)
    pairs = zip(again.parts().items(), x.parts().items(), strict=True)
    if type(again) is not type(x) or again.settings() != x.settings():
        raise AssertionError(f"`{kind}` comes back from a file as another.")
    for (new, stored), (name, part) in pairs:
        if new != name or not torch.equal(stored, part.detach().cpu()):
            raise AssertionError(f"`{kind}`: `{name}` comes back from a file with other numbers.")


def _assert_refusals(x: Any, smaller: Any) -> None:
    kind = type(x).__name__
    name = next(iter(vars(x)))
    try:
        setattr(x, name, getattr(x, name))
    except (FrozenInstanceError, AttributeError):
        pass
    else:
        raise AssertionError(f"`{kind}.{name}` must not be changeable.")
    for other, error in ((smaller, ValueError), (x.to_dense(), TypeError)):
        try:
            x + other
        except error:
            continue
        raise AssertionError(f"`{kind} + ...` must raise {error.__name__} for {type(other)}.")


def _assert_derivatives(x: Format, y: Format) -> None:
    """Derivatives of the entries, the norm and the inner product to every part."""
    kind, names = type(x), list(x.parts())

    def rebuilt(parts: tuple[Tensor, ...]) -> Format:
        return kind.from_parts(dict(zip(names, parts, strict=True)), x.settings())

    def dense(*parts: Tensor) -> Tensor:
        return rebuilt(parts).to_dense()

    def entry(*parts: Tensor) -> Tensor:
        value: Tensor = rebuilt(parts)[tuple(0 for _ in x.shape)]
        return value

    def inner(*parts: Tensor) -> Tensor:
        return rebuilt(parts).inner(y)

    def norm(*parts: Tensor) -> Tensor:
        return rebuilt(parts).norm()

    parts = [part.detach() for part in x.parts().values()]
    for function in (dense, entry, inner, norm):
        function.__name__ = f"{kind.__name__}, {function.__name__}"
        assert_gradients(function, parts)
