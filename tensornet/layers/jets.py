"""Functions of one number that bring their derivatives of every order in closed form.

Autograd would take the derivative of a radial function through a dozen small steps, and the
derivative of that, which training on forces needs, through a hundred. A `Jet` gives a function and
as many derivatives as are asked for, and autograd sees one step per order.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

# From numbers (...) and an order n: the function and its derivatives, n + 1 tensors of one shape,
# (...) or (..., q) for q functions at once.
Jet = Callable[[Tensor, int], list[Tensor]]


def evaluate(
    jet: Jet,
    x: Tensor,  # (...)
) -> Tensor:  # (...) or (..., q)
    """Evaluate a function, with one step of autograd.

    Args:
        jet: The function.
        x: Numbers.

    Derivatives:
        Any order, in x.

    Examples:
        >>> x = torch.tensor(1.0, requires_grad=True)
        >>> y = evaluate(lambda x, n: [(x + k * math.pi / 2).sin() for k in range(n + 1)], x)
        >>> torch.autograd.grad(y, x)  # the cosine
        (tensor(0.5403),)
    """
    if opaque_steps_fail():
        return jet(x, 0)[0]
    recorded = torch.is_grad_enabled() and x.requires_grad
    out: Tensor = _Step.apply(x, jet, jet(x.detach(), 1 if recorded else 0))  # type: ignore[no-untyped-call]
    return out


def opaque_steps_fail() -> bool:
    """Whether a transform is at work that must see torch's own operations only."""
    return (
        torch.compiler.is_compiling()
        or forward_ad._current_level >= 0
        or torch._C._functorch.peek_interpreter_stack() is not None
    )


class _Step(torch.autograd.Function):
    """A function whose first derivative may be known already."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, jet: Jet, known: list[Tensor]) -> Tensor:
        ctx.save_for_backward(x, *known[1:])
        ctx.jet = jet
        return known[0]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        x, *known = ctx.saved_tensors
        jet = _derivative(ctx.jet)
        slope = known[0] if known else jet(x.detach(), 0)[0]
        if torch.is_grad_enabled():
            slope = _Step.apply(x, jet, [slope])  # type: ignore[no-untyped-call]
        product = g * slope
        return product.sum(-1) if product.ndim > x.ndim else product, None, None


def _derivative(jet: Jet) -> Jet:
    return lambda x, n: jet(x, n + 1)[1:]


def times(a: Sequence[Tensor], b: Sequence[Tensor]) -> list[Tensor]:
    """Give the product of two functions and its derivatives, from theirs."""
    out = []
    for n in range(len(a)):
        total = a[0] * b[n]
        for k in range(1, n + 1):
            term = a[k] * b[n - k]
            total = total + (math.comb(n, k) * term if k < n else term)
        out.append(total)
    return out


def over(a: Sequence[Tensor], x: Tensor) -> list[Tensor]:
    """Give a function over x and its derivatives, from those of the function."""
    out: list[Tensor] = []
    for n, y in enumerate(a):
        out.append((y - n * out[-1] if n else y) / x)
    return out


def power(x: Tensor, p: int, n: int) -> list[Tensor]:
    """Give x to the power of p, not negative, and n derivatives."""
    return [math.perm(p, k) * x ** (p - k) if k <= p else torch.zeros_like(x) for k in range(n + 1)]
