"""Channelwise products by a sparse coupling: each channel of one input meets that of another.

`spec.py` first; how the CPU walks through a coupling is said in `plan.py`.
"""

from tensornet.kernels.sparse.spec import sparse_product as sparse_product
from tensornet.kernels.sparse.spec import sparse_slopes as sparse_slopes
from tensornet.kernels.sparse.spec import weighted_product as weighted_product
from tensornet.kernels.sparse.spec import weighted_slopes as weighted_slopes
