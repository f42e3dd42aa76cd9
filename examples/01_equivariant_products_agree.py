"""One tensor, three formats: equivariant products that agree to the last digits.

You learn what a tensor product of equivariant features is (a bilinear map given by a third-order
tensor, the coupling), in which formats the library stores that tensor (dense, a small matrix per
edge, a CP decomposition), that the exact formats give the same numbers at different cost, and what
a certificate says of a CP of lower rank: how much equivariance the saving costs.
"""

# %% Features of twelve edges: harmonics up to degree 2 in eight channels, and an edge's harmonics
import torch

from tensornet.formats import cp
from tensornet.products import ClebschGordanProduct, CPProduct, EdgeProduct, coupling
from tensornet.so3 import spherical_harmonics, wigner_d

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

# %% What this example claims
assert max(differences) < 1e-11, differences
assert max(defects) < 1e-11, defects
assert certificates[8].equivariance < 1e-12
lower = [certificates[rank].equivariance for rank in (7, 6, 5)]
assert 1e-3 < lower[0] < lower[1] < lower[2], lower
assert abs(found.relative_error - measured) < 1e-12
