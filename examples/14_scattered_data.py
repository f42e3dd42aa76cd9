"""A field over stations and time from scattered observations, with error bars and without a grid.

You learn how to fit a functional Tucker model to observations at irregular places and times, how to
predict where nothing was observed, what its error bars are worth beside simple baselines, and how
to take the result to a grid as a tensor format. It draws the field and one series with its band.
"""

# %% Observations: 30 places, 80 irregular times, a quarter of the pairs, noise of known size
import matplotlib as mpl
import torch
from torch import Tensor

from tensornet.functional import FunctionalTucker, Matern, StateSpaceGP

mpl.use("Agg")
import matplotlib.pyplot as plt

torch.set_default_dtype(torch.float64)
g = torch.Generator().manual_seed(0)
NOISE, DAYS = 0.2, 20.0


def field(x: Tensor) -> Tensor:  # (n, 3) -> (n,)
    """A gradient in the plane, and a season whose phase moves with the place."""
    a, b, t = x.mT
    return 2 * a - b + torch.sin(0.6 * t) * (0.5 + a) + 1.5 * torch.cos(0.6 * t) * b**2


places, times = torch.rand(30, 2, generator=g), DAYS * torch.rand(80, generator=g)
pairs = torch.cartesian_prod(torch.arange(30), torch.arange(80))
pairs = pairs[torch.randperm(len(pairs), generator=g)[:600]]
x = torch.cat([places[pairs[:, 0]], times[pairs[:, 1], None]], 1)
y = field(x) + NOISE * torch.randn(len(x), generator=g)

# %% One mode alone, exactly: Gaussian-process regression in linear time, here of all over time
line = StateSpaceGP(Matern(1.5, length_scale=3.0), noise=1.0).fit(x[:, 2], y - y.mean(), learn=True)
scale = float(line.kernel.length_scale)
print(f"over time alone: length scale {scale:.1f} days, unexplained {line.noise**0.5:.2f}")

# %% All modes: factors are functions of each coordinate, length scales are found
model = FunctionalTucker((2, 3, 3), nu=1.5).fit(x, y)
print(model.message)
scales = ", ".join(f"{float(k.length_scale):.2f}" for k in model.kernels)
print(f"length scales {scales}; noise {model.noise**0.5:.3f}, true {NOISE}")

# %% Predict at new places and new times, beside baselines
new = torch.rand(3000, 3, generator=g) * torch.tensor([1.0, 1.0, DAYS])
truth = field(new)
mean, variance = model.predict(new)
fresh = truth + NOISE * torch.randn(len(new), generator=g)
wide = model.predict(new, noise=True)[1]
inside = float(((mean - fresh).abs() < 1.645 * wide.sqrt()).double().mean())
errors = {
    "mean": float((y.mean() - truth).square().mean().sqrt()),
    "time alone": float((y.mean() + line.predict(new[:, 2])[0] - truth).square().mean().sqrt()),
    "functional Tucker": float((mean - truth).square().mean().sqrt()),
}
for name, error in errors.items():
    print(f"{name:18} root mean square error {error:.3f}")
print(f"{inside:.0%} of new observations are inside the band of 90 %")

# %% The mean on a grid, as a Tucker tensor: a million entries from some hundred numbers
axes = [torch.linspace(0, 1, 100), torch.linspace(0, 1, 100), torch.linspace(0, DAYS, 100)]
grid = model.on_grid(axes)
print(f"grid of {grid.shape}, ranks {grid.ranks}: {grid.n_parameters} numbers")

# %% The picture
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
day = grid[:, :, 50].to_dense().mT.numpy()
drawn = left.pcolormesh(axes[0].numpy(), axes[1].numpy(), day, cmap="viridis")
left.plot(*places.mT.numpy(), "k.", label="places")
left.set(title="half time", xlabel="first coordinate", ylabel="second coordinate")
left.legend(loc="lower left", fontsize=7)
figure.colorbar(drawn, ax=left)
t = torch.linspace(0, 1.3 * DAYS, 300)
series = torch.stack([torch.full_like(t, 0.8), torch.full_like(t, 0.7), t], 1)
middle, spread = (z.numpy() for z in model.predict(series))
band = 1.645 * spread**0.5
right.fill_between(t.numpy(), middle - band, middle + band, alpha=0.3, label="90 %")
right.plot(t.numpy(), middle, label="posterior mean")
right.plot(t.numpy(), field(series).numpy(), "k--", label="truth")
right.axvline(DAYS, color="0.7")
right.set(title="a place without a station; future", xlabel="days")
right.legend(fontsize=7)
figure.savefig("scattered_data.png", dpi=100)

# %% What this example claims
assert model.converged
assert errors["functional Tucker"] < 0.5 * NOISE < 0.2 * errors["time alone"]
assert 0.85 < inside < 0.95
assert abs(model.noise**0.5 / NOISE - 1) < 0.15
assert spread[-1] > 5 * spread[:200].mean()  # it knows where it knows nothing
