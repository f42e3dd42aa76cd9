"""Products of functions on the sphere, at the points of a grid."""

from tensornet.kernels.grid.spec import sphere_overlap as sphere_overlap
from tensornet.kernels.grid.spec import sphere_product as sphere_product
