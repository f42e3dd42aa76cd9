"""One tensor, three formats: equivariant products that agree to the last digits.

You learn what a tensor product of equivariant features is (a bilinear map given by a third-order
tensor, the coupling), in which formats the library stores that tensor (dense, a small matrix per
edge, a CP decomposition), that the exact formats give the same numbers at different cost, and what
a certificate says of a CP of lower rank: how much equivariance the saving costs. The picture shows
a result as a function on the sphere, multiplied and turned in either order.
"""

# %% Features of twelve edges: harmonics up to degree 2 in eight channels, and an edge's harmonics
import matplotlib as mpl
import torch

from tensornet.formats import cp
from tensornet.products import ClebschGordanProduct, CPProduct, EdgeProduct, coupling
from tensornet.so3 import spherical_harmonics, wigner_d

mpl.use("Agg")
import matplotlib.pyplot as plt

torch.set_default_dtype(torch.float64)
torch.manual_seed(1729)
L_MAX, CHANNELS = 2, 8
x = torch.randn(12, (L_MAX + 1) ** 2, CHANNELS)
edges = torch.randn(12, 3)
y = spherical_harmonics(edges, L_MAX)[..., None]

# %% The same product in three formats
products = {
    "sparse coupling": ClebschGordanProduct(L_MAX),
    "matrix per edge": EdgeProduct(L_MAX),
    "CP of exact rank": CPProduct(L_MAX),
}
dense = coupling("clebsch_gordan", L_MAX)
expected = torch.einsum("ijk,eic,ej->ekc", dense, x, y[..., 0])  # the definition
print(f"{'format':18} {'largest difference':>19} {'multiplications per edge':>25}")
differences = []
for name, product in products.items():
    differences.append(float((product(x, y) - expected).abs().max()))
    multiplications = product.cost(1, CHANNELS).multiplies
    print(f"{name:18} {differences[-1]:19.1e} {multiplications:25d}")

# %% Turn space: features and edge turn, and the result turns with them
turn = torch.linalg.qr(torch.randn(3, 3)).Q
turn *= torch.linalg.det(turn).sign()
D = wigner_d(L_MAX, turn)
y_turned = spherical_harmonics(edges @ turn.mT, L_MAX)[..., None]
defects = [float((p(D @ x, y_turned) - D @ p(x, y)).abs().max()) for p in products.values()]
print(f"\nafter a rotation the results differ by at most {max(defects):.1e}")

# %% Lower ranks are cheaper and no longer equivariant: their certificate says by how much
print(f"\n{'l_max 1, rank':>13} {'distance from target':>21} {'loss of equivariance':>21}")
certificates = {rank: CPProduct(1, rank).certificate() for rank in (8, 7, 6, 5)}
for rank, c in certificates.items():
    print(f"{rank:13d} {c.approximation:21.1e} {c.equivariance:21.1e}")

# %% The error that a decomposition reports is no estimate: it is that of the dense tensors
target = coupling("clebsch_gordan", 1)
found = cp(target, 6, max_iterations=300, seed=0)
measured = float((found.value.to_dense() - target).norm() / target.norm())
print(f"\nrank 6: `formats.cp` reports {found.relative_error:.6e}, measured {measured:.6e}")

# %% The picture: what a low rank does to one result, drawn as a function on the sphere
low = CPProduct(L_MAX, 16)
shapes = {
    "multiply, then turn\n(any exact format)": D @ products["CP of exact rank"](x, y),
    "turn, then multiply\n(CP of exact rank)": products["CP of exact rank"](D @ x, y_turned),
    "multiply, then turn\n(CP of rank 16)": D @ low(x, y),
    "turn, then multiply\n(CP of rank 16)": low(D @ x, y_turned),
}
polar, azimuth = torch.linspace(0, torch.pi, 60)[:, None], torch.linspace(0, 2 * torch.pi, 120)
ring = polar.sin()
sphere = torch.stack([ring * azimuth.cos(), ring * azimuth.sin(), polar.cos() + 0 * azimuth], -1)
figure = plt.figure(figsize=(12, 3.0))
for k, (title, feature) in enumerate(shapes.items()):
    f = spherical_harmonics(sphere, L_MAX) @ feature[0, :, 6]  # radius: size, colour: sign
    surface = (f.abs()[..., None] * sphere / f.abs().max()).unbind(-1)
    axis = figure.add_axes((0.25 * k, -0.1, 0.25, 1.0), projection="3d")
    colours = plt.get_cmap("coolwarm")((0.5 + 0.4 * f / f.abs().max()).numpy())
    axis.plot_surface(*(c.numpy() for c in surface), facecolors=colours, rstride=1, cstride=1)
    axis.set(xlim=(-0.7, 0.7), ylim=(-0.7, 0.7), zlim=(-0.7, 0.7), aspect="equal")
    axis.set_axis_off()
    figure.text(0.25 * k + 0.125, 0.84, title, ha="center")
figure.savefig("equivariant_products_agree.png", dpi=100)

# %% What this example claims
assert max(differences) < 1e-11, differences
assert max(defects) < 1e-11, defects
assert certificates[8].equivariance < 1e-12
lower = [certificates[rank].equivariance for rank in (7, 6, 5)]
assert 1e-3 < lower[0] < lower[1] < lower[2], lower
assert abs(found.relative_error - measured) < 1e-12
