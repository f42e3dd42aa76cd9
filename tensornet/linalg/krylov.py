"""The lowest eigenvector of the small problems inside a sweep over a train."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

_ONE = np.ones((1, 1))


def lowest(
    apply: Callable[[Tensor], Tensor],
    start: Tensor,  # (...)
    tolerance: float,
    max_vectors: int,
) -> Tensor:  # (...)
    """Find the lowest eigenvector by Lanczos with full orthogonalisation, without restarts.

    Args:
        apply: Hermitian operator, as a function.
        start: First guess, of norm one.
        tolerance: Residual norm at which to stop.
        max_vectors: Dimension of the Krylov space, at most.

    References:
        Saad, Numerical Methods for Large Eigenvalue Problems (2011), algorithm 6.15.
    """
    basis = start.new_empty(max_vectors + 1, start.numel())
    basis[0] = start.flatten()
    T = np.zeros((max_vectors, max_vectors), dtype=_numpy_dtype(start))
    floor = max(1e-13, 10 * torch.finfo(start.dtype).eps)
    for k in range(min(max_vectors, start.numel())):
        w = apply(basis[k].view(start.shape)).flatten()
        known = basis[: k + 1]
        h = known.conj() @ w
        w = w - h @ known
        column = h.cpu().numpy()
        below = float(torch.linalg.vector_norm(w))
        if below < 0.1 * float(np.linalg.norm(column)):  # once is not enough
            w = w - (known.conj() @ w) @ known
            below = float(torch.linalg.vector_norm(w))
        T[: k + 1, k] = column
        T[k, : k + 1] = column.conj()
        values, vectors = np.linalg.eigh(T[: k + 1, : k + 1]) if k else (column.real, _ONE)
        y = vectors[:, 0]
        size = max(abs(values[0]), abs(values[-1]))
        if below * abs(y[k]) <= tolerance or below <= floor * size:
            break
        basis[k + 1] = w / below
    x: Tensor = torch.as_tensor(y).to(basis) @ basis[: k + 1]
    return x.div_(torch.linalg.vector_norm(x)).view(start.shape)


def _numpy_dtype(x: Tensor) -> np.dtype[np.complexfloating | np.floating]:
    return np.dtype(np.complex128 if x.is_complex() else np.float64)
