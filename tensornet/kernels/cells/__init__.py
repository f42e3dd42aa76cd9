"""Points in cells: sums of products of three vectors in each cell, and their slopes."""

from tensornet.kernels.cells.spec import cell_moments as cell_moments
from tensornet.kernels.cells.spec import cell_slopes as cell_slopes
