"""Least squares over rows that come in parts, so that memory does not grow with their number."""

import numpy as np
from numpy.typing import NDArray

ROWS = 4096


class LeastSquares:
    """Solve min over x of |A x - b|, for rows of A and b that come one part after the other.

    Up to 4096 rows are kept as they are; more are replaced by the triangle of a QR decomposition,
    which has the same solutions.

    Args:
        n: Number of unknowns.

    References:
        Golub & Van Loan, Matrix Computations, 4th ed., section 6.5.3 (adding rows).

    Examples:
        >>> fit = LeastSquares(1)
        >>> fit.add(np.ones((2, 1)), np.array([1.0, 2.0]))
        >>> fit.add(np.ones((1, 1)), np.array([6.0]))
        >>> fit.solve()[0].round(9).tolist()
        [3.0]
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self.n_rows = 0
        self._rows = np.zeros((0, n + 1))

    def add(
        self,
        a: NDArray[np.float64],  # (s, n)
        b: NDArray[np.float64],  # (s,)
    ) -> None:
        """Take more rows.

        Args:
            a: Coefficients of the unknowns.
            b: Right-hand sides.
        """
        self.n_rows += len(b)
        for start in range(0, len(b), ROWS):
            part = slice(start, start + ROWS)
            self._rows = np.vstack((self._rows, np.column_stack((a[part], b[part]))))
            if len(self._rows) > ROWS:
                self._rows = np.asarray(np.linalg.qr(self._rows, mode="r"))

    def solve(self, tolerance: float | None = None) -> tuple[NDArray[np.float64], int]:
        """Give the solution of smallest norm and the rank.

        Args:
            tolerance: Singular values below it, relative to the largest, count as zero. By default
                what rounding can do to so many rows.

        Returns:
            The solution (n,), and the rank of A.
        """
        if tolerance is None:
            tolerance = np.finfo(np.float64).eps * max(self.n_rows, self.n)
        a, b = self._rows[:, :-1], self._rows[:, -1]
        solution, _, rank, _ = np.linalg.lstsq(a, b, rcond=tolerance)
        return solution.astype(np.float64), int(rank)
