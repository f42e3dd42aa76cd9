"""The six polynomials of degree five of an interval: value, slope and curvature at its ends."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

_POWERS = (
    (1, 0, 0, -10, 15, -6),
    (0, 1, 0, -6, 8, -3),
    (0, 0, 0.5, -1.5, 1.5, -0.5),
    (0, 0, 0, 10, -15, 6),
    (0, 0, 0, -4, 7, -3),
    (0, 0, 0, 0.5, -1, 0.5),
)


@cache
def basis(order: int) -> NDArray[np.float64]:  # (6, 6)
    """Coefficients of powers 0 to 5 of each polynomial, differentiated `order` times."""
    rows = np.array(_POWERS, dtype=np.float64)
    for _ in range(min(order, 6)):
        rows = np.pad(rows[:, 1:] * np.arange(1, 6), ((0, 0), (0, 1)))
    return rows


def whole_knots(name: str, **sizes: int) -> None:
    """Refuse tables that are not of at least two knots of three rows."""
    for argument, k in sizes.items():
        if k < 6 or k % 3:
            raise ValueError(
                f"`{name}({argument}=...)` must have three rows per knot, and two knots at least. "
                f"Got {k} rows."
            )


def as_rows(order: int, like: Tensor) -> NDArray[np.float64]:
    """The coefficients one after the other, in the dtype of a tensor."""
    return basis(order).reshape(-1).astype(str(like.dtype).removeprefix("torch."))
