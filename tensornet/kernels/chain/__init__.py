"""Products of the cores of a tensor train at given indices."""

from tensornet.kernels.chain.spec import chain as chain
from tensornet.kernels.chain.spec import chain_moments as chain_moments
from tensornet.kernels.chain.spec import chain_step as chain_step
