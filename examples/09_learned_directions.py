"""Directions that a network learns, for a pressure equation with obstacles it has not seen.

You learn how to train a network that proposes the directions of conjugate gradients, that it is a
symmetric positive definite preconditioner whatever its weights are, and how it fares on larger
grids with other obstacles, beside plain conjugate gradients and classical preconditioners.
"""

# %% Operators to train on: boxes with discs at random, closed at the sides, open at the top
from pathlib import Path

import matplotlib
import torch

from tensornet.linalg import cg, deep_conjugate_direction, incomplete_cholesky, pcg
from tensornet.models import DirectionNet
from tensornet.pde import Domain, Grid, Problem, box_preconditioner, multigrid, poisson
from tensornet.train import fit_direction

matplotlib.use("Agg")
torch.set_default_dtype(torch.float64)
generator = torch.Generator().manual_seed(5)


def discs(n: int, count: int) -> Problem:
    """Make a pressure equation around discs, the right side is white noise."""
    grid = Grid((n, n), spacing=1 / n)
    x, y = grid.centers()
    mask = torch.ones(n, n, dtype=torch.bool)
    for cx, cy, size in torch.rand(count, 3, generator=generator).tolist():
        mask &= (x - cx) ** 2 + (y - cy) ** 2 > (0.03 + 0.06 * size) ** 2
    source = torch.randn(n, n, generator=generator)
    top = ("neumann", ("neumann", "dirichlet"))
    domain = Domain(grid, mask=mask, boundary=top, drop_isolated=True)
    return poisson(domain, source=source, project=True)


operators = [discs(n, 6).operator for n in (24, 32, 40)]

# %% Train: no solutions are needed, only right sides, which are made on the way
net = DirectionNet(dim=2)
found = fit_direction(net, operators, samples=1_000, batch_size=10, learning_rate=0.02)
print(found.message)

# %% It is symmetric and positive definite, trained or not: it may go into `pcg`
M = net.bind(operators[0], precision=torch.float64)
a, b = torch.randn(2, operators[0].shape[0], generator=generator)
asymmetry = float((M(a) @ b - a @ M(b)).abs() / (M(a).norm() * b.norm()))
print(f"asymmetry {asymmetry:.1e}, a.Ma = {float(a @ M(a)):.2e} > 0")

# %% Larger grids, other obstacles
counts = {}
for n in (48, 96, 192):
    p = discs(n, 12)
    A = p.operator
    runs = {
        "conjugate gradients": cg(A, p.rhs, rtol=1e-4),
        "MIC(0)": pcg(A, p.rhs, rtol=1e-4, M=incomplete_cholesky(A.to_scipy_sparse())),
        "box": pcg(A, p.rhs, rtol=1e-4, M=box_preconditioner(A)),
        "multigrid": pcg(A, p.rhs, rtol=1e-4, M=multigrid(A)),
        "learned directions": deep_conjugate_direction(A, p.rhs, net.bind(A)),
    }
    counts[n] = {name: run.n_iterations for name, run in runs.items()}
    print(f"{n} x {n}: " + ", ".join(f"{name} {k}" for name, k in counts[n].items()))

# %% A picture of the last: the solution, the error after two directions, residuals
from matplotlib import pyplot as plt  # noqa: E402

two = deep_conjugate_direction(A, p.rhs, net.bind(A), max_iterations=2).value
exact = runs["multigrid"].value
figure, axes = plt.subplots(1, 3, figsize=(13, 3.8))
for axis, field, title in (
    (axes[0], exact, "pressure around discs not seen"),
    (axes[1], two - exact, "error after two learned directions"),
):
    shown = A.domain.embed(field, fill=float("nan")).mT.numpy()
    image = axis.imshow(shown, origin="lower", extent=(0, 1, 0, 1), cmap="RdBu_r")
    axis.set_title(title)
    figure.colorbar(image, ax=axis)
for name, run in runs.items():
    axes[2].semilogy(run.residuals, label=name)
axes[2].set(xlim=(0, 60), xlabel="iterations", ylabel="relative residual", title="192 x 192")
axes[2].legend(fontsize=8)
figure.tight_layout()
figure.savefig("learned_directions.png", dpi=80)

# %% What this example claims
assert asymmetry < 1e-13
assert all(run.converged for run in runs.values())
assert max(c["learned directions"] for c in counts.values()) <= 15
assert counts[192]["learned directions"] <= 1.5 * counts[48]["learned directions"]
assert counts[192]["learned directions"] < 0.05 * counts[192]["conjugate gradients"]
assert Path("learned_directions.png").stat().st_size > 10_000
