"""Gaussian processes for fast waves, beside finite differences and Chebyshev collocation.

u'' = f on [0, 2 pi] with values held at both ends, on the same number of nodes: finite differences
of second order at the centres of cells, Chebyshev collocation at its own nodes, and
`GaussianProcessSolver` with both families of kernels. Errors are relative, in the Euclidean norm,
against the known solution, which no candidate sees. Where everything is known, collocation is more
accurate and hundreds of times faster: the rows with noise are what Gaussian processes are for:
the source has noise of 3 %, or is hidden on a third of the interval where 120 noisy values of u
stand in; `coverage` is the share of nodes within two standard deviations.

Times are of the processor, one thread, one run each, as a run takes seconds.

    OMP_NUM_THREADS=1 python examples/benchmarks/gaussian_pde.py [--smoke]
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse.linalg
import torch
from origin import origin, write
from torch import Tensor

from tensornet.linalg import pcg
from tensornet.pde import GaussianProcessSolver, Grid, box_preconditioner, dirichlet, poisson

Function = Callable[[Tensor], Tensor]
LENGTH = 2 * math.pi


def problems() -> dict[str, tuple[Function, Function, int]]:
    """Give solution, source and number of nodes."""
    sin, cos = torch.sin, torch.cos
    return {
        "sin 100x": (lambda x: sin(100 * x), lambda x: -1e4 * sin(100 * x), 400),
        "sin 6x cos 100x": (
            lambda x: sin(6 * x) * cos(100 * x),
            lambda x: -5618 * sin(106 * x) + 4418 * sin(94 * x), 400),
        "sin x + sin 20x / 10 + cos 100x / 20": (
            lambda x: sin(x) + 0.1 * sin(20 * x) + 0.05 * cos(100 * x),
            lambda x: -sin(x) - 40 * sin(20 * x) - 500 * cos(100 * x), 400),
        "x sin 200x": (
            lambda x: x * sin(200 * x),
            lambda x: 400 * cos(200 * x) - 4e4 * x * sin(200 * x), 700),
    }  # fmt: skip


def chirp(x: Tensor) -> Tensor:
    """A wave that becomes faster."""
    return torch.sin(10 * x + 2 * x.square())


def chirp_source(x: Tensor) -> Tensor:
    """Its second derivative."""
    phase = 10 * x + 2 * x.square()
    return 4 * phase.cos() - (10 + 4 * x).square() * phase.sin()


def relative(found: Tensor, exact: Tensor) -> float:
    """Error in the Euclidean norm."""
    return float((found - exact).norm() / exact.norm())


def differences(u: Function, f: Tensor, n: int) -> float:
    """Finite differences of second order."""
    grid = Grid(n, spacing=LENGTH / n)
    problem = poisson(grid, boundary=dirichlet(u), source=-f)
    matrix = problem.operator.to_scipy_sparse().tocsc()
    found = scipy.sparse.linalg.spsolve(matrix, problem.rhs.numpy())
    return relative(torch.from_numpy(found), u(grid.axes()[0]))


def collocation_nodes(n: int) -> Tensor:
    """Chebyshev points of the second kind."""
    return LENGTH / 2 * (1 - torch.cos(math.pi * torch.arange(n, dtype=torch.float64) / (n - 1)))


def collocation(u: Function, f: Tensor, n: int) -> float:
    """Chebyshev collocation, with the boundary in the first and the last row."""
    x = collocation_nodes(n).numpy()
    c = np.ones(n)
    c[[0, -1]] = 2
    c *= (-1.0) ** np.arange(n)
    away = x[:, None] - x + np.eye(n)
    D = np.outer(c, 1 / c) / away
    D -= np.diag(D.sum(1))
    A = D @ D
    A[[0, -1]] = np.eye(n)[[0, -1]]
    right = f.numpy().copy()
    exact = u(torch.from_numpy(x))
    right[[0, -1]] = exact[[0, -1]].numpy()
    return relative(torch.from_numpy(np.linalg.solve(A, right)), exact)


def process(u: Function, f: Any, n: int, family: str, steps: int, **given: Any) -> dict[str, Any]:
    """A Gaussian process; `given` goes to the solver."""
    grid = Grid(n, spacing=LENGTH / n)
    solver = GaussianProcessSolver(grid, boundary=dirichlet(u), kernels=family)
    found = solver.solve(f, max_iterations=steps, **given)
    exact = u(grid.axes()[0])
    inside = ((found.mean - exact).abs() < 2 * found.variance.sqrt()).double().mean()
    return {
        "error": relative(found.mean, exact), "coverage": float(inside),
        "log_evidence": found.log_evidence, "steps": len(found.history) - 1,
        "residual": found.residual, "message": found.message,
    }  # fmt: skip


def contenders(
    u: Function, f: Function, n: int, noise: float, steps: int
) -> dict[str, Callable[[], dict[str, Any]]]:
    """Everybody, on a source with noise."""
    x, y = Grid(n, spacing=LENGTH / n).axes()[0], collocation_nodes(n)
    generator = torch.Generator().manual_seed(0)
    drawn = noise * torch.randn(n, generator=generator, dtype=torch.float64)
    size = float(f(x).square().mean().sqrt())
    here, there = f(x) + size * drawn, f(y) + size * drawn
    return {
        "finite differences": lambda: {"error": differences(u, here, n)},
        "Chebyshev collocation": lambda: {"error": collocation(u, there, n)},
        "student, kernels from the spectrum": lambda: process(u, here, n, "student", 0),
        "student": lambda: process(u, here, n, "student", steps),
        "gaussian": lambda: process(u, here, n, "gaussian", steps),
    }  # fmt: skip


def rows_of(
    name: str, named: dict[str, Callable[[], dict[str, Any]]], rounds: int, **more: Any
) -> list[dict[str, Any]]:
    """Run everybody in turns."""
    times: dict[str, list[float]] = {key: [] for key in named}
    results: dict[str, dict[str, Any]] = {}
    if "finite differences" in named:
        named["finite differences"]()  # compiles
    for _ in range(rounds):
        for key, call in named.items():
            begin = time.process_time()
            results[key] = call()
            times[key].append(time.process_time() - begin)
    found = []
    for key, result in results.items():
        seconds = statistics.median(times[key])
        found.append({"problem": name, **more, "method": key, "cpu_seconds": seconds, **result})
        print(f"{name:42} {key:36} error {result['error']:.1e} in {seconds:.4f} s")
    return found


def hidden(u: Function, f: Function, n: int, steps: int) -> dict[str, Callable[[], dict[str, Any]]]:
    """The source known on two thirds only; noisy values of the solution at random places."""
    (x,) = Grid(n, spacing=LENGTH / n).axes()
    source = torch.where((x > LENGTH / 3) & (x < 2 * LENGTH / 3), math.nan, f(x))
    generator = torch.Generator().manual_seed(1)
    points = LENGTH * torch.rand(120, 1, generator=generator, dtype=torch.float64)
    values = u(points[:, 0])
    values = values + 0.05 * torch.randn(120, generator=generator, dtype=torch.float64)
    data = (points, values)
    return {
        "student": lambda: process(u, source, n, "student", steps, data=data),
        "without values": lambda: process(u, source, n, "student", steps),
    }


def plane(n: int, steps: int) -> dict[str, Callable[[], dict[str, Any]]]:
    """Poisson's equation on the unit square, beside finite differences."""
    grid = Grid((n, n), spacing=1 / n)
    exact = torch.sin(40 * grid.centers()[0]) * torch.sin(30 * grid.centers()[1])
    side = dirichlet(lambda x, y: torch.sin(40 * x) * torch.sin(30 * y))

    def with_process() -> dict[str, Any]:
        solver = GaussianProcessSolver(grid, boundary=side, components=4)
        found = solver.solve(-2500 * exact, max_iterations=steps)
        inside = ((found.mean - exact).abs() < 2 * found.variance.sqrt()).double().mean()
        return {"error": relative(found.mean, exact), "coverage": float(inside),
                "message": found.message}  # fmt: skip

    def with_differences() -> dict[str, Any]:
        problem = poisson(grid, boundary=side, source=2500 * exact)
        M = box_preconditioner(problem.operator)
        found = pcg(problem.operator, problem.rhs, M=M, rtol=1e-10).value
        return {"error": relative(found, exact.flatten())}

    return {"finite differences": with_differences, "student, Kronecker": with_process}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one small problem, few steps")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    smoke = arguments.smoke
    torch.set_num_threads(1)
    steps = 2 if smoke else 40
    rows: list[dict[str, Any]] = []
    given = problems()
    if smoke:
        given = {"sin 10x": (lambda x: torch.sin(10 * x), lambda x: -100 * torch.sin(10 * x), 60)}
    for name, (u, f, n) in given.items():
        rows += rows_of(name, contenders(u, f, n, 0.0, steps), 1, nodes=n, noise=0.0)
    u, f, n = next(iter(given.values()))
    name = next(iter(given))
    noisy = contenders(u, f, n, 0.03, steps)
    rows += rows_of(f"{name}, source with noise", noisy, 1, nodes=n, noise=0.03)
    slow = (chirp, chirp_source, 60 if smoke else 160)
    partly = hidden(*slow, steps)
    rows += rows_of(
        "sin(10x + 2x²), a third of the source hidden", partly, 1, nodes=slow[2], noise=0.0
    )
    size = 36 if smoke else 64
    flat = plane(size, min(steps, 10))
    rows += rows_of("sin 40x sin 30y", flat, 1, nodes=size**2, noise=0.0)
    write(arguments.out, {**origin(), "smoke": smoke, "rows": rows})


if __name__ == "__main__":
    main()
