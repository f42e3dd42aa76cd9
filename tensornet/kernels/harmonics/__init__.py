"""Real spherical harmonics of edges, with fused first and second derivatives."""

from tensornet.kernels.harmonics.spec import harmonics as harmonics
from tensornet.kernels.harmonics.spec import harmonics_curvature as harmonics_curvature
from tensornet.kernels.harmonics.spec import harmonics_gradient as harmonics_gradient
