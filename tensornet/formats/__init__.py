"""Tensor formats: values that store a tensor by its factors, and how to compute them.

Read `format.py` first, what every format offers. Then one file for each format (`cp.py`,
`tucker.py`, `tensor_train.py` with `train_matrix.py` and `mps.py`, `chebyshev_tucker.py`), and one
for each function that computes one (`cp_fit.py`, `tucker_fit.py`, `train_svd.py`,
`train_rounding.py`, `cross.py`, `chebyshev_fit.py`). Most other files are parts of these, and share
the first word of their names.
"""

from tensornet.formats.chebyshev_canonical import from_separable as from_separable
from tensornet.formats.chebyshev_canonical import gaussian_sum as gaussian_sum
from tensornet.formats.chebyshev_fit import ChebyshevDecomposition as ChebyshevDecomposition
from tensornet.formats.chebyshev_fit import chebyshev_tucker as chebyshev_tucker
from tensornet.formats.chebyshev_tucker import ChebyshevTucker as ChebyshevTucker
from tensornet.formats.cp import CP as CP
from tensornet.formats.cp_fit import cp as cp
from tensornet.formats.cross import cross as cross
from tensornet.formats.decomposition import Decomposition as Decomposition
from tensornet.formats.exponential_sum import ExponentialSum as ExponentialSum
from tensornet.formats.exponential_sum import exponential_sum as exponential_sum
from tensornet.formats.format import Format as Format
from tensornet.formats.format import load as load
from tensornet.formats.hamiltonians import neighbour_chain as neighbour_chain
from tensornet.formats.hamiltonians import spin_chain as spin_chain
from tensornet.formats.hamiltonians import spin_operators as spin_operators
from tensornet.formats.mps import MPS as MPS
from tensornet.formats.quantize import dequantize as dequantize
from tensornet.formats.quantize import quantize as quantize
from tensornet.formats.quantize import quantize_matrix as quantize_matrix
from tensornet.formats.tensor_train import TensorTrain as TensorTrain
from tensornet.formats.train_matrix import TTMatrix as TTMatrix
from tensornet.formats.train_rounding import round_sum as round_sum
from tensornet.formats.train_rounding import round_train as round_train
from tensornet.formats.train_svd import tensor_train as tensor_train
from tensornet.formats.tucker import Tucker as Tucker
from tensornet.formats.tucker_fit import tucker as tucker
from tensornet.linalg.contraction import plan as plan
