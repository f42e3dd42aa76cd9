"""What do Lord modules and LordNets reach, how long does that take, and what is it worth?

`poisson`: the inverse of Poisson's operator on 64 x 64 cells as a sum of Kronecker products, begun
analytically, by alternating least squares from random numbers, and by Adam from random numbers on
plain and on preconditioned mean squared residuals; errors on right sides never seen.

`varying`: coefficients, boundary values and sources that vary. A LordNet trained on residuals, a
Fourier neural operator (neuraloperator) and a U-Net with as many parameters, trained on residuals
for the same time; and classical solvers stopped at the error of the LordNet, set-up apart. The
networks get the right side through the inverse of the scaled box, and add to it.

`flows`: lid-driven cavities to their steady states beside Ghia et al., decaying turbulence, a
cavity in three dimensions; a step of the network beside classical steps stopped at the same error
and converged. All steps use the same residual and the same inverse of the linear part.

Process CPU time on one thread. Peers are skipped where they are not installed.

    OMP_NUM_THREADS=1 python examples/benchmarks/lordnet.py [--smoke] [--out FILE]
        [--only poisson varying flows] [--seconds 60]
"""

import argparse
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lordnet_peers import Corrected, peers
from origin import origin, write
from scipy.sparse.linalg import LinearOperator, aslinearoperator, cg, spsolve
from torch import Tensor, nn

from tensornet.layers import LordBasis, LordModule
from tensornet.linalg import incomplete_cholesky
from tensornet.models import DiffusionFamily, LordNet, LordStepper
from tensornet.pde import (
    Flow,
    Grid,
    box_preconditioner,
    dirichlet,
    kronecker_inverse,
    moving_wall,
    multigrid,
    navier_stokes_2d,
    navier_stokes_3d,
    poisson,
)
from tensornet.testing.cavity import deviation
from tensornet.train import FlowRollouts, fit_residual

Json = dict[str, Any]


def milliseconds(call: Callable[[], Any], repeats: int) -> float:
    """Least CPU time of a call, of a few."""
    call()
    found = []
    for _ in range(repeats):
        begin = time.process_time()
        call()
        found.append(time.process_time() - begin)
    return 1000 * min(found)


def mean_error(u: Tensor, exact: Tensor) -> float:
    """Mean over a batch of relative errors."""
    return float(((u - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)).mean())


# Poisson's equation, constant coefficient


class Single(nn.Module):
    """A Lord module as a model of sources."""

    def __init__(self, module: nn.Module, scale: float = 1.0) -> None:
        super().__init__()
        self.module, self.scale = module, scale

    def forward(self, source: Tensor, **_: Any) -> Tensor:
        """Apply the module."""
        y: Tensor = self.module(source[:, None])[:, 0]
        return self.scale * y


def constant(n: int, seconds: float, repeats: int) -> Json:
    """Errors of Lord modules, on white and on smooth right sides that were never seen."""
    grid = Grid((n, n), spacing=1 / n)
    family = DiffusionFamily(grid)
    A = poisson(grid).operator
    tests = {
        name: DiffusionFamily(grid, smoothness=p).sample(32, torch.Generator().manual_seed(5))
        for name, p in (("white", 0.0), ("smooth", 1.0))
    }
    rows = []

    def judge(model: nn.Module) -> dict[str, float]:
        with torch.no_grad():
            return {
                name: mean_error(model(**inputs), family.precondition(inputs["source"]))
                for name, inputs in tests.items()
            }

    def row(name: str, rank: int | None, model: nn.Module, set_up: float, **more: Any) -> None:
        f = tests["white"]["source"][:1]
        with torch.no_grad():
            cost = milliseconds(lambda: model(f), repeats)
        count = sum(p.numel() for p in model.parameters())
        line = {"start": name, "rank": rank, "parameters": count, "seconds": set_up, **more}
        rows.append({**line, "errors": judge(model), "milliseconds": cost})
        print(rows[-1])

    for rank in (4, 6, 8, 11):
        begin = time.process_time()
        module = LordModule.from_operator(A, rank)
        row("analytic", rank, Single(module), time.process_time() - begin)
    begin = time.process_time()
    basis = LordBasis.from_operator(A)
    row("analytic basis", None, Single(basis), time.process_time() - begin)
    for loss in ("residual", "error"):
        begin = time.process_time()
        found = kronecker_inverse(A, 8, loss=loss, start="random")
        module = LordModule.from_cp(found.value, grid.shape)
        spent = time.process_time() - begin
        row(f"random, alternating least squares on the {loss}", 8, Single(module), spent)
    size = float(family.precondition(tests["white"]["source"]).square().mean().sqrt())
    for loss, power in (("plain", 0.0), ("preconditioned", 0.5), ("preconditioned", 1.0)):
        model = Single(LordModule(grid.shape, 8, seed=0), size)
        done = fit_residual(
            model, family, loss=loss, power=power, steps=10**6, seconds=seconds, batch=32, lr=2e-3
        )
        name = "mean squared residual" if loss == "plain" else f"preconditioned residual, s={power}"
        row(f"random, Adam on the {name}", 8, model, done.seconds, steps=done.n_steps)
    return {"cells": n, "test_right_sides": 32, "rows": rows}


