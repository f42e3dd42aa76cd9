"""Sample configurations by Langevin dynamics."""

import logging
from dataclasses import dataclass, field
from typing import Any

import ase
import numpy as np
from ase import units
from ase.build import bulk, molecule
from ase.calculators.calculator import CalculationFailed
from ase.io import read
from ase.md.langevin import Langevin
from numpy.typing import NDArray

from tensornet.datasets.generate.source import Crystal, File, Molecule, Run, Source
from tensornet.datasets.generate.xtb import calculator, label

MAX_RESTARTS = 3
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trajectory:
    """What one trajectory gave.

    Attributes:
        frames: Labelled frames.
        energies: Potential energy at every step between the first and the last frame, eV; one
            array for each uninterrupted stretch in one cell.
        temperatures: Kinetic temperature at every such step, K.
        dropped: Frames left out because their self-consistent cycle did not converge.
        restarts: Times the dynamics itself met such a failure and went on from the frame before
            with new velocities.
    """

    frames: list[ase.Atoms] = field(default_factory=list)
    energies: list[NDArray[np.float64]] = field(default_factory=list)
    temperatures: list[NDArray[np.float64]] = field(default_factory=list)
    dropped: int = 0
    restarts: int = 0


def sample_dynamics(source: Source, run: Run, seed: int) -> Trajectory:
    """Run one trajectory and label frames of it.

    Initial velocities, the thermostat, the strains of a crystal and the choice of structures of a
    file come from one seeded generator.
    A crystal starts at its lattice sites with velocities of twice the temperature. When it changes
    its cell, atoms move along with it. Frames are centred: a molecule at the origin, a crystal at
    its lattice sites, a structure of a file where it was there.

    Args:
        source: What moves and how.
        run: Temperature, number of cells and of frames.
        seed: Seed of this trajectory. The same seed gives the same frames, to rounding, as long as
            `tblite` runs on one thread (``OMP_NUM_THREADS=1``) of the same machine.

    Returns:
        The frames and how it went. Frames that failed are missing and counted.

    Raises:
        ImportError: If `tblite` is not installed.
        RuntimeError: If the dynamics failed more than three times.
        ValueError: If the structure is unknown to ASE, or its file holds none.
    """
    return _Sampler(source, run, seed).sample()


def build(structure: Molecule | Crystal | File) -> list[ase.Atoms]:
    """Build the structures that trajectories start from.

    Args:
        structure: What to build.

    Returns:
        The molecule, or the cubic cell without strain; or the structures of a file.

    Raises:
        ValueError: If ASE does not know it, the file has no structure of two atoms, or one of
            them is charged.
        FileNotFoundError: If there is no such file.
    """
    if isinstance(structure, File):
        return _frames(structure)
    try:
        if isinstance(structure, Molecule):
            return [molecule(structure.name)]
        return [bulk(structure.name, structure.lattice, a=structure.constant, cubic=True)]
    except (KeyError, ValueError) as error:
        raise ValueError(
            "`build(structure=...)` must name a structure that ASE builds. Got "
            f"{structure.name!r}: {error}."
        ) from error


def _frames(file: File) -> list[ase.Atoms]:
    """The structures of a file, without labels, velocities and constraints."""
    if not file.path.is_file():
        raise FileNotFoundError(f"`structure: {{path: ...}}` must be a file. Got {file.path}.")
    try:
        found: Any = read(file.path, file.index)
    except Exception as error:  # ASE's readers raise anything
        raise ValueError(
            "`structure: {path: ..., index: ...}` must be frames that ASE reads. Got "
            f"{file.path}, {file.index!r}: {error}."
        ) from error
    frames = found if isinstance(found, list) else [found]
    if charged := [k for k, frame in enumerate(frames) if frame.info.get("charge", 0)]:
        raise ValueError(
            "`structure: {path: ..., index: ...}` must hold neutral structures. Got a charge of "
            f"{frames[charged[0]].info['charge']} in frame {charged[0]} of {file.path}."
        )
    kept = [
        ase.Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
        for frame in frames
        if len(frame) > 1
    ]
    if not kept:
        raise ValueError(
            "`structure: {path: ..., index: ...}` must hold a structure of two or more atoms. Got "
            f"{len(frames)} frames from {file.path}, {file.index!r}."
        )
    return kept


