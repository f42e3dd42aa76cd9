"""Stencils of the nearest neighbours on a grid, without a matrix."""

from tensornet.kernels.stencil.spec import embed_runs as embed_runs
from tensornet.kernels.stencil.spec import restrict_runs as restrict_runs
from tensornet.kernels.stencil.spec import stencil_faces as stencil_faces
from tensornet.kernels.stencil.spec import stencil_lines as stencil_lines
from tensornet.kernels.stencil.spec import stencil_sides as stencil_sides
