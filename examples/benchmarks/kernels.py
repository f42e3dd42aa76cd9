"""How fast are the kernels on the CPU, beside torch and NumPy on the same numbers?

Chebyshev series against `numpy.polynomial.chebyshev.chebval` and against two other ways to compute
them: Clenshaw's recurrence over blocks of 64 points in Numba, and polynomials by recurrence times
the coefficients by torch's matrix product, in blocks. The core contraction, its gradient and the
step through a train against the usual torch formulations. MTTKRP has no kernel: a fused one lost to
one torch product with the Khatri-Rao factor, which the last rows compare with two products.

Candidates of an operation agree before they are timed, take turns, and are compared by medians of
process CPU time on one thread; a row's `ratio` is the first candidate's median over its own.

    OMP_NUM_THREADS=1 python examples/benchmarks/kernels.py [--smoke] [--out FILE]
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from origin import origin, write
from torch import Tensor

from tensornet.kernels import chain_step, chebyshev_rows, tucker_points

Candidates = dict[str, Callable[[], Tensor]]
BLOCK = 64


@numba.njit(fastmath={"contract", "nsz"})
def clenshaw(x, c, out):  # type: ignore[no-untyped-def]
    """Fill `out` column by column, the points of a block in the inner loop."""
    m, r = c.shape
    last, now, twice = np.empty(BLOCK, x.dtype), np.empty(BLOCK, x.dtype), np.empty(BLOCK, x.dtype)
    for start in range(0, len(x), BLOCK):
        width = min(BLOCK, len(x) - start)
        for j in range(width):
            twice[j] = x[start + j] + x[start + j]
        for q in range(r):
            for j in range(width):
                last[j] = now[j] = 0
            for k in range(m - 1, 0, -1):
                factor = c[k, q]
                for j in range(width):
                    after = twice[j] * now[j] + (factor - last[j])
                    last[j] = now[j]
                    now[j] = after
            for j in range(width):
                out[start + j, q] = x[start + j] * now[j] + (c[0, q] - last[j])


@numba.njit(fastmath={"contract", "nsz"})
def polynomials(x, rows):  # type: ignore[no-untyped-def]
    """Fill one row per polynomial."""
    for j in range(len(x)):
        rows[0, j] = 1
        rows[1, j] = x[j]
    for k in range(2, len(rows)):
        for j in range(len(x)):
            rows[k, j] = (x[j] + x[j]) * rows[k - 1, j] - rows[k - 2, j]


def series(n: int, m: int, r: int, dtype: torch.dtype) -> Candidates:
    """Give the ways to evaluate series of m terms in r columns."""
    x, c = torch.rand(n, dtype=dtype) * 2 - 1, torch.randn(m, r, dtype=dtype)
    points, coefficients = x.numpy(), c.numpy()
    size = 256

    def by_clenshaw() -> Tensor:
        out = torch.empty(n, r, dtype=dtype)
        clenshaw(points, coefficients, out.numpy())
        return out

    def by_product() -> Tensor:
        out, rows = torch.empty(n, r, dtype=dtype), torch.empty(m, size, dtype=dtype)
        for start in range(0, n, size):
            polynomials(points[start : start + size], rows.numpy())
            torch.mm(rows.T, c, out=out[start : start + size])
        return out

    return {
        "numpy chebval": lambda: torch.from_numpy(
            np.polynomial.chebyshev.chebval(points, coefficients).T.copy()
        ),
        "blocked Clenshaw": by_clenshaw,
        "recurrence and product": by_product,
        "kernel": lambda: chebyshev_rows(x, c),
    }


def core_at_points(n: int, r: int, dtype: torch.dtype, *, gradient: bool) -> Candidates:
    """Give the ways to contract a core of side r at n points, or also its slopes there."""
    core = torch.randn(r, r, r, dtype=dtype)
    vectors = [torch.randn(n, r, dtype=dtype, requires_grad=gradient) for _ in range(3)]

    def by_torch(core: Tensor, u: Tensor, v: Tensor, w: Tensor) -> Tensor:
        sheets = (u @ core.flatten(1)).view(n, r, r)
        return ((sheets @ w[:, :, None])[..., 0] * v).sum(1)

    def run(function: Callable[..., Tensor]) -> Tensor:
        value = function(core, *vectors)
        if not gradient:
            return value
        return torch.cat(torch.autograd.grad(value.sum(), vectors), 1)

    return {"torch": lambda: run(by_torch), "kernel": lambda: run(tucker_points)}


def step(n: int, r: int, d: int, dtype: torch.dtype) -> Candidates:
    """Give the ways to take n vectors through a core."""
    left, core = torch.randn(n, r, dtype=dtype), torch.randn(r, d, r, dtype=dtype)
    index = torch.randint(d, (n,))
    return {
        "torch einsum": lambda: torch.einsum("nr,rnq->nq", left, core.index_select(1, index)),
        "torch bmm": lambda: (left[:, None] @ core.movedim(1, 0)[index])[:, 0],
        "kernel": lambda: chain_step(left, core, index),
    }


def mttkrp(d: int, r: int, dtype: torch.dtype) -> Candidates:
    """Give the ways to contract two modes of a cube with the factors of these modes."""
    x = torch.randn(d, d, d, dtype=dtype)
    v, w = torch.randn(d, r, dtype=dtype), torch.randn(d, r, dtype=dtype)
    return {
        "torch, two products": lambda: ((x.view(d * d, d) @ w).view(d, d, r) * v).sum(1),
        "torch, Khatri-Rao": lambda: x.view(d, d * d) @ (v[:, None] * w).view(d * d, r),
    }


def operations(smoke: bool) -> Iterator[tuple[str, dict[str, Any], Candidates]]:
    """Give name, sizes and candidates of everything that is timed."""
    n, both = (256, (torch.float64,)) if smoke else (4096, (torch.float64, torch.float32))
    for dtype in both:
        for r in (1, 9) if smoke else (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 32, 40, 48):
            yield "Chebyshev series", {"n": n, "m": 65, "r": r}, series(n, 65, r, dtype)
        for r in (5,) if smoke else (5, 10, 17, 24, 40):
            for gradient in (False, True):
                name = "core at points" + (" and gradient" if gradient else "")
                yield name, {"n": n, "r": r}, core_at_points(n, r, dtype, gradient=gradient)
        for count, r, d in (
            ((64, 4, 5),) if smoke else ((64, 10, 32), (512, 24, 20), (n, 8, 20), (n, 24, 20))
        ):
            yield "step through a train", {"n": count, "r": r, "d": d}, step(count, r, d, dtype)
        for d, r in ((8, 3),) if smoke else ((100, 10), (100, 32)):
            yield "MTTKRP (no kernel)", {"d": d, "r": r}, mttkrp(d, r, dtype)


def measure(candidates: Candidates, repeats: int) -> dict[str, dict[str, float]]:
    """Check agreement, then let the candidates take turns."""
    results = {name: run().double() for name, run in candidates.items()}
    first = next(iter(results.values()))
    scale = float(first.abs().max())
    errors = {name: float((r - first).abs().max()) / scale for name, r in results.items()}
    assert max(errors.values()) < 1e-4, errors
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, run in candidates.items():
            calls, begin = 0, time.process_time()
            while calls < 2 or time.process_time() - begin < 0.002:
                run()
                calls += 1
            times[name].append((time.process_time() - begin) / calls)
    medians = {name: statistics.median(values) for name, values in times.items()}
    reference = next(iter(medians.values()))
    return {
        name: {"seconds": s, "ratio": reference / s, "largest_difference": errors[name]}
        for name, s in medians.items()
    }


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few seconds: tells nothing")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(65537)
    repeats = 2 if arguments.smoke else 9
    rows = []
    for name, sizes, candidates in operations(arguments.smoke):
        some = next(iter(candidates.values()))()
        dtype = str(some.dtype).removeprefix("torch.")
        for candidate, found in measure(candidates, repeats).items():
            rows.append({
                "operation": name, "dtype": dtype, **sizes, "candidate": candidate, **found
            })  # fmt: skip
            words = f"{name:28} {dtype:8} {sizes!s:32} {candidate:24}"
            print(f"{words} {1e6 * found['seconds']:9.0f} us {found['ratio']:7.2f}")
    notes = {"time": "process CPU time, one thread, medians of interleaved rounds"}
    versions = origin(("torch", "numpy", "numba"))
    content = {**versions, **notes, "repeats": repeats, "smoke": arguments.smoke, "rows": rows}
    write(arguments.out, content)


if __name__ == "__main__":
    main()
