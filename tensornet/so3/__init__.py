"""Spherical harmonics, their couplings and their rotations, in e3nn's conventions.

Read `harmonics` first: the order of the components, the axes and the normalisations that every room
above relies on. `wigner` couples two degrees to a third, `rotation` turns harmonics, and
`quadrature` integrates them.
"""

from tensornet.so3.harmonics import degrees as degrees
from tensornet.so3.harmonics import dim as dim
from tensornet.so3.harmonics import spherical_harmonics as spherical_harmonics
from tensornet.so3.quadrature import gauss_legendre_grid as gauss_legendre_grid
from tensornet.so3.rotation import wigner_d as wigner_d
from tensornet.so3.wigner import wigner_3j as wigner_3j
