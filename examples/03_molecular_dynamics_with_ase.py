"""Molecular dynamics with ASE: a potential as a calculator, and an energy that stays.

You learn how `PotentialCalculator` makes any potential drive ASE, that forces which are derivatives
of the energy keep the total energy of a simulation at constant energy (NVE), how far a time step
may go, and what the skin of the neighbour list saves. The potential is Lennard-Jones, for argon;
with the name of a trained model file in place of `argon` the rest stays as it is.
"""

# %% A crystal of argon, a little warm
import matplotlib as mpl
import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.md.verlet import VelocityVerlet

from tensornet.calculators import PotentialCalculator
from tensornet.models import Potential, build

mpl.use("Agg")
import matplotlib.pyplot as plt

argon = build(
    {"name": "lennard_jones", "epsilon": 0.0104, "sigma": 3.40, "cutoff": 8.0},
    elements=[18],
    reference_energies={18: 0.0},
)
N_PICOSECONDS, TEMPERATURE = 1.0, 60.0


def crystal(seed: int = 31415) -> Atoms:
    """Make 32 atoms whose momenta belong to twice the temperature: half will be potential."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Ar", "fcc", a=5.27, cubic=True).repeat(2)
    momenta = np.sqrt(atoms.get_masses())[:, None] * rng.normal(size=(len(atoms), 3))
    momenta -= momenta.mean(axis=0)  # equal masses: the crystal as a whole stands still
    atoms.set_momenta(momenta)
    atoms.set_momenta(momenta * np.sqrt(2 * TEMPERATURE / atoms.get_temperature()))
    return atoms


# %% Run, and fit a line to the total energy
traces = {}  # what each run went through, for the picture


def drift(model: Potential, step: float) -> tuple[float, float, float, int]:
    """Give drift (meV/atom/ps), spread (meV/atom), mean temperature (K), neighbour lists made."""
    atoms = crystal()
    atoms.calc = PotentialCalculator(model, skin=1.0)
    run = VelocityVerlet(atoms, timestep=step * units.fs)
    energies, temperatures, positions = [], [], []
    for _ in run.irun(round(1000 * N_PICOSECONDS / step)):
        energies.append(1000 * atoms.get_total_energy() / len(atoms))
        temperatures.append(atoms.get_temperature())
        positions.append(atoms.positions.copy())
    times = 1e-3 * step * np.arange(len(energies))
    slope, offset = np.polyfit(times, energies, 1)
    spread = float(np.std(energies - slope * times - offset))
    traces[step] = (times, np.array(energies), np.array(temperatures), np.array(positions))
    later = float(np.mean(temperatures[len(temperatures) // 4 :]))
    return abs(float(slope)), spread, later, atoms.calc.n_builds


print(f"{'step':>8} {'drift, meV/atom/ps':>19} {'spread, meV/atom':>17} {'T':>9} {'lists':>6}")
results = {step: drift(argon, step) for step in (20.0, 10.0, 5.0)}
for step, (slope, spread, temperature, n_lists) in results.items():
    print(f"{step:5.0f} fs {slope:19.1e} {spread:17.1e} {temperature:7.1f} K {n_lists:6d}")

# %% The error of the Verlet method is of second order: half the step, a quarter of the spread
ratio = results[10.0][1] / results[5.0][1]
print(f"\nhalving the step from 10 to 5 fs divides the spread by {ratio:.2f}")

# %% The picture: the total energy by time step, the temperature, and the ways of the atoms
figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
for step, (times, energies, _, _) in traces.items():
    axes[0].plot(times, energies - energies.mean(), label=f"step of {step:.0f} fs")
times, _, temperatures, ways = traces[5.0]
axes[1].plot(times, temperatures, "C3")
axes[0].set(title="total energy less its mean, meV/atom", xlabel="time, ps")
axes[0].legend()
axes[1].set(title="temperature, K, with a step of 5 fs", xlabel="time, ps")
axes[1].axhline(TEMPERATURE, color="k", linewidth=0.8)
ways = ways[0] + 3 * (ways - ways[0])
for atom in np.flatnonzero(ways[0, :, 2] < 0.1):  # one layer
    axes[2].scatter(*ways[:, atom, :2].T, c=times, s=2)
    axes[2].plot(*ways[0, atom, :2], "k.")
axes[2].set(title="ways of the atoms, three times as long", xlabel="x, Å", ylabel="y, Å")
axes[2].set_aspect("equal")
figure.savefig("molecular_dynamics_with_ase.png", dpi=100)

# %% What this example claims
assert results[5.0][0] < 0.05, results
assert 3.5 < ratio < 4.5, ratio
assert 0.5 * TEMPERATURE < results[5.0][2] < 1.5 * TEMPERATURE, results
assert results[5.0][3] < 20, results
