"""Tables of functions of one variable, twice continuously differentiable."""

from tensornet.kernels.spline.spec import spline as spline
from tensornet.kernels.spline.spec import spline_moments as spline_moments
from tensornet.kernels.spline.spec import spline_slopes as spline_slopes
