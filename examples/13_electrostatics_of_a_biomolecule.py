"""The electric field of a protein helix: from internal coordinates to a picture of its potential.

You learn how to make the potential of charges, in Chebyshev-Tucker form plus a short range, and to
hand them to ASE. They are alanine's in Cornell et al., J. Am. Chem. Soc. 117, 5179 (1995).
"""

# %% An ideal alpha helix, atom by atom: bonds in Å, angles and torsions in degrees
import matplotlib as mpl
import numpy as np
import torch
from ase import Atoms

from tensornet.calculators import PointChargeCalculator
from tensornet.functional import COULOMB, RangeSeparated

mpl.use("Agg")
import matplotlib.pyplot as plt

CHARGES = {"N": -0.4157, "H": 0.2719, "CA": 0.0337, "HA": 0.0823, "CB": -0.1825, "HB": 0.0603,
           "C": 0.5973, "O": -0.5679}  # fmt: skip


def place(a, b, c, bond, angle, torsion):
    """An atom bound to c, at an angle with b and a torsion with a."""
    along = (c - b) / np.linalg.norm(c - b)
    out = np.cross(b - a, along) / np.linalg.norm(np.cross(b - a, along))
    t, p = np.radians([angle, torsion])
    turned = np.cos(p) * np.cross(out, along) + np.sin(p) * out
    return c + bond * (np.sin(t) * turned - np.cos(t) * along)


def helix(residues, phi=-57.0, psi=-47.0):
    """Names and places of the atoms, the axis along z, from the N to the C terminus."""
    n, ca, atoms = np.zeros(3), np.array([1.458, 0, 0]), []
    c = place(np.array([0, 1.0, 0]), n, ca, 1.525, 111.2, 180.0)
    h = place(c, ca, n, 1.01, 119.0, phi + 180)
    for _ in range(residues):
        side, back = 0.5827 * np.cross(ca - n, c - ca), 0.5680 * (ca - n) - 0.5407 * (c - ca)
        cb, o = ca + back - side, place(n, ca, c, 1.231, 120.1, psi + 180)  # the L form
        ha = ca + 1.09 * (back + side) / np.linalg.norm(back + side)
        atoms += [("N", n), ("H", h), ("CA", ca), ("HA", ha), ("CB", cb), ("C", c), ("O", o)]
        atoms += [("HB", place(n, ca, cb, 1.09, 109.5, torsion)) for torsion in (60, 180, 300)]
        n, old = place(n, ca, c, 1.329, 116.6, psi), (ca, c)
        h, ca = place(*old, n, 1.01, 119.0, 0.0), place(*old, n, 1.458, 121.7, 180.0)
        c = place(old[1], n, ca, 1.525, 111.2, phi)
    names, x = zip(*atoms, strict=True)
    x = np.array(x) - np.mean(x, axis=0)
    axes = np.linalg.svd(x[2::10])[2][[1, 2, 0]]  # of the CA
    axes[2] *= np.sign(axes[2] @ (x[-1] - x[0]))
    return names, x @ axes.T * [np.linalg.det(axes), 1, 1]  # a turn, not a mirror


names, x = helix(24)
q = np.array([CHARGES[name] for name in names])
rise, dipole = np.ptp(x[2::10, 2]) / 23, q @ x[:, 2] / 24 / 0.20819
print(f"{len(x)} atoms, {rise:.2f} Å and {dipole:.1f} debye per residue, along the axis")

# %% Its potential, on a slice: one function of space, and a short range
box = [(low - 9.0, high + 9.0) for low, high in zip(x.min(0), x.max(0), strict=True)]
places, charges = torch.tensor(x), torch.tensor(q)
field = RangeSeparated(places, charges, box=box, tolerance=1e-7)
y, z = (torch.linspace(*side, 240, dtype=torch.float64) for side in box[1:])
points = torch.cartesian_prod(y.new_tensor([0.1]), y, z)
potential = COULOMB * field.potential(points)
error = float((potential - COULOMB / torch.cdist(points, places) @ charges).abs().max())
ranks = field.long_range.round(tolerance=1e-7).ranks
print(f"ranks {ranks}; {len(points)} points agree with the direct sum to {error:.1e} V")

# %% Two helices side by side, by ASE: antiparallel ones attract each other
both, alone = {}, 2 * COULOMB * float(field.energy)
for name, other in (("parallel", x), ("antiparallel", x * [1, -1, -1])):
    pair = Atoms([atom[0] for atom in names * 2], np.vstack([x, other + np.array([10.0, 0, 0])]))
    both[name] = PointChargeCalculator(np.tile(q, 2)).get_potential_energy(pair) - alone
    print(f"{name:12} {both[name]:+.2f} eV in vacuum")

# %% The picture: a slice, and the centres of water that touches the atoms
torch.manual_seed(0)
ball = torch.nn.functional.normalize(torch.randn(400, 3).double()).numpy()
radii = 1.4 + np.array([{"H": 1.2, "C": 1.7, "N": 1.55, "O": 1.52}[name[0]] for name in names])
shell = (x[:, None] + radii[:, None, None] * ball).reshape(-1, 3)
shell = shell[(np.linalg.norm(shell[:, None] - x, axis=-1) > radii - 1e-6).all(1)]
shell = shell[np.argsort(shell[:, 0])]  # the nearest last
colours = COULOMB * field.potential(torch.tensor(shell))
figure, axes = plt.subplots(2, 1, figsize=(8, 6), layout="constrained", sharex=True)
on_slice = z.numpy(), y.numpy(), potential.reshape(240, 240).numpy().clip(-3, 3)
axes[0].contourf(*on_slice, levels=np.linspace(-3, 3, 41), cmap="RdBu")
axes[0].contour(*on_slice, [-1, -0.5, 0, 0.5, 1], colors="k", linewidths=0.5)
dots = axes[1].scatter(*shell.T[[2, 1]], 6, colours.numpy(), cmap="RdBu", vmin=-3, vmax=3)
axes[0].set(title="slice through the axis, from the N to the C terminus", aspect="equal")
axes[1].set(title="where water touches", xlabel="Å", ylabel="Å", aspect="equal")
figure.colorbar(dots, ax=axes, label="potential, V")
figure.savefig("electrostatics_of_a_biomolecule.png", dpi=110)

# %% What this example claims
assert abs(rise - 1.5) < 0.1
assert -5.5 < dipole < -3  # from C to N: as if half a charge stood at either end
assert error < 1e-5
assert both["antiparallel"] < 0 < both["parallel"]
