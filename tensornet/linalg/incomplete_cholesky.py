"""Incomplete Cholesky factors without fill, plain and modified, as preconditioners."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensornet import _check

Vector = NDArray[np.float64]


class IncompleteCholesky:
    """``(L D L^T)^-1``, with L and D as sparse as the matrix; a SciPy operator by its methods.

    Args:
        L: Rows of the factor below the diagonal: where each begins, columns, entries.
        U: The same of its transpose.
        d: Pivots ``(n,)``.
        n_replaced: How many pivots had come out too small.
    """

    def __init__(
        self,
        L: tuple[NDArray[np.int32], NDArray[np.int32], Vector],
        U: tuple[NDArray[np.int32], NDArray[np.int32], Vector],
        d: Vector,
        n_replaced: int,
    ) -> None:
        self.L, self.U, self.d, self.n_replaced = L, U, d, n_replaced
        self.shape, self.dtype = (len(d), len(d)), np.dtype(np.float64)

    def matvec(self, r: NDArray[Any]) -> Vector:  # (n,) or (n, 1) -> (n,)
        """Apply to one vector, by two triangular sweeps.

        Args:
            r: Residual.

        Returns:
            The preconditioned residual.

        Raises:
            ValueError: If it has another number of entries.
        """
        from tensornet.linalg.incomplete_sweeps import sweep

        given = np.ascontiguousarray(r, dtype=np.float64).reshape(-1)
        if given.shape != self.d.shape:
            raise ValueError(
                f"`IncompleteCholesky.matvec(r=...)` must have {len(self.d)} entries. "
                f"Got shape {np.shape(r)}."
            )
        x = np.empty_like(given)
        sweep(*self.L, *self.U, self.d, given, x)
        return x

    rmatvec = matvec


def incomplete_cholesky(
    A: Any,  # (n, n)
    *,
    modified: float = 0.97,
) -> IncompleteCholesky:  # (n, n)
    """Factorise a sparse symmetric matrix incompletely, to precondition conjugate gradients.

    The factor keeps the pattern of the matrix. What falls outside is dropped, and `modified` of it
    is taken off the diagonal of its row and of its column, so that row sums are nearly kept; on
    grids this takes about half of the iterations of the plain factor. Made for M-matrices (positive
    diagonal, no positive entry beside), where pivots stay positive; a pivot below a quarter of the
    diagonal's entry is replaced by that entry.

    Args:
        A: SciPy sparse matrix, real, symmetric, with a positive diagonal; or an operator that has
            `to_scipy_sparse()`.
        modified: Share of the dropped fill that goes to the diagonal; zero is plain IC(0), one
            keeps row sums exactly.

    Returns:
        A preconditioner: `M` of `pcg` and of `scipy.sparse.linalg.cg`. It computes in float64, on
        one core.

    Raises:
        TypeError: If `A` is not sparse, or complex.
        ValueError: If `A` is not square, symmetric and finite, or its diagonal not positive.

    References:
        Gustafsson, A class of first order factorization methods, BIT 18, 142 (1978).
        Bridson, Fluid Simulation for Computer Graphics (2015), for the two constants.

    Examples:
        >>> import scipy.sparse
        >>> T = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(9, 9))
        >>> M = incomplete_cholesky(T.tocsr())  # exact, as nothing is dropped
        >>> bool(np.allclose(T @ M.matvec(np.ones(9)), 1.0))
        True
    """
    if hasattr(A, "to_scipy_sparse"):
        A = A.to_scipy_sparse()
    if not hasattr(A, "tocsr"):
        raise TypeError(
            f"`incomplete_cholesky(A=...)` must be a SciPy sparse matrix. Got {type(A).__name__}."
        )
    _check.tolerance("incomplete_cholesky", modified=modified)
    if modified > 1:
        raise ValueError(
            f"`incomplete_cholesky(modified=...)` must be between 0 and 1. Got {modified}."
        )
    rows = A.tocsr()
    if rows.dtype.kind == "c":
        raise TypeError("`incomplete_cholesky(A=...)` must be real. Got complex numbers.")
    rows = rows.astype(np.float64)  # a copy, whose order and zeros may change
    if rows.ndim != 2 or rows.shape[0] != rows.shape[1] or rows.shape[0] == 0:
        raise ValueError(f"`incomplete_cholesky(A=...)` must be square. Got shape {rows.shape}.")
    rows.sum_duplicates()
    if not np.isfinite(rows.data).all():
        raise ValueError("`incomplete_cholesky(A=...)` must be finite. Got NaN or infinite.")
    gap = abs(rows - rows.T)
    if gap.nnz and gap.max() > 1e-10 * abs(rows).max():
        raise ValueError(
            f"`incomplete_cholesky(A=...)` must be symmetric. Got entries {gap.max():.1e} apart."
        )
    return _factorised(rows, modified)


def _factorised(rows: Any, modified: float) -> IncompleteCholesky:
    import scipy.sparse

    from tensornet.linalg.incomplete_sweeps import factorise

    d = rows.diagonal()
    if not (d > 0).all():
        row = int(np.flatnonzero(~(d > 0))[0])
        raise ValueError(
            "`incomplete_cholesky(A=...)` must have a positive diagonal. Got "
            f"{d[row]:.1e} in row {row}."
        )
    upper = scipy.sparse.triu(rows, 1, format="csr")
    upper.sort_indices()
    replaced = factorise(upper.indptr, upper.indices, upper.data, d, modified)
    lower = upper.T.tocsr()
    lower.sort_indices()
    return IncompleteCholesky(_parts(lower), _parts(upper), d, int(replaced))


def _parts(x: Any) -> tuple[NDArray[np.int32], NDArray[np.int32], Vector]:
    return x.indptr.astype(np.int32), x.indices.astype(np.int32), x.data
