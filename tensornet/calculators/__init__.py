"""Potentials at work: in ASE and LAMMPS, and on the test bench before they are trusted."""

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
