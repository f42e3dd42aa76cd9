"""Products with functions of a direction, computed where the direction is the polar axis.

`spec.py` first; rotations and the order of components are those of `tables.py`.
"""

from tensornet.kernels.aligned.spec import aligned_product as aligned_product
from tensornet.kernels.aligned.spec import aligned_slopes as aligned_slopes
from tensornet.kernels.aligned.tables import core_numbers as core_numbers