# Coefficients, boundary values and sources that vary


def exact_solutions(family: DiffusionFamily, inputs: Json) -> tuple[list[Any], Tensor]:
    """The problems one by one, and their solutions by a sparse factorisation."""
    problems, found = [], []
    for b in range(len(inputs["source"])):
        sides = [dirichlet(values[b]) for values in inputs["boundary"]]
        one = poisson(
            family.grid,
            boundary=[(sides[0], sides[1]), (sides[2], sides[3])],
            coefficient=inputs["coefficient"][b],
            source=inputs["source"][b],
        )
        problems.append(one)
        u = spsolve(one.operator.to_scipy_sparse().tocsc(), one.rhs.numpy())
        found.append(torch.from_numpy(u).reshape(family.shape))
    return problems, torch.stack(found)


def varying(n: int, blocks: int, seconds: float, repeats: int) -> Json:
    """Train networks on residuals, and see what classical solvers need for the same error."""
    family = DiffusionFamily(Grid((n, n), spacing=1 / n), contrast=1.0, length=0.1, held=0.1)
    inputs = family.sample(16, torch.Generator().manual_seed(1234))
    problems, exact = exact_solutions(family, inputs)
    k = inputs["coefficient"]
    contrasts = (k.amax((1, 2)) / k.amin((1, 2))).tolist()

    def judge(model: nn.Module) -> dict[str, float]:
        with torch.no_grad():
            return {"error": mean_error(model(**inputs).to(exact), exact)}

    net = LordNet(family, blocks=blocks)
    models: dict[str, nn.Module] = {"LordNet": net}
    others = peers(net.n_parameters)
    models.update({name: Corrected(family, other) for name, other in others.items()})
    one = {name: x[:1] for name, x in inputs.items() if name != "boundary"}
    one["boundary"] = [v[:1] for v in inputs["boundary"]]
    rows = []
    for name, model in models.items():
        before = judge(model)["error"]
        power = 0.5 if name == "LordNet" else 1.0  # what its steps minimise; the error
        done = fit_residual(
            model, family, power=power, steps=10**6, seconds=seconds, batch=8, lr=2e-3
        )
        with torch.no_grad():
            cost = milliseconds(lambda model=model: model(**one), repeats)
        rows.append({
            "model": name, "parameters": sum(p.numel() for p in model.parameters()),
            "training_seconds": done.seconds, "steps": done.n_steps, "error_before": before,
            "loss_power": power, "error": judge(model)["error"], "milliseconds": cost,
        })  # fmt: skip
        print(rows[-1])
    aim = rows[0]["error"]
    return {
        "cells": n, "test_problems": 16, "contrasts": contrasts, "models": rows,
        "classical_at_error": aim,
        "classical": classical(family, inputs, problems, exact, aim, min(repeats, 4)),
        "untrained_blocks": {
            str(m): judge(LordNet(family, blocks=m, hidden=0))["error"] for m in (4, 6, 8, 12, 16)
        },
    }  # fmt: skip


