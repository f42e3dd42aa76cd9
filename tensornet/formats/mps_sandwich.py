"""Operators between a state and itself, as numbers and exponents that no length overflows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tensornet.formats.train_sweeps import split_scale


def operator(
    cores: Sequence[Tensor],  # (r, d, r') each
    ops: Sequence[Tensor],  # (w, d, d, w') each
) -> tuple[Tensor, Tensor]:  # (), ()
    """Sandwich an operator in train format.

    Args:
        cores: Of the state, on both sides.
        ops: Cores of the operator.

    Returns:
        A number and the exponent of a power of two that it is to be multiplied by.
    """
    m = cores[0].new_ones(1, 1, 1)  # (bra, operator, ket)
    e = torch.zeros((), dtype=torch.int64, device=m.device)
    for core, op in zip(cores, ops, strict=True):
        x = torch.tensordot(m, core, ([2], [0]))  # (a', w, d, b)
        x = torch.tensordot(x, op, ([1, 2], [0, 2]))  # (a', b, d, v)
        x = torch.tensordot(core.conj(), x, ([0, 1], [0, 2]))  # (b', b, v)
        m, more = split_scale(x.transpose(1, 2))
        e = e + more
    return m.reshape(()), e


def sites(
    cores: Sequence[Tensor],  # (r, d, r') each
    operators: Mapping[int, Tensor],  # (d, d) each
) -> tuple[Tensor, Tensor]:  # (), ()
    """Sandwich a product of operators on single sites.

    Args:
        cores: Of the sites from the first operator to the last; those outside are orthonormal.
        operators: The operator of each site that has one, counted from the first core.

    Returns:
        As `operator`.
    """
    m = torch.eye(cores[0].shape[0], dtype=cores[0].dtype, device=cores[0].device)
    e = torch.zeros((), dtype=torch.int64, device=m.device)
    for k, core in enumerate(cores):
        image = torch.einsum("ij,ajb->aib", operators[k], core) if k in operators else core
        moved = (m @ image.reshape(image.shape[0], -1)).reshape(-1, core.shape[2])
        m, more = split_scale(core.reshape(-1, core.shape[2]).mH @ moved)
        e = e + more
    return m.diagonal().sum(), e
