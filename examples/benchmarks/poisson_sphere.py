"""Which preconditioner solves a pressure equation soonest, and which one where coefficients jump?

Three problems on a cube: a solid sphere (radius 0.15, closed sides, open top); a pool (a wavy free
surface above a sphere); twenty spherical inclusions, 14 % of the volume, whose coefficient is 10^4
times that around them (values held at all sides). Right sides are white noise, the relative
residual of 1e-6 is checked with the sparse matrix.

All are solved by scipy's conjugate gradients with the same sparse matrix; only ``M`` differs. Our
preconditioners in our own loop, without a matrix, come last. Set-up and solution are timed apart,
and what Numba compiles is compiled before. Memory is what ``M`` holds, where it says so, and how
far the process grew from before the set-up to its peak (Linux only).

And a box of 1024^3 cells with right sides of low rank, in three formats.

Process CPU time on one thread, the best of a few repeats. pyamg is needed for its rows only.

    OMP_NUM_THREADS=1 python examples/benchmarks/poisson_sphere.py [--smoke] [--out FILE]
        [--sizes 64 128] [--repeats 2]
"""

import argparse
import ctypes
import importlib.util
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from origin import origin, write
from scipy.sparse.linalg import aslinearoperator, cg

from tensornet.formats import CP, TensorTrain, Tucker
from tensornet.kernels import tune_allocator
from tensornet.linalg import incomplete_cholesky, pcg
from tensornet.pde import (
    BoxPreconditioner,
    Grid,
    Multigrid,
    Problem,
    box_preconditioner,
    exponential_sum_inverse,
    multigrid,
    poisson,
    solve_low_rank,
)
from tensornet.testing.pressure import OPEN_TOP, around_a_sphere, inclusions, pool

CASES = ("sphere", "pool", "inclusions")
MOST = 1000  # iterations
HAS_PYAMG = importlib.util.find_spec("pyamg") is not None


def problem(case: str, n: int) -> Problem:
    """Make one of `CASES`."""
    grid = Grid((n, n, n), spacing=1 / n)
    source = torch.randn(n, n, n, generator=torch.Generator().manual_seed(4127))
    if case == "sphere":
        return poisson(grid, mask=around_a_sphere(n), boundary=OPEN_TOP, source=source)
    if case == "inclusions":
        return poisson(grid, coefficient=inclusions(n, 1e4), source=source)
    return poisson(pool(n), source=source)


def preconditioners(p: Problem, matrix: Any) -> dict[str, Callable[[], Any]]:
    """What is compared: each makes an ``M`` for scipy."""
    A = p.operator
    jobs: dict[str, Callable[[], Any]] = {
        "plain": lambda: None,
        "MIC(0)": lambda: _mic(matrix),
        "box": lambda: _ours(box_preconditioner(A)),
        "multigrid": lambda: _ours(multigrid(A)),
        "multigrid, single precision": lambda: _ours(multigrid(A, precision=torch.float32)),
    }
    if HAS_PYAMG:
        import pyamg

        amg = {"SA": pyamg.smoothed_aggregation_solver, "RS": pyamg.ruge_stuben_solver}
        for name, make in amg.items():
            jobs[f"pyamg {name}"] = partial(_hierarchy, make, matrix)
    return jobs


def _hierarchy(make: Any, matrix: Any) -> Any:
    """A V-cycle of pyamg, which remembers how large it is."""
    levels = make(matrix)
    found = levels.aspreconditioner(cycle="V")
    parts = [
        part
        for level in levels.levels
        for name in ("A", "P", "R")
        if (part := getattr(level, name, None)) is not None
    ]
    found.held = sum(part.data.nbytes + part.indices.nbytes + part.indptr.nbytes for part in parts)
    return found


def _mic(matrix: Any) -> Any:
    factor = incomplete_cholesky(matrix)
    found = aslinearoperator(factor)
    found.held = sum(a.nbytes for a in (*factor.L, *factor.U, factor.d))
    return found


def _ours(M: BoxPreconditioner | Multigrid) -> Any:
    found = M.to_scipy()
    found.held = M.n_bytes
    return found


def solved(p: Problem, repeats: int) -> dict[str, Any]:
    """Time every preconditioner in turn."""
    matrix, b = p.operator.to_scipy_sparse(), p.rhs.numpy()
    jobs = preconditioners(p, matrix)
    found: dict[str, Any] = {}
    for _ in range(repeats):
        for name, make in jobs.items():
            _keep(found, name, _by_scipy(matrix, b, make))
        for name, ours in (("box", box_preconditioner), ("multigrid", multigrid)):
            row = _by_us(p, matrix, partial(ours, p.operator))
            _keep(found, f"{name}, our loop without a matrix", row)
    return found


def _keep(found: dict[str, Any], name: str, row: dict[str, Any]) -> None:
    """Keep the faster of two rows."""
    assert row["residual"] < 1.1e-6 or not row["converged"], name
    assert row["converged"] or "multigrid" not in name, name
    if name not in found or row["seconds"] < found[name]["seconds"]:
        found[name] = row


