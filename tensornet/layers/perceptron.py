"""A network of two hidden layers, with its first and second derivatives written out.

Training on forces goes through a network of the distance three times: its values, their slopes, and
the derivatives of both. Autograd takes the last step apart into some sixty operations, since it
does not know what the activation and its derivatives share.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu

from tensornet.layers.jets import opaque_steps_fail

Gradients = tuple[Tensor | None, ...]
silu_backward = torch.ops.aten.silu_backward


def perceptron(
    x: Tensor,  # (e, r)
    w1: Tensor,  # (h, r)
    b1: Tensor,  # (h,)
    w2: Tensor,  # (h, h)
    b2: Tensor,  # (h,)
    last: Tensor,  # (h + 1, q)
) -> Tensor:  # (e, q)
    """Evaluate a network of two hidden layers with SiLU behind each.

    Args:
        x: One row per sample.
        w1: Weights of the first hidden layer.
        b1: Its bias.
        w2: Weights of the second hidden layer.
        b2: Its bias.
        last: The last matrix, with its bias as the first row.

    Derivatives:
        Any order, in all arguments. Written out are the first, and the derivatives of slopes in x.

    Examples:
        >>> ones = torch.ones(1, 1)
        >>> perceptron(ones, ones, ones[0], ones, ones[0], torch.cat([ones, ones]))
        tensor([[3.5975]])
    """
    if opaque_steps_fail():
        return _plain(x, w1, b1, w2, b2, last)
    out: Tensor = _Values.apply(x, w1, b1, w2, b2, last)  # type: ignore[no-untyped-call]
    return out


def _plain(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, last: Tensor) -> Tensor:
    """The definition."""
    h = silu(torch.addmm(b1, x, w1.mT))
    h = silu(torch.addmm(b2, h, w2.mT))
    return torch.addmm(last[0], h, last[1:])


class _Values(torch.autograd.Function):
    """The values."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, last: Tensor
    ) -> Tensor:
        z1 = torch.addmm(b1, x, w1.mT)
        h1 = silu(z1)
        z2 = torch.addmm(b2, h1, w2.mT)
        h2 = silu(z2)
        ctx.save_for_backward(x, w1, b1, w2, b2, last, z1, h1, z2, h2)
        return torch.addmm(last[0], h2, last[1:])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Gradients:
        needs = wanted(ctx)
        x, w1, b1, w2, b2, last, z1, h1, z2, h2 = ctx.saved_tensors
        if torch.is_grad_enabled():
            if any(needs[1:]):
                return _by_autograd(_plain, needs, (x, w1, b1, w2, b2, last), g)
            return _Slope.apply(g, x, w1, b1, w2, b2, last, z1, h1, z2), *[None] * 5  # type: ignore[no-untyped-call]
        at_z2 = silu_backward(g @ last[1:].mT, z2)
        at_z1 = silu_backward(at_z2 @ w2, z1)
        at_x = at_z1 @ w1 if needs[0] else None
        if not any(needs[1:]):
            return at_x, *[None] * 5
        at_last = torch.cat([g.sum(0)[None], h2.mT @ g])
        return at_x, at_z1.mT @ x, at_z1.sum(0), at_z2.mT @ h1, at_z2.sum(0), at_last


class _Slope(torch.autograd.Function):
    """The slope of ``sum of g perceptron(x, ...)`` in x."""

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor,
        last: Tensor, z1: Tensor, h1: Tensor, z2: Tensor,
    ) -> Tensor:  # fmt: skip
        g2 = g @ last[1:].mT
        k2 = silu_backward(g2, z2)
        g1 = k2 @ w2
        k1 = silu_backward(g1, z1)
        ctx.save_for_backward(g, x, w1, b1, w2, b2, last, z1, h1, z2, g2, k2, g1, k1)
        slope: Tensor = k1 @ w1
        return slope

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> Gradients:
        needs = wanted(ctx)[:7]
        g, x, w1, b1, w2, b2, last, z1, h1, z2, g2, k2, g1, k1 = ctx.saved_tensors
        if torch.is_grad_enabled():
            inputs = g, x, w1, b1, w2, b2, last
            return *_by_autograd(_plain_slope, needs, inputs, u), *[None] * 3
        # How the layers change along u, before (t) and behind (p) their activations.
        t1 = u @ w1.mT
        p1 = silu_backward(t1, z1)
        t2 = p1 @ w2.mT
        p2 = silu_backward(t2, z2)
        at_g = p2 @ last[1:] if needs[0] else None
        if not any(needs[1:]):
            return at_g, *[None] * 9
        at_z2 = g2 * t2 * _curvature(z2)
        at_z1 = silu_backward(at_z2 @ w2, z1) + g1 * t1 * _curvature(z1)
        at_x = at_z1 @ w1 if needs[1] else None
        at_w1 = (at_z1.mT @ x).addmm_(k1.mT, u)
        at_w2 = (at_z2.mT @ h1).addmm_(k2.mT, p1)
        at_last = torch.cat([last.new_zeros(1, last.shape[1]), p2.mT @ g])
        return at_g, at_x, at_w1, at_z1.sum(0), at_w2, at_z2.sum(0), at_last, *[None] * 3


def wanted(ctx: Any) -> tuple[bool, ...]:
    """Say which gradients the backward pass that runs will use.

    What autograd says in ``needs_input_grad`` is which could be asked for: when forces are
    derived, those of all weights too.
    """
    pairs = zip(ctx.needs_input_grad, ctx.next_functions, strict=True)
    return tuple(need and _runs(node) for need, (node, _) in pairs)


def _runs(node: Any) -> bool:
    try:
        return torch._C._will_engine_execute_node(node)
    except RuntimeError:  # how torch says that the gradient of this very leaf is asked for
        return True


def _curvature(z: Tensor) -> Tensor:
    """The second derivative of SiLU."""
    s = torch.sigmoid(z)
    return s * (1 - s) * (2 + z * (1 - 2 * s))


def _plain_slope(g: Tensor, *inputs: Tensor) -> Tensor:
    slope = _by_autograd(_plain, (True, *[False] * 5), inputs, g)[0]
    assert slope is not None
    return slope


def _by_autograd(
    function: Callable[..., Tensor], needs: tuple[bool, ...], inputs: tuple[Tensor, ...], g: Tensor
) -> Gradients:
    """Differentiate plain operations, with a graph of the derivatives."""
    # Views, so that no argument's gradient runs through another argument.
    views = [x.view_as(x) if need else x for x, need in zip(inputs, needs, strict=True)]
    about = [x for x, need in zip(views, needs, strict=True) if need]
    found = iter(torch.autograd.grad(function(*views), about, g, create_graph=True))
    return tuple(next(found) if need else None for need in needs)
