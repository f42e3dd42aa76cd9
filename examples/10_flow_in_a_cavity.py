"""The flow in a box whose lid slides: steady, in time, beside a published table, as files.

You learn how to pose a flow with `navier_stokes_2d`, to find its steady state, to do converged
implicit steps of time from a random start, to read velocity, vorticity and centrelines off a
state, and to write what ParaView reads. The table is that of Ghia, Ghia & Shin (1982), Re 100.
"""

# %% A box of 64 x 64 cells; the lid slides to the right with speed one
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch

from tensornet.pde import Grid, moving_wall, navier_stokes_2d, write_series
from tensornet.testing.cavity import deviation, ghia

mpl.use("Agg")
import matplotlib.pyplot as plt

torch.set_default_dtype(torch.float64)
N = 64
grid = Grid((N, N), spacing=1 / N)
lid = ("wall", ("wall", moving_wall(1.0, 0.0)))  # along x two walls; along y a wall and the lid
flow = navier_stokes_2d(grid, 0.05, reynolds=100, boundary=lid)

# %% The steady state, by Newton's method, and its centrelines beside the table
steady = flow.steady()
print(f"steady: {steady.message} {steady.n_iterations} iterations")
lines = flow.centrelines(steady.value)
off = deviation(lines, 100)
print(f"largest difference from the table: u {off['u']:.4f}, v {off['v']:.4f}")
print(f"largest stream function {float(-steady.value.min()):.5f}, in the literature 0.10352")

# %% In time: a random start, and implicit steps until the lid has taken over
first = flow.initial("turbulence", speed=0.3, seed=1)
states = flow.rollout(first, 40)
left = flow.residual(states[1:], states[:-1]).flatten(1).norm(dim=1)
size = flow.residual(torch.zeros_like(states[1:]), states[:-1]).flatten(1).norm(dim=1)
worst = float((left / size).max())
energy = flow.energy(states)
print(f"40 steps to time 2, relative residual at most {worst:.0e}")
print(f"kinetic energy {energy[0]:.4f}, {energy[20]:.4f}, {energy[40]:.4f}")

# %% Files for ParaView: fields at the corners of the cells, a list of times
times = [0.05 * k for k in range(0, 41, 10)]
fields = {"velocity": flow.velocity(states[::10]), "vorticity": flow.vorticity(states[::10])}
folder = Path("flow_in_a_cavity")
folder.mkdir(exist_ok=True)
written = write_series(folder / "cavity.pvd", grid, fields, times)
print(f"written: {written} and {len(times)} images")

# %% A picture: lines of the stream function over the vorticity, and the centrelines
figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
nodes = [a.numpy() for a in flow.node_axes()]
for axis, state, title in ((axes[0], states[10], "time 0.5"), (axes[1], steady.value, "steady")):
    omega = flow.vorticity(state).numpy().T
    image = axis.pcolormesh(*nodes, omega, cmap="RdBu_r", vmin=-8, vmax=8, shading="gouraud")
    psi = flow.stream_function(state).numpy().T
    levels = [*np.linspace(psi.min(), 0, 14)[1:-1], *(psi.max() * np.array([0.02, 0.2, 0.5, 0.8]))]
    axis.contour(*nodes, psi, levels=levels, colors="k", linewidths=0.6, linestyles="solid")
    axis.set(title=f"Re 100, {title}", xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="x")
figure.colorbar(image, ax=axes[1], label="vorticity")
y, u, x, v = lines
axes[2].plot(u, y, label="u on x = 1/2, against y")
axes[2].plot(x, v, label="v on y = 1/2, against x")
y, u, x, v = ghia(100)
axes[2].plot(u, y, "ko", markersize=4, label="Ghia, Ghia & Shin (1982)")
axes[2].plot(x, v, "ko", markersize=4)
axes[2].legend(fontsize=8)
figure.savefig("flow_in_a_cavity.png", dpi=120)

# %% What this example claims
assert steady.converged
assert off["u"] < 0.01
assert off["v"] < 0.01
assert abs(float(-steady.value.min()) / 0.10352 - 1) < 0.01
assert worst < 1.01e-8
