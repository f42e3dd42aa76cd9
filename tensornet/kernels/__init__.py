"""Kernels: one signature, several implementations (torch reference, Numba CPU, Numba CUDA).

Read `_registry.py` first: how a kernel is defined, chosen, checked and differentiated. Each folder
is a family. Its `spec.py` says what the kernels compute, in torch, with their derivatives and the
sizes they are tested at; `cpu.py` and `cuda.py` are the compiled offers. Beside them stand tables
that compiled code walks through (`plan.py`, `tables.py`) and emitters of vector code (`tiles.py`).
`pairs`, `nodes` and `near` are no kernels: plain functions of NumPy arrays, on the CPU only, that
autograd does not see.

All families share the line of axes (`_axes.py`), what stands between torch and Numba
(`_bridge.py`), indices (`_index.py`), and vectors: emitted (`_tile.py`, `_code.py`) or as values in
Numba code (`_vector.py`).
"""

from tensornet.kernels._allocator import tune_allocator as tune_allocator
from tensornet.kernels._offer import Offer as Offer
from tensornet.kernels._registry import Kernel as Kernel
from tensornet.kernels._registry import kernel as kernel
from tensornet.kernels._registry import kernels as kernels
from tensornet.kernels._registry import table as table
from tensornet.kernels._registry import use as use
from tensornet.kernels.aligned import aligned_product as aligned_product
from tensornet.kernels.aligned import aligned_slopes as aligned_slopes
from tensornet.kernels.aligned import core_numbers as core_numbers
from tensornet.kernels.cells import cell_moments as cell_moments
from tensornet.kernels.cells import cell_slopes as cell_slopes
from tensornet.kernels.chain import chain as chain
from tensornet.kernels.chain import chain_moments as chain_moments
from tensornet.kernels.chain import chain_step as chain_step
from tensornet.kernels.chebyshev import chebyshev_moments as chebyshev_moments
from tensornet.kernels.chebyshev import chebyshev_rows as chebyshev_rows
from tensornet.kernels.contraction import polynomial_curvature as polynomial_curvature
from tensornet.kernels.contraction import polynomial_gradient as polynomial_gradient
from tensornet.kernels.contraction import polynomial_slope as polynomial_slope
from tensornet.kernels.contraction import symmetric_polynomial as symmetric_polynomial
from tensornet.kernels.convolution import edge_convolution as edge_convolution
from tensornet.kernels.convolution import edge_curvatures as edge_curvatures
from tensornet.kernels.convolution import edge_harmonics as edge_harmonics
from tensornet.kernels.convolution import edge_slopes as edge_slopes
from tensornet.kernels.convolution import edge_weights as edge_weights
from tensornet.kernels.convolution import receiver_order as receiver_order
from tensornet.kernels.convolution import sparse_coupling as sparse_coupling
from tensornet.kernels.cp import cp_product as cp_product
from tensornet.kernels.cp import cp_scaled as cp_scaled
from tensornet.kernels.cp import cp_traces as cp_traces
from tensornet.kernels.fuzzy import fuzzy_product as fuzzy_product
from tensornet.kernels.grid import sphere_overlap as sphere_overlap
from tensornet.kernels.grid import sphere_product as sphere_product
from tensornet.kernels.harmonics import harmonics as harmonics
from tensornet.kernels.harmonics import harmonics_curvature as harmonics_curvature
from tensornet.kernels.harmonics import harmonics_gradient as harmonics_gradient
from tensornet.kernels.segment import segment_rows as segment_rows
from tensornet.kernels.segment import segment_sum as segment_sum
from tensornet.kernels.sparse import sparse_product as sparse_product
from tensornet.kernels.sparse import sparse_slopes as sparse_slopes
from tensornet.kernels.sparse import weighted_product as weighted_product
from tensornet.kernels.sparse import weighted_slopes as weighted_slopes
from tensornet.kernels.spline import spline as spline
from tensornet.kernels.spline import spline_moments as spline_moments
from tensornet.kernels.spline import spline_slopes as spline_slopes
from tensornet.kernels.stencil import embed_runs as embed_runs
from tensornet.kernels.stencil import restrict_runs as restrict_runs
from tensornet.kernels.stencil import stencil_faces as stencil_faces
from tensornet.kernels.stencil import stencil_lines as stencil_lines
from tensornet.kernels.stencil import stencil_sides as stencil_sides
from tensornet.kernels.tucker import tucker_points as tucker_points
from tensornet.kernels.tucker import tucker_slopes as tucker_slopes
