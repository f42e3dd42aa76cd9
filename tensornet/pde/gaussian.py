"""Gaussian process regression for partial differential equations with high frequencies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from tensornet import _check
from tensornet.pde.boundary import Boundary
from tensornet.pde.domain import Domain
from tensornet.pde.gaussian_evidence import Observed
from tensornet.pde.gaussian_functionals import Functionals, Term, variances
from tensornet.pde.gaussian_kernel import FAMILIES, SpectralMixture
from tensornet.pde.gaussian_kronecker import LARGEST
from tensornet.pde.gaussian_newton import Search, solved
from tensornet.pde.gaussian_plane import separable, solved_on_plane
from tensornet.pde.gaussian_solution import GaussianProcessSolution, check_orders, check_real
from tensornet.pde.gaussian_start import (
    begin,
    check_resolved,
    grid_spectrum,
    scattered_spectrum,
)
from tensornet.pde.grid import Field, Grid

DENSE = 1200  # observations from which Kronecker products are used where the problem has them
MOST = 4000  # observations of which a dense covariance is factorised
_WHERE = "GaussianProcessSolver"


class GaussianProcessSolver:
    """Solve a differential equation by Gaussian process regression, with uncertainty.

    The field is a Gaussian process whose covariance is a product over the axes of spectral
    mixtures (`SpectralMixture`), so that what oscillates fast is no less likely than what is
    smooth. The equation at the centres of cells, the boundary, and scattered noisy values of the
    field are linear observations of it: the field given these is known in closed form, without
    an optimisation over its values. Frequencies, lengths, weights and noise are those with the
    largest evidence, found by L-BFGS from the spectrum of the source. No solution is needed for
    any choice.

    On grids of two axes with more than 1200 observations, an operator of second derivatives with
    constant coefficients, a source everywhere and no data, the covariance is a sum of Kronecker
    products. The field then follows by conjugate gradients, preconditioned by eigenvectors of one
    axis each, hyper-parameters from the evidence of some cells, and variances from what the nodes
    tell of the field: these are rather too large than too small.

    It is slower than finite differences or Chebyshev collocation where everything is known. What
    it is for: sources that are noisy or known in part, scattered values of the field, error bars.

    Args:
        grid: Where the equation is observed: the centres of its cells.
        operator: Coefficients of derivatives, by their orders along the axes: ``{(2,): 1.0}`` is
            the second derivative. Numbers, tensors on the grid, or functions of the coordinates.
            By default the Laplacian. (`poisson` solves for minus this.)
        boundary: As in `poisson`: ``"dirichlet"``, ``"neumann"``, or sides with values; one word
            for all sides, or one or a pair per axis. None where nothing is known there.
        components: Number of components of every kernel.
        kernels: ``"student"`` or ``"gaussian"`` for the family of the components; or kernels to
            begin with, one per axis.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If shapes differ, numbers are NaN or infinite, the boundary is periodic, a
            derivative is higher than fields of the family have, or there are more than 4000
            observations.

    References:
        Fang, Cooley, Long, Li, Kirby & Zhe, Solving high frequency and multi-scale PDEs with
        Gaussian processes, arXiv 2311.04465 (2023), with the field in closed form instead of as
        parameters, and covariances of derivatives instead of derivatives of an interpolant;
        Särkkä, Linear operators and stochastic partial differential equations in Gaussian process
        regression, ICANN 2011; Rasmussen & Williams (2006), chapter 5.

    Examples:
        >>> grid = Grid(60, spacing=1 / 60)
        >>> solver = GaussianProcessSolver(grid, components=3)
        >>> found = solver.solve(lambda x: -400 * torch.sin(20 * x), max_iterations=3)
        >>> (x,) = grid.axes()
        >>> exact = torch.sin(20 * x) - x * torch.sin(torch.tensor(20.0))
        >>> float((found.mean - exact).norm() / exact.norm()) < 1e-3
        True
    """

    def __init__(
        self,
        grid: Grid,
        *,
        operator: Mapping[tuple[int, ...], Field] | None = None,
        boundary: Boundary | None = "dirichlet",
        components: int = 10,
        kernels: str | Sequence[SpectralMixture] = "student",
    ) -> None:
        if not isinstance(grid, Grid):
            raise TypeError(f"`{_WHERE}(grid=...)` must be a Grid. Got {type(grid).__name__}.")
        _check.at_least(_WHERE, 1, components=components)
        self.grid, self.components = grid, components
        self.family, self.kernels = _kernels(kernels, grid.dim)
        self.points = torch.stack([x.flatten() for x in grid.centers()], 1)
        self.terms = self._terms(operator)
        self._boundary = [] if boundary is None else self._sides(boundary)

    def solve(
        self,
        source: Field | None = None,
        *,
        reaction: Callable[[Tensor], Tensor] | None = None,
        data: tuple[Tensor, Tensor] | None = None,  # (n, dim), (n,)
        source_noise: float | None = None,
        data_noise: float | None = None,
        max_iterations: int = 40,
    ) -> GaussianProcessSolution:
        """Find the field given source, boundary and scattered values.

        A reaction makes the equation nonlinear: ``operator u + reaction(u) = source``. It is then
        linearised around the mean again and again (Gauss-Newton), and the evidence is that of
        Laplace's approximation. Give kernels or data that tell its branches apart.

        Args:
            source: A number, a tensor on the grid, or a function of the coordinates; NaN in a
                tensor where it is unknown. None if it is unknown everywhere.
            reaction: Acts on every value alone.
            data: Points, and values of the field there.
            source_noise: Standard deviation of the source. By default learned, down to nothing.
            data_noise: Standard deviation of the values. By default learned.
            max_iterations: Steps of the search; zero takes the kernels as they are.

        Returns:
            Mean, variance, evidence, and what else can be asked of the field.

        Raises:
            TypeError: If an argument is of another kind.
            ValueError: If shapes differ, numbers are NaN or infinite, nothing is known of the
                field, or the source varies faster than the grid tells apart.
        """
        where = f"{_WHERE}.solve"
        _check.at_least(where, 0, max_iterations=max_iterations)
        _check.tolerance(where, source_noise=source_noise, data_noise=data_noise)
        values, rows = self._source(source, where)
        if reaction is not None and not len(rows):
            raise ValueError(f"`{where}(source=...)` must be known of a nonlinear equation.")
        scattered = self._data(data, where)
        n = len(rows) + sum(len(b.values) for b in self._boundary)
        n += 0 if scattered is None else len(scattered[1])
        if not n:
            raise ValueError(f"`{where}(...)` must have a source, a boundary or data. Got none.")
        plane = self._is_plane(reaction, data, len(rows), n)
        if n > MOST and not plane:
            raise ValueError(
                f"`{where}(...)` must have at most {MOST} observations, whose covariance is dense. "
                f"Got {n}."
            )
        kernels = self.kernels or self._begin(values, rows, scattered)
        blocks: dict[str, Observed] = {}
        if len(rows):
            equation = self._equation(rows)
            unit = float(values.square().mean() or variances(equation, kernels).mean())
            noise = None if source_noise is None else source_noise**2
            blocks["source"] = Observed(equation, values, noise, unit)
        if plane:
            return solved_on_plane(
                self.grid, self.terms, blocks["source"], self._boundary, kernels, max_iterations
            )
        for k, block in enumerate(self._boundary):
            blocks[f"side {k}"] = block
        if scattered is not None:
            one = ((0,) * self.grid.dim, torch.ones((), dtype=torch.float64))
            unit = float(scattered[1].square().mean() or 1.0)
            noise = None if data_noise is None else data_noise**2
            blocks["data"] = Observed(Functionals(scattered[0], (one,)), scattered[1], noise, unit)
        search = Search(self.grid, blocks, kernels, max_iterations)
        return solved(search, reaction)

    def _is_plane(
        self,
        reaction: Callable[[Tensor], Tensor] | None,
        data: tuple[Tensor, Tensor] | None,
        n_rows: int,
        n: int,
    ) -> bool:
        """Whether covariances are sums of Kronecker products, and too large to be dense."""
        linear = reaction is None and data is None and n_rows == self.grid.n_cells
        small = self.grid.n_cells * (n - n_rows) <= LARGEST
        return self.grid.dim == 2 and n > DENSE and linear and small and separable(self.terms)

    def _terms(self, operator: Mapping[tuple[int, ...], Field] | None) -> tuple[Term, ...]:
        """Coefficients at the centres."""
        dim = self.grid.dim
        if operator is None:
            operator = {tuple(2 * (k == j) for j in range(dim)): 1.0 for k in range(dim)}
        made = []
        for orders, value in check_orders(_WHERE, operator, dim).items():
            most = FAMILIES[self.family] // 2
            if max(orders) > most:
                raise ValueError(
                    f"`{_WHERE}(operator=...)` must have orders of at most {most} with kernels of "
                    f"the family {self.family!r}. Got {orders}. (Fields of the family 'gaussian' "
                    "have four derivatives here.)"
                )
            field = self.grid.field(value, where=_WHERE, name="operator").detach()
            if field.ndim > dim:
                raise ValueError(
                    f"`{_WHERE}(operator=...)` must have coefficients of the shape "
                    f"{self.grid.shape} of the grid. Got {tuple(field.shape)}."
                )
            number = isinstance(value, int | float)
            made.append((orders, field.flatten()[0] if number else field.flatten()))
        return tuple(made)

    def _equation(self, rows: Tensor) -> Functionals:
        terms = tuple((orders, c[rows] if c.ndim else c) for orders, c in self.terms)
        return Functionals(self.points[rows], terms)

    def _sides(self, boundary: Boundary) -> list[Observed]:
        """What is held at the faces."""
        domain, found = Domain(self.grid, boundary=boundary), []
        for axis, pair in enumerate(domain.sides):
            for step, side in zip((-1, 1), pair, strict=True):
                if side.kind == "periodic":
                    raise ValueError(
                        f"`{_WHERE}(boundary=...)` must hold a value or a flux. Got 'periodic' "
                        f"along axis {axis}."
                    )
                value = domain.value(side, axis, step, True, torch.float64, _WHERE)
                points = [x.clone() for x in self.grid.axes()]
                edge = points[axis][-1:] if step > 0 else points[axis][:1]
                points[axis] = edge + step * side.distance * self.grid.spacing[axis]
                mesh = torch.meshgrid(*points, indexing="ij")
                if value.ndim > self.grid.dim:
                    raise ValueError(f"`{_WHERE}(boundary=...)` must hold one field, no batch.")
                orders = tuple(int(side.kind == "neumann" and k == axis) for k in range(len(mesh)))
                sign = float(step) if side.kind == "neumann" else 1.0
                term = orders, torch.tensor(sign, dtype=torch.float64)
                where = torch.stack([x.flatten() for x in mesh], 1)
                values = value.detach().expand(mesh[0].shape).flatten()
                found.append(Observed(Functionals(where, (term,)), values))
        return found

    def _source(self, source: Field | None, where: str) -> tuple[Tensor, Tensor]:
        """Values where it is known, and where that is."""
        if source is None:
            return torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.int64)
        known = torch.ones(self.grid.shape, dtype=torch.bool)
        if isinstance(source, Tensor) and source.is_floating_point():
            if tuple(source.shape) == self.grid.shape:
                known = ~source.isnan()
                source = torch.where(known, source.detach(), 0.0)
        elif callable(source):
            check_resolved(self.grid, source, where)
        field = self.grid.field(source, where=where, name="source")
        if field.ndim > self.grid.dim:
            raise ValueError(
                f"`{where}(source=...)` must have the shape {self.grid.shape} of the grid. Got "
                f"{tuple(field.shape)}."
            )
        rows = known.flatten().nonzero()[:, 0]
        return field.detach().flatten()[rows].contiguous(), rows

    def _data(self, data: tuple[Tensor, Tensor] | None, where: str) -> tuple[Tensor, Tensor] | None:
        if data is None:
            return None
        if not isinstance(data, tuple) or len(data) != 2:
            raise TypeError(f"`{where}(data=...)` must be a pair of points and values.")
        points, values = data
        check_real(where, "data[0]", points, order=2)
        check_real(where, "data[1]", values, order=1)
        _check.shapes(
            where, **{"data[0]": (points, f"n {self.grid.dim}"), "data[1]": (values, "n")}
        )
        return points.detach().to(torch.float64), values.detach().to(torch.float64)

    def _begin(
        self, values: Tensor, rows: Tensor, scattered: tuple[Tensor, Tensor] | None
    ) -> tuple[SpectralMixture, ...]:
        """Kernels from the spectrum of the source, or of scattered values."""
        held = [b.values for b in self._boundary] + ([] if scattered is None else [scattered[1]])
        size = float(torch.cat(held).square().mean()) if held else 0.0
        whole = len(rows) == self.grid.n_cells and float(values.abs().max()) > 0
        made = []
        for k, length in enumerate(self.grid.lengths):
            spectrum, symbol = None, _one
            if whole:
                field = values.reshape(self.grid.shape)
                spectrum = grid_spectrum(field, k, self.grid.spacing[k])
                symbol = self._symbol if self.grid.dim == 1 else _one
            elif len(rows) and float(values.abs().max()) > 0:
                spectrum = scattered_spectrum(self.points[rows, k], values, length)
                symbol = self._symbol if self.grid.dim == 1 else _one
            elif scattered is not None:
                spectrum = scattered_spectrum(scattered[0][:, k], scattered[1], length)
            spacing = self.grid.spacing[k]
            made.append(begin(spectrum, symbol, self.components, length, spacing, self.family))
        first = made[0]
        if len(values) and float(values.square().mean()) > 0:
            expected = variances(self._equation(rows), made).mean()
            size = max(size, float(values.square().mean() / expected))
        grown = SpectralMixture(
            first.weights * (size or 1.0), first.lengths, first.frequencies, self.family
        )
        return (grown, *made[1:])

    def _symbol(self, frequencies: Tensor) -> Tensor:
        """Squared absolute value of the operator on waves, coefficients averaged."""
        total = torch.zeros(frequencies.shape, dtype=torch.complex128)
        for (n,), c in self.terms:
            total = total + c.mean() * (1j * frequencies) ** n
        return total.abs().square()


def _one(frequencies: Tensor) -> Tensor:
    return torch.ones_like(frequencies)


def _kernels(
    kernels: str | Sequence[SpectralMixture], dim: int
) -> tuple[str, tuple[SpectralMixture, ...] | None]:
    if isinstance(kernels, str):
        _check.one_of(_WHERE, tuple(FAMILIES), kernels=kernels)
        return kernels, None
    listed = list(kernels) if isinstance(kernels, Sequence) else []
    given = tuple(k for k in listed if isinstance(k, SpectralMixture))
    if len(given) != dim or len(listed) != dim:
        raise TypeError(
            f"`{_WHERE}(kernels=...)` must be 'student', 'gaussian', or a SpectralMixture per "
            f"axis ({dim}). Got {kernels!r}."
        )
    family = min(given, key=lambda k: FAMILIES[k.family]).family
    wide = (
        SpectralMixture(
            k.weights.detach().double(), k.lengths.detach().double(),
            k.frequencies.detach().double(), k.family,
        )
        for k in given
    )  # fmt: skip
    return family, tuple(wide)
