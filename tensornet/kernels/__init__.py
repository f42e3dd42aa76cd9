"""Kernels: one signature, several implementations (torch reference, Numba CPU, Numba CUDA)."""

from tensornet.kernels._registry import Kernel as Kernel
from tensornet.kernels._registry import Offer as Offer
from tensornet.kernels._registry import kernel as kernel
from tensornet.kernels._registry import kernels as kernels
from tensornet.kernels._registry import table as table
from tensornet.kernels._registry import use as use
from tensornet.kernels.chain import chain as chain
from tensornet.kernels.chain import chain_moments as chain_moments
from tensornet.kernels.chain import chain_step as chain_step
from tensornet.kernels.chebyshev import chebyshev_moments as chebyshev_moments
from tensornet.kernels.chebyshev import chebyshev_rows as chebyshev_rows
from tensornet.kernels.convolution import edge_convolution as edge_convolution
from tensornet.kernels.convolution import edge_harmonics as edge_harmonics
from tensornet.kernels.convolution import edge_weights as edge_weights
from tensornet.kernels.convolution import receiver_order as receiver_order
from tensornet.kernels.convolution import sparse_coupling as sparse_coupling
from tensornet.kernels.cp import cp_product as cp_product
from tensornet.kernels.cp import cp_scaled as cp_scaled
from tensornet.kernels.cp import cp_traces as cp_traces
from tensornet.kernels.sparse import sparse_product as sparse_product
from tensornet.kernels.sparse import sparse_slopes as sparse_slopes
from tensornet.kernels.sparse import weighted_product as weighted_product
from tensornet.kernels.sparse import weighted_slopes as weighted_slopes
from tensornet.kernels.tucker import tucker_points as tucker_points
from tensornet.kernels.tucker import tucker_slopes as tucker_slopes
