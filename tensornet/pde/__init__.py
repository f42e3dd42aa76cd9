"""Differential equations on boxes of equal cells: operators, preconditioners, time steps, flows.

Read `grid.py`, `boundary.py` and `domain.py` first: they say where unknowns stand and what
surrounds them. `poisson.py` then shows a problem from coefficients to an operator (`operator.py`)
and a right side (`problem.py`); `advection.py` and `heat.py` are its relatives. `box.py`,
`multigrid.py`, `adi.py` and `low_rank.py` are inverses to precondition with. `navier_stokes.py` is
the door to flows, whose steps are in `flow.py`, and `gaussian.py` that to Gaussian process
regression.
"""

from tensornet.pde.adi import ADI as ADI
from tensornet.pde.adi import adi as adi
from tensornet.pde.adi import solve_adi as solve_adi
from tensornet.pde.advection import advection_diffusion as advection_diffusion
from tensornet.pde.boundary import Side as Side
from tensornet.pde.boundary import dirichlet as dirichlet
from tensornet.pde.boundary import neumann as neumann
from tensornet.pde.box import BoxPreconditioner as BoxPreconditioner
from tensornet.pde.box import box_preconditioner as box_preconditioner
from tensornet.pde.domain import Domain as Domain
from tensornet.pde.flow import Flow as Flow
from tensornet.pde.flow_boundary import FlowSide as FlowSide
from tensornet.pde.flow_boundary import inflow as inflow
from tensornet.pde.flow_boundary import moving_wall as moving_wall
from tensornet.pde.gaussian import GaussianProcessSolver as GaussianProcessSolver
from tensornet.pde.gaussian_kernel import SpectralMixture as SpectralMixture
from tensornet.pde.gaussian_solution import (
    GaussianProcessSolution as GaussianProcessSolution,
)
from tensornet.pde.grid import Grid as Grid
from tensornet.pde.heat import ThetaStep as ThetaStep
from tensornet.pde.heat import heat as heat
from tensornet.pde.heat import theta_step as theta_step
from tensornet.pde.kronecker_inverse import kronecker_inverse as kronecker_inverse
from tensornet.pde.low_rank import ExponentialSumInverse as ExponentialSumInverse
from tensornet.pde.low_rank import exponential_sum_inverse as exponential_sum_inverse
from tensornet.pde.low_rank import solve_low_rank as solve_low_rank
from tensornet.pde.multigrid import Multigrid as Multigrid
from tensornet.pde.multigrid import multigrid as multigrid
from tensornet.pde.navier_stokes import navier_stokes_2d as navier_stokes_2d
from tensornet.pde.navier_stokes import navier_stokes_3d as navier_stokes_3d
from tensornet.pde.navier_stokes_velocity import VelocityFlow as VelocityFlow
from tensornet.pde.navier_stokes_vorticity import VorticityFlow as VorticityFlow
from tensornet.pde.operator import LinearOperator as LinearOperator
from tensornet.pde.operator import StencilOperator as StencilOperator
from tensornet.pde.output import write_fields as write_fields
from tensornet.pde.output import write_series as write_series
from tensornet.pde.poisson import poisson as poisson
from tensornet.pde.problem import Problem as Problem
