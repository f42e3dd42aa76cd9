"""What does a converged implicit step of a cavity flow cost, by method and tolerance?

The lid-driven cavity at Re 100 and 400, some steps after the lid was started, so that the state
still changes. Every row is one step of length dt from the same state:

- the stream function: our mixed fixed point, started from the state and by extrapolation, to
  relative residuals of 1e-4 and 1e-8;
- the same with its residual and its loop in torch, as on other devices;
- Newton's method with a sparse factorisation per iteration, the textbook's way, up to 64 x 64;
- explicit steps of third order, as many as stability needs (another error in time);
- velocity and pressure on the staggered grid, by the same fixed point.

Differences from a step converged to 1e-12 are relative, in the velocity. Process CPU time on one
thread, the median of rounds in which all take turns; compilation and set-up are apart.

    OMP_NUM_THREADS=1 python examples/benchmarks/flow_step.py [--smoke] [--out FILE]
        [--sizes 64 128] [--rounds 5]
"""

import argparse
import gc
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from origin import origin, write
from scipy.sparse.linalg import splu
from torch import Tensor

from tensornet.kernels import tune_allocator
from tensornet.pde import Flow, Grid, VorticityFlow, moving_wall, navier_stokes_2d
from tensornet.pde.flow_solve import coloured

LID: Any = ("wall", ("wall", moving_wall(1.0, 0.0)))
BEFORE = 10  # steps


def newton(flow: VorticityFlow, state: Tensor, rtol: float) -> tuple[Tensor, int]:
    """Solve a step by Newton's method, a sparse factorisation per iteration."""
    x, zero = state.clone(), flow.residual(torch.zeros_like(state), state).norm()
    for k in range(20):
        r = flow.residual(x, state)
        if r.norm() <= rtol * zero:
            return x, k
        ahead, rows = partial(_ahead, flow, x, state), flow.state_shape
        matrix = coloured(ahead, rows, 2, (False, False))
        x = x - torch.from_numpy(splu(matrix).solve(r.flatten().numpy())).reshape(x.shape)
    raise AssertionError("Newton's method did not converge")


def _ahead(flow: VorticityFlow, x: Tensor, state: Tensor, probe: Tensor) -> Tensor:
    """Derivative of the residual, exact for it is quadratic."""
    return (flow.residual(x + probe, state) - flow.residual(x - probe, state)) / 2


def in_torch(flow: VorticityFlow, state: Tensor, rtol: float) -> tuple[Tensor, int]:
    """Do the same fixed point with the loop and the residual of other devices."""
    before = state[None]
    zero = flow.residual(torch.zeros_like(before), before).flatten(1).norm(dim=1)
    with torch.no_grad():
        x, _, _, counts = Flow._solved(flow, before, before, zero, rtol, 100)
    return x[0], int(counts[0])


def step(flow: Flow, state: Tensor, rtol: float, start: Tensor | None) -> tuple[Tensor, int]:
    """Do our step."""
    done = flow.step(state, rtol=rtol, start=start)
    assert done.converged, done.message
    return done.value, done.n_iterations


def explicit(flow: VorticityFlow, state: Tensor) -> tuple[Tensor, int]:
    """Do as many explicit steps as stability needs."""
    n = 1
    while True:
        short = VorticityFlow(replace(flow.case, dt=flow.dt / n, theta=1.0))
        try:
            x = state
            for _ in range(n):
                x = short.step(x, method="explicit").value
        except ValueError:
            n = math.ceil(n * 1.3 + 0.5)
            continue
        return x, n


def measured(size: int, reynolds: float, dt: float, rounds: int) -> dict[str, Any]:
    """Time every method from one state."""
    grid = Grid((size, size), spacing=1 / size)
    begin = time.process_time()
    flow = navier_stokes_2d(grid, dt, reynolds=reynolds, boundary=LID)
    setup = time.process_time() - begin
    faces = navier_stokes_2d(grid, dt, reynolds=reynolds, boundary=LID, formulation="velocity")
    states = flow.rollout(flow.initial("rest"), BEFORE)
    last, guess = states[-1], 2 * states[-1] - states[-2]
    other = faces.rollout(faces.initial("rest"), BEFORE)
    exact = flow.velocity(flow.step(last, rtol=1e-12).value)
    _, n = explicit(flow, last)
    short = VorticityFlow(replace(flow.case, dt=dt / n, theta=1.0))
    jobs: dict[str, Callable[[], tuple[Tensor, int]]] = {
        "stream function, 1e-8": lambda: step(flow, last, 1e-8, None),
        "stream function, 1e-8, extrapolated start": lambda: step(flow, last, 1e-8, guess),
        "stream function, 1e-4, extrapolated start": lambda: step(flow, last, 1e-4, guess),
        "stream function, 1e-8, loop in torch": lambda: in_torch(flow, last, 1e-8),
        "stream function, explicit": lambda: (short.rollout(last, n, method="explicit")[-1], n),
        "velocity and pressure, 1e-8": lambda: step(faces, other[-1], 1e-8, None),
    }
    if size <= 64:  # where it does not take minutes
        jobs["stream function, 1e-8, Newton, sparse LU"] = lambda: newton(flow, last, 1e-8)
    times: dict[str, list[float]] = {name: [] for name in jobs}
    rows: dict[str, Any] = {}
    for turn in range(rounds + 1):
        for name, job in jobs.items():
            if "LU" in name and turn > 1:
                continue
            gc.collect()  # what others left is not to be paid here
            begin = time.process_time()
            value, count = job()
            if turn:  # the first warms
                times[name].append(time.process_time() - begin)
            rows[name] = {"iterations": count}
            if value.shape == last.shape:
                off = (flow.velocity(value) - exact).norm() / exact.norm()
                rows[name]["difference"] = float(off)
    for name, row in rows.items():
        row["milliseconds"] = 1e3 * statistics.median(times[name])
    return {
        "size": size, "reynolds": reynolds, "dt": dt, "courant": dt * size,
        "setup_seconds": setup, "by": rows,
    }  # fmt: skip


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    tune_allocator()
    sizes, rounds = ([8], 1) if options.smoke else (options.sizes, options.rounds)
    rows = []
    for size in sizes:
        for reynolds, dt in ((100, 0.02), (400, 0.02), (400, 0.05)):
            row = measured(size, reynolds, dt, rounds)
            rows.append(row)
            print(f"{size} x {size}, Re {reynolds}, dt {dt}, set-up {row['setup_seconds']:.3f} s")
            for name, found in row["by"].items():
                off = f"{found['difference']:.0e}" if "difference" in found else "-"
                print(
                    f"  {name:44s} {found['milliseconds']:9.2f} ms, {found['iterations']:3d} "
                    f"iterations or steps, difference {off}"
                )
    content = {
        "what": "one step of a lid-driven cavity flow, by method",
        "smoke": options.smoke,
        "rows": rows,
        **origin(("torch", "numpy", "scipy", "numba")),
    }
    write(options.out, content)


if __name__ == "__main__":
    main()
