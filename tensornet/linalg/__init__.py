"""Linear algebra that the formats stand on: truncation, contraction plans, solvers."""

from tensornet.linalg.mode_product import mode_product as mode_product
from tensornet.linalg.solution import Solution as Solution
from tensornet.linalg.truncation import Truncated as Truncated
from tensornet.linalg.truncation import truncate as truncate