def classical(
    family: DiffusionFamily, inputs: Json, problems: list[Any], exact: Tensor, aim: float, few: int
) -> list[Json]:
    """Iterations and times to an error, the mean over a few problems."""
    makers: dict[str, Callable[[int, Any, Any], Any]] = {
        "CG": lambda b, A, S: None,
        "MIC(0)": lambda b, A, S: aslinearoperator(incomplete_cholesky(S)),
        "box": lambda b, A, S: box_preconditioner(A).to_scipy(),
        "scaled box": lambda b, A, S: _scaled(family, inputs["coefficient"][b]),
        "multigrid": lambda b, A, S: multigrid(A).to_scipy(),
    }
    if importlib.util.find_spec("pyamg") is not None:
        import pyamg

        makers["pyamg SA"] = lambda b, A, S: pyamg.smoothed_aggregation_solver(S).aspreconditioner()
        makers["pyamg RS"] = lambda b, A, S: pyamg.ruge_stuben_solver(S).aspreconditioner()
    rows = []
    for name, make in makers.items():
        found = []
        for b in range(min(few, len(problems))):
            A, f = problems[b].operator, problems[b].rhs.numpy()
            S, u = A.to_scipy_sparse(), exact[b].flatten().numpy()
            set_up = milliseconds(lambda b=b, A=A, S=S, make=make: make(b, A, S), 2)
            M = make(b, A, S)
            errors: list[float] = []

            def watch(x: Any, u: Any = u, errors: list[float] = errors) -> None:
                errors.append(float(np.linalg.norm(x - u) / np.linalg.norm(u)))

            cg(S, f, rtol=1e-12, maxiter=400, M=M, callback=watch)
            count = next((i + 1 for i, e in enumerate(errors) if e <= aim), len(errors))

            def solve(S: Any = S, f: Any = f, M: Any = M, count: int = count) -> Any:
                return cg(S, f, rtol=0, atol=0, maxiter=count, M=M)

            found.append((set_up, milliseconds(solve, 3), count))
        means = np.mean(found, 0).tolist()
        rows.append({
            "method": name, "set_up_milliseconds": means[0], "solve_milliseconds": means[1],
            "iterations": means[2],
        })  # fmt: skip
        print(rows[-1])
    return rows


def _scaled(family: DiffusionFamily, k: Tensor) -> LinearOperator:
    root = k.rsqrt()

    def apply(x: Any) -> Any:
        field = torch.from_numpy(np.ascontiguousarray(x)).reshape(k.shape)
        return (root * family.precondition(root * field)).flatten().numpy()

    return LinearOperator((k.numel(),) * 2, matvec=apply, dtype=float)


# Flows


def flow_case(
    flow: Flow, initial: Tensor, n_steps: int, seconds: float, blocks: int, rank: int
) -> tuple[Json, LordStepper]:
    """Train a stepper on its own states, and compare steps at equal error.

    The error of a way to step is that of the state after `n_steps` of it, relative to converged
    steps, the largest along the way.
    """
    net = LordStepper(flow, blocks=blocks, rank=rank)
    rollouts = FlowRollouts(flow, initial, size=16, horizon=n_steps)
    done = fit_residual(
        net, rollouts, power=1.0, steps=10**6, seconds=seconds, batch=4, lr=3e-3
    )  # fmt: skip
    exact, state, previous = [], initial[:1], initial[:1]
    for _ in range(n_steps):
        after = flow.step(state, rtol=1e-10, maxiter=300, start=2 * state - previous).value
        state, previous = after, state
        exact.append(state)

    def run(step: Callable[[Tensor, Tensor], Tensor]) -> Json:
        state, previous, worst, spent = initial[:1], initial[:1], 0.0, 0.0
        for want in exact:
            begin = time.process_time()
            with torch.no_grad():
                after = step(state, previous)
            spent += time.process_time() - begin
            state, previous = after, state
            worst = max(worst, float((state - want).norm() / want.norm()))
            if not worst < 1e6:
                return {"largest_error": None, "milliseconds": None}
        return {"largest_error": worst, "milliseconds": 1000 * spent / n_steps}

    rows = [{"step": "LordStepper, trained", "corrections": blocks, **run(net)}]
    for count in range(2, blocks + 5):
        plain = LordStepper(flow, blocks=count, rank=0)
        rows.append({"step": "Anderson, cut off", "corrections": count, **run(plain)})
    for rtol in (1e-3, 1e-4, 1e-5, 1e-6, 1e-8):

        def solved(state: Tensor, previous: Tensor, rtol: float = rtol) -> Tensor:
            start = 2 * state - previous
            return flow.step(state, rtol=rtol, maxiter=300, start=start).value

        rows.append({"step": "Anderson", "rtol": rtol, **run(solved)})
    for row in rows:
        print(row)
    made = {
        "dt": flow.dt, "viscosity": flow.viscosity, "theta": flow.theta, "steps": n_steps,
        "state": list(flow.state_shape), "rank": rank,
        "parameters": sum(p.numel() for p in net.parameters()),
        "training_seconds": done.seconds, "training_steps": done.n_steps, "rows": rows,
    }  # fmt: skip
    return made, net


