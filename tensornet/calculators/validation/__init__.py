"""The test bench for potentials: laws that a potential must keep, measured and judged."""

from tensornet.calculators.validation.report import Report as Report
from tensornet.calculators.validation.report import Row as Row
from tensornet.calculators.validation.validate import validate as validate
