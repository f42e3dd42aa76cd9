"""Structures as graphs: positions, cells and neighbour lists as tensors.

Begin with `graph`, whose first lines hold the conventions of every room that knows atoms.
"""

from tensornet.atoms.graph import edge_vectors as edge_vectors
from tensornet.atoms.graph import graph as graph
from tensornet.atoms.graph import total_charge as total_charge
from tensornet.atoms.units import COULOMB as COULOMB
