"""Linear algebra that the formats stand on: truncation, contraction plans, solvers."""

from tensornet.linalg.amen import solve_tt as solve_tt
from tensornet.linalg.contraction import Plan as Plan
from tensornet.linalg.contraction import contract as contract
from tensornet.linalg.contraction import plan as plan
from tensornet.linalg.dmrg import GroundState as GroundState
from tensornet.linalg.dmrg import ground_state as ground_state
from tensornet.linalg.mode_product import mode_product as mode_product
from tensornet.linalg.solution import Solution as Solution
from tensornet.linalg.truncation import Truncated as Truncated
from tensornet.linalg.truncation import truncate as truncate
