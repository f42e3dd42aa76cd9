"""Relax many structures at once, then hand the potential to LAMMPS: the same numbers in both.

You learn how `relax_many` gives each structure an optimiser of its own and evaluates all in one
batch, how vacancies of a crystal follow from that, and how `run_lammps` runs an ordinary LAMMPS
input file whose pair style is a model of this library. The potential is Lennard-Jones, for argon;
with the name of a trained model file in place of `argon` the rest stays as it is.
"""

# %% A crystal of argon, and the same with one and with two atoms missing
from pathlib import Path

import matplotlib as mpl
import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.io import write
from ase.md.verlet import VelocityVerlet

from tensornet.calculators import PotentialCalculator, relax_many, run_lammps
from tensornet.models import build, save

mpl.use("Agg")
import matplotlib.pyplot as plt

argon = build(
    {"name": "lennard_jones", "epsilon": 0.0104, "sigma": 3.40, "cutoff": 8.0},
    elements=[18],
    reference_energies={18: 0.0},
)
perfect = bulk("Ar", "fcc", a=5.27, cubic=True).repeat(2)
vectors = perfect.get_all_distances(mic=True)[0]
near, far = int(np.argsort(vectors)[1]), int(np.argmax(vectors))
gone = {"vacancy": [0], "two, adjacent": [0, near], "two, apart": [0, far]}
structures = [perfect]
for missing in gone.values():
    defect = perfect.copy()
    del defect[missing]
    defect.rattle(0.02, seed=1)
    structures.append(defect)

# %% All of them relaxed, in the cell that the perfect crystal takes
cell = relax_many([perfect], argon, fmax=1e-4, cell=True).structures[0].cell
for atoms in structures:
    atoms.set_cell(cell, scale_atoms=True)
done = relax_many(structures, argon, fmax=1e-4)
bond = done.energies[0] / len(perfect)
formed = [e - bond * len(a) for e, a in zip(done.energies, done.structures, strict=True)]
for name, energy, n in zip(["perfect", *gone], formed, done.n_steps, strict=True):
    print(f"{name:14} {1000 * energy:8.2f} meV after {n} steps")
binding = formed[3] - formed[2]
print(f"two vacancies side by side are {1000 * binding:.2f} meV lower than apart")

# %% The relaxed vacancy, a little warm, as an input file for LAMMPS
SCRIPT = """units metal
atom_modify map array
read_data vacancy.data
mass 1 39.948
pair_style tensornet
pair_coeff * * argon.safetensors Ar
fix 1 all nve
timestep 0.005
thermo 100
run 100
"""
vacancy: Atoms = done.structures[1]
save(argon, "argon.safetensors")
vacancy.set_momenta(np.random.default_rng(0).normal(size=(len(vacancy), 3)))
write("vacancy.data", vacancy, format="lammps-data", velocities=True, units="metal")
Path("in.lammps").write_text(SCRIPT, encoding="utf-8")
lmp = run_lammps("in.lammps", ["-log", "none", "-screen", "none"])
theirs = float(lmp.get_thermo("pe"))

# %% The same dynamics by ASE
ours = vacancy.copy()
ours.calc = PotentialCalculator(argon)
VelocityVerlet(ours, timestep=5 * units.fs).run(100)
print(f"after 0.5 ps: LAMMPS {theirs:.6f} eV, ASE {ours.get_potential_energy():.6f} eV")

# %% The picture: how atoms move towards what is missing, from above, and what the defects cost
figure, axes = plt.subplots(1, 4, figsize=(14, 3.8), layout="constrained")
for axis, (name, missing), atoms in zip(axes, gone.items(), done.structures[1:], strict=False):
    sites = (perfect.positions + 0.55 * cell.lengths()) % cell.lengths()
    moved = atoms.positions - np.delete(perfect.positions, missing, axis=0)
    moved -= moved.mean(axis=0)
    arrows = (*np.delete(sites, missing, axis=0).T[:2], *moved.T[:2], np.linalg.norm(moved, axis=1))
    axis.plot(*arrows[:2], "o", color="0.85", markersize=10)
    axis.quiver(*arrows, angles="xy", scale_units="xy", scale=0.02, width=0.012, cmap="viridis_r")
    axis.plot(*sites[missing].T[:2], "o", color="C3", markersize=14, fillstyle="none")
    axis.set(title=f"{name}: shifts, 50 times", xlabel="x, Å", ylabel="y, Å", aspect="equal")
    axis.margins(0.15)
axes[3].bar(list(gone), 1000 * np.array(formed[1:]))
axes[3].set_title("energy of formation, meV")
figure.savefig("many_structures_and_lammps.png", dpi=100)

# %% What this example claims
assert done.converged.all(), done.messages
assert 0.05 < formed[1] < 0.12, formed  # argon's cohesive energy is 0.08 eV
assert binding > 0, formed
assert abs(theirs - ours.get_potential_energy()) < 1e-5, theirs
