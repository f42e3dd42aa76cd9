"""Speed, expressivity, exactness: the picture of equivariant products, computed.

You learn what each product of the library computes and what it gives up: how many paths couple, how
many independent maps it can make (its expressivity), how often it multiplies, and how far it is
from equivariance; how one knob, the path rank, runs from the Gaunt product to all of
Clebsch-Gordan; and how to let the machine choose.
"""

# %% Every product, degree by degree
import tempfile

import matplotlib as mpl
import torch

from tensornet.products import (
    ClebschGordanProduct,
    CPProduct,
    EdgeProduct,
    GauntProduct,
    MatrixProduct,
    PathRankProduct,
    coupling,
    select,
)

mpl.use("Agg")
import matplotlib.pyplot as plt

torch.set_default_dtype(torch.float64)
CHANNELS = 64
makers = {
    "weight per path": lambda l_max: ClebschGordanProduct(l_max, "path"),
    "edge matrix": EdgeProduct,
    "CP, rank 7 l_max²": lambda l_max: CPProduct(l_max, 7 * l_max**2),
    "Gaunt": GauntProduct,
    "Gaunt and bracket": lambda l_max: GauntProduct(l_max, odd_paths=True),
    "path rank, exact": PathRankProduct,
    "matrix": MatrixProduct,
}
picture: dict[str, list[tuple[int, int, int, float, float]]] = {name: [] for name in makers}
words = ("product", "l_max", "paths", "expressivity", "multiplies", "loss of equivariance")
print("{:18} {:>5} {:>5} {:>12} {:>10} {:>20}".format(*words))
for name, make in makers.items():
    for l_max in (1, 2) if name.startswith("CP") else (1, 2, 3):
        product = make(l_max)
        paths, expressivity = len(product.interactability()), product.expressivity()
        multiplies = product.cost(1, CHANNELS).multiplies / CHANNELS  # per pair and channel
        loss = product.certificate().equivariance
        picture[name].append((l_max, paths, expressivity, multiplies, loss))
        print(f"{name:18} {l_max:5d} {paths:5d} {expressivity:12d} {multiplies:10.0f} {loss:20.0e}")

# %% The knob: each copy of the Gaunt product buys paths back, and all ranks are equivariant
print(f"\n{'path rank':>9} {'expressivity':>12} {'distance':>9} {'loss of equivariance':>20}")
knob = []
for rank in (1, 2, 3):
    product = PathRankProduct(3, rank)
    certificate = product.certificate()
    knob.append((product.expressivity(), certificate.approximation, certificate.equivariance))
    print("{:9d} {:12d} {:9.0e} {:20.0e}".format(rank, *knob[-1]))

# %% One Gaunt product, several methods: let the machine choose, and say why
x, y = torch.randn(200, 16, 8), torch.randn(200, 16, 1)
expected = torch.einsum("ijk,nic,njb->nkc", coupling("gaunt", 3), x, y)
with tempfile.TemporaryDirectory() as folder:  # without `cache` the answer is kept for next time
    chosen = select("gaunt", 3, n=200, channels=8, cache=folder)
print(f"\n{chosen}")
difference = float((chosen.product(x, y) - expected).abs().max())

# %% The picture
figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
titles = ("expressivity", "multiplications per pair and channel", "loss of equivariance")
for axis, title, column in zip(axes, titles, (2, 3, 4), strict=True):
    for k, (name, rows) in enumerate(picture.items()):  # thinner and thinner: many coincide
        values = [max(row[column], 1e-17) for row in rows]
        size = {"linewidth": 7 - k, "markersize": 12 - 1.5 * k}
        axis.plot([row[0] for row in rows], values, "o-", label=name, **size)
    axis.set(title=title, xlabel="l_max", xticks=(1, 2, 3), yscale="log")
axes[2].legend(fontsize=7)
figure.savefig("products.png", dpi=120)

# %% What this example claims
exact = [rows for name, rows in picture.items() if not name.startswith("CP")]
assert all(row[4] < 1e-12 for rows in exact for row in rows)
assert all(row[4] > 1e-3 for row in picture["CP, rank 7 l_max²"])
assert [row[2] for row in picture["Gaunt"]] == [4, 7, 10]  # 3 l_max + 1
assert [row[2] for row in picture["weight per path"]] == [5, 15, 34]
assert [row[0] for row in knob] == [17, 31, 34]
assert knob[0][1] > 1e-2 > 1e-12 > knob[1][1]
assert all(row[2] < 1e-12 for row in knob)
assert difference < 1e-12
