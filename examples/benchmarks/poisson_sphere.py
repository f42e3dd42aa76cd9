"""Which preconditioner solves the pressure equation around a solid sphere soonest?

The pressure equation of a cube with a solid sphere (radius 0.15, closed sides, open top) and of a
pool (a wavy free surface above a sphere), right sides of white noise, to a relative residual of
1e-6 that is checked with the sparse matrix. All are solved by scipy's conjugate gradients with the
same sparse matrix; only ``M`` differs. Our operator in our own loop comes last. Set-up of ``M``
and solution are timed apart, and so is what Numba compiles, which is done before. Memory is what
``M`` holds, where it says so.

And a box of 1024^3 cells with a right side of rank one, in the CP format.

Process CPU time on one thread, the best of a few repeats. pyamg is needed for its rows only.

    OMP_NUM_THREADS=1 python examples/benchmarks/poisson_sphere.py [--smoke] [--out FILE]
        [--sizes 64 128] [--repeats 2]
"""

import argparse
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

from tensornet.formats import CP
from tensornet.kernels import tune_allocator
from tensornet.linalg import incomplete_cholesky, pcg
from tensornet.pde import (
    Domain,
    Grid,
    Problem,
    StencilOperator,
    box_preconditioner,
    exponential_sum_inverse,
    multigrid,
    poisson,
    solve_low_rank,
)

CASES = ("sphere", "pool")
HAS_PYAMG = importlib.util.find_spec("pyamg") is not None


def problem(case: str, n: int) -> Problem:
    """Make one of `CASES`."""
    grid = Grid((n, n, n), spacing=1 / n)
    x, y, z = grid.centers()
    source = torch.randn(n, n, n, generator=torch.Generator().manual_seed(4127))
    if case == "sphere":
        mask = (x - 0.5) ** 2 + (y - 0.5) ** 2 + (z - 0.5) ** 2 > 0.15**2
        top = ("neumann", "neumann", ("neumann", "dirichlet"))
        return poisson(grid, mask=mask, boundary=top, source=source)
    water = z < 0.55 + 0.08 * torch.sin(6 * x) * torch.cos(5 * y)
    solid = (x - 0.5) ** 2 + (y - 0.5) ** 2 + (z - 0.25) ** 2 < 0.15**2
    domain = Domain(
        grid, mask=water & ~solid, air=~water & ~solid, boundary="neumann", drop_isolated=True
    )
    return poisson(domain, source=source)


def preconditioners(p: Problem, matrix: Any) -> dict[str, Callable[[], Any]]:
    """What is compared: each makes an ``M`` for scipy."""
    A = p.operator
    jobs: dict[str, Callable[[], Any]] = {
        "plain": lambda: None,
        "MIC(0)": lambda: _mic(matrix),
        "box": lambda: _box(A),
        "multigrid": lambda: _multigrid(A, torch.float64),
        "multigrid, single precision": lambda: _multigrid(A, torch.float32),
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


def _box(A: StencilOperator) -> Any:
    M = box_preconditioner(A)
    found = M.to_scipy()
    found.held = sum(a.nbytes for a in (*M._bases, M._inverse))
    return found


def _multigrid(A: StencilOperator, precision: torch.dtype) -> Any:
    M = multigrid(A, precision=precision)
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
            steps: list[int] = []
            begin = time.process_time()
            M = make()
            between = time.process_time()
            x, info = cg(matrix, b, rtol=1e-6, M=M, callback=lambda _, s=steps: s.append(1))
            end = time.process_time()
            _check(matrix, b, x, name, info == 0)
            row = {
                "setup_seconds": between - begin, "solve_seconds": end - between,
                "seconds": end - begin, "iterations": len(steps), "held_bytes": _held(M),
            }  # fmt: skip
            if name not in found or row["seconds"] < found[name]["seconds"]:
                found[name] = row
        begin = time.process_time()
        ours = multigrid(p.operator)
        between = time.process_time()
        solution = pcg(p.operator, p.rhs, M=ours, rtol=1e-6)
        end = time.process_time()
        _check(matrix, b, solution.value.numpy(), "pcg", solution.converged)
        row = {
            "setup_seconds": between - begin, "solve_seconds": end - between,
            "seconds": end - begin, "iterations": solution.n_iterations, "held_bytes": ours.n_bytes,
        }  # fmt: skip
        name = "multigrid, our loop without a matrix"
        if name not in found or row["seconds"] < found[name]["seconds"]:
            found[name] = row
    return found


def _check(matrix: Any, b: Any, x: Any, name: str, converged: bool) -> None:
    left = float(np.linalg.norm(b - matrix @ x) / np.linalg.norm(b))
    assert converged, name
    assert left < 1.1e-6, (name, left)


def _held(M: Any) -> int | None:
    held = getattr(M, "held", None)
    return None if held is None else int(held)


def low_rank(n: int, repeats: int) -> dict[str, Any]:
    """Solve on a large box for a right side of rank one."""
    generator = torch.Generator().manual_seed(11)
    begin = time.process_time()
    inverse = exponential_sum_inverse(Grid((n, n, n), spacing=1 / n), tolerance=5e-8)
    setup = time.process_time() - begin
    rhs = CP(tuple(torch.randn(n, 1, generator=generator, dtype=torch.float64) for _ in range(3)))
    times = []
    for _ in range(repeats + 1):
        begin = time.process_time()
        u = solve_low_rank(inverse, rhs)
        times.append(time.process_time() - begin)
    residual = inverse.residual(u, rhs)
    assert residual < 1e-7, residual
    return {
        "size": n, "rank": u.rank, "setup_seconds": setup, "solve_seconds": min(times),
        "residual": residual, "held_bytes": sum(8 * part.numel() for part in u.parts().values()),
    }  # fmt: skip


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
    warm = problem("sphere", 8)  # compiles
    solved(warm, 1)
    rows: list[dict[str, Any]] = []
    for n in sizes:
        for case in CASES:
            p = problem(case, n)
            row: dict[str, Any] = {
                "case": case,
                "size": n,
                "unknowns": len(p.rhs),
                "by": solved(p, repeats),
            }
            rows.append(row)
            print(f"{case}, {n}^3, {len(p.rhs)} unknowns")
            for name, found in row["by"].items():
                print(
                    f"  {name:38s} {found['iterations']:4d} iterations, set-up "
                    f"{found['setup_seconds']:.3f} s, solution {found['solve_seconds']:.3f} s, "
                    f"{(found['held_bytes'] or 0) / 1e6:.0f} MB"
                )
    box = low_rank(64 if options.smoke else 1024, 5)
    print(
        f"{box['size']}^3 in CP: rank {box['rank']}, {1e3 * box['solve_seconds']:.1f} ms, "
        f"residual {box['residual']:.1e}"
    )
    content = {
        "what": "conjugate gradients to 1e-6 by preconditioner; a box in the CP format",
        "smoke": options.smoke,
        "rows": rows,
        "low_rank": box,
        **origin(("torch", "numpy", "scipy", "numba", *(["pyamg"] if HAS_PYAMG else []))),
    }
    write(options.out, content)


if __name__ == "__main__":
    main()
