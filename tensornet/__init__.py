"""Multilinear maps in tensor-network formats, and the models built on them.

The rooms, from the ground up: `kernels`; `linalg`; `formats`, `so3` and `atoms`; `products`,
`pde` and `functional`; `layers`; `models` and `datasets`; `train`, `calculators` and `interop`.
Begin with `formats`, which all others put to use. Each is imported where it is used, so that
``import tensornet`` costs nothing on top of torch.
"""

__version__ = "0.1.0"
