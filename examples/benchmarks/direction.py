"""Directions of a trained network beside classical preconditioners, on problems not trained on.

Pressure equations on masks that the network in ``models/direction-poisson-3d`` has not seen (a
sphere in an open box, random balls, a pool with a free surface), to a relative residual of 1e-4 as
in the paper on deep conjugate directions. All run in the same loop with the same operator; only
``M`` differs. Set-up of ``M``, solution and training are told apart, and so is what Numba compiles,
which is done before. Break-even is after how many solutions the training has paid, beside a
method.

Process CPU time on one thread, the best of a few repeats. pyamg is needed for its rows only.

    OMP_NUM_THREADS=1 python examples/benchmarks/direction.py [--smoke] [--out FILE]
        [--sizes 32 64 128] [--repeats 2]
"""

import argparse
import importlib.util
import json
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import torch
from direction_problems import problem
from origin import origin, write

from tensornet.kernels import tune_allocator
from tensornet.linalg import cg, deep_conjugate_direction, incomplete_cholesky, pcg
from tensornet.models import DirectionNet
from tensornet.pde import Problem, box_preconditioner, multigrid

CASES = ("sphere", "balls", "pool")
MODEL = Path(__file__).parents[2] / "models" / "direction-poisson-3d"
HAS_PYAMG = importlib.util.find_spec("pyamg") is not None
TOLERANCE, SEED = 1e-4, 77
LEARNED = "learned directions"
TIMES = ("setup_seconds", "solve_seconds", "seconds")


def preconditioners(p: Problem, net: DirectionNet) -> dict[str, Callable[[], Any]]:
    """What is compared: each makes an ``M``."""
    A = p.operator
    jobs: dict[str, Callable[[], Any]] = {
        "conjugate gradients": lambda: None,
        "MIC(0)": lambda: incomplete_cholesky(A.to_scipy_sparse()),
        "multigrid": lambda: multigrid(A),
        "box": lambda: box_preconditioner(A),
        LEARNED: lambda: net.bind(A),
        "learned, pcg": lambda: net.bind(A),
        "the same, before training": lambda: DirectionNet(**net.config).bind(A),
    }
    if HAS_PYAMG:
        import pyamg

        jobs |= {
            "pyamg SA": lambda: pyamg.smoothed_aggregation_solver(
                A.to_scipy_sparse()
            ).aspreconditioner(cycle="V"),
            "pyamg RS": lambda: pyamg.ruge_stuben_solver(A.to_scipy_sparse()).aspreconditioner(
                cycle="V"
            ),
        }
    return jobs


def solved(p: Problem, net: DirectionNet, repeats: int) -> dict[str, Any]:
    """Time every preconditioner in turn."""
    A, b, found = p.operator, p.rhs, dict[str, Any]()
    for _ in range(repeats):
        for name, make in preconditioners(p, net).items():
            begin = time.process_time()
            M = make()
            between = time.process_time()
            if M is None:
                solution = cg(A, b, rtol=TOLERANCE)
            elif name == LEARNED:
                solution = deep_conjugate_direction(A, b, M, tolerance=TOLERANCE)
            else:
                solution = pcg(A, b, rtol=TOLERANCE, M=M)
            end = time.process_time()
            left = float((b - A(solution.value)).norm() / b.norm())
            assert solution.converged, (name, solution.message)
            assert left < 1.001 * TOLERANCE, (name, left)
            times = (between - begin, end - between, end - begin)
            row = {
                **{k: round(t, 3) for k, t in zip(TIMES, times, strict=True)},
                "iterations": solution.n_iterations,
            }
            if name not in found or row["seconds"] < found[name]["seconds"]:
                found[name] = row
    return found


def break_even(by: dict[str, Any], training: float) -> dict[str, float | None]:
    """Solutions after which the training has paid, with a set-up for each."""
    ours, found = by[LEARNED]["seconds"], {}
    for name, row in by.items():
        saved = row["seconds"] - ours
        found[name] = training / saved if saved > 0 else None
    return {name: n for name, n in found.items() if name != LEARNED}


def counted(net: DirectionNet, case: str, size: int, side: str) -> dict[str, Any]:
    """Count iterations to 1e-4 and 1e-6."""
    p = problem(case, size, side, seed=SEED)
    M, row = net.bind(p.operator), {"case": case, "size": size, "side": side}
    for tolerance in (1e-4, 1e-6):
        found = deep_conjugate_direction(p.operator, p.rhs, M, tolerance=tolerance)
        assert found.converged
        row[f"{tolerance:.0e}"] = found.n_iterations
    return row


def told(row: dict[str, Any]) -> str:
    """A row in words."""
    lines = [f"{row['case']}, {row['size']}^3, {row['unknowns']} unknowns"]
    lines += [
        f"  {name:26s} {found['iterations']:4d} iterations, set-up "
        f"{found['setup_seconds']:.3f} s, solution {found['solve_seconds']:.3f} s"
        for name, found in row["by"].items()
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    tune_allocator()
    sizes, repeats = ([8], 1) if options.smoke else (options.sizes, options.repeats)
    net = DirectionNet.load(MODEL / "model.safetensors")
    made = json.loads((MODEL / "results.json").read_text(encoding="utf-8"))
    content: dict[str, Any] = {
        "what": "conjugate gradients to 1e-4 by preconditioner, beside learned directions",
        "note": "seconds of the rows are rounded to milliseconds",
        "smoke": options.smoke,
        "training_seconds": made["training"]["seconds"],
        "iterations": [],
        "rows": [],
        **origin(("torch", "numpy", "scipy", "numba", *(["pyamg"] if HAS_PYAMG else []))),
    }
    for size, case, side in product(sizes, CASES, ("noise", "plume")):
        content["iterations"].append(counted(net, case, size, side))
        print(content["iterations"][-1], flush=True)
    for case in CASES:
        solved(problem(case, 8, seed=SEED), net, 1)  # compiles
    for size, case in product(sizes, CASES):
        p = problem(case, size, seed=SEED)
        by = solved(p, net, 1 if size > 64 else repeats)
        row = {"case": case, "size": size, "unknowns": len(p.rhs), "by": by}
        row["solutions_to_break_even"] = break_even(by, content["training_seconds"])
        content["rows"].append(row)
        print(told(row), flush=True)
        write(options.out, content)


if __name__ == "__main__":
    main()
