"""Poisson's equation around obstacles: one operator, every solver, residuals as they fall.

You learn how to say where an equation holds (a mask, what is held at the sides), how to solve it by
conjugate gradients with each preconditioner of the library and with one from elsewhere, what they
cost to set up and to run, and what happens where the coefficient jumps.
The picture has the field and the residuals.
"""

# %% A channel with obstacles: closed at the walls, a value held at either end, a source inside
import importlib.util
import time
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import torch

from tensornet.linalg import incomplete_cholesky, pcg
from tensornet.pde import Grid, adi, box_preconditioner, dirichlet, multigrid, poisson

mpl.use("Agg")
import matplotlib.pyplot as plt

N = 80
grid = Grid((2 * N, N), spacing=1 / N)
x, y = grid.centers()
inside = torch.zeros(grid.shape, dtype=torch.bool)
for cx, cy, r in ((0.4, 0.35, 0.17), (0.75, 0.75, 0.12), (1.2, 0.4, 0.2), (1.6, 0.75, 0.1)):
    inside |= (x - cx) ** 2 + (y - cy) ** 2 < r**2
ends = ((dirichlet(1.0), dirichlet(0.0)), "neumann")
source = 20 * torch.exp(-200 * ((x - 0.9) ** 2 + (y - 0.1) ** 2))
obstacles = poisson(grid, mask=~inside, boundary=ends, source=source)
jump = poisson(
    grid, boundary=ends, source=source, coefficient=torch.where(inside, 1e4, 1.0).double()
)

# %% What each solver is preconditioned by; each M is made from the operator alone
makers: dict[str, Callable[[Any], Any]] = {
    "none": lambda A: lambda r: r,
    "MIC(0)": incomplete_cholesky,
    "alternating directions": adi,
    "box": box_preconditioner,
    "multigrid": multigrid,
}
if importlib.util.find_spec("pyamg") is not None:
    import pyamg

    makers["pyamg, Ruge-Stuben"] = lambda A: pyamg.ruge_stuben_solver(
        A.to_scipy_sparse()
    ).aspreconditioner()

# %% The table, in seconds of the processor: set-up is paid once per geometry
results: dict[str, dict[str, Any]] = {}
for title, problem in (("obstacles", obstacles), ("coefficient jumps to 10^4", jump)):
    results[title] = {}
    print(f"{title}, {len(problem.rhs)} unknowns, to a relative residual of 1e-8")
    for name, make in makers.items():
        pcg(problem.operator, problem.rhs, M=make(problem.operator), maxiter=2)  # compiles
        begin = time.process_time()
        M = make(problem.operator)
        middle = time.process_time()
        solution = pcg(problem.operator, problem.rhs, M=M, rtol=1e-8, maxiter=1500)
        end = time.process_time()
        results[title][name] = solution
        print(
            f"  {name:24} {solution.n_iterations:5d} iterations, set-up "
            f"{1e3 * (middle - begin):6.1f} ms, solution {1e3 * (end - middle):7.1f} ms"
            f"{'' if solution.converged else ', not converged'}"
        )

# %% The picture
figure, axes = plt.subplots(1, 3, figsize=(14, 3.8), layout="constrained")
field = obstacles.embed(results["obstacles"]["multigrid"].value, fill=torch.nan)
image = axes[0].imshow(field.mT.numpy(), origin="lower", extent=(0, 2, 0, 1), cmap="magma")
figure.colorbar(image, ax=axes[0], shrink=0.7)
axes[0].set(title="solution around obstacles", xlabel="x", ylabel="y")
for axis, (title, solutions) in zip(axes[1:], results.items(), strict=True):
    for name, solution in solutions.items():
        axis.loglog(range(1, len(solution.residuals) + 1), solution.residuals, label=name)
    axis.set(title=title, xlabel="iteration + 1", ylabel="relative residual", ylim=(1e-9, 30))
axes[1].legend(fontsize=7, ncols=2, loc="upper right")
figure.savefig("poisson_solvers.png", dpi=95)

# %% What this example claims
for title, solutions in results.items():
    best = solutions["multigrid"].value
    for name, solution in solutions.items():
        if name == "none" and title != "obstacles":
            continue  # the jump is too much for it
        assert solution.converged, (name, solution.message)
        assert float((solution.value - best).norm() / best.norm()) < 1e-4, name
counts = {t: {n: s.n_iterations for n, s in by.items()} for t, by in results.items()}
assert counts["obstacles"]["multigrid"] <= 12
assert 5 * counts["obstacles"]["box"] < counts["obstacles"]["none"]
assert counts["coefficient jumps to 10^4"]["multigrid"] <= 25
