"""Velocities on the centre lines of a lid-driven cavity, of Ghia, Ghia & Shin (1982).

J. Comput. Phys. 48, 387. The lid is the upper side, and slides along x with speed one. At Reynolds
number 400 the printed v at x = 0.9063 is a misprint, and left out.
"""

import numpy as np
from scipy.interpolate import CubicSpline
from torch import Tensor

Table = tuple[tuple[float, float, float | None], ...]
# y, then u on x = 1/2 at Reynolds numbers 100 and 400
U: Table = (
    (0.9766, 0.84123, 0.75837), (0.9688, 0.78871, 0.68439), (0.9609, 0.73722, 0.61756),
    (0.9531, 0.68717, 0.55892), (0.8516, 0.23151, 0.29093), (0.7344, 0.00332, 0.16256),
    (0.6172, -0.13641, 0.02135), (0.5000, -0.20581, -0.11477), (0.4531, -0.21090, -0.17119),
    (0.2813, -0.15662, -0.32726), (0.1719, -0.10150, -0.24299), (0.1016, -0.06434, -0.14612),
    (0.0703, -0.04775, -0.10338), (0.0625, -0.04192, -0.09266), (0.0547, -0.03717, -0.08186),
)  # fmt: skip
# x, then v on y = 1/2
V: Table = (
    (0.9688, -0.05906, -0.12146), (0.9609, -0.07391, -0.15663), (0.9531, -0.08864, -0.19254),
    (0.9453, -0.10313, -0.22847), (0.9063, -0.16914, None), (0.8594, -0.22445, -0.44993),
    (0.8047, -0.24533, -0.38598), (0.5000, 0.05454, 0.05186), (0.2344, 0.17527, 0.30174),
    (0.2266, 0.17507, 0.30203), (0.1563, 0.16077, 0.28124), (0.0938, 0.12317, 0.22965),
    (0.0781, 0.10890, 0.20920), (0.0703, 0.10091, 0.19713), (0.0625, 0.09233, 0.18360),
)  # fmt: skip


def ghia(reynolds: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Give the published velocities on the centre lines.

    Args:
        reynolds: 100 or 400.

    Returns:
        y, and u there on x = 1/2; x, and v there on y = 1/2. From large to small.

    Raises:
        KeyError: At another Reynolds number.
    """
    column = {100: 1, 400: 2}[reynolds]
    kept = ([row for row in table if row[column] is not None] for table in (U, V))
    y, x = (np.array([(row[0], row[column]) for row in rows], float).T for rows in kept)
    return y[0], y[1], x[0], x[1]


def deviation(lines: tuple[Tensor, Tensor, Tensor, Tensor], reynolds: int) -> dict[str, float]:
    """Give the largest differences from the published velocities, by cubic splines.

    Args:
        lines: y, u on x = 1/2, x, v on y = 1/2: what a flow's `centrelines` gives.
        reynolds: 100 or 400.

    Returns:
        The largest difference of each, by ``"u"`` and ``"v"``.

    Raises:
        KeyError: At another Reynolds number.
    """
    y, u, x, v = (line.detach().cpu().numpy() for line in lines)
    at_y, in_u, at_x, in_v = ghia(reynolds)
    return {
        "u": float(np.abs(CubicSpline(y, u)(at_y) - in_u).max()),
        "v": float(np.abs(CubicSpline(x, v)(at_x) - in_v).max()),
    }
