"""Networks and potentials, complete with their files.

Interatomic potentials: begin with `potential`, the base that derives forces and stress from the
energies that a subclass gives; `network` has what neural ones share, `gaunt` and `tdn` are two of
them, and `registry` knows them by name. Networks for equations: `direction` proposes directions
to conjugate-gradient solvers, `lord` and `lord_flow` solve diffusion problems and steps of flows,
`fourier_operator` maps fields to fields.
"""

from tensornet.models.container import ModelFileError as ModelFileError
from tensornet.models.direction import DirectionNet as DirectionNet
from tensornet.models.files import MEMBER as MEMBER
from tensornet.models.files import load as load
from tensornet.models.files import members as members
from tensornet.models.files import save as save
from tensornet.models.fourier_operator import FourierNeuralOperator as FourierNeuralOperator
from tensornet.models.gaunt import Gaunt as Gaunt
from tensornet.models.lennard_jones import LennardJones as LennardJones
from tensornet.models.lord import LordNet as LordNet
from tensornet.models.lord_files import load_lordnet as load_lordnet
from tensornet.models.lord_files import save_lordnet as save_lordnet
from tensornet.models.lord_flow import LordStepper as LordStepper
from tensornet.models.lord_problem import DiffusionFamily as DiffusionFamily
from tensornet.models.potential import Potential as Potential
from tensornet.models.registry import CONFIGS as CONFIGS
from tensornet.models.registry import build as build
from tensornet.models.registry import config as config
from tensornet.models.registry import register as register
from tensornet.models.tdn import TDN as TDN
