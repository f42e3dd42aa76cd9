"""Derivatives of the kernels of the edge convolution, their offers, and sizes to test them at."""

from typing import Any

import torch
from torch import Tensor

from tensornet.kernels.convolution.gradients import edge_curvatures, edge_slopes
from tensornet.kernels.convolution.spec import edge_convolution, edge_harmonics, edge_weights

Gradients = tuple[Tensor | None, ...]
Given = tuple[Tensor | None, ...]


def _values_slope(
    x: Tensor, y: Tensor, w: Tensor, g: Tensor, sender: Tensor, receiver: Tensor, *at: Tensor
) -> Tensor:  # (t,)
    """Slope of the form in the values. Models keep the coupling fixed, so this is plain torch."""
    at_i, at_j, at_k, at_p = at
    pairs = x.index_select(0, sender).index_select(1, at_i)
    pairs = pairs * g.index_select(0, receiver).index_select(1, at_k)
    return ((pairs * w.index_select(1, at_p)).sum(-1) * y.index_select(1, at_j)).sum(0)


def _along(at: list[Tensor], h: Given) -> list[list[Tensor]]:
    """The arguments of the form, for each direction that is given with that one in its place."""
    return [[*at[:k], t, *at[k + 1 :]] for k, t in enumerate(h) if t is not None]


def _plus(*terms: Tensor | None) -> Tensor | None:
    total = None
    for t in terms:
        total = t if total is None else total if t is None else total + t
    return total


@edge_convolution.vjp
def _convolution_vjp(
    needs: tuple[bool, ...], h: Tensor, x: Tensor, y: Tensor, w: Tensor,
    sender: Tensor, receiver: Tensor, i: Tensor, j: Tensor, k: Tensor, p: Tensor,
    values: Tensor, v: int, size: int,
) -> Gradients:  # fmt: skip
    x, y, w, c = x.conj(), y.conj(), w.conj(), values.conj()
    rest = sender, receiver, i, j, k, p, c
    gx = gy = gw = gc = None
    if sum(needs[:3]) > 1:
        slopes = edge_slopes(x, y, w, h, *rest)
        gx, gy, gw = (t if need else None for t, need in zip(slopes, needs, strict=False))
    elif needs[0]:
        gx = edge_convolution(h, y, w, receiver, sender, k, j, i, p, c, x.shape[0], x.shape[1])
    elif needs[1]:
        gy = edge_harmonics(x, w, h, *rest, y.shape[1])
    elif needs[2]:
        gw = edge_weights(x, y, h, *rest, w.shape[1])
    if needs[9]:
        gc = _values_slope(x, y, w, h, *rest[:-1])
    return gx, gy, gw, *[None] * 6, gc, None, None


@edge_weights.vjp
def _weights_vjp(
    needs: tuple[bool, ...], h: Tensor, x: Tensor, y: Tensor, g: Tensor,
    sender: Tensor, receiver: Tensor, i: Tensor, j: Tensor, k: Tensor, p: Tensor,
    values: Tensor, size: int,
) -> Gradients:  # fmt: skip
    x, y, g, c = x.conj(), y.conj(), g.conj(), values.conj()
    rest = sender, receiver, i, j, k, p, c
    gx = gy = gg = gc = None
    if needs[0]:
        gx = edge_convolution(g, y, h, receiver, sender, k, j, i, p, c, x.shape[0], x.shape[1])
    if needs[1]:
        gy = edge_harmonics(x, h, g, *rest, y.shape[1])
    if needs[2]:
        gg = edge_convolution(x, y, h, *rest, g.shape[0], g.shape[1])
    if needs[9]:
        gc = _values_slope(x, y, h, g, *rest[:-1])
    return gx, gy, gg, *[None] * 6, gc, None


@edge_harmonics.vjp
def _harmonics_vjp(
    needs: tuple[bool, ...], h: Tensor, x: Tensor, w: Tensor, g: Tensor,
    sender: Tensor, receiver: Tensor, i: Tensor, j: Tensor, k: Tensor, p: Tensor,
    values: Tensor, size: int,
) -> Gradients:  # fmt: skip
    x, w, g, c = x.conj(), w.conj(), g.conj(), values.conj()
    rest = sender, receiver, i, j, k, p, c
    gx = gw = gg = gc = None
    if needs[0]:
        gx = edge_convolution(g, h, w, receiver, sender, k, j, i, p, c, x.shape[0], x.shape[1])
    if needs[1]:
        gw = edge_weights(x, h, g, *rest, w.shape[1])
    if needs[2]:
        gg = edge_convolution(x, h, w, *rest, g.shape[0], g.shape[1])
    if needs[9]:
        gc = _values_slope(x, h, w, g, *rest[:-1])
    return gx, gw, gg, *[None] * 6, gc, None


