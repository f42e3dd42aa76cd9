r"""One coordinate of a sum of Gaussians between any two points of a side: a small common basis.

exp(-e (x - y)²) for all exponents up to the largest, all y on the side, is nearly in the span of a
few functions of x. They come from the singular vectors of the weighted terms, as Chebyshev series
on the side. So that a charge need not meet all of them, the side is cut into panels, on each
of which they are polynomials of degree 15.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tensornet.formats import chebyshev

LOCAL = 16  # coefficients on a panel
_POINTS = 320  # at which the error of a basis is measured, at least
_FEW = 33  # of them against all
_TRIES = 12
_LARGEST = 1400  # coefficients on a side, so that tables stay below some hundred MB
_NARROWER = 0.85  # of a basis, that makes a step to a smaller one worth it


@dataclass(frozen=True, eq=False)
class Mode:
    """A common basis of one coordinate, and the terms in it.

    Smooth terms need few functions. So the terms are treated from the sharpest on, and on the way
    the basis is narrowed.

    Args:
        low: Lower end of the side.
        high: Upper end of the side.
        coefficients: (m, r) Chebyshev coefficients of the basis on the side.
        local: (panels, 16, r) Chebyshev coefficients of the basis on each panel.
        narrowings: For each term (r, r') the step to its basis from that of the sharper one, or
            none where it is the same.
        terms: Each term, from the sharpest on, as a matrix (r', r') in its basis.
        error: Largest weighted error of the terms, summed, at pairs of points of a grid.
    """

    low: float
    high: float
    coefficients: Tensor
    local: Tensor
    narrowings: tuple[Tensor | None, ...]
    terms: tuple[Tensor, ...]
    error: float

    @property
    def rank(self) -> int:
        """Size of the basis."""
        return self.coefficients.shape[1]

    @property
    def panels(self) -> int:
        """Number of panels."""
        return len(self.local)

    def to(self, dtype: torch.dtype, device: torch.device) -> Mode:
        """Give the same with other numbers.

        Args:
            dtype: Type of the numbers.
            device: Where they are to be.
        """

        def turned(x: Tensor) -> Tensor:
            return x.to(dtype=dtype, device=device)

        return Mode(
            self.low,
            self.high,
            turned(self.coefficients),
            turned(self.local),
            tuple(None if x is None else turned(x) for x in self.narrowings),
            tuple(turned(x) for x in self.terms),
            self.error,
        )

    def moved(self, low: float, high: float) -> Mode:
        """Give the same on another side of the same length.

        Args:
            low: Lower end.
            high: Upper end.
        """
        return replace(self, low=low, high=high)

    def place(self, x: Tensor) -> tuple[Tensor, Tensor]:  # (n,) -> (n,), (n,)
        """Find the panels of points, and where on [-1, 1] they are there.

        Args:
            x: Points of the side.
        """
        t = (x - self.low) * (self.panels / (self.high - self.low))
        panel = t.floor().clamp(0, self.panels - 1)
        return panel.long(), 2 * (t - panel) - 1


def common_basis(
    low: float,
    high: float,
    weights: Tensor,  # (k,)
    exponents: Tensor,  # (k,)
    goal: float,
    *,
    period: float | None = None,
) -> Mode:
    """Find a basis in which all terms are exact to a goal, between all points of a side.

    Args:
        low: Lower end of the side.
        high: Upper end of the side.
        weights: Weights of the terms in the kernel, positive.
        exponents: Exponents of the terms, ascending.
        goal: Largest weighted error of all terms together.
        period: Sums the terms over images this far from each other.

    Raises:
        ValueError: If the terms are too sharp for the side.
    """
    length = high - low
    top = math.sqrt(float(exponents[-1]))
    m = int(4.7 * length * top * (1 + max(0.0, -math.log10(goal) - 9) / 20)) + 40
    m += 1 - m % 2
    if m > _LARGEST:
        raise ValueError(
            "`ChargeSum(cutoff=...)` must be at least about a seventieth of the longest side. Got "
            f"a side of {length:.4g} and Gaussians of width {math.sqrt(0.5) / top:.4g}. (Take a "
            "larger cutoff or sigma.)"
        )
    points = chebyshev.points(m, low, high, dtype=torch.float64)
    tables = gaussians(points, points, exponents, period)  # (k, m, m)
    series = torch.stack(
        [chebyshev.to_coefficients(chebyshev.to_coefficients(a).mT).mT for a in tables]
    )
    root = torch.ones(m, dtype=torch.float64)
    root[0] = math.sqrt(2)
    values, vectors = _by_parity(series * root[:, None] * root, weights)
    vectors = vectors / root[:, None]
    dual = vectors * root.square()[:, None]  # reads the coordinates of a series
    check = torch.linspace(low, high, max(_POINTS, 2 * m), dtype=torch.float64)
    few = torch.linspace(0, len(check) - 1, _FEW, dtype=torch.float64)
    few = few.round().long()  # both ends too
    exact = gaussians(check, check[few], exponents, period)
    panels = _panels(length * top, goal / float(weights.sum()))
    size, share = _size(values, 0.3 * goal), 0.01

    def largest(rows: Tensor, terms: Tensor, other: Tensor) -> float:
        return float(weights @ (rows @ terms @ rows[few].mT - other).abs().amax((1, 2)))

    for _ in range(_TRIES):
        basis, reader = vectors[:, :size], dual[:, :size]
        whole = reader.mT @ series @ reader
        narrowings, terms, wide = _narrowed(whole, weights, share * goal)
        local = _on_panels(basis, panels)
        rows = _values_on_panels(local, check, low, high)
        error = largest(rows, wide, exact)
        if error <= goal:
            break
        smooth = chebyshev.evaluate(2 * (check - low) / length - 1, basis)
        if largest(smooth, whole, exact) > 0.5 * goal:
            size = min(len(values), size + 1 + size // 16)
        if largest(rows, wide - whole, torch.zeros(())) > 0.2 * goal:
            share /= 3
        if largest(rows, whole, smooth @ whole @ smooth[few].mT) > 0.2 * goal:
            panels += max(1, panels // 8)
    return Mode(low, high, basis, local, narrowings, terms, error)


def _size(values: Tensor, goal: float) -> int:
    """How many of falling singular values leave less than a goal."""
    tails = values.square().flip(0).cumsum(0).flip(0).sqrt()
    return max(1, int((tails > goal).sum()))


def _narrowed(
    terms: Tensor, weights: Tensor, goal: float
) -> tuple[tuple[Tensor | None, ...], tuple[Tensor, ...], Tensor]:
    """Steps and terms from the sharpest on, and what the terms have become in the whole basis."""
    narrowings: list[Tensor | None] = []
    found: list[Tensor] = []
    wide: list[Tensor] = []
    lift = torch.eye(terms.shape[1], dtype=terms.dtype)
    for k in range(len(terms) - 1, -1, -1):
        values, vectors = _range(terms[: k + 1], weights)
        size = _size(values, goal)
        if found and size < _NARROWER * len(values):
            step = vectors[:, :size].contiguous()
            terms, lift = step.mT @ terms @ step, lift @ step
            narrowings.append(step)
        else:
            narrowings.append(None)
        found.append(terms[k].contiguous())
        wide.append(lift @ terms[k] @ lift.mT)
    return tuple(narrowings), tuple(found), torch.stack(wide[::-1])


def gaussians(
    x: Tensor,  # (n,)
    y: Tensor,  # (m,)
    exponents: Tensor,  # (k,)
    period: float | None,
) -> Tensor:  # (k, n, m)
    """Evaluate the terms between points, summed over images if there is a period.

    Args:
        x: Points.
        y: Others.
        exponents: Exponents of the terms.
        period: Distance of images.
    """
    d = x[:, None] - y
    if period is None:
        return torch.exp(-exponents[:, None, None] * d.square())
    found = []
    for e in exponents.tolist():
        total = torch.zeros_like(d)
        if e * period**2 > math.pi:  # narrow: image by image
            for n in range(math.ceil(math.sqrt(745 / e) / period) + 1):
                for s in {n, -n}:
                    total += torch.exp(-e * (d + s * period).square())
        else:  # wide: wave by wave, by Poisson's sum
            scale = math.sqrt(math.pi / e) / period
            for n in range(math.ceil(math.sqrt(745 * e) * period / math.pi) + 1):
                wave = scale * math.exp(-((math.pi * n / period) ** 2) / e)
                total += (2 if n else 1) * wave * torch.cos(2 * math.pi * n / period * d)
        found.append(total)
    return torch.stack(found)


def _range(terms: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Singular values and vectors of what the terms give, of some of them side by side."""
    n = len(terms)
    some = sorted({max(0, k) for k in (n - 1, n - 2, n // 2, n // 4)})
    joined = torch.cat([weights[k] * terms[k] for k in some], 1)
    left = torch.linalg.qr(joined.mT, mode="r").R.mT  # eigenvalues of squares would be too coarse
    u, values, _ = torch.linalg.svd(left)
    return values, u


def _by_parity(terms: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The same for even and odd series by themselves."""
    m = terms.shape[1]
    values, vectors = [], []
    for parity in (0, 1):
        found, inner = _range(terms[:, parity::2, parity::2], weights)
        outer = terms.new_zeros(m, len(found))
        outer[parity::2] = inner
        values.append(found)
        vectors.append(outer)
    joined = torch.cat(values)
    order = joined.argsort(descending=True)
    return joined[order], torch.cat(vectors, 1)[:, order]


def _panels(waves: float, relative: float) -> int:
    """How many panels the sharpest Gaussian needs, from its coefficient of degree 16."""
    half: float = 2 * (max(relative, 1e-15) * math.factorial(LOCAL // 2)) ** (1 / LOCAL)
    return max(1, math.ceil(waves / (2 * half)))


def _on_panels(basis: Tensor, panels: int) -> Tensor:  # (m, r) -> (panels, 16, r)
    t = chebyshev.points(LOCAL, dtype=torch.float64)
    middle = 2 * (torch.arange(panels, dtype=torch.float64) + 0.5) / panels - 1
    x = (middle[:, None] + t / panels).clamp(-1, 1)
    values = chebyshev.evaluate(x.flatten(), basis).reshape(panels, LOCAL, -1)
    return chebyshev.to_coefficients(values.transpose(0, 1)).transpose(0, 1).contiguous()


def _values_on_panels(local: Tensor, x: Tensor, low: float, high: float) -> Tensor:
    """Values of the basis as charges will have them."""
    t = (x - low) * (len(local) / (high - low))
    panel = t.floor().clamp(0, len(local) - 1)
    rows = chebyshev.rows(2 * (t - panel) - 1, LOCAL)
    return torch.einsum("kn,nkr->nr", rows, local[panel.long()])
