"""Loops of incomplete Cholesky factors in Numba."""

from typing import Any

from tensornet.kernels._bridge import jit


@jit
def factorise(begin: Any, column: Any, entry: Any, d: Any, modified: float) -> int:
    """Turn the upper triangle and the diagonal of a matrix into those of its factors, in place.

    Row k of the triangle becomes that of L^T, where the matrix is nearly L D L^T.

    Args:
        begin: Where the rows begin, ``(n + 1,)``.
        column: Columns of the entries above the diagonal, in order.
        entry: Those entries.
        d: Diagonal, then pivots.
        modified: Share of the dropped fill that is taken off the diagonal.

    Returns:
        How many pivots were replaced.
    """
    replaced = 0
    diagonal = d.copy()
    for k in range(len(d)):
        if d[k] < 0.25 * diagonal[k]:
            d[k] = diagonal[k]
            replaced += 1
        for s in range(begin[k], begin[k + 1]):
            i, u = column[s], entry[s] / d[k]
            d[i] -= u * entry[s]
            at = begin[i]
            for t in range(s + 1, begin[k + 1]):
                j, fill = column[t], u * entry[t]
                while at < begin[i + 1] and column[at] < j:
                    at += 1
                if at < begin[i + 1] and column[at] == j:
                    entry[at] -= fill
                else:
                    d[i] -= modified * fill
                    d[j] -= modified * fill
        for s in range(begin[k], begin[k + 1]):
            entry[s] /= d[k]
    return replaced


@jit
def sweep(
    begin: Any,
    column: Any,
    entry: Any,
    begin_t: Any,
    column_t: Any,
    entry_t: Any,
    d: Any,
    r: Any,
    x: Any,
) -> None:
    """Solve ``L D L^T x = r`` by one sweep forwards and one backwards.

    Args:
        begin: Where the rows of L begin, ``(n + 1,)``.
        column: Columns of its entries below the diagonal.
        entry: Those entries.
        begin_t: The same of the transpose.
        column_t: The same.
        entry_t: The same.
        d: Pivots ``(n,)``.
        r: Right-hand side ``(n,)``.
        x: The solution, written.
    """
    n = len(d)
    for i in range(n):
        value = r[i]
        for s in range(begin[i], begin[i + 1]):
            value -= entry[s] * x[column[s]]
        x[i] = value
    for i in range(n - 1, -1, -1):
        value = x[i] / d[i]
        for s in range(begin_t[i], begin_t[i + 1]):
            value -= entry_t[s] * x[column_t[s]]
        x[i] = value
