"""Structures as graphs: positions, cells and neighbour lists as tensors."""

from tensornet.atoms.graph import edge_vectors as edge_vectors
from tensornet.atoms.graph import graph as graph
from tensornet.atoms.graph import total_charge as total_charge
from tensornet.atoms.units import COULOMB as COULOMB
