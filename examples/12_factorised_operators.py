"""Operators with a tenth of the parameters: factorised spectral convolutions and linear layers.

You learn how to make a Fourier neural operator whose weights are Tucker tensors, how well it learns
the flow of Burgers' equation beside the dense one, that both answer on grids that they never saw,
and how to compress a linear layer with an error that is measured.
"""

# %% Data: Burgers' equation u_t + u u_x = 0.01 u_xx on a circle, from smooth random fields
import math

import matplotlib as mpl
import torch

from tensornet.layers import FactorizedLinear
from tensornet.models import FourierNeuralOperator

mpl.use("Agg")
import matplotlib.pyplot as plt

torch.manual_seed(0)
N, NU, STEPS, TIME = 256, 0.01, 200, 0.3


def flow(u: torch.Tensor) -> torch.Tensor:  # (n, N) -> (n, N)
    """Follow the fields: diffusion exactly, u u_x by the midpoint rule, two thirds of the modes."""
    k = 2 * math.pi * torch.arange(N // 2 + 1, dtype=torch.float64)
    kept, half = k < 2 * math.pi * N / 3, TIME / STEPS / 2
    decay = torch.exp(-NU * k**2 * half)

    def push(v: torch.Tensor) -> torch.Tensor:
        return -0.5j * k * kept * torch.fft.rfft(torch.fft.irfft(v, n=N).square())

    v = torch.fft.rfft(u)
    for _ in range(STEPS):
        middle = decay * (v + half * push(v))
        v = decay**2 * v + 2 * half * decay * push(middle)
    return torch.fft.irfft(v, n=N)


k = torch.arange(1, 5)[:, None]
waves = torch.exp(2j * math.pi * k * torch.arange(N, dtype=torch.float64) / N) / k
u = (torch.randn(240, 4, dtype=torch.complex128) @ waves).real
fields, results = u.float()[:, None], flow(u).float()[:, None]
coarse = (fields[..., ::4], results[..., ::4])  # trained on 64 points
train, test = slice(0, 200), slice(200, None)

# %% A dense operator and one with Tucker weights, trained alike
found = {}
for name, words in {"dense": {}, "Tucker": {"factorization": "tucker", "rank": 0.1}}.items():
    torch.manual_seed(1)
    model = FourierNeuralOperator(24, 1, 1, 20, 2, **words)
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 8e-3, total_steps=200)
    for _ in range(200):
        batch = torch.randint(0, 200, (16,))
        optimizer.zero_grad()
        (model(coarse[0][batch]) - coarse[1][batch]).square().mean().backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        pairs = [(model(x[test]), y[test]) for x, y in (coarse, (fields, results))]
        errors = [float((mine - y).norm() / y.norm()) for mine, y in pairs]
    size = sum(layer.n_parameters for layer in model.convolutions)
    found[name] = (size, *errors, pairs[1][0][0, 0])
    print(f"{name:7} {size:6d} spectral parameters, relative error", end=" ")
    print(f"{errors[0]:.3f} on 64 points, {errors[1]:.3f} on 256, never seen")

# %% Compress a linear layer: a smooth kernel, in two formats
t = torch.linspace(0, 1, 512)
dense = torch.nn.Linear(512, 512)
with torch.no_grad():
    dense.weight.copy_(1 / (1 + 20 * (t[:, None] - t).abs()))
compressed = []
for kind in ("low_rank", "tensor_train"):
    for tolerance in (1e-1, 1e-2, 1e-3):
        layer = FactorizedLinear.from_linear(dense, kind, tolerance=tolerance)
        compressed.append((kind, layer.compression, layer.relative_error, tolerance))
        print(f"{kind:12} {layer.compression:6.1f} times smaller, error {layer.relative_error:.1e}")

# %% The picture
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
x = torch.arange(N) / N
for y, colour, name in ((fields, "0.7", "before"), (results, "k", "after")):
    axes[0].plot(x, y[200, 0], colour, label=name)
for name, row in found.items():
    axes[0].plot(x, row[3], "--", label=f"{name}, {row[0]} parameters")
for kind, rows in (("low_rank", compressed[:3]), ("tensor_train", compressed[3:])):
    axes[1].loglog([row[1] for row in rows], [row[2] for row in rows], "o-", label=kind)
axes[0].set(title="Burgers' equation, on 256 points", xlabel="x")
axes[1].set(title="a linear layer", xlabel="times smaller", ylabel="relative error")
[axis.legend(fontsize=7) for axis in axes]
figure.savefig("factorised_operators.png", dpi=120)

# %% What this example claims
assert found["Tucker"][0] < 0.12 * found["dense"][0]
assert found["Tucker"][1] < 2 * found["dense"][1] < 0.2
assert all(abs(row[2] / row[1] - 1) < 0.5 for row in found.values())
assert all(row[2] <= row[3] for row in compressed)
