"""Linear algebra that the formats stand on: truncation, contraction plans, solvers.

Read `truncation.py` first, the cut of a matrix that every format is computed by. `contraction.py`
plans sums of products. `conjugate_gradients.py` and `gmres.py` are the doors of the Krylov methods:
`linear_system.py` checks their arguments, `conjugate.py` and `arnoldi.py` are their loops,
`implicit.py` has the derivatives. `amen.py` and `dmrg.py` solve for trains, seen from one place of
the train (`projection.py`).
"""

from tensornet.linalg.amen import solve_tt as solve_tt
from tensornet.linalg.conjugate_gradients import cg as cg
from tensornet.linalg.conjugate_gradients import (
    deep_conjugate_direction as deep_conjugate_direction,
)
from tensornet.linalg.conjugate_gradients import fcg as fcg
from tensornet.linalg.conjugate_gradients import pcg as pcg
from tensornet.linalg.contraction import Plan as Plan
from tensornet.linalg.contraction import contract as contract
from tensornet.linalg.contraction import plan as plan
from tensornet.linalg.dmrg import GroundState as GroundState
from tensornet.linalg.dmrg import ground_state as ground_state
from tensornet.linalg.gmres import gmres as gmres
from tensornet.linalg.incomplete_cholesky import IncompleteCholesky as IncompleteCholesky
from tensornet.linalg.incomplete_cholesky import incomplete_cholesky as incomplete_cholesky
from tensornet.linalg.mode_product import mode_product as mode_product
from tensornet.linalg.solution import LinearSolution as LinearSolution
from tensornet.linalg.solution import Solution as Solution
from tensornet.linalg.truncation import Truncated as Truncated
from tensornet.linalg.truncation import truncate as truncate
