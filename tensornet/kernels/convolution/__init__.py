"""Equivariant convolution over the edges of a graph: gather, multiply, weigh, reduce.

`spec.py` first: the form and its single slopes. `gradients.py` has all slopes at once, and their
derivatives; `vjps.py` ties the five together.
"""

from tensornet.kernels.convolution import vjps as vjps
from tensornet.kernels.convolution.gradients import edge_curvatures as edge_curvatures
from tensornet.kernels.convolution.gradients import edge_slopes as edge_slopes
from tensornet.kernels.convolution.spec import edge_convolution as edge_convolution
from tensornet.kernels.convolution.spec import edge_harmonics as edge_harmonics
from tensornet.kernels.convolution.spec import edge_weights as edge_weights
from tensornet.kernels.convolution.spec import receiver_order as receiver_order
from tensornet.kernels.convolution.spec import sparse_coupling as sparse_coupling
