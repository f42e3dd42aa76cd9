"""The contracts of linear operators and of discretised problems."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tensornet.pde import LinearOperator, Problem, StencilOperator
from tensornet.testing.closeness import SEED, TOLERANCE, assert_close, assert_gradients

_FEW = 40  # unknowns at which derivatives are compared with differences


def assert_operator_contract(A: LinearOperator, *, seed: int = SEED) -> None:
    """Assert that an operator is what it says, against its dense matrix.

    Linearity, batches, the sparse matrix and scipy's operator, adjointness, symmetry,
    definiteness, nullspace, refusals, and for few unknowns derivatives in the vector.

    Args:
        A: An operator, small: everything is compared with `to_dense`.
        seed: Seed of the random vectors.

    Raises:
        AssertionError: If it is not, with the largest error.
    """
    name, n, tolerance = type(A).__name__, A.shape[1], TOLERANCE[A.dtype]
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 3, n, generator=rng, dtype=torch.float64).to(A.device, A.dtype)
    y = torch.randn(n, generator=rng, dtype=torch.float64).to(A.device, A.dtype)
    dense, where = A.to_dense().detach(), f"seed {seed}"

    def same(got: Tensor, expected: Tensor, what: str) -> None:
        assert_close(got.detach(), expected, tolerance, f"`{name}`: {what}", where)

    same(A(x), x @ dense.mT, "a batch against the dense matrix")
    same(A(x[1, 2]), (x @ dense.mT)[1, 2], "one vector against the dense matrix")
    if A(torch.zeros_like(y)).abs().max() != 0:
        raise AssertionError(f"`{name}` of zero is not zero.")
    turned = A.transpose()
    same(turned.to_dense(), dense.mT, "transpose")
    _assert_scipy(A, x, dense, same)
    skew = float((dense - dense.mT).abs().max() / dense.abs().max())
    if A.symmetric and not (skew <= tolerance and torch.equal(A(y), turned(y))):
        raise AssertionError(f"`{name}.symmetric` is True; the matrix is skew by {skew:.1e}.")
    if isinstance(A, StencilOperator):
        same(A.diagonal(), dense.diagonal(), "diagonal")
        _assert_spectrum(A, dense.double(), tolerance)
    _assert_refused(A)
    if n <= _FEW and A.dtype == torch.float64:
        assert_gradients(A, [y], seed=seed)


def _assert_scipy(
    A: LinearOperator, x: Tensor, dense: Tensor, same: Callable[[Tensor, Tensor, str], None]
) -> None:
    rows = x.reshape(-1, A.shape[1])
    numbers, there = rows.cpu().numpy(), A.to_scipy()

    def back(found: Any) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(found)).to(A.device)

    same(back(there @ numbers[0]), rows[0] @ dense.mT, "scipy's matvec")
    same(back(there @ numbers.T), dense @ rows.mT, "scipy's matmat")
    same(back(there.rmatvec(numbers[0])), rows[0] @ dense, "scipy's rmatvec")
    if isinstance(A, StencilOperator):
        sparse = A.to_scipy_sparse()
        if not sparse.has_canonical_format or (sparse.data == 0).any():
            raise AssertionError("`to_scipy_sparse` must be sorted, without doubles and zeros.")
        same(torch.from_numpy(sparse.toarray()).to(A.device), dense, "the sparse matrix")


def _assert_spectrum(A: StencilOperator, dense: Tensor, tolerance: float) -> None:
    sizes = torch.linalg.svdvals(dense)
    none = int((sizes <= 10 * tolerance * sizes[0]).sum())
    basis = A.nullspace.double()
    if len(basis) != none:
        raise AssertionError(f"`nullspace` has {len(basis)} vectors; the matrix has {none}.")
    if len(basis):
        error = float((dense @ basis.mT).abs().max() / sizes[0])
        overlap = float((basis @ basis.mT - torch.eye(none, device=A.device)).abs().max())
        if max(error, overlap) > tolerance:
            raise AssertionError(f"`nullspace`: {error:.1e} is left, overlaps are {overlap:.1e}.")
    if A.symmetric:
        low = float(torch.linalg.eigvalsh((dense + dense.mT) / 2)[0])
        if A.definite and low <= 0:
            raise AssertionError(f"`definite` is True; the lowest eigenvalue is {low:.2e}.")
    elif A.definite:
        raise AssertionError("`definite` is True; the operator is not symmetric.")


def _assert_refused(A: LinearOperator) -> None:
    other = torch.float32 if A.dtype == torch.float64 else torch.float64
    wrong: dict[type[Exception], Tensor] = {
        ValueError: torch.zeros(A.shape[1] + 1, dtype=A.dtype, device=A.device),
        TypeError: torch.zeros(A.shape[1], dtype=other, device=A.device),
    }
    for error, x in wrong.items():
        try:
            A(x)
        except error:
            continue
        raise AssertionError(f"`{type(A).__name__}` must refuse {x.dtype} of {tuple(x.shape)}.")


def assert_problem_contract(
    make: Callable[[int], Problem], sizes: Sequence[int], *, order: float, slack: float = 0.15
) -> None:
    """Assert that the solution of a problem tends to the exact one at an order.

    The operator of the coarsest problem is held to `assert_operator_contract`.

    Args:
        make: Gives the problem, with `exact`, on a grid of so many cells along an axis.
        sizes: At least two, rising.
        order: The least order, of the root of the mean square error.
        slack: What the measured order may fall short of it.

    Raises:
        AssertionError: If the order is less, with the errors.
    """
    from scipy.sparse import bmat
    from scipy.sparse.linalg import spsolve

    errors, spacings = [], []
    for size in sizes:
        problem = make(size)
        A, exact = problem.operator, problem.exact
        if exact is None:
            raise AssertionError("The problem must know its exact solution.")
        matrix, right = A.to_scipy_sparse(), problem.rhs.detach().cpu().numpy()
        rows, columns = A.transpose().nullspace, A.nullspace
        if len(columns):  # the smallest solution, and multipliers that should be zero
            matrix = bmat([[matrix, rows.cpu().numpy().T], [columns.cpu().numpy(), None]], "csc")
            right = np.append(right, np.zeros(len(columns)))
        found = torch.from_numpy(spsolve(matrix.tocsc(), right)[: A.shape[0]]).to(problem.rhs)
        left = float(problem.residual(found).abs().max() / problem.rhs.abs().max())
        if not left <= 1e3 * TOLERANCE[A.dtype]:
            raise AssertionError(f"The solution with {size} cells leaves a residual of {left:.1e}.")
        errors.append(float((found - exact).square().mean().sqrt()))
        spacings.append(problem.domain.grid.spacing[0])
    assert_operator_contract(make(sizes[0]).operator)
    slopes = np.diff(np.log(errors)) / np.diff(np.log(spacings))
    if not slopes[-1] >= order - slack:
        said = ", ".join(f"{e:.2e}" for e in errors)
        raise AssertionError(f"The order is {slopes[-1]:.2f}, not {order}; errors {said}.")
