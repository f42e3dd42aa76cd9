"""Stencils of the nearest neighbours on a grid, without a matrix."""

from tensornet.kernels.stencil.spec import embed_cells as embed_cells
from tensornet.kernels.stencil.spec import restrict_cells as restrict_cells
from tensornet.kernels.stencil.spec import stencil_faces as stencil_faces
from tensornet.kernels.stencil.spec import stencil_lines as stencil_lines
from tensornet.kernels.stencil.spec import stencil_sides as stencil_sides
