"""One idea, several formats: what it costs to store a tensor, a function, a quantum state.

You learn how to compress a dense tensor (Tucker, CP, tensor train) with an error that is measured
and not guessed, how to store a tensor that is too large to be written down from few of its
entries, how to calculate with it, and how the same format holds the ground state of a spin chain.
"""

# %% A dense tensor of a smooth function, in three formats
import math

import matplotlib as mpl
import torch

from tensornet.formats import cp, cross, spin_chain, tensor_train, tucker
from tensornet.linalg import ground_state

mpl.use("Agg")
import matplotlib.pyplot as plt

torch.set_default_dtype(torch.float64)
grid = torch.linspace(0, 1, 40)
x = 1 / (1 + grid[:, None, None] + grid[:, None] + grid)
found = {
    "Tucker": tucker(x, tolerance=1e-6),
    "tensor train": tensor_train(x, tolerance=1e-6),
    "CP": cp(x, 6, tolerance=1e-6),
}
print(f"{'format':13} {'ranks':>16} {'numbers':>8} {'error reported':>15} {'measured':>9}")
ratios = []
for name, result in found.items():
    measured = float((result.value.to_dense() - x).norm() / x.norm())
    ratios.append(measured / result.relative_error)
    ranks, numbers = str(result.value.ranks), result.value.n_parameters
    print(f"{name:13} {ranks:>16} {numbers:8d} {result.relative_error:15.2e} {measured:9.2e}")
print(f"dense: {x.numel()} numbers")


# %% A tensor of 20^10 entries, from a few thousand of them
def function(indices: torch.Tensor) -> torch.Tensor:  # (n, 10) -> (n,)
    """Give entries at rows of indices."""
    return 1 / (1 + indices.sum(1) / 19)


big = cross(function, (20,) * 10, tolerance=1e-8, seed=0)
print(
    f"\ncross: {big.n_evaluations} of 20^10 entries asked, held-out error {big.relative_error:.0e}"
)

# %% Calculate with it: the mean of all entries, which no loop could visit
mean = float(big.value.sum()) / 20.0**10
sampled = float(function(torch.randint(20, (200_000, 10))).mean())
print(f"mean of all entries {mean:.6f}, of 200,000 random ones {sampled:.6f}")

# %% Sums and products grow ranks, rounding brings them down again
double = big.value + big.value
rounded = double.round(tolerance=1e-10)
print(f"ranks of x {max(big.value.ranks)}, x + x {max(double.ranks)}, rounded {max(rounded.ranks)}")

# %% The ground state of ten spins, of 2^10 amplitudes, as a matrix product state
chain = spin_chain(10, xx=1.0, yy=1.0, zz=1.0)
state = ground_state(chain, max_rank=32)
entropy = float(state.value.entropies()[4])
print(f"\nHeisenberg chain of 10 spins: {state.energy:.10f}, ranks {state.value.ranks}")
print(f"entanglement entropy of its halves {entropy:.6f}, at most {5 * math.log(2):.3f}")

# %% The picture: numbers against errors, and what the matrix product state knows of the spins
curves = {
    "Tucker": [tucker(x, tolerance=10.0**-k) for k in range(1, 11)],
    "tensor train": [tensor_train(x, tolerance=10.0**-k) for k in range(1, 11)],
    "CP": [cp(x, rank, seed=0) for rank in range(1, 7)],
}
figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
for name, results in curves.items():
    errors = [result.relative_error for result in results]
    axes[0].loglog([result.value.n_parameters for result in results], errors, "o-", label=name)
axes[0].axvline(x.numel(), color="k", linestyle=":", label="dense")
axes[0].set(title="1 / (1 + x + y + z) on 40 x 40 x 40 points", xlabel="numbers stored")
axes[0].set_ylabel("relative error")
axes[0].legend()
probability = state.value.to_dense() ** 2  # ten modes of two: up and down
spins = torch.stack(torch.meshgrid([torch.tensor([0.5, -0.5])] * 10, indexing="ij"))
correlations = torch.einsum("i...,j...,...->ij", spins, spins, probability)
image = axes[1].imshow(correlations.numpy(), cmap="RdBu_r", vmin=-0.25, vmax=0.25)
figure.colorbar(image, ax=axes[1])
axes[1].set(title="correlations of spins, <Sz Sz>", xlabel="site", ylabel="site")
axes[2].bar(range(1, 10), state.value.entropies().numpy())
axes[2].set(title="entanglement entropy of the cut", xlabel="sites on the left")
figure.savefig("tensor_formats.png", dpi=100)

# %% What this example claims
assert all(0.5 <= ratio <= 1.0001 for ratio in ratios), ratios
assert big.converged
assert big.n_evaluations < 50_000
assert abs(mean / sampled - 1) < 1e-3
assert max(rounded.ranks) <= max(big.value.ranks)
assert abs(state.energy + 4.2580352073) < 1e-8
