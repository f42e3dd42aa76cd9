"""Potentials in LAMMPS: through its Python module, or as a model of its package ML-IAP."""

from tensornet.calculators.lammps.external import LammpsExternal as LammpsExternal
from tensornet.calculators.lammps.mliap import LammpsMLIAP as LammpsMLIAP
from tensornet.calculators.lammps.script import run_lammps as run_lammps
from tensornet.calculators.lammps.wheel import open_lammps as open_lammps
