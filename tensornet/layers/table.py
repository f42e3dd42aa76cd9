"""Radial functions from a table, with a certificate of how far they are from the original."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from tensornet import _check
from tensornet.kernels.spline.spec import spline

_HELD_OUT = 7  # points per interval at which a table is checked
_MOST = 2048  # intervals


@dataclass(frozen=True)
class TableCertificate:
    """How far a table is from its function at points that are no knots.

    Args:
        value: Largest error of a value, over the largest value.
        slope: Largest error of a slope, over the largest slope.
        curvature: Largest error of a second derivative, over the largest of them.
        n_knots: Number of knots.
        n_points: Number of points that were compared.
    """

    value: float
    slope: float
    curvature: float
    n_knots: int
    n_points: int


class RadialTable(nn.Module):
    """A radial function, tabulated: for inference, where the function itself is costly.

    Between knots at equal distances stands a polynomial of degree five that takes the values,
    slopes and curvatures of the function at both. The table is twice continuously differentiable,
    so that energies made with it have smooth forces and continuous Hessians, and forces are the
    exact derivative of the tabulated energy. (Cubic pieces would leave jumps in Hessians, and for
    seven digits take five times the knots.) Knots are doubled until values and slopes at held-out
    points are within the tolerance.

    Args:
        function: From distances ``(e,)`` to ``(e, q)``, row by row, twice differentiable by
            autograd: a module or a plain function. It is evaluated in float64 on the CPU. A module
            is copied, so that later changes of it are not seen.
        cutoff: Where the table ends. Beyond it values stay what they are there.
        tolerance: Largest error, relative as in `TableCertificate`.
        start: Where the table begins, for functions that have no value at zero. Before it the
            first polynomial continues.
        dtype: Of the stored table, by default torch's. The certificate is that of the table in
            float64; in float32 rounding is added to it.

    Raises:
        ValueError: If the interval is empty or not finite, the tolerance not positive, the function
            not finite or not of shape ``(e, q)``, or the tolerance out of reach.

    Derivatives:
        Any order, in the distances and in ``table``; those above the second jump at knots.

    References:
        de Boor, A Practical Guide to Splines, chapter IV (Hermite interpolation).

    Examples:
        >>> table = RadialTable(lambda r: torch.stack([r.sin(), r.cos()], 1), 5.0, tolerance=1e-8)
        >>> table.certificate.n_knots, table.certificate.slope < 1e-8
        (33, True)
        >>> table(torch.tensor([1.0]))
        tensor([[0.8415, 0.5403]])
    """

    table: Tensor
    certificate: TableCertificate

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        cutoff: float,
        *,
        tolerance: float = 1e-6,
        start: float = 0.0,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = "RadialTable"
        if not 0 < cutoff < math.inf:
            raise ValueError(f"`{name}(cutoff=...)` must be positive and finite. Got {cutoff}.")
        if not 0 <= start < cutoff:
            raise ValueError(
                f"`{name}(start=...)` must be from 0 to below the cutoff, {cutoff}. Got {start}."
            )
        if not tolerance > 0:
            raise ValueError(f"`{name}(tolerance=...)` must be above zero. Got {tolerance}.")
        if isinstance(function, nn.Module):
            function = copy.deepcopy(function).to("cpu", torch.float64)
            function.eval().requires_grad_(False)
        self.start, self.cutoff = float(start), float(cutoff)
        n = 16
        while True:
            found, self.certificate = tabulate(
                partial(derivatives, function), self.start, self.cutoff, n
            )
            worst = max(self.certificate.value, self.certificate.slope)
            if worst <= tolerance:
                break
            n *= 2
            if n > _MOST:
                raise ValueError(
                    f"`{name}(tolerance=...)` must be within reach. Got {tolerance}, and an error "
                    f"of {worst:.1e} with {n // 2 + 1} knots. (Does the function have a kink?)"
                )
        self.register_buffer("table", found.to(dtype or torch.get_default_dtype()))

    def forward(
        self,
        r: Tensor,  # (e,)
    ) -> Tensor:  # (e, q)
        """Evaluate at distances, in their dtype; NaN where a distance is NaN."""
        _check.shapes("RadialTable", r=(r, "e"))
        n = self.certificate.n_knots - 1
        x = (r - self.start) * (n / (self.cutoff - self.start))
        return spline(x.clamp(max=float(n)), self.table.to(r.dtype), 0)

    def extra_repr(self) -> str:
        """Say what stands in the table."""
        return (
            f"{self.table.shape[1]} functions from {self.start:g} to {self.cutoff:g}, "
            f"{self.certificate.n_knots} knots, error {self.certificate.value:.1e}"
        )


def tabulate(
    jet: Callable[[Tensor], list[Tensor]],
    start: float,
    cutoff: float,
    n: int,
    held_out: int = _HELD_OUT,
) -> tuple[Tensor, TableCertificate]:  # (3 (n + 1), q)
    """Make a table of n intervals, and say how good it is.

    Args:
        jet: From distances (e,) to values, slopes and curvatures, each (e, q).
        start: Where the table begins.
        cutoff: Where it ends.
        n: Number of intervals.
        held_out: Points per interval at which it is checked.

    Returns:
        The table, as `tensornet.kernels.spline` takes it, and its certificate.
    """
    step = (cutoff - start) / n
    knots = start + step * torch.arange(n + 1, dtype=torch.float64)
    knots[-1] = cutoff
    rows = [y * step**k for k, y in enumerate(jet(knots))]
    table = torch.stack(rows, 1).flatten(0, 1)
    part = (torch.arange(held_out, dtype=torch.float64) + 0.5) / held_out
    x = (torch.arange(n, dtype=torch.float64)[:, None] + part).flatten()
    errors = []
    for k, want in enumerate(jet(start + step * x)):
        got = spline(x, table, k) / step**k
        scale = want.abs().max().clamp_min(torch.finfo(want.dtype).tiny)
        errors.append(float((got - want).abs().max() / scale))
    value, slope, curvature = errors
    return table, TableCertificate(value, slope, curvature, n + 1, len(x))


def derivatives(function: Callable[[Tensor], Tensor], r: Tensor) -> list[Tensor]:
    """Give values, slopes and curvatures, each (e, q).

    Rows do not depend on each other, so one reverse pass through a reverse pass gives the slopes
    of all columns: the gradient is linear in its cotangent, and its derivative in that is wanted.

    Args:
        function: From distances (e,) to values (e, q).
        r: Distances, (e,).

    Raises:
        ValueError: If the function gives another shape, or numbers that are not finite.
    """
    r = r.detach().requires_grad_()
    with torch.enable_grad():
        found = [function(r)]
        if found[0].shape != (len(r), *found[0].shape[-1:]) or found[0].ndim != 2:
            raise ValueError(
                "`RadialTable(function=...)` must give shape (e, q) for distances (e,). "
                f"Got {tuple(found[0].shape)} for {len(r)} distances."
            )
        found[0] = found[0] + (0 * r**3)[:, None]  # so that constants have derivatives too
        for _ in range(2):
            cotangent = torch.zeros_like(found[-1], requires_grad=True)
            (g,) = torch.autograd.grad(found[-1], r, cotangent, create_graph=True)
            (slope,) = torch.autograd.grad(g.sum(), cotangent, create_graph=True)
            found.append(slope)
    done = [y.detach() for y in found]
    for what, y in zip(("values", "slopes", "curvatures"), done, strict=True):
        bad = ~torch.isfinite(y).all(1)
        if bad.any():
            where = float(r.detach()[bad][0])
            raise ValueError(
                f"`RadialTable(function=...)` must be finite with two derivatives. Got {what} that "
                f"are not finite at {where:g}. (Give start=... to begin above zero.)"
            )
    return done
