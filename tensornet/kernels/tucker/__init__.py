"""A Tucker core of order three, contracted at points."""

from tensornet.kernels.tucker.spec import tucker_points as tucker_points
from tensornet.kernels.tucker.spec import tucker_slopes as tucker_slopes
