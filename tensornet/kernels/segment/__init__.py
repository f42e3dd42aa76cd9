"""Sums over the edges of each receiver, and their adjoint."""

from tensornet.kernels.segment.spec import segment_rows as segment_rows
from tensornet.kernels.segment.spec import segment_sum as segment_sum
