"""The check of molecular dynamics: does the energy stay what it is?"""

from typing import Any

import numpy as np
from ase import units
from ase.md.verlet import VelocityVerlet

from tensornet.calculators.ase import PotentialCalculator
from tensornet.calculators.validation.bench import Array, Bench, moved
from tensornet.calculators.validation.report import Row

TIME_STEP = 0.5  # fs
TEMPERATURE = 300.0  # K
LIMIT = 1.0  # meV/atom/ps
BLOCKS = 8  # of the run, whose means are taken as independent
HOTTEST = 1e5  # K; whatever is hotter has exploded


def drift(bench: Bench) -> Row:
    """Run molecular dynamics at constant energy and fit a line to the total energy."""
    words = "drift of the total energy in molecular dynamics, linear fit"
    n = len(bench.start)
    if n == 1:
        return Row("drift", words, None, None, "", None, "one atom does not move")
    if bench.md_steps < 10:
        return Row("drift", words, None, None, "", None, "fewer than 10 steps were asked for")
    unit = "meV/atom/ps"
    try:
        energies, temperatures = _trajectory(bench)
    except ValueError as error:
        return Row("drift", words, np.inf, LIMIT, unit, False, f"the run broke down: {error}")
    times: Array = TIME_STEP * 1e-3 * np.arange(len(energies), dtype=np.float64)
    rest = energies - energies[0]
    slope, offset = np.polyfit(times, rest, 1)
    value, width = float(abs(slope)), _error(times, rest)
    spread = float(np.std(rest - slope * times - offset))
    note = (
        f"{bench.md_steps} steps of {TIME_STEP} fs from {TEMPERATURE:.0f} K, on average "
        f"{temperatures.mean():.0f} K; around the line {spread:.1e} meV/atom"
    )
    # Short runs show the oscillation of the integrator's energy, unless it is as large as a drift
    # that would fail in a whole picosecond.
    if value - 3 * width <= LIMIT < value and float(np.ptp(rest)) < LIMIT:
        note = f"uncertain by {width:.1g}: too short to tell, ask for more steps; {note}"
        return Row("drift", words, value, LIMIT, unit, None, note)
    return Row("drift", words, value, LIMIT, unit, value <= LIMIT, note)


def _error(times: Array, energies: Array) -> float:
    """Standard error of the slope of a line, from means over blocks."""
    blocks = min(BLOCKS, len(times) // 3)
    t, e = (
        np.array([part.mean() for part in np.array_split(x, blocks)]) for x in (times, energies)
    )
    t = t - t.mean()
    slope = t @ e / (t @ t)
    rest = e - e.mean() - slope * t
    return float(np.sqrt(rest @ rest / (blocks - 2) / (t @ t)))


def _trajectory(bench: Bench) -> tuple[Array, Array]:  # meV/atom and K, at each step
    atoms: Any = moved(bench.start, np.array(bench.start.positions))
    atoms.calc = PotentialCalculator(bench.model)
    masses = atoms.get_masses()[:, None]
    momenta = np.sqrt(masses) * bench.rng().standard_normal((len(atoms), 3))
    momenta -= masses * momenta.sum(axis=0) / masses.sum()
    atoms.set_momenta(momenta)
    atoms.set_momenta(momenta * np.sqrt(TEMPERATURE / atoms.get_temperature()))
    energies, temperatures = [], []
    run: Any = VelocityVerlet(atoms, timestep=TIME_STEP * units.fs)
    for _ in run.irun(bench.md_steps):
        energies.append(1e3 * atoms.get_total_energy() / len(atoms))
        temperatures.append(atoms.get_temperature())
        if not temperatures[-1] < HOTTEST:
            raise ValueError(f"{temperatures[-1]:.2g} K after {len(energies) - 1} steps.")
    return np.array(energies), np.array(temperatures)