@edge_slopes.vjp
def _slopes_vjp(
    needs: tuple[bool, ...], h: Given, x: Tensor, y: Tensor, w: Tensor, g: Tensor,
    sender: Tensor, receiver: Tensor, i: Tensor, j: Tensor, k: Tensor, p: Tensor, values: Tensor,
) -> Gradients:  # fmt: skip
    at = [t.conj() for t in (x, y, w, g)]
    rest = sender, receiver, i, j, k, p, values.conj()
    gc = None
    if needs[10]:
        gc = _plus(*(_values_slope(*terms, *rest[:-1]) for terms in _along(at, h)))
    if not any(needs[:4]) or all(t is None for t in h):
        return *[None] * 10, gc
    return *_second(needs, at, h, rest), *[None] * 6, gc


def _second(
    needs: tuple[bool, ...], at: list[Tensor], h: Given, rest: tuple[Tensor, ...]
) -> Gradients:
    """Gradients in x, y, w and g of the derivative of the form along h."""
    given = [k for k in range(3) if h[k] is not None]
    if len(given) > 1:
        along = [torch.zeros_like(t) if s is None else s for s, t in zip(h, at, strict=False)]
        found: list[Tensor | None] = list(edge_curvatures(*at, *along, *rest))
    else:
        (terms,) = _along(at, h)
        a, b, c, g = terms
        found = [*edge_slopes(a, b, c, g, *rest), None] if any(needs[:3]) else [None] * 4
        if needs[3]:
            s, r, i, j, k, p, v = rest
            found[3] = edge_convolution(a, b, c, s, r, i, j, k, p, v, g.shape[0], g.shape[1])
        found[given[0]] = None
    return tuple(t if need else None for t, need in zip(found, needs, strict=False))


@edge_curvatures.vjp
def _curvatures_vjp(
    needs: tuple[bool, ...], a: Given, x: Tensor, y: Tensor, w: Tensor, g: Tensor,
    hx: Tensor, hy: Tensor, hw: Tensor, sender: Tensor, receiver: Tensor,
    i: Tensor, j: Tensor, k: Tensor, p: Tensor, values: Tensor,
) -> Gradients:  # fmt: skip
    """The form is differentiated along h and then along a, at different arguments."""
    at, h = [t.conj() for t in (x, y, w, g)], [t.conj() for t in (hx, hy, hw)]
    rest = sender, receiver, i, j, k, p, values.conj()
    found: list[Tensor | None] = [None] * 7
    gc = None
    for s in range(3):
        here = [*at[:s], h[s], *at[s + 1 :]]
        along = *(t if k != s else None for k, t in enumerate(a[:3])), a[3]
        terms = _along(here, along)
        if needs[13]:
            gc = _plus(gc, *(_values_slope(*t, *rest[:-1]) for t in terms))
        slots = [k if k != s else 4 + s for k in range(4)]  # where gradients belong
        more: list[Gradients] = []
        if any(t is not None for t in along[:3]):
            more.append(_second((True,) * 4, here, along[:3], rest))
        if a[3] is not None:
            more.append((*edge_slopes(here[0], here[1], here[2], a[3], *rest), None))
        for gradients in more:
            for slot, t in zip(slots, gradients, strict=True):
                found[slot] = _plus(found[slot], t)
    wanted = (t if need else None for t, need in zip(found, needs, strict=False))
    return *wanted, *[None] * 6, gc


def _offer(kernel: Any, cpu: str, cuda: str) -> None:
    room = "tensornet.kernels.convolution"
    kernel.offer("numba_cpu", device="cpu", at=f"{room}.{cpu}")
    kernel.offer("numba_cuda", device="cuda", at=f"{room}.{cuda}")
    kernel.case("no edges", e=0, n=1, v=3, i=2, j=2, k=1, p=2, t=2, c=2)
    kernel.case("no channels", e=2, n=2, v=3, i=2, j=2, k=3, p=2, t=2, c=0)
    kernel.case("one of each", e=1, n=1, v=1, i=1, j=1, k=1, p=1, t=1, c=1)
    kernel.case("two edges", e=2, n=2, v=1, i=2, j=2, k=1, p=1, t=3, c=2)
    kernel.case("two nodes", e=2, n=2, v=2, i=1, j=2, k=1, p=1, t=3, c=2)
    kernel.case("isolated nodes", e=3, n=2, v=4, i=2, j=2, k=2, p=2, t=5, c=2)
    kernel.case("a block and a rest", e=37, n=4, v=5, i=5, j=4, k=9, p=3, t=40, c=3)
    kernel.case("many channels", e=50, n=7, v=6, i=9, j=9, k=17, p=6, t=150, c=53)


_offer(edge_convolution, "cpu:convolution", "cuda:convolution")
_offer(edge_weights, "cpu:weights", "cuda:weights")
_offer(edge_harmonics, "cpu:harmonics", "cuda:harmonics")
_offer(edge_slopes, "cpu_gradients:slopes", "cuda:slopes")
_offer(edge_curvatures, "cpu_gradients:curvatures", "cuda:curvatures")
