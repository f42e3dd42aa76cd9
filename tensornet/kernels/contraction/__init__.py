"""Symmetric contraction: sparse polynomials in the components of each channel, with derivatives.

`spec.py` first; `turned.py` is the same for features with components last. On the CPU
`straight.py`, by way of `coupling.py`, makes code for one coupling where that is worth it; else
`tiles.py`, by way of `cpu.py`, walks through the tables of `plan.py`.
"""

from tensornet.kernels.contraction.spec import polynomial_curvature as polynomial_curvature
from tensornet.kernels.contraction.spec import polynomial_gradient as polynomial_gradient
from tensornet.kernels.contraction.spec import polynomial_slope as polynomial_slope
from tensornet.kernels.contraction.spec import symmetric_polynomial as symmetric_polynomial
from tensornet.kernels.contraction.turned import turned_polynomial as turned_polynomial
from tensornet.kernels.contraction.turned import turned_slope as turned_slope
