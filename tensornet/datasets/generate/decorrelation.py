"""Show that frames of a trajectory are independent enough."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def autocorrelation(
    series: Sequence[NDArray[np.float64]],  # each (n,)
    lag: int,
) -> float:
    r"""Estimate the autocorrelation of a quantity at one lag.

    .. math::
        c(k) = \frac{\langle (x_t - \bar x)(x_{t+k} - \bar x) \rangle}
                    {\langle (x_t - \bar x)^2 \rangle}

    Every series has a mean of its own, the averages run over all series. Since means come from the
    same finite series, :math:`c` is too small by about the correlation time over the length of a
    series.

    Args:
        series: Equidistant values, such as the energies of each trajectory, any unit.
        lag: Distance in time, in steps.

    Returns:
        A number near 1 for identical and near 0 for independent values.

    Raises:
        ValueError: If no series is longer than the lag, or nothing varies.

    Examples:
        >>> t = np.arange(4000.0)
        >>> round(autocorrelation([np.cos(2 * np.pi * t / 40)], 20), 2)  # half a period
        -1.0
    """
    deviations = [np.asarray(x, dtype=np.float64) - np.mean(x) for x in series if len(x) > lag]
    if lag < 0 or not deviations:
        raise ValueError(
            "`autocorrelation(lag=...)` must be at least 0 and shorter than a series. Got "
            f"{lag} for series of length {sorted({len(x) for x in series})}."
        )
    variance = float(np.mean(np.concatenate(deviations) ** 2))
    if variance == 0.0:
        raise ValueError("`autocorrelation(series=...)` must vary. Got constant series.")
    products = np.concatenate([x[: len(x) - lag] * x[lag:] for x in deviations])
    return float(np.mean(products)) / variance
