"""Multilinear maps in tensor-network formats, and the models built on them.

The rooms, from the ground up: `formats`, `so3`, `atoms`, `products`, `layers`, `models`,
`datasets`, `train`, `calculators`. Each is imported where it is used, so that
``import tensornet`` costs nothing on top of torch.
"""

__version__ = "0.1.0"
