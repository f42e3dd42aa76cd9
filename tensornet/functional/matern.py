"""Matern covariances, as functions and as linear stochastic differential equations."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from tensornet import _check

Numbers = Tensor | ArrayLike  # what becomes a tensor
_SMOOTHNESS = (0.5, 1.5, 2.5)


@dataclass(frozen=True)
class Matern:
    """A Matern covariance of a half-integer smoothness.

    With ``x = sqrt(2 nu) |t - t'| / length_scale`` it is the variance times ``exp(-x)``,
    ``(1 + x) exp(-x)`` or ``(1 + x + x^2 / 3) exp(-x)``. A Gaussian process with it is the first
    component of a Markov process: with its first ``nu - 1/2`` derivatives, each in units of the
    rate ``sqrt(2 nu) / length_scale``, it obeys ``dz = F z dt + noise``, and over a step its state
    is multiplied by `transition` and gains `innovation`.

    Args:
        nu: Smoothness: 1/2 (continuous), 3/2 (one derivative) or 5/2 (two).
        length_scale: In the units of the coordinates; a number, or a tensor without axes.
        variance: Of the process; a number, or a tensor without axes.

    Raises:
        TypeError: If a scale is no number.
        ValueError: If the smoothness is another, or a scale is not positive and finite.

    Derivatives:
        First order in the length scale, the variance and the steps; any order of `covariance`.

    References:
        Hartikainen & Sarkka, IEEE MLSP (2010), doi:10.1109/MLSP.2010.5589113.

    Examples:
        >>> kernel = Matern(1.5, length_scale=2.0)
        >>> float(kernel.covariance(torch.zeros(1), torch.zeros(1)))
        1.0
        >>> kernel.n_states
        2
    """

    nu: float = 1.5
    length_scale: float | Tensor = 1.0
    variance: float | Tensor = 1.0

    def __post_init__(self) -> None:
        if self.nu not in _SMOOTHNESS:
            raise ValueError(f"`Matern(nu=...)` must be 0.5, 1.5 or 2.5. Got {self.nu!r}.")
        for name, value in (("length_scale", self.length_scale), ("variance", self.variance)):
            if isinstance(value, bool) or not isinstance(value, int | float | Tensor):
                raise TypeError(f"`Matern({name}=...)` must be a number. Got {value!r}.")
            if isinstance(value, Tensor) and value.ndim:
                raise ValueError(
                    f"`Matern({name}=...)` must be one number. Got shape {tuple(value.shape)}."
                )
            size = float(value.detach() if isinstance(value, Tensor) else value)
            if not 0 < size < math.inf:
                raise ValueError(f"`Matern({name}=...)` must be positive and finite. Got {size}.")

    @property
    def n_states(self) -> int:
        """Components of the state: the process and its derivatives."""
        return int(self.nu + 0.5)

    @property
    def rate(self) -> float | Tensor:
        """Inverse of the time in which the state forgets, ``sqrt(2 nu) / length_scale``."""
        return math.sqrt(2 * self.nu) / self.length_scale

    def covariance(self, first: Tensor, second: Tensor) -> Tensor:  # (..., n), (..., m)
        """Give the dense matrix of covariances between coordinates.

        Args:
            first: Coordinates, (..., n).
            second: Coordinates, (..., m).

        Returns:
            The matrix, (..., n, m).
        """
        x = (first[..., :, None] - second[..., None, :]).abs() * self.rate
        polynomial = (torch.ones_like(x), 1 + x, 1 + x + x.square() / 3)[self.n_states - 1]
        return self.variance * polynomial * torch.exp(-x)

    def stationary(self) -> Tensor:  # (p, p)
        """Return the covariance (p, p) of the state far from all data, in float64."""
        unit = {
            1: [[1.0]],
            2: [[1.0, 0.0], [0.0, 1.0]],
            3: [[1.0, 0.0, -1 / 3], [0.0, 1 / 3, 0.0], [-1 / 3, 0.0, 1.0]],
        }[self.n_states]
        return self.variance * torch.tensor(unit, dtype=torch.float64)

    def transition(self, steps: Tensor) -> Tensor:  # (...) -> (..., p, p)
        """Give the matrix by which the expected state is multiplied over steps.

        Args:
            steps: Of at least zero, (...).

        Returns:
            One matrix per step, (..., p, p).
        """
        x = steps * self.rate
        rows: tuple[tuple[Tensor, ...], ...]
        if self.n_states == 1:
            rows = ((torch.ones_like(x),),)
        elif self.n_states == 2:
            rows = ((1 + x, x), (-x, 1 - x))
        else:
            y = x.square() / 2
            rows = (
                (1 + x + y, x + 2 * y, y),
                (-y, 1 + x - 2 * y, x - y),
                (y - x, 2 * y - 3 * x, 1 - 2 * x + y),
            )
        matrix = torch.stack([torch.stack(row, -1) for row in rows], -2)
        return matrix * torch.exp(-x)[..., None, None]

    def innovation(self, steps: Tensor) -> Tensor:  # (...) -> (..., p, p)
        """Give the covariance that the state gains over steps.

        These are integrals of products of the responses to white noise. As combinations of
        incomplete gamma functions they keep their digits for short steps too, where stationary
        minus transformed stationary covariance loses them.

        Args:
            steps: Of at least zero, (...).

        Returns:
            One matrix per step, (..., p, p).
        """
        x = steps * self.rate
        p = self.n_states
        # Polynomials, lowest power first, of the response exp(-s) s^(p-1) and its derivatives.
        response = [[0.0] * (p - 1) + [1.0]]
        while len(response) < p:
            a = response[-1]
            shifted = [*[k * c for k, c in enumerate(a)][1:], 0.0]
            response.append([d - c for d, c in zip(shifted, a, strict=True)])
        integrals = [
            math.factorial(k) / 2 ** (k + 1) * torch.special.gammainc(x.new_tensor(k + 1.0), 2 * x)
            for k in range(2 * p - 1)
        ]
        scale = self.variance / (math.factorial(2 * p - 2) / 2 ** (2 * p - 1))

        def moment(a: list[float], b: list[float]) -> Tensor:
            total = torch.zeros_like(x)
            for i, c in enumerate(a):
                for j, d in enumerate(b):
                    if c * d:
                        total = total + c * d * integrals[i + j]
            return total

        rows = [torch.stack([moment(a, b) for b in response], -1) for a in response]
        matrix: Tensor = scale * torch.stack(rows, -2)
        return matrix


def checked_kernel(where: str, kernel: Matern) -> None:
    """Check that an argument is a kernel.

    Args:
        where: Name of the public call, for the message.
        kernel: The argument.

    Raises:
        TypeError: If it is something else.
    """
    if not isinstance(kernel, Matern):
        raise TypeError(
            f"`{where}(kernel=...)` must be a `Matern`. Got {type(kernel).__name__}. "
            "(For example `Matern(1.5, length_scale=2.0)`.)"
        )


def checked_series(where: str, name: str, x: Numbers) -> Tensor:
    """Give an argument as a float64 tensor on the CPU that holds finite numbers.

    Args:
        where: Name of the public call, for the message.
        name: Name of the argument.
        x: A tensor, an array or a sequence.

    Raises:
        TypeError: If it holds no numbers.
        ValueError: If it is empty, or holds NaN or infinite numbers.
    """
    try:
        if isinstance(x, Tensor):
            tensor = x.detach()
        else:  # a copy, since torch takes no negative strides and no foreign order of bytes
            array = np.asarray(x)
            tensor = torch.from_numpy(np.array(array, array.dtype.newbyteorder("="), order="C"))
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"`{where}({name}=...)` must be an array of numbers. Got {type(x).__name__}."
        ) from None
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"`{where}({name}=...)` must hold real numbers. Got {tensor.dtype}.")
    tensor = tensor.to("cpu", torch.float64)
    _check.dense(where, name, tensor)
    return tensor