def _by_scipy(matrix: Any, b: Any, make: Callable[[], Any]) -> dict[str, Any]:
    steps: list[int] = []
    before, begin = _memory(reset=True), time.process_time()
    M = make()
    between = time.process_time()
    x, info = cg(matrix, b, rtol=1e-6, maxiter=MOST, M=M, callback=lambda _: steps.append(1))
    times = begin, between, time.process_time()
    peak = _memory() - before
    return _row(times, len(steps), info == 0, matrix, b, x, getattr(M, "held", None), peak)


def _by_us(p: Problem, matrix: Any, make: Callable[[], Any]) -> dict[str, Any]:
    before, begin = _memory(reset=True), time.process_time()
    M = make()
    between = time.process_time()
    solution = pcg(p.operator, p.rhs, M=M, rtol=1e-6, maxiter=MOST)
    times = begin, between, time.process_time()
    peak, x = _memory() - before, solution.value.numpy()
    steps, good = solution.n_iterations, solution.converged
    return _row(times, steps, good, matrix, p.rhs.numpy(), x, M.n_bytes, peak)


def _row(
    times: tuple[float, float, float], steps: int, converged: bool, matrix: Any, b: Any, x: Any,
    held: int | None, peak: float,
) -> dict[str, Any]:  # fmt: skip
    begin, between, end = times
    return {
        "setup_seconds": between - begin, "solve_seconds": end - between, "seconds": end - begin,
        "iterations": steps, "converged": bool(converged),
        "residual": float(np.linalg.norm(b - matrix @ x) / np.linalg.norm(b)),
        "held_bytes": held, "peak_bytes": peak or None,
    }  # fmt: skip


def _memory(reset: bool = False) -> int:
    """Largest memory of this process since the last reset, zero where that is not told."""
    try:
        if reset:
            ctypes.CDLL(None).malloc_trim(0)  # what is free goes back first
            Path("/proc/self/clear_refs").write_text("5")
        words = Path("/proc/self/status").read_text().split()
    except (OSError, AttributeError):
        return 0
    return 1024 * int(words[words.index("VmHWM:") + 1])


def low_rank(n: int, repeats: int) -> dict[str, Any]:
    """Solve on a large box for right sides of low rank."""
    generator = torch.Generator().manual_seed(11)
    begin = time.process_time()
    inverse = exponential_sum_inverse(Grid((n, n, n), spacing=1 / n), tolerance=5e-8)
    found: dict[str, Any] = {"size": n, "setup_seconds": time.process_time() - begin}

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    given: dict[str, Any] = {
        "CP, rank 1": CP((noise(n, 1), noise(n, 1), noise(n, 1))),
        "Tucker, ranks 2": Tucker(noise(2, 2, 2), (noise(n, 2), noise(n, 2), noise(n, 2))),
        "tensor train, ranks 2": TensorTrain((noise(1, n, 2), noise(2, n, 2), noise(2, n, 1))),
    }
    for name, rhs in given.items():
        times = []
        for _ in range(repeats + 1):
            begin = time.process_time()
            u = solve_low_rank(inverse, rhs)
            times.append(time.process_time() - begin)
        residual = inverse.residual(u, rhs)
        assert residual < 1e-7, (name, residual)
        found[name] = {
            "solve_seconds": min(times), "residual": residual,
            "rank": u.rank if isinstance(u, CP) else list(u.ranks),
            "held_bytes": sum(8 * part.numel() for part in u.parts().values()),
        }  # fmt: skip
    return found


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    tune_allocator()
    sizes, repeats = ([8], 1) if options.smoke else (options.sizes, options.repeats)
    for case in CASES:
        solved(problem(case, 8), 1)  # compiles
    box = low_rank(64 if options.smoke else 1024, 5)
    for name, found in box.items():
        if isinstance(found, dict):
            print(
                f"{box['size']}^3, {name}: {1e3 * found['solve_seconds']:.1f} ms, residual "
                f"{found['residual']:.1e}"
            )
    content: dict[str, Any] = {
        "what": "conjugate gradients to 1e-6 by preconditioner; a box in formats of low rank",
        "smoke": options.smoke,
        "rows": [],
        "low_rank": box,
        **origin(("torch", "numpy", "scipy", "numba", *(["pyamg"] if HAS_PYAMG else []))),
    }
    for n in sizes:
        for case in CASES:
            p = problem(case, n)
            row: dict[str, Any] = {
                "case": case,
                "size": n,
                "unknowns": len(p.rhs),
                "by": solved(p, repeats),
            }
            content["rows"].append(row)
            print(f"{case}, {n}^3, {len(p.rhs)} unknowns")
            for name, found in row["by"].items():
                print(
                    f"  {name:38s} {found['iterations']:4d} iterations, set-up "
                    f"{found['setup_seconds']:.3f} s, solution {found['solve_seconds']:.3f} s, "
                    f"{(found['held_bytes'] or 0) / 1e6:.0f} MB, peak "
                    f"{(found['peak_bytes'] or 0) / 1e6:.0f} MB"
                    f"{'' if found['converged'] else ', not converged'}"
                )
            write(options.out, content)  # what is done is kept if the rest takes too long


if __name__ == "__main__":
    main()
