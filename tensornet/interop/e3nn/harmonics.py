"""Spherical harmonics with e3nn's signature."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from tensornet import _check, so3
from tensornet.interop.e3nn.instructions import Irreps, ProductError
from tensornet.so3.harmonics import SQUARED_NORM


def spherical_harmonics(
    l: int | Iterable[int] | str | Any,
    x: Tensor,  # (..., 3)
    normalize: bool,
    normalization: str = "integral",
) -> Tensor:  # (..., sum of 2 l + 1)
    """Evaluate real harmonics of chosen degrees: `e3nn.o3.spherical_harmonics`, of any degree.

    Args:
        l: A degree, several, or irreps (a string or e3nn's `Irreps`), which say the degrees.
        x: Vectors.
        normalize: Whether only the direction counts. If not, degree l is a homogeneous polynomial
            of degree l: it grows as the length to the power l.
        normalization: ``"integral"`` (orthonormal on the sphere), ``"component"`` (squares of a
            degree sum to 2l + 1) or ``"norm"`` (they sum to 1), on the unit sphere.

    Returns:
        The harmonics, degree after degree. Where `normalize` is true and a vector is zero, all
        above degree zero are zero.

    Raises:
        TypeError: If a degree is no whole number, or `x` holds no floating numbers.
        ValueError: If a degree is negative, irreps have a parity that harmonics have not, the
            normalisation is unknown, or the last axis is not 3.

    Derivatives:
        Any order; with `normalize`, away from the zero vector.

    References:
        Varshalovich, Moskalev & Khersonskii, Quantum Theory of Angular Momentum, 5.6 (products of
        harmonics); conventions: e3nn 0.6, ``o3.spherical_harmonics``.

    Examples:
        >>> spherical_harmonics([0, 1], torch.tensor([0.0, 2.0, 0.0]), False, "component")
        tensor([1.0000, 0.0000, 3.4641, 0.0000])
    """
    out: Tensor = SphericalHarmonics(l, normalize, normalization)(x)
    return out


class SphericalHarmonics(nn.Module):
    """`spherical_harmonics` as a module: `e3nn.o3.SphericalHarmonics`, of any degree.

    Args:
        irreps_out: A degree, several, or irreps.
        normalize: Whether only the direction counts.
        normalization: ``"integral"``, ``"component"`` or ``"norm"``.
        irreps_in: ``"1o"`` for vectors, ``"1e"`` for pseudovectors; by default what fits.

    Raises:
        TypeError: If a degree is no whole number.
        ValueError: If a degree is negative, irreps have a parity that harmonics have not, or the
            normalisation is unknown.

    Derivatives:
        Any order; with `normalize`, away from the zero vector.

    Examples:
        >>> SphericalHarmonics("0e + 1o", normalize=True)(torch.ones(2, 3)).shape
        torch.Size([2, 4])
    """

    def __init__(
        self,
        irreps_out: int | Iterable[int] | str | Any,
        normalize: bool,
        normalization: str = "integral",
        irreps_in: Any = None,
    ) -> None:
        super().__init__()
        name = "SphericalHarmonics"
        if normalization not in SQUARED_NORM:
            raise ProductError(
                f"`{name}(normalization=...)` must be one of {', '.join(SQUARED_NORM)}. "
                f"Got {normalization!r}."
            )
        self.normalize, self.normalization = normalize, normalization
        given = Irreps(irreps_out) if isinstance(irreps_out, str) else irreps_out
        if irreps_in is None:
            pseudo = isinstance(given, Irreps) and any(ir.l % 2 and ir.p == 1 for _, ir in given)
            irreps_in = "1e" if pseudo else "1o"
        self.irreps_in = Irreps(irreps_in)
        if self.irreps_in not in (Irreps("1o"), Irreps("1e")):
            raise ProductError(f"`{name}(irreps_in=...)` must be 1o or 1e. Got {irreps_in}.")
        parity = self.irreps_in[0].ir.p
        if isinstance(given, Irreps):
            for _, ir in given:
                if ir.p != parity**ir.l:
                    raise ProductError(
                        f"`{name}(irreps_out=...)` must have parity {parity**ir.l} at degree "
                        f"{ir.l}, for vectors of parity {parity}. Got {given}."
                    )
            degrees = [ir.l for mul, ir in given for _ in range(mul)]
        else:
            degrees = [given] if isinstance(given, int) else list(given)
        if not degrees:
            raise ProductError(f"`{name}(irreps_out=...)` must name a degree. Got {irreps_out!r}.")
        for l in degrees:
            _check.at_least(name, 0, irreps_out=l)
        self.irreps_out = Irreps([(1, (l, parity**l)) for l in degrees]).simplify()
        self.l_max = max(degrees)
        self.in_order = degrees == list(range(self.l_max + 1))
        columns = [torch.arange(l * l, (l + 1) ** 2) for l in degrees]
        self.register_buffer("columns", torch.cat(columns), persistent=False)
        self.columns: Tensor

    def forward(
        self,
        x: Tensor,  # (..., 3)
    ) -> Tensor:  # (..., m)
        """Evaluate.

        Args:
            x: Vectors.

        Raises:
            TypeError: If `x` is no tensor of floating numbers.
            ValueError: If the last axis is not 3.
        """
        _check.one_kind("SphericalHarmonics", x=x)
        _check.shapes("SphericalHarmonics", x=(x, "... 3"))
        if self.normalize:
            made = so3.spherical_harmonics(x, self.l_max, normalization=self.normalization)
        else:
            made = _solid(x, self.l_max, self.normalization)
        return made if self.in_order else made.index_select(-1, self.columns)

    def extra_repr(self) -> str:
        """Say degrees and normalisation in `print(model)`."""
        return f"{self.irreps_out}, normalize={self.normalize}, {self.normalization}"


def _solid(x: Tensor, l_max: int, normalization: str) -> Tensor:  # (..., m)
    """Harmonics that are polynomials of x: the part of degree l + 1 in Y_l times x is Y_(l+1)."""
    parts = [torch.ones_like(x[..., :1])]
    for l in range(l_max):
        pairs = (parts[-1][..., :, None] * x[..., None, :]).flatten(-2)
        parts.append(pairs @ _ladder(l).to(x))
    scale = [math.sqrt(SQUARED_NORM[normalization](l) / (2 * l + 1)) for l in range(l_max + 1)]
    return torch.cat([part * s for part, s in zip(parts, scale, strict=True)], -1)


@cache
def _ladder(l: int) -> Tensor:  # ((2l + 1) 3, 2l + 3)
    """Take Y_l times a vector to Y_(l+1), both in component normalisation."""
    coupling = so3.wigner_3j(l, 1, l + 1)
    # At the pole only m = 0 is left, where Y_l = sqrt(2l + 1); the coupling's sign is positive.
    factor = math.sqrt(2 * l + 3) / (math.sqrt(2 * l + 1) * float(coupling[l, 1, l + 1]))
    return (factor * coupling).flatten(0, 1)
