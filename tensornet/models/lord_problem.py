"""Families of diffusion problems: sources, coefficients and boundary values drawn at random."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tensornet import _check
from tensornet.linalg.mode_product import mode_multiplied
from tensornet.pde import Domain, Grid, dirichlet
from tensornet.pde.axis import box_axes, outer_sum
from tensornet.pde.boundary import Boundary

Values = Sequence[Tensor | None]


class DiffusionFamily:
    """All problems ``-div(coefficient grad u) = source`` on one box, and how to draw some.

    The discretisation is that of `pde.poisson`, for a batch with a coefficient each. It is what
    `LordNet` sees residuals of, and what `train.fit_residual` trains it on: nothing is solved.

    Args:
        grid: The grid.
        boundary: What kind of sides the box has: a word, or one per axis, or pairs. Somewhere a
            value must be held.
        contrast: Standard deviation of the logarithm of the coefficients that are drawn.
        length: Their correlation length, in units of the longest side.
        smoothness: Of the sources that are drawn: 0 white noise, 1 and 2 after that many powers
            of the inverse of the box.
        held: Standard deviation of the boundary values that are drawn.
        dtype: Of all numbers.

    Attributes:
        shape: Of a field.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If numbers are negative, or no value is held anywhere.

    Examples:
        >>> family = DiffusionFamily(Grid((8, 8), spacing=1 / 8), contrast=1.0, held=0.5)
        >>> inputs = family.sample(3, torch.Generator().manual_seed(0))
        >>> sorted(inputs), inputs["coefficient"].shape, len(inputs["boundary"])
        (['boundary', 'coefficient', 'source'], torch.Size([3, 8, 8]), 4)
    """

    def __init__(
        self,
        grid: Grid,
        *,
        boundary: Boundary = "dirichlet",
        contrast: float = 0.0,
        length: float = 0.1,
        smoothness: float = 0.0,
        held: float = 0.0,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self.domain = Domain(grid, boundary=boundary)
        self.grid, self.shape, self.dtype = grid, grid.shape, dtype
        numbers = {"contrast": contrast, "length": length, "smoothness": smoothness, "held": held}
        _check.tolerance("DiffusionFamily", **numbers)
        self.draws = {name: float(value) for name, value in numbers.items()}
        sides = self.domain.sides
        if not any(side.kind == "dirichlet" for pair in sides for side in pair):
            raise ValueError(
                "`DiffusionFamily(boundary=...)` must hold a value somewhere, or solutions have no "
                "level. Got " + ", ".join(side.kind for pair in sides for side in pair) + "."
            )
        axes = box_axes("DiffusionFamily(grid=...)", self.domain)
        self._bases = [axis.vectors(torch.float64).to(dtype) for axis in axes]
        self._total = outer_sum([axis.values for axis in axes]).to(dtype)

    def config(self) -> dict[str, Any]:
        """Say what is needed to make the family again.

        Returns:
            Shape, spacing and origin of the grid, kinds of the sides, and how problems are drawn:
            JSON-able.
        """
        sides = [[[s.kind, s.at] for s in pair] for pair in self.domain.sides]
        grid = {"shape": list(self.shape), "spacing": list(self.grid.spacing)}
        return {**grid, "origin": list(self.grid.origin), "sides": sides, **self.draws}

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], *, dtype: torch.dtype = torch.float64
    ) -> DiffusionFamily:
        """Make the family that `config` describes.

        Args:
            config: As `config` gave it.
            dtype: Of all numbers.

        Returns:
            The family.
        """
        rest = dict(config)
        grid = Grid(rest.pop("shape"), spacing=rest.pop("spacing"), origin=rest.pop("origin"))
        made = [
            tuple(dirichlet(at=at) if kind == "dirichlet" else kind for kind, at in pair)
            for pair in rest.pop("sides")
        ]
        sides = [pair[0] if pair[0] == "periodic" else pair for pair in made]
        return cls(grid, boundary=sides, dtype=dtype, **rest)  # type: ignore[arg-type]

    def sample(self, count: int, generator: torch.Generator) -> dict[str, Any]:
        """Draw problems.

        Args:
            count: How many.
            generator: Of the random numbers.

        Returns:
            ``source`` and ``coefficient`` ``(count, *shape)``, and ``boundary``, values for the
            lower and the upper side of each axis (fluxes on closed sides, None on periodic ones).

        Raises:
            TypeError: If the count is no whole number.
            ValueError: If it is below one.
        """
        _check.at_least("DiffusionFamily.sample", 1, count=count)
        smooth = self.draws["smoothness"]
        white = self._noise(count, self.shape, generator)
        source = white if smooth == 0 else self.precondition(white, smooth)
        source = source / source.square().mean(tuple(range(1, source.ndim)), keepdim=True).sqrt()
        coefficient = torch.ones(count, *self.shape, dtype=self.dtype)
        if self.draws["contrast"]:
            length = self.draws["length"] * max(self.grid.lengths)
            field = self._correlated(count, self.shape, self.grid.spacing, length, generator)
            coefficient = torch.exp(self.draws["contrast"] * field)
        values: list[Tensor | None] = []
        for axis, pair in enumerate(self.domain.sides):
            shape = self.shape[:axis] + self.shape[axis + 1 :]
            spacing = self.grid.spacing[:axis] + self.grid.spacing[axis + 1 :]
            for side in pair:
                if side.kind == "periodic":
                    values.append(None)
                    continue
                length = 0.2 * max(self.grid.lengths)
                drawn = self._correlated(count, shape, spacing, length, generator)
                values.append(self.draws["held"] * drawn)
        return {"source": source, "coefficient": coefficient, "boundary": tuple(values)}

    def _noise(self, count: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        made = torch.randn((count, *shape), generator=generator, dtype=torch.float64)
        return made.to(self.dtype)

    def _correlated(
        self,
        count: int,
        shape: tuple[int, ...],
        spacing: tuple[float, ...],
        length: float,
        generator: torch.Generator,
    ) -> Tensor:
        """Gaussian fields of variance one, part of a periodic box of twice the size."""
        field = self._noise(count, tuple(2 * n for n in shape), generator)
        for axis, (n, h) in enumerate(zip(shape, spacing, strict=True), 1):
            k = 2 * math.pi * torch.fft.rfftfreq(2 * n, h, dtype=torch.float64)
            damping = torch.exp(-0.25 * (k * length) ** 2).to(self.dtype)
            damping = damping / damping[torch.arange(-n + 1, n + 1).abs()].square().mean().sqrt()
            turned = torch.fft.rfft(field, dim=axis).movedim(axis, -1) * damping
            field = torch.fft.irfft(turned.movedim(-1, axis), 2 * n, dim=axis).narrow(axis, 0, n)
        return field

    def operator(self, coefficient: Tensor) -> DiffusionBatch:  # (..., *shape)
        """Discretise for a batch of coefficients.

        Args:
            coefficient: Positive.

        Returns:
            The operators, to be applied to fields of the same batch.

        Raises:
            ValueError: If the shape is another, or a number is not positive and finite.
        """
        return DiffusionBatch(self, coefficient)

    def residual(
        self,
        u: Tensor,  # (..., *shape)
        source: Tensor,  # (..., *shape)
        coefficient: Tensor | None = None,  # (..., *shape)
        boundary: Values | None = None,
    ) -> Tensor:  # (..., *shape)
        """Discretised residual, source and boundary less operator.

        Args:
            u: Solutions.
            source: Sources.
            coefficient: By default one.
            boundary: As `sample` gives it, by default zero.

        Returns:
            Residuals at the centres of cells.

        Derivatives:
            Any order.
        """
        A = self.operator(torch.ones_like(source) if coefficient is None else coefficient)
        return source + A.load(boundary) - A(u)

    def scaled_residual(
        self, residual: Tensor, power: float, coefficient: Tensor | None = None, **rest: Any
    ) -> Tensor:  # (..., *shape)
        """Precondition a residual by a power of the inverse of the box.

        With a coefficient k the inverse is ``k^-1/2 (-Laplacian)^-1 k^-1/2``, and its square root
        the right half of that. With power 1/2 the square of the result is about the error in the
        norm of the operator, with 1 about the error of the solution, with 0 the plain residual.

        Args:
            residual: What `residual` gave.
            power: 0, 1/2 or 1.
            coefficient: Positive, by default one.
            rest: Other inputs, which do not matter here.

        Returns:
            Fields, whose mean square is a loss.

        Derivatives:
            Any order.
        """
        if power == 0:
            return residual
        if coefficient is None:
            return self.precondition(residual, power)
        root = coefficient.rsqrt()
        z = self.precondition(residual * root, power)
        return z * root if power == 1 else z

    def precondition(self, residual: Tensor, power: float = 1.0) -> Tensor:  # (..., *shape)
        """Apply a power of the inverse of the box with coefficient one.

        Args:
            residual: Fields.
            power: Of the inverse.

        Returns:
            Fields; with power 1 solutions for a constant coefficient.

        Derivatives:
            Any order.
        """
        y = residual.reshape(-1, *self.shape)
        for k, V in enumerate(self._bases, 1):
            y = mode_multiplied(y, V.mT, k)
        y = y * self._total**-power
        for k, V in enumerate(self._bases, 1):
            y = mode_multiplied(y, V, k)
        return y.reshape(residual.shape)


class DiffusionBatch:
    """Operators ``-div(coefficient grad)`` of a batch of coefficients. See `DiffusionFamily`."""

    def __init__(self, family: DiffusionFamily, coefficient: Tensor) -> None:
        self.family, k = family, coefficient
        d = len(family.shape)
        if k.shape[max(k.ndim - d, 0) :] != family.shape:
            raise ValueError(
                "`LordNet(coefficient=...)` must have shape (..., "
                f"{', '.join(map(str, family.shape))}). Got {tuple(k.shape)}."
            )
        least = float(k.detach().min()) if k.numel() else 1.0
        if not 0 < least < math.inf or not bool(k.detach().isfinite().all()):
            raise ValueError(
                f"`LordNet(coefficient=...)` must be positive and finite. Got {least} as least."
            )
        self.coefficient, self.faces = k, []
        anchor = torch.zeros_like(k)
        for axis, h in enumerate(family.grid.spacing):
            at = axis - d
            low, high = family.domain.sides[axis]
            n = k.shape[at]
            if low.kind == "periodic":
                above = k.roll(-1, at)
                self.faces.append(2 * k * above / (k + above) / h**2)
                continue
            one, two = k.narrow(at, 0, n - 1), k.narrow(at, 1, n - 1)
            self.faces.append(2 * one * two / (one + two) / h**2)
            for place, side in ((0, low), (n - 1, high)):
                if side.kind == "dirichlet":
                    tie = torch.zeros_like(k)
                    tie.narrow(at, place, 1).copy_(k.narrow(at, place, 1) * (side.weight / h**2))
                    anchor = anchor + tie
        self.anchor = anchor

    def __call__(self, u: Tensor) -> Tensor:  # (..., *shape)
        """Apply the operators.

        Args:
            u: Fields.
        """
        y, d = self.anchor * u, len(self.family.shape)
        for axis, w in enumerate(self.faces):
            at = axis - d
            n = u.shape[at]
            if w.shape[at] == n:
                flux = w * (u.roll(-1, at) - u)
                y = y - flux + flux.roll(1, at)
                continue
            flux = w * (u.narrow(at, 1, n - 1) - u.narrow(at, 0, n - 1))
            y.narrow(at, 0, n - 1).sub_(flux)
            y.narrow(at, 1, n - 1).add_(flux)
        return y

    def diagonal(self) -> Tensor:  # (..., *shape)
        """Give the diagonals."""
        found, d = self.anchor.clone(), len(self.family.shape)
        for axis, w in enumerate(self.faces):
            at = axis - d
            n = found.shape[at]
            if w.shape[at] == n:
                found = found + w + w.roll(1, at)
                continue
            found.narrow(at, 0, n - 1).add_(w)
            found.narrow(at, 1, n - 1).add_(w)
        return found

    def load(self, boundary: Values | None) -> Tensor:  # (..., *shape)
        """What sides give to the right side.

        Args:
            boundary: Values for the lower and the upper side of each axis, None for zero.

        Raises:
            ValueError: If there are not two per axis, or a shape is another.
        """
        k, shape = self.coefficient, self.family.shape
        found = torch.zeros_like(k)
        if boundary is None:
            return found
        if len(boundary) != 2 * len(shape):
            raise ValueError(
                "`LordNet(boundary=...)` must have values for two sides per axis "
                f"({2 * len(shape)}). Got {len(boundary)}."
            )
        for number, value in enumerate(boundary):
            if value is None:
                continue
            axis, end = divmod(number, 2)
            at, want = axis - len(shape), shape[:axis] + shape[axis + 1 :]
            if value.shape[max(value.ndim - len(want), 0) :] != want:
                raise ValueError(
                    f"`LordNet(boundary=...)` must hold values of shape (..., "
                    f"{', '.join(map(str, want))}) across axis {axis}. Got {tuple(value.shape)}."
                )
            side, h = self.family.domain.sides[axis][end], self.family.grid.spacing[axis]
            place = (k.shape[at] - 1) * end
            tie = k.narrow(at, place, 1) * (side.weight / h**2)
            factor = tie if side.kind == "dirichlet" else torch.full_like(tie, 1 / h)
            part = torch.zeros_like(k)
            part.narrow(at, place, 1).copy_(factor * value.unsqueeze(at))
            found = found + part
        return found
