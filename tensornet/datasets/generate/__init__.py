"""Generate reference data with GFN2-xTB: the embedded data sets are made here.

Needs the extra ``generate`` (`tblite`). ``python -m tensornet.datasets.generate NAME --out DIR``
computes an embedded data set again.
"""

from tensornet.datasets.generate.decorrelation import autocorrelation as autocorrelation
from tensornet.datasets.generate.dynamics import Trajectory as Trajectory
from tensornet.datasets.generate.dynamics import sample_dynamics as sample_dynamics
from tensornet.datasets.generate.files import Generated as Generated
from tensornet.datasets.generate.files import generate as generate
from tensornet.datasets.generate.files import write as write
from tensornet.datasets.generate.source import Crystal as Crystal
from tensornet.datasets.generate.source import Dynamics as Dynamics
from tensornet.datasets.generate.source import File as File
from tensornet.datasets.generate.source import Method as Method
from tensornet.datasets.generate.source import Molecule as Molecule
from tensornet.datasets.generate.source import Run as Run
from tensornet.datasets.generate.source import Source as Source
from tensornet.datasets.generate.source import load_source as load_source
from tensornet.datasets.generate.xtb import isolated_atoms as isolated_atoms
from tensornet.datasets.generate.xtb import label as label
