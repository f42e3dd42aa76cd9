"""How fast is a stencil without a matrix, and what does the exact inverse of the box save?

The pressure equation of a cube with a solid sphere (radius 0.15, closed sides, open top), the same
without the sphere, and with a coefficient that varies. Timed are one application of our operator
and of scipy's sparse matrix of it, and conjugate gradients to 1e-6 with and without
`box_preconditioner`, all solved by scipy with the matrix. Results agree before anything is timed.

The sides take turns; times are medians of process CPU time on one thread, with the allocator of the
C library told to keep memory.

    OMP_NUM_THREADS=1 python examples/benchmarks/stencil.py [--smoke] [--out FILE]
        [--size 64] [--repeats 15] [--float32]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from origin import origin, write
from scipy.sparse.linalg import cg

from tensornet.kernels import tune_allocator
from tensornet.pde import Grid, Problem, box_preconditioner, poisson

OPEN_TOP = ("neumann", "neumann", ("neumann", "dirichlet"))
CASES = ("box", "sphere", "sphere, coefficient varies")


def problem(case: str, n: int, dtype: torch.dtype) -> Problem:
    """Make one of `CASES`; the right side is white noise."""
    grid = Grid((n, n, n), spacing=1 / n)
    x, y, z = grid.centers()
    mask = (x - 0.5) ** 2 + (y - 0.5) ** 2 + (z - 0.5) ** 2 > 0.15**2
    source = torch.randn(n, n, n, generator=torch.Generator().manual_seed(4127))
    return poisson(
        grid, mask=None if case == "box" else mask, boundary=OPEN_TOP, source=source, dtype=dtype,
        coefficient=1 + x * y if "varies" in case else 1.0,
    )  # fmt: skip


def medians(jobs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Let the jobs take turns."""
    spent: dict[str, list[float]] = {name: [] for name in jobs}
    for repeat in range(repeats + 1):
        for name, job in jobs.items():
            begin = time.process_time()
            job()
            if repeat:
                spent[name].append(time.process_time() - begin)
    return {name: statistics.median(times) for name, times in spent.items()}


def applied(p: Problem, repeats: int) -> dict[str, Any]:
    """Time one application."""
    A, matrix, M = p.operator, p.operator.to_scipy_sparse(), box_preconditioner(p.operator)
    x = torch.randn(A.shape[0]).to(A.dtype)
    v = x.numpy()
    error = float(np.abs(A(x).numpy() - matrix @ v).max() / np.abs(matrix @ v).max())
    assert error < (1e-12 if A.dtype == torch.float64 else 1e-5), error
    jobs = {"ours": lambda: A(x), "sparse matrix": lambda: matrix @ v, "box": lambda: M(x)}
    return {"unknowns": len(v), "largest_difference": error, "seconds": medians(jobs, repeats)}


def solved(p: Problem) -> dict[str, Any]:
    """Count the iterations of conjugate gradients, and time them once."""
    matrix, b, found = p.operator.to_scipy_sparse(), p.rhs.numpy(), {}
    begin = time.process_time()
    M = box_preconditioner(p.operator).to_scipy()
    setup = time.process_time() - begin
    for name, inverse, cost in (("plain", None, 0.0), ("box", M, setup)):
        steps: list[int] = []
        begin = time.process_time()
        x, info = cg(matrix, b, rtol=1e-6, M=inverse, callback=lambda _, s=steps: s.append(1))
        seconds = time.process_time() - begin
        left = float(np.linalg.norm(b - matrix @ x) / np.linalg.norm(b))
        assert info == 0
        assert left < 1.1e-6, left
        found[name] = {
            "iterations": len(steps), "seconds": seconds, "setup_seconds": cost, "residual": left,
        }  # fmt: skip
    return found


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--float32", action="store_true")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    tune_allocator()
    n, repeats = (8, 1) if options.smoke else (options.size, options.repeats)
    dtype = torch.float32 if options.float32 else torch.float64
    rows = []
    for case in CASES:
        p = problem(case, n, dtype)
        row = {"case": case, "size": n, **applied(p, repeats), "cg": solved(p)}
        rows.append(row)
        words = ", ".join(f"{k} {1e3 * t:.2f} ms" for k, t in row["seconds"].items())
        counts = ", ".join(
            f"{k} {c['iterations']} iterations in {c['seconds']:.2f} s"
            for k, c in row["cg"].items()
        )
        print(f"{case}, {n}^3: {words}; cg: {counts}")
    content = {
        "what": "one application of an operator; conjugate gradients to 1e-6",
        "dtype": str(dtype).removeprefix("torch."),
        "smoke": options.smoke,
        "rows": rows,
        **origin(("torch", "numpy", "scipy", "numba")),
    }
    write(options.out, content)


if __name__ == "__main__":
    main()
