"""Learn a density on a grid that cannot be stored, from a few thousand of its entries.

You learn how to pick entries of a tensor that a network gives, how a tensor train follows from
them with derivatives to the network, and how integrals over all of the grid become a loss.
It draws the marginal densities and the loss.
"""

# %% Eight coordinates, 20 points each: a grid of 10^10 entries, with the weights of a quadrature
import matplotlib as mpl
import numpy as np
import torch
from torch import Tensor, nn

from tensornet.formats import TensorTrain
from tensornet.functional import integral, pick

mpl.use("Agg")
import matplotlib.pyplot as plt

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
DIM, POINTS = 8, 20
nodes, w = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(POINTS))
nodes, w = 3 * nodes, 3 * w  # Gauss-Legendre on [-3, 3]
axes = [nodes] * DIM


# %% An unnormalised density: independent coordinates, and an energy of a network that couples them
class Density(nn.Module):
    """A chain of neighbours whose pair energy is a small network."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = nn.Sequential(nn.Linear(2, 12), nn.Tanh(), nn.Linear(12, 1))

    def forward(self, x: Tensor) -> Tensor:  # (n, DIM) -> (n,)
        """Density at points, not normalised."""
        pairs = torch.stack([x[:, :-1], x[:, 1:]], -1)
        return torch.exp(-x.square().sum(1) / 2 - self.pair(pairs).sum((1, 2)))


def moments(train: TensorTrain) -> Tensor:  # (2 DIM - 1,)
    """Squares and products of neighbours: integrals over the whole grid, one train each."""
    one = [w] * DIM
    powers = [[w * nodes**2 if k == j else w for k in range(DIM)] for j in range(DIM)]
    pairs = [[w * nodes if k in (j, j + 1) else w for k in range(DIM)] for j in range(DIM - 1)]
    found = torch.stack([integral(train, weights) for weights in [*powers, *pairs]])
    return found / integral(train, one)


# %% What is to be matched: moments of a Gaussian chain, in closed form
step_matrix = torch.diff(torch.eye(DIM), dim=0)  # differences of neighbours
chain = torch.eye(DIM) + 0.5 * step_matrix.mT @ step_matrix  # the inverse covariance
C = torch.linalg.inv(chain)
target = torch.cat([C.diagonal(), C.diagonal(1)])

# %% Train through picked entries; pick again now and then
density = Density()
optimizer = torch.optim.Adam(density.parameters(), lr=0.03)
losses, sizes, errors = [], [], []
for step in range(48):
    if step % 12 == 0:
        picking = pick(density, axes, tolerance=1e-3, max_rank=8, seed=step)
        sizes.append(len(picking.indices))
    loss = (moments(picking(density)) - target).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
    if step % 12 == 11:
        errors.append(picking.error(density))
        print(f"step {step + 1:3d}: loss {losses[-1]:.2e}, picked {sizes[-1]} of {POINTS**DIM:.1e}"
              f" entries, error at others {errors[-1]:.1e}")  # fmt: skip

# %% Moments of the learned density, by a train it was not trained with
train = pick(density, axes, tolerance=1e-4, max_rank=12, seed=99)(density)
found = moments(train).detach()
print(f"largest error of a moment {(found - target).abs().max():.1e} of {target.max():.2f}")

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
left.semilogy(losses)
left.set(xlabel="step", ylabel="mean squared error of moments")
for k in (0, DIM // 2):
    others = [w if j != k else torch.ones(POINTS) for j in range(DIM)]
    cores = [core * v[:, None] for core, v in zip(train.cores, others, strict=True)]
    marginal = TensorTrain(tuple(cores)).sum([j for j in range(DIM) if j != k]).to_dense().detach()
    right.plot(nodes, marginal / (marginal @ w), label=f"coordinate {k}")
right.set(xlabel="x", ylabel="marginal density")
right.legend()
figure.savefig("picked_entries.png", dpi=100)

# %% What this example claims
assert max(sizes) < 1e-6 * POINTS**DIM
assert losses[-1] < 0.02 * losses[0], losses
assert max(errors) < 0.1
