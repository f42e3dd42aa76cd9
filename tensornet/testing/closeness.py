"""Values and derivatives that agree with what they should be."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError

TOLERANCE: Mapping[torch.dtype, float] = {torch.float64: 1e-10, torch.float32: 1e-5}
"""Largest error by dtype, relative to the largest entry of the result."""

SEED = 20260704


def assert_close(
    got: Tensor, expected: Tensor, tolerance: float, what: str, where: str = ""
) -> None:
    """Assert that two tensors agree, relative to the largest entry of what is expected.

    Args:
        got: What was computed.
        expected: What it should be; no entries or all zeros prove nothing and fail, as does NaN.
        tolerance: Largest difference, relative to the largest entry of `expected`.
        what: Beginning of the message.
        where: End of the message, for example the seed.

    Raises:
        AssertionError: If they differ, with the largest error and its index.
    """
    if got.shape != expected.shape:
        raise AssertionError(f"{what}: shape {tuple(got.shape)}, not {tuple(expected.shape)}.")
    if expected.numel() == 0:
        raise AssertionError(f"{what}: there are no entries, which proves nothing.")
    scale = float(expected.detach().abs().max())
    if not 0 < scale < math.inf:
        raise AssertionError(f"{what}: the largest entry is {scale}, which proves nothing.")
    difference = (got - expected).detach().abs()
    place = int(difference.nan_to_num(nan=math.inf).argmax())
    error = float(difference.flatten()[place]) / scale
    if not error <= tolerance:
        index = tuple(int(k) for k in np.unravel_index(place, got.shape))
        raise AssertionError(
            f"{what}: the largest error is {error:.2e} of the largest entry, at {index}; allowed "
            f"is {tolerance:.0e}.{f' ({where})' if where else ''}"
        )


def assert_gradients(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], *, seed: int = SEED
) -> None:
    """Assert that first and second derivatives agree with finite differences.

    The tolerances, rtol=1e-6 and atol=1e-8, are far tighter than torch's, which let an error of
    0.1 % pass.

    Args:
        function: Takes the inputs as arguments and gives a tensor.
        inputs: Float64 tensors to differentiate to, small: every entry costs two calls. Others
            (integers) are passed as they are.
        seed: Seed of the random directions of the second derivatives.

    Raises:
        TypeError: If an input is of a lower precision, in which differences say nothing.
        AssertionError: If a derivative is wrong, with both Jacobians.

    Examples:
        >>> x = torch.linspace(0.5, 2.0, 4, dtype=torch.float64)
        >>> assert_gradients(torch.sin, [x])
    """
    for k, x in enumerate(inputs):
        if x.is_floating_point() and x.dtype != torch.float64:
            raise TypeError(
                f"`assert_gradients(inputs=...)` must be float64. Got {x.dtype} in number {k}."
            )
    args = [x.detach().clone().requires_grad_(x.is_floating_point()) for x in inputs]
    checks: dict[str, Callable[..., bool]] = {
        "first": torch.autograd.gradcheck,
        "second": torch.autograd.gradgradcheck,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for order, check in checks.items():
            try:
                check(function, args, rtol=1e-6, atol=1e-8)
            except GradcheckError as error:
                raise AssertionError(
                    f"`{name_of(function)}`: the {order} derivative disagrees with finite "
                    f"differences (rtol 1e-6, atol 1e-8, seed {seed}). {error}"
                ) from None


def name_of(function: Any) -> str:
    """Give the name of a function, or of the class of anything else.

    Args:
        function: Anything.
    """
    return getattr(function, "__name__", type(function).__name__)
