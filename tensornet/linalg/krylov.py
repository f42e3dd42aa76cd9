"""Krylov methods for the small systems inside a sweep over a train."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

_ONE = np.ones((1, 1))


def gmres(
    apply: Callable[[Tensor], Tensor],
    right: Tensor,  # (k,)
    start: Tensor,  # (k,)
    *,
    tolerance: float,
    precondition: Callable[[Tensor], Tensor] | None = None,
    restart: int = 40,
    max_restarts: int = 5,
) -> Tensor:  # (k,)
    """Solve a linear system by restarted GMRES, preconditioned from the right.

    Args:
        apply: The matrix, as a function.
        right: Right-hand side.
        start: First guess.
        tolerance: Residual norm at which to stop, absolute.
        precondition: Approximate inverse.
        restart: Dimension of the Krylov space.
        max_restarts: How many such spaces.

    References:
        Saad, Iterative Methods for Sparse Linear Systems (2003), algorithm 9.5.
    """
    x, floor = start, max(1e-14, 10 * torch.finfo(start.dtype).eps)
    identity: Callable[[Tensor], Tensor] = lambda y: y  # noqa: E731
    inverse = precondition or identity
    for _ in range(max_restarts):
        residual = right - apply(x)
        beta = float(torch.linalg.vector_norm(residual))
        if beta <= tolerance:
            break
        basis = residual.new_zeros(restart + 1, len(right))
        basis[0] = residual / beta
        H = np.zeros((restart + 1, restart), dtype=_numpy_dtype(right))
        for k in range(restart):
            w = apply(inverse(basis[k]))
            size = float(torch.linalg.vector_norm(w))
            for _ in range(2):  # Gram-Schmidt, twice is enough
                h = basis[: k + 1].conj() @ w
                w = w - h @ basis[: k + 1]
                H[: k + 1, k] += h.cpu().numpy()
            below = float(torch.linalg.vector_norm(w))
            H[k + 1, k] = below
            e1 = np.zeros(k + 2, dtype=H.dtype)
            e1[0] = beta
            y = np.linalg.lstsq(H[: k + 2, : k + 1], e1, rcond=None)[0]
            left_over = float(np.linalg.norm(e1 - H[: k + 2, : k + 1] @ y))
            if left_over <= tolerance or below <= floor * size:
                break
            basis[k + 1] = w / below
        x = x + inverse(torch.as_tensor(y).to(basis) @ basis[: k + 1])
    return x


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
