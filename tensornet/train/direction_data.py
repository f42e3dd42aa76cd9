"""Right-hand sides that networks of directions are trained on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tensornet import _check
from tensornet.linalg.mode_product import mode_multiplied
from tensornet.pde import StencilOperator
from tensornet.pde.axis import line_operator

Sampler = Callable[[torch.Generator, int], Tensor]
"""Makes so many unit right-hand sides ``(b, n)``."""
LOUD = 9.0  # how much louder than the others the lowest eigenvectors are, as in the paper


def box_sampler(A: StencilOperator, dtype: torch.dtype) -> Sampler:
    """Sample in the eigenvectors of the box around an operator: exact there, and nothing is kept.

    The lower half of the eigenvectors is nine times as loud as the rest. What is outside the mask
    is left out.

    Args:
        A: The operator.
        dtype: Of the samples.
    """
    grid, total, bases = A.domain.grid, torch.zeros(()), []
    for axis, (n, h) in enumerate(zip(grid.shape, grid.spacing, strict=True)):
        values, vectors = torch.linalg.eigh(line_operator(n, *A.domain.sides[axis]))
        bases.append(vectors.to(A.device, dtype))
        total = total + (values / h**2).reshape([-1 if a == axis else 1 for a in range(grid.dim)])
    low = total <= total.flatten().median()
    loud = torch.where(low, LOUD, 1.0).to(A.device, dtype)

    def sample(generator: torch.Generator, count: int) -> Tensor:
        shape = (count, *grid.shape)
        field = torch.randn(shape, generator=generator, dtype=dtype).to(A.device) * loud
        for axis, V in enumerate(bases, 1):
            field = mode_multiplied(field, V, axis)
        return unit(A, A.domain.restrict(field))

    return sample


def ritz_vectors(
    A: StencilOperator,
    count: int,
    *,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:  # (count,), (count, n)
    """Compute Ritz values and vectors by Lanczos' method, fully orthogonalised.

    Memory is ``count`` vectors, twice.

    Args:
        A: A symmetric operator.
        count: Number of vectors; fewer come back where no more are independent.
        seed: Of the first vector.

    Returns:
        Values, ascending, and vectors in rows.

    Raises:
        ValueError: If `count` is below one or above the number of unknowns.

    References:
        Golub & Van Loan, Matrix Computations (2013), section 10.3.
    """
    _check.at_least("ritz_vectors", 1, count=count)
    n = A.shape[0]
    if count > n:
        raise ValueError(
            f"`ritz_vectors(count=...)` must be at most {n}, the unknowns. Got {count}."
        )
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(n, generator=generator, dtype=torch.float64).to(A.device, A.dtype)
    basis = torch.zeros(count, n, dtype=A.dtype, device=A.device)
    basis[0] = start / start.norm()
    diagonal, beside = [], []
    for k in range(count):
        y = A(basis[k])
        diagonal.append(float(y @ basis[k]))
        known = basis[: k + 1]
        for _ in range(2):  # once is not enough in floating point
            y = y - (known @ y) @ known
        size = float(y.norm())
        if k + 1 == count or size < 1e-10 * max(map(abs, diagonal)):
            basis = known
            break
        beside.append(size)
        basis[k + 1] = y / size
    off = torch.tensor(beside[: len(diagonal) - 1], dtype=torch.float64)
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    matrix = matrix + torch.diag(off, 1) + torch.diag(off, -1)
    values, turn = torch.linalg.eigh(matrix)
    return values.to(A.dtype), turn.mT.to(A.device, A.dtype) @ basis


def ritz_sampler(
    A: StencilOperator, dtype: torch.dtype, *, count: int = 500, seed: int = 0
) -> Sampler:
    """Sample in Ritz vectors, the lower half (and a twentieth of all) nine times as loud.

    Args:
        A: The operator.
        dtype: Of the samples.
        count: Number of Ritz vectors.
        seed: Of the first vector.
    """
    values, vectors = ritz_vectors(A, min(count, A.shape[0]), seed=seed)
    keep = values > 1e-8 * values[-1]  # what the operator maps to zero is not asked for
    vectors = vectors[keep].to(dtype)
    loud = torch.ones(len(vectors), dtype=dtype, device=A.device)
    loud[: len(vectors) // 2 + len(vectors) // 20] = LOUD

    def sample(generator: torch.Generator, count: int) -> Tensor:
        c = torch.randn(count, len(vectors), generator=generator, dtype=dtype).to(A.device)
        return unit(A, (c * loud) @ vectors)

    return sample


def unit(A: StencilOperator, b: Tensor) -> Tensor:
    """Rows that the operator reaches, of norm one.

    Args:
        A: The operator.
        b: Rows.
    """
    basis = A.nullspace.to(b)
    if len(basis):
        b = b - (b @ basis.mT) @ basis
    return torch.nn.functional.normalize(b)