def flows(smoke: bool, seconds: float) -> Json:
    """Cavities, turbulence, and a cavity in three dimensions."""
    n, few = (8, 3) if smoke else (64, 40)
    found: Json = {}
    lid = ("wall", ("wall", moving_wall(1.0, 0.0)))
    for reynolds, dt, n_to_rest in ((100, 0.2, 100), (400, 0.2, 250)):
        flow = navier_stokes_2d(Grid((n, n), spacing=1 / n), dt, reynolds=reynolds, boundary=lid)
        made, net = flow_case(flow, flow.initial(batch=1), few, seconds, 4, 4)
        begin = time.process_time()
        state = net.rollout(flow.initial(), 3 if smoke else n_to_rest)
        made["rollout"] = {"steps": n_to_rest, "seconds": time.process_time() - begin}
        steady = flow.steady().value
        made["rollout"]["from_steady_state"] = float((state - steady).norm() / steady.norm())
        made["deviation_from_ghia"] = deviation(flow.centrelines(state), reynolds)
        print(reynolds, made["rollout"], made["deviation_from_ghia"])
        found[f"cavity, Re {reynolds}"] = made
    grid = Grid((n, n), spacing=2 * torch.pi / n)
    flow = navier_stokes_2d(grid, 0.1, viscosity=1e-3, boundary="periodic", theta=0.5)
    states = flow.initial("turbulence", batch=16, peak=6.0, seed=1)
    found["decaying turbulence"] = flow_case(flow, states, few, seconds, 4, 4)[0]
    m = 6 if smoke else 16
    lid = ("wall", "wall", ("wall", moving_wall(1.0, 0.0, 0.0)))
    cube = navier_stokes_3d(Grid((m,) * 3, spacing=1 / m), 0.2, reynolds=100, boundary=lid)
    case = flow_case(cube, cube.initial(batch=1), 3 if smoke else 20, seconds, 4, 4)[0]
    found["cavity in three dimensions, Re 100"] = case
    return found


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--only", nargs="+", default=["poisson", "varying", "flows"])
    parser.add_argument("--seconds", type=float, default=60.0, help="of each training")
    words = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    seconds = 0.3 if words.smoke else words.seconds
    content: Json = {}
    if "poisson" in words.only:
        content["poisson"] = constant(16 if words.smoke else 64, seconds / 2, 5)
    if "varying" in words.only:
        n, blocks = (16, 2) if words.smoke else (32, 4)
        content["varying"] = varying(n, blocks, seconds, 2 if words.smoke else 8)
    if "flows" in words.only:
        content["flows"] = flows(words.smoke, seconds / 2)
    missing = [name for name in ("neuralop", "pyamg") if importlib.util.find_spec(name) is None]
    write(words.out, {
        **origin(("torch", "numpy", "scipy")), "smoke": words.smoke, "missing": missing,
        "unit": "CPU seconds or milliseconds of one thread", **content,
    })  # fmt: skip


if __name__ == "__main__":
    main()
