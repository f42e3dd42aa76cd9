"""Products of functions on the sphere, at the points of a grid.

`spec.py` first; the grid, which the CPU takes in eighths, is that of `tables.py`.
"""

from tensornet.kernels.grid.spec import sphere_overlap as sphere_overlap
from tensornet.kernels.grid.spec import sphere_product as sphere_product
