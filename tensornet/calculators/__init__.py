"""Potentials at work: as ASE calculators, and on the test bench before they are trusted."""

from tensornet.calculators.ase import PotentialCalculator as PotentialCalculator
from tensornet.calculators.validation import Report as Report
from tensornet.calculators.validation import Row as Row
from tensornet.calculators.validation import validate as validate
