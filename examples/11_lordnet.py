"""LordNet: low-rank layers that start at a solver, and learn from residuals without any data.

You learn how the inverse of Poisson's operator becomes a layer of few Kronecker products, why a
plain mean squared residual does not train such a layer from random numbers, how a network that
sees its own residual solves problems whose coefficient varies, and how the same layers step a flow
in a cavity to its steady state. Writes lordnet.png.
"""

# %% The inverse of Poisson's operator as a layer: few Kronecker products are enough
import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import torch

from tensornet.models import DiffusionFamily, LordNet, LordStepper
from tensornet.pde import Grid, kronecker_inverse, moving_wall, navier_stokes_2d, poisson
from tensornet.train import FlowRollouts, fit_residual

torch.set_default_dtype(torch.float64)
grid = Grid((32, 32), spacing=1 / 32)
family = DiffusionFamily(grid)
white = family.sample(64, torch.Generator().manual_seed(1))
exact = family.precondition(white["source"])


def error(model, inputs, u):
    """Relative error on right sides that were never seen."""
    with torch.no_grad():
        return float((model(**inputs) - u).norm() / u.norm())


def layer(rank, **start):
    """One Lord module: from source to solution."""
    return LordNet(family, blocks=1, rank=rank, hidden=0, steps="learned", **start)


analytic = [error(layer(rank), white, exact) for rank in (2, 4, 8)]
print("analytic start, ranks 2, 4, 8: relative errors", [f"{e:.1e}" for e in analytic])
found = kronecker_inverse(poisson(grid).operator, 4, loss="residual", start="random")
print("least squares from random numbers:", found.message)

# %% Gradients from random numbers: the residual as it is, and seen through the inverse of the box
curves = {}
for name, loss in (("plain residual", "plain"), ("preconditioned", "preconditioned")):
    net = layer(4, start="random")
    net.steps.data.fill_(exact.square().mean().sqrt())  # answers of the right size
    watched = {"check": lambda net: {"error": error(net, white, exact)}, "steps": 300}
    done = fit_residual(net, family, loss=loss, power=1.0, batch=16, lr=5e-3, **watched)
    curves[name] = [(line["step"], line["error"]) for line in done.history]
    print(f"rank 4 trained on the {name}: {curves[name][-1][1]:.2f}. {done.message}")

# %% A coefficient that varies by two orders of magnitude, and boundary values
varied = DiffusionFamily(grid, contrast=1.0, held=0.05)
problems = varied.sample(8, torch.Generator().manual_seed(2))
with torch.no_grad():
    solutions = LordNet(varied, blocks=60, hidden=0)(**problems)
net = LordNet(varied, blocks=4)
before = error(net, problems, solutions)
done = fit_residual(net, varied, power=0.5, steps=120, batch=8, lr=2e-3)
after = error(net, problems, solutions)
print(f"four corrections: error {before:.3f} before, {after:.3f} after training. {done.message}")

# %% A flow: three corrections per step, trained on the states that the network itself reaches
lid = ("wall", ("wall", moving_wall(1.0, 0.0)))
flow = navier_stokes_2d(grid, 0.2, reynolds=100, boundary=lid)
stepper = LordStepper(flow, blocks=3, rank=4)
rollouts = FlowRollouts(flow, flow.initial(batch=1), size=8, horizon=20)
done = fit_residual(stepper, rollouts, power=1.0, steps=60, batch=4, lr=3e-3)
state, steady = stepper.rollout(flow.initial(), 120), flow.steady().value
away = float((state - steady).norm() / steady.norm())
print(f"cavity after 120 steps: {away:.1e} away from the steady state. {done.message}")

# %% What this example claims
figure, axes = plt.subplots(2, 3, figsize=(12, 7), layout="constrained")
for name, curve in curves.items():
    axes[0, 0].semilogy(*zip(*curve, strict=True), label=name)
axes[0, 0].axhline(analytic[1], color="k", ls=":", label="analytic start")
axes[0, 0].set(title="rank 4: error by loss", xlabel="steps")
axes[0, 0].legend()
with torch.no_grad():
    wrong = (net(**problems) - solutions)[0].abs() / solutions[0].abs().max()
psi = flow.stream_function(state)
pictures = {
    "log10 of the coefficient": problems["coefficient"][0].log10(), "solution": solutions[0],
    "error of LordNet": wrong, "stream": psi, "vorticity": flow.vorticity(state).clamp(-5, 5),
}  # fmt: skip
for ax, (title, field) in zip(axes.flat[1:], pictures.items(), strict=True):
    figure.colorbar(ax.imshow(field.mT.numpy(), origin="lower", extent=(0, 1, 0, 1)), ax=ax)
    ax.set_title(title)
axes[1, 1].contour(psi.mT.numpy(), 12, extent=(0, 1, 0, 1), colors="w", linewidths=0.7)
figure.savefig("lordnet.png", dpi=80)
assert analytic[0] > analytic[1] > analytic[2]
assert analytic[2] < 1e-5
assert found.relative_error < 0.05
assert curves["plain residual"][-1][1] > 0.9 > 0.6 > curves["preconditioned"][-1][1]
assert after < 0.6 * before
assert away < 1e-4
