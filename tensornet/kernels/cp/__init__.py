"""Products in CP format: to the terms, multiply there, and back."""

from tensornet.kernels.cp.spec import cp_product as cp_product
from tensornet.kernels.cp.spec import cp_scaled as cp_scaled
from tensornet.kernels.cp.spec import cp_traces as cp_traces
