"""How few evaluations, how small ranks and how fast are functions in Chebyshev-Tucker form?

Four tables. Evaluation at 4096 points against numpy's `chebval`, with taking turns and agreement
checked first; black-box functions with their number of evaluations; the smooth part of 1 / r; the
smooth part of the potential of many charges, random or in a blob like a protein.

Times are CPU time of one thread, since other work may share the core.

    OMP_NUM_THREADS=1 python examples/benchmarks/chebyshev.py [--smoke] [--out FILE]
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.special
import torch
from numpy.polynomial.chebyshev import chebval
from origin import origin, write
from torch import Tensor

from tensornet.formats import (
    ChebyshevTucker,
    chebyshev,
    chebyshev_tucker,
    exponential_sum,
    gaussian_sum,
)

CUBE = ((-1.0, 1.0),) * 3
NOTE = (
    "Numbers of others on these problems are published for MATLAB codes and, for the "
    "biomolecule, for the authors' own data, which were not available: here the charges are "
    "drawn by the generator in this script (a blob with a minimum distance, normally "
    "distributed partial charges), the kernel is our own sinc quadrature in place of theirs, "
    "and the box is [-1, 1]^3. Ranks and errors are comparable in kind, not the same "
    "experiment. No number of others is in this file."
)


def square(x: Tensor) -> Tensor:
    """Squared distance from the middle."""
    return x.square().sum(1)


def erf_over_r(x: Tensor) -> Tensor:
    """A screened potential, smooth in the middle."""
    r = square(x).sqrt().clamp(min=1e-12)
    return torch.erf(5 * r) / r


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "1/(1+25r2)": lambda x: 1 / (1 + 25 * square(x)),
    "1/cosh2(3(x+y+z))": lambda x: 1 / torch.cosh(3 * x.sum(1)) ** 2,
    "exp(sin(x+2y+3z))+yz": lambda x: (
        torch.exp(torch.sin(x[:, 0] + 2 * x[:, 1] + 3 * x[:, 2])) + x[:, 1] * x[:, 2]
    ),
    "erf(5r)/r": erf_over_r,
    "1/(1+r2)": lambda x: 1 / (1 + square(x)),
    "J0(10r)": lambda x: torch.from_numpy(scipy.special.j0(10 * square(x).sqrt().numpy())),
    "1/(x+y+z+3.3)": lambda x: 1 / (x.sum(1) + 3.3),
    "exp(xyz)": lambda x: torch.exp(x.prod(1)),
    "100/(1+100r2)": lambda x: 100 / (1 + 100 * square(x)),
    "exp(-2|x-c|), c off the box": lambda x: torch.exp(
        -2 * (x - torch.tensor([1.2, 1.1, 1.3])).square().sum(1).sqrt()
    ),
    "tanh(5(x+z))exp(y)": lambda x: torch.tanh(5 * (x[:, 0] + x[:, 2])) * torch.exp(x[:, 1]),
}


def medians(candidates: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Let the candidates take turns; seconds of CPU time."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for repeat in range(repeats + 3):
        for name, candidate in candidates.items():
            begin = time.process_time()
            candidate()
            if repeat >= 3:
                times[name].append(time.process_time() - begin)
    return {name: statistics.median(values) for name, values in times.items()}


def evaluation(n: int, m: int, ranks: tuple[int, ...], repeats: int) -> list[dict[str, Any]]:
    """Series alone, and values of a whole function, against numpy."""
    rows = []
    for r in ranks:
        x = 2 * torch.rand(n, 3) - 1
        f = ChebyshevTucker(torch.randn(r, r, r), tuple(torch.randn(m, r) for _ in range(3)), CUBE)
        arrays = x.numpy(), [c.numpy() for c in f.coefficients], f.core.numpy()

        def series(x: Tensor = x, f: ChebyshevTucker = f) -> Tensor:
            return chebyshev.evaluate(x[:, 0].contiguous(), f.coefficients[0])

        def by_chebval(a: Any = arrays) -> Any:
            return chebval(a[0][:, 0], a[1][0]).T

        def whole_by_chebval(a: Any = arrays, r: int = r) -> Any:
            u, v, w = (chebval(a[0][:, k], a[1][k]).T for k in range(3))
            first = (u @ a[2].reshape(r, -1)).reshape(-1, r, r)
            return ((v[:, None] @ first)[:, 0] * w).sum(1)

        for what, ours, theirs in (
            ("one variable", series, by_chebval),
            ("value, three variables with the core", lambda f=f, x=x: f.value(x), whole_by_chebval),
        ):
            expected = torch.from_numpy(theirs())
            error = float((ours() - expected).abs().max() / expected.abs().max())
            assert error < 1e-11, error
            seconds = medians({"ours": ours, "numpy chebval": theirs}, repeats)
            ratio = seconds["numpy chebval"] / seconds["ours"]
            rows.append({"what": what, "points": n, "m": m, "r": r, "seconds": seconds,
                         "ratio": ratio, "largest_difference": error})  # fmt: skip
    return rows


def black_boxes(names: list[str], tolerances: tuple[float, ...]) -> list[dict[str, Any]]:
    """Count evaluations, and measure errors anywhere and near the middle."""
    rows = []
    for tolerance in tolerances:
        for name in names:
            f = FUNCTIONS[name]
            begin = time.process_time()
            found = chebyshev_tucker(f, CUBE, tolerance=tolerance)
            seconds = time.process_time() - begin
            x = 2 * torch.rand(10_000, 3) - 1
            x[8000:] *= 0.03
            exact = f(x)
            error = float((found.value.value(x) - exact).abs().max() / exact.abs().max())
            rows.append({
                "function": name, "tolerance": tolerance, "evaluations": found.n_evaluations,
                "error": error, "reported_error": found.relative_error,
                "interpolation_error": found.interpolation_error,
                "truncation_error": found.truncation_error, "converged": found.converged,
                "ranks": found.value.ranks, "shape": found.value.shape, "seconds": seconds,
            })  # fmt: skip
    return rows


def newton(n: int, degrees: tuple[int, ...]) -> list[dict[str, Any]]:
    """Smooth part of 1 / r on an n³ grid of cell centres, error on the middle slice.

    It ends at the exponent 0.11 n, as smooth as the published one is by its errors at m = 129.
    """
    kernel = exponential_sum("coulomb", 1 / n, math.sqrt(3), tolerance=1e-7)
    smooth, _ = kernel.split(0.11 * n)
    w, e, long = smooth.weights, smooth.exponents, len(smooth.weights)
    x = (torch.arange(n) + 0.5) * 2 / n - 1
    sides = torch.exp(-e * x[:, None] ** 2)
    exact = (sides * w * torch.exp(-e * x[n // 2] ** 2)) @ sides.T
    rows = []
    for m in degrees:
        found = gaussian_sum(w, e, torch.zeros(long, 3), CUBE, degrees=m - 1, tolerance=1e-8)
        slice_ = found.value.on_grid([x, x, x[n // 2 : n // 2 + 1]]).to_dense()[:, :, 0]
        error = float((slice_ - exact).abs().max() / exact.abs().max())
        rows.append({"n": n, "terms": len(kernel.weights), "long_range_terms": long, "m": m,
                     "tolerance": 1e-8, "largest_exponent": float(e[-1]), "error": error,
                     "ranks": found.value.ranks})  # fmt: skip
    return rows


def charges(n: int, sigma: float, m: int) -> dict[str, Any]:
    """Random charges of both signs; errors of potential and force at 500 random points."""
    rng = np.random.default_rng(0)
    x, q = torch.tensor(rng.uniform(-0.7, 0.7, (n, 3))), torch.tensor(rng.choice([-1.0, 1.0], n))
    kernel = exponential_sum("coulomb", 1 / 1024, 2 * math.sqrt(3), tolerance=1e-7)
    terms = kernel.split(1 / (2 * sigma**2))[0].about(q, x)
    points = torch.tensor(rng.uniform(-1, 1, (500, 3)))
    return {"particles": n, "sigma": sigma, **potential(terms, points, m, 1e-10)}


def blob(n: int, m: int) -> dict[str, Any]:
    """Partial charges in a blob with a minimum distance; error on the middle slice, n = 256.

    The smooth part ends at the exponent 200: there 65 coefficients leave an error above 1e-4, so
    that it is no smoother than the published potential, as far as its errors tell.
    """
    rng = np.random.default_rng(1)
    found: list[Any] = []
    while len(found) < n:
        p = rng.uniform(-0.55, 0.55, 3)
        rough = 0.45 + 0.1 * math.sin(5 * p[0] + 3 * p[1]) * math.cos(4 * p[2])
        apart = all(((p - other) ** 2).sum() > 0.05**2 for other in found)
        if (p * p / np.array([1, 0.8, 1.2])).sum() < rough**2 and apart:
            found.append(p)
    q = torch.tensor(rng.normal(0, 0.4, n))
    kernel = exponential_sum("coulomb", 1 / 256, 2 * math.sqrt(3), tolerance=1e-7)
    long, _ = kernel.split(200.0)
    terms = long.about(q, torch.tensor(np.array(found)))
    grid = (torch.arange(256) + 0.5) / 128 - 1
    points = torch.cartesian_prod(grid[::4], grid[::4], grid[128:129])
    rows = {"particles": n, "largest_exponent": float(long.exponents[-1])}
    return {**rows, **potential(terms, points, m, 1e-7)}


def potential(
    terms: tuple[Tensor, Tensor, Tensor], points: Tensor, m: int, tolerance: float
) -> dict[str, Any]:
    """Compute the function of a sum of Gaussians, and its errors against the sum."""
    w, e, c = terms
    begin = time.process_time()
    f = gaussian_sum(w, e, c, CUBE, degrees=m - 1, tolerance=tolerance).value
    seconds = time.process_time() - begin
    exact, slope = [], []
    for p in points.split(250):
        apart = p[:, None] - c
        each = w * torch.exp(-e * apart.square().sum(2))
        exact.append(each.sum(1))
        slope.append(-2 * torch.einsum("nr,r,nrk->nk", each, e, apart))
    v, g = torch.cat(exact), torch.cat(slope)
    error = float((f.value(points) - v).abs().max())
    return {
        "terms": len(w), "m": m, "tolerance": tolerance, "ranks": f.ranks,
        "ranks_after_rounding": {str(t): f.round(tolerance=t).ranks for t in (1e-3, 1e-5, 1e-7)},
        "largest_value": float(v.abs().max()), "absolute_error": error,
        "potential_error": error / float(v.abs().max()),
        "force_error": float((f.gradient(points) - g).abs().max() / g.abs().max()),
        "seconds": seconds,
    }  # fmt: skip


def main() -> None:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few seconds: tells nothing")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(65537)
    smoke = arguments.smoke
    tables = {
        "evaluation": evaluation(*((64, 9, (2,), 3) if smoke else (4096, 65, (1, 4, 24, 48), 9))),
        "black_boxes": black_boxes(["exp(xyz)"] if smoke else list(FUNCTIONS),
                                   (1e-4,) if smoke else (1e-4, 1e-8, 2e-13)),
        "newton_long_range": [row for n in ((64,) if smoke else (256, 512, 1024, 2048, 4096))
                              for row in newton(n, (33,) if smoke else (129, 257, 513))],
        "charges": [charges(4, 0.4, 33)] if smoke else [charges(n, s, m) for s, m in
                    ((0.1, 65), (0.05, 129)) for n in (50, 200, 800)],
        "blob": [blob(5, 33)] if smoke else [blob(500, m) for m in (33, 65, 129)],
    }  # fmt: skip
    for name, rows in tables.items():
        print(name)
        for row in rows:
            print("  ", {k: f"{v:.2e}" if isinstance(v, float) else v for k, v in row.items()})
    clock = "CPU seconds of one thread (process_time), medians of interleaved rounds"
    head = {**origin(("torch", "numpy", "scipy")), "smoke": smoke, "clock": clock, "note": NOTE}
    write(arguments.out, {**head, **tables})


if __name__ == "__main__":
    main()
