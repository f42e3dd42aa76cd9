"""Potentials at work: in ASE, LAMMPS and torch-sim, and on the test bench before they are trusted.

Begin with `ase`: what it does for one structure, `many` does for batches of them, and `lammps` and
`torch_sim` for other engines. `verlet` keeps their lists of neighbours, `local` evaluates a part of
a structure, `validation` measures whether a potential keeps the laws of physics.
"""

from tensornet.calculators.ase import PotentialCalculator as PotentialCalculator
from tensornet.calculators.lammps import LammpsExternal as LammpsExternal
from tensornet.calculators.lammps import LammpsMLIAP as LammpsMLIAP
from tensornet.calculators.lammps import open_lammps as open_lammps
from tensornet.calculators.lammps import run_lammps as run_lammps
from tensornet.calculators.many import Relaxation as Relaxation
from tensornet.calculators.many import evaluate_many as evaluate_many
from tensornet.calculators.many import relax_many as relax_many
from tensornet.calculators.point_charges import PointChargeCalculator as PointChargeCalculator
from tensornet.calculators.validation import Report as Report
from tensornet.calculators.validation import Row as Row
from tensornet.calculators.validation import validate as validate
