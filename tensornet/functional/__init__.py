"""Functions in tensor format: charges, fields and Gaussian processes, without a grid of points.

Three families that know little of each other. Electrostatics: read `splitting.py` (a kernel as long
and short range) and `charges.py` (all charges as one function of a box) first; `ewald.py` is
Ewald's sum in torch, with derivatives of every order. Scattered data: `matern.py`, `state_space.py`
(Gaussian processes on a line), then `funbat.py` (several coordinates). Entries of a network:
`picking.py`.
"""

from tensornet.atoms.units import COULOMB as COULOMB
from tensornet.functional.charges import ChargeField as ChargeField
from tensornet.functional.charges import ChargeSum as ChargeSum
from tensornet.functional.charges_fixed import RangeSeparated as RangeSeparated
from tensornet.functional.ewald import ElectrostaticForces as ElectrostaticForces
from tensornet.functional.ewald import Electrostatics as Electrostatics
from tensornet.functional.ewald import electrostatic_forces as electrostatic_forces
from tensornet.functional.ewald import electrostatics as electrostatics
from tensornet.functional.funbat import FunctionalCP as FunctionalCP
from tensornet.functional.funbat import FunctionalTucker as FunctionalTucker
from tensornet.functional.gaussian import StateSpaceGP as StateSpaceGP
from tensornet.functional.lattice import LatticeSum as LatticeSum
from tensornet.functional.matern import Matern as Matern
from tensornet.functional.picking import Picking as Picking
from tensornet.functional.picking import integral as integral
from tensornet.functional.picking import pick as pick
from tensornet.functional.splitting import RangeSeparation as RangeSeparation
from tensornet.functional.splitting import certified_error as certified_error
from tensornet.functional.splitting import range_separation as range_separation
from tensornet.functional.state_space import MarkovPosterior as MarkovPosterior
from tensornet.functional.state_space import smooth as smooth