class _Sampler:
    """The state of a running trajectory."""

    def __init__(self, source: Source, run: Run, seed: int) -> None:
        self.source, self.run, self.seed = source, run, seed
        self.random = np.random.default_rng(seed)
        self.starts = build(source.structure)
        self.ideal: Any = self.starts[0].copy()  # Any: ASE's methods have no types
        self.atoms: Any = self.starts[0].copy()
        self.restarts = 0
        self.dropped = 0
        self.frames: list[ase.Atoms] = []
        self.traces: list[list[tuple[float, float]]] = []
        self.dynamics: Any = self._start(self.atoms, 2.0 if self.crystal else 1.0)

    @property
    def crystal(self) -> Crystal | None:
        structure = self.source.structure
        return structure if isinstance(structure, Crystal) else None

    def sample(self) -> Trajectory:
        setup = self.source.dynamics
        for cell in range(self.run.cells):
            self._enter()
            self._advance(setup.settle if cell else setup.warm_up)
            self.traces.append([])
            for _ in range(self.run.frames):
                self._advance(setup.stride, record=True)
                self._keep()
        traces = [np.array(trace) for trace in self.traces if trace]
        return Trajectory(
            self.frames,
            [trace[:, 0] for trace in traces],
            [trace[:, 1] for trace in traces],
            self.dropped,
            self.restarts,
        )

    def _start(self, atoms: Any, heat: float) -> Langevin:
        """Give atoms a fresh calculator and velocities of `heat` times the temperature."""
        atoms.calc = calculator(self.source.method)
        energy = units.kB * self.run.temperature * heat
        spread = np.sqrt(atoms.get_masses() * energy)  # of each component of the momentum
        atoms.set_momenta(self.random.standard_normal((len(atoms), 3)) * spread[:, None])
        return Langevin(
            atoms,
            self.source.dynamics.time_step * units.fs,
            temperature_K=self.run.temperature,
            friction=self.source.dynamics.friction / units.fs,
            fixcm=False,
            rng=self.random,
        )

    def _enter(self) -> None:
        """Strain a crystal at random, or go on at a structure of the file."""
        if isinstance(self.source.structure, File):
            self.ideal = self.starts[self.random.integers(len(self.starts))]
            self.atoms = self.ideal.copy()
            self.dynamics = self._start(self.atoms, 1.0)
        if self.crystal is None:
            return
        deviatoric = self.random.uniform(-1.0, 1.0, (3, 3)) * self.crystal.deviatoric
        strain = np.triu(deviatoric) + np.triu(deviatoric, 1).T
        strain += np.eye(3) * self.random.uniform(-1.0, 1.0) * self.crystal.volumetric
        cell = self.starts[0].cell.array @ (np.eye(3) + strain)
        self.atoms.set_cell(cell, scale_atoms=True)
        self.ideal.set_cell(cell, scale_atoms=True)

    def _advance(self, time: float, *, record: bool = False) -> None:
        """Move on by a time in fs; after a failure, from where this call started."""
        before = self.atoms.copy()
        steps = round(time / self.source.dynamics.time_step)
        while True:
            try:
                for _ in range(steps):
                    self.dynamics.run(1)
                    if record:
                        state = (self.atoms.get_potential_energy(), self.atoms.get_temperature())
                        self.traces[-1].append(state)
                return
            except CalculationFailed as error:
                self.restarts += 1
                log.warning("seed %d: dynamics failed and starts again: %s", self.seed, error)
                if self.restarts > MAX_RESTARTS:
                    raise RuntimeError(
                        "`sample_dynamics(source=...)` must converge at nearly every step. Got "
                        f"{self.restarts} failures with seed {self.seed}; the last: {error}. (Use "
                        "a shorter time step, smaller strains or more iterations.)"
                    ) from error
                self.atoms = before.copy()
                self.dynamics = self._start(self.atoms, 1.0)
                if record:
                    self.traces.append([])

    def _keep(self) -> None:
        """Label the present configuration, centred."""
        frame = self.atoms.copy()
        masses = frame.get_masses() / frame.get_masses().sum()
        molecule = isinstance(self.source.structure, Molecule)
        target = np.zeros(3) if molecule else masses @ self.ideal.positions
        frame.positions += target - masses @ frame.positions
        frame.info = {
            "config_type": f"md_{self.run.temperature:.0f}K",
            "seed": self.seed,
        }
        try:
            self.frames.append(label(frame, self.source.method))
        except CalculationFailed as error:
            self.dropped += 1
            log.warning("seed %d: a frame did not converge and is dropped: %s", self.seed, error)
