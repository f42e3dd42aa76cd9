"""Incomplete Cholesky factors against a dense factorisation by the definition."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse

from tensornet.linalg import cg, incomplete_cholesky, pcg


def masked(shape: tuple[int, ...], seed: int) -> Any:
    """Stencil of a closed box with holes, open at one end, and its right-hand side's size."""
    rng = np.random.default_rng(seed)
    active = rng.random(shape) > 0.15
    number = np.full(shape, -1)
    number[active] = np.arange(active.sum())
    A = np.zeros((active.sum(),) * 2)
    for axis in range(len(shape)):
        cells = np.moveaxis(number, axis, 0)
        for p, q in zip(cells[:-1].ravel(), cells[1:].ravel(), strict=True):
            if p >= 0 and q >= 0:
                w = 0.5 + rng.random()
                A[p, q] = A[q, p] = -w
                A[p, p] += w
                A[q, q] += w
    return scipy.sparse.csr_array(A + np.diag(np.r_[2.0, np.full(len(A) - 1, 1e-3)]))


def definition(A: Any, modified: float) -> Any:
    """Gaussian elimination that drops what falls outside of the pattern; the product of factors."""
    S, n = A.copy(), len(A)
    L, d = np.eye(n), np.zeros(n)
    for k in range(n):
        d[k] = S[k, k] if S[k, k] >= 0.25 * A[k, k] else A[k, k]
        L[k + 1 :, k] = S[k + 1 :, k] / d[k]
        for i in range(k + 1, n):
            for j in range(k + 1, n):
                fill = L[i, k] * L[j, k] * d[k]
                if i == j or A[i, j] != 0:
                    S[i, j] -= fill
                else:
                    S[i, i] -= modified * fill
    return L @ np.diag(d) @ L.T


@pytest.mark.parametrize("modified", [0.0, 0.97, 1.0])
@pytest.mark.parametrize("shape", [(5, 6), (3, 4, 4)])
def test_factors_are_those_of_the_definition(shape: tuple[int, ...], modified: float) -> None:
    A = masked(shape, 23)
    M = incomplete_cholesky(A, modified=modified)
    r = np.random.default_rng(2).normal(size=A.shape[0])
    want = np.linalg.solve(definition(A.toarray(), modified), r)
    assert np.abs(M.matvec(r) - want).max() < 1e-11 * np.abs(want).max()


def test_factors_keep_row_sums() -> None:
    A = masked((6, 6), 31)
    A = A + 0.5 * scipy.sparse.eye_array(A.shape[0])
    M = incomplete_cholesky(A, modified=1.0)
    assert M.n_replaced == 0
    assert np.abs(M.matvec(A @ np.ones(A.shape[0])) - 1).max() < 1e-10


def test_a_triangle_in_the_pattern_is_kept() -> None:
    X = np.array([[4.0, -1, -1, 0], [-1, 4, -1, -1], [-1, -1, 4, 0], [0, -1, 0, 4]])
    M = incomplete_cholesky(scipy.sparse.csr_array(X), modified=0.5)
    r = np.arange(4.0)
    assert np.allclose(M.matvec(r), np.linalg.solve(definition(X, 0.5), r), rtol=1e-13)


def test_iterations_on_a_grid() -> None:
    line = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(32, 32))
    one = scipy.sparse.eye_array(32)
    A = (scipy.sparse.kron(line, one) + scipy.sparse.kron(one, line)).tocsr()
    b = np.random.default_rng(7).normal(size=1024)
    steps = [
        cg(A, b, rtol=1e-8).n_iterations,
        pcg(A, b, rtol=1e-8, M=incomplete_cholesky(A, modified=0.0)).n_iterations,
        pcg(A, b, rtol=1e-8, M=incomplete_cholesky(A)).n_iterations,
    ]
    assert steps[1] < 0.5 * steps[0]
    assert steps[2] < 0.75 * steps[1]


def test_what_is_no_matrix_for_it_is_refused() -> None:
    A = masked((4, 4), 1)
    with pytest.raises(TypeError, match=r"must be a SciPy sparse matrix. Got ndarray"):
        incomplete_cholesky(A.toarray())
    with pytest.raises(TypeError, match=r"must be real"):
        incomplete_cholesky(A.astype(complex))
    with pytest.raises(ValueError, match=r"must be square"):
        incomplete_cholesky(A[:3])
    tilted = A.tolil()
    tilted[0, 1] = -5.0
    with pytest.raises(ValueError, match=r"must be symmetric"):
        incomplete_cholesky(tilted)
    empty = A - scipy.sparse.diags_array(A.diagonal())
    with pytest.raises(ValueError, match=r"must have a positive diagonal. Got 0.0e\+00 in row 0"):
        incomplete_cholesky(empty)
    with pytest.raises(ValueError, match=r"must be finite"):
        incomplete_cholesky(A * np.nan)
    with pytest.raises(ValueError, match=r"must be between 0 and 1"):
        incomplete_cholesky(A, modified=1.5)
    with pytest.raises(ValueError, match=r"entries. Got shape"):
        incomplete_cholesky(A).matvec(np.ones(3))


def test_the_matrix_is_left_as_it_was() -> None:
    A = masked((4, 4), 3)
    before = A.copy()
    incomplete_cholesky(A)
    assert (before != A).nnz == 0
