"""What the kernels of harmonics compute, and their derivatives.

The ladder defines everything: a solid harmonic of degree l, differentiated, is one of degree l - 1,
and times the vector, divided by l, it comes back. `harmonics` are the values, the other two what
reverse mode makes of them once and twice; derivatives above are plain torch on top of the values.
"""

import math
from typing import Any

import torch
from torch import Tensor

from tensornet.kernels._registry import kernel
from tensornet.kernels.harmonics.tables import as_tensor, ladder, n_degrees, three

Gradients = tuple[Tensor | None, ...]


@kernel("e d, =m -> e m")
def harmonics(
    vectors: Tensor,  # (e, 3)
    m: int,
) -> Tensor:  # (e, m)
    """Evaluate the first `m` real harmonics of the directions of vectors.

    Degree l stands at l² to (l + 1)², orders from -l to l; the polar axis is y and degree one is
    sqrt(3) (x, y, z): e3nn's order and axes, component normalisation. Of a vector that is zero all
    harmonics above degree zero are zero, and so are all derivatives; a vector that is not a number
    gives a row that is not a number. Lengths do not matter, however large or small.

    Args:
        vectors: Any lengths.
        m: Number of harmonics, for whole degrees (l_max + 1)².

    Returns:
        One row per vector.

    Raises:
        TypeError: If the vectors are not of floating numbers, or `m` is no whole number.
        ValueError: If the vectors have not three components, or `m` is negative.

    Derivatives:
        Any order.

    References:
        Varshalovich, Moskalev & Khersonskii, Quantum Theory of Angular Momentum, 5.8.3.

    Examples:
        >>> harmonics(torch.tensor([[0.0, 2.0, 0.0]]), 4)
        tensor([[1.0000, 0.0000, 1.7321, 0.0000]])
    """
    three("harmonics", vectors=vectors)
    unit, _ = _directions(vectors)
    n_l = n_degrees(m)
    table = as_tensor(ladder, n_l, unit) if n_l else unit.new_zeros(3, 0, 0)
    rows = [(unit * 0).sum(-1, keepdim=True) + 1]
    for l in range(1, n_l):
        low, high = slice((l - 1) ** 2, l * l), slice(l * l, (l + 1) ** 2)
        rows.append(torch.einsum("ea,ei,aik->ek", unit, rows[-1], table[:, low, high]) / l)
    return torch.cat(rows, 1)[:, :m].contiguous()


@kernel("e d, e m -> e d")
def harmonics_gradient(
    vectors: Tensor,  # (e, 3)
    g: Tensor,  # (e, m)
) -> Tensor:  # (e, 3)
    """Differentiate, in the vectors, the sum of `g` times `harmonics`.

    Args:
        vectors: As in `harmonics`.
        g: One number per vector and harmonic.

    Returns:
        One vector per vector.

    Raises:
        TypeError: If the dtypes differ.
        ValueError: If the vectors have not three components, or shapes or devices do not fit.

    Derivatives:
        Any order.

    Examples:
        >>> g = torch.tensor([[0.0, 1.0, 1.0, 0.0]])  # sqrt(3) (x + y) / r
        >>> harmonics_gradient(torch.tensor([[0.0, 2.0, 0.0]]), g)
        tensor([[0.8660, 0.0000, 0.0000]])
    """
    three("harmonics_gradient", vectors=vectors)
    slopes, _ = _slopes(vectors, g.shape[1])
    return (g[:, None] * slopes).sum(2)


@kernel("e d, e m, e d -> e d, e m")
def harmonics_curvature(
    vectors: Tensor,  # (e, 3)
    g: Tensor,  # (e, m)
    h: Tensor,  # (e, 3)
) -> tuple[Tensor, Tensor]:  # (e, 3), (e, m)
    """Differentiate `harmonics_gradient` and `harmonics` along vectors `h`.

    The first is what a step of training on forces needs in the vectors, the second in `g`.

    Args:
        vectors: As in `harmonics`.
        g: One number per vector and harmonic.
        h: Directions, of any length.

    Returns:
        The derivatives of `harmonics_gradient(vectors, g)` and of `harmonics(vectors, m)`.

    Raises:
        TypeError: If the dtypes differ.
        ValueError: If `vectors` or `h` have not three components, or shapes or devices do not fit.

    Derivatives:
        Any order; in plain torch.

    Examples:
        >>> g = torch.tensor([[0.0, 0.0, 1.0, 0.0]])  # sqrt(3) y / r
        >>> h = torch.tensor([[1.0, 0.0, 0.0]])
        >>> harmonics_curvature(torch.tensor([[0.0, 2.0, 0.0]]), g, h)
        (tensor([[-0.4330,  0.0000,  0.0000]]), tensor([[0.0000, 0.8660, 0.0000, 0.0000]]))
    """
    three("harmonics_curvature", vectors=vectors, h=h)
    (u, inverse), (table, degrees) = _directions(vectors), _tables(vectors, g.shape[1])
    slopes, Y = _slopes(vectors, g.shape[1])
    steps = (h[:, :, None] * slopes).sum(1)
    w = (u * h).sum(1, keepdim=True) * inverse  # how fast the logarithm of the length grows
    fall = inverse.square() * h - 2 * w * inverse * u  # of u over the length
    twice = inverse[:, :, None] * (_rise(steps, table) - w[:, :, None] * _rise(Y, table))
    twice = twice - fall[:, :, None] * (degrees * Y)[:, None]
    twice = twice - (inverse * u)[:, :, None] * (degrees * steps)[:, None]
    return (g[:, None] * twice).sum(2), steps


def _directions(vectors: Tensor) -> tuple[Tensor, Tensor]:  # (e, 3), (e, 1)
    """Directions, and one over lengths; both zero for a vector that is zero."""
    size = vectors.detach().abs().amax(1, keepdim=True)
    size = torch.where(size == 0, 1.0, size)
    small = vectors / size
    squared = (small * small).sum(1, keepdim=True)
    zero = squared == 0
    inverse = torch.where(zero, 0.0, torch.where(zero, 1.0, squared).rsqrt())
    return small * inverse, inverse / size


def _tables(like: Tensor, m: int) -> tuple[Tensor, Tensor]:  # (3, m, m), (m,)
    """The ladder, and degrees."""
    degrees = torch.tensor([math.isqrt(k) for k in range(m)], dtype=like.dtype, device=like.device)
    return as_tensor(ladder, n_degrees(m), like)[:, :m, :m], degrees


def _rise(Y: Tensor, table: Tensor) -> Tensor:  # (e, 3, m)
    """The ladder, one degree up."""
    return torch.einsum("ei,aik->eak", Y, table)


def _slopes(vectors: Tensor, m: int) -> tuple[Tensor, Tensor]:  # (e, 3, m), (e, m)
    """Derivatives of harmonics, and harmonics: a solid one over the power of the length."""
    (u, inverse), (table, degrees) = _directions(vectors), _tables(vectors, m)
    Y = harmonics.reference(vectors, m)
    slopes = _rise(Y, table) - u[:, :, None] * (degrees * Y)[:, None]
    return inverse[:, :, None] * slopes, Y


@harmonics.vjp
def _harmonics_vjp(needs: tuple[bool, ...], g: Tensor, vectors: Tensor, m: int) -> Gradients:
    return harmonics_gradient(vectors, g), None


@harmonics_gradient.vjp
def _gradient_vjp(needs: tuple[bool, ...], h: Tensor, vectors: Tensor, g: Tensor) -> Gradients:
    return harmonics_curvature(vectors, g, h)


@harmonics_curvature.vjp
def _curvature_vjp(
    needs: tuple[bool, ...], cotangents: Any, vectors: Tensor, g: Tensor, h: Tensor
) -> Gradients:
    p, q = cotangents
    gv, gg, gh = torch.zeros_like(vectors), torch.zeros_like(g), torch.zeros_like(h)
    if p is not None:
        third, second = _third(vectors, g, h, p)
        gv, gg, gh = gv + third, gg + second, gh + harmonics_curvature(vectors, g, p)[0]
    if q is not None:
        gv = gv + harmonics_curvature(vectors, q, h)[0]
        gh = gh + harmonics_gradient(vectors, q)
    return gv, gg, gh


def _third(v: Tensor, g: Tensor, h: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """Harmonics, differentiated along h and p; and the sum of g times that, in the vectors.

    Along h a harmonic changes by ``(Y ladder) h / r - l Y w_h`` where ``w_h = v.h / r²``: other
    harmonics times factors of the vector, so that derivatives of it are derivatives of those.
    """
    (u, inverse), (table, degrees) = _directions(v), _tables(v, g.shape[1])
    w_h, w_p = ((u * x).sum(1, keepdim=True) * inverse for x in (h, p))
    fall = -inverse * u  # the slope of the inverse, over the inverse
    s_h, s_p = (inverse.square() * x + 2 * w * fall for x, w in ((h, w_h), (p, w_p)))
    hp = inverse.square() * (h * p).sum(1, keepdim=True)
    w_hp, s_hp = hp - 2 * w_h * w_p, 2 * (hp * fall - w_h * s_p - w_p * s_h)
    inverse_p, s_inverse_p = -inverse * w_p, -inverse * (w_p * fall + s_p)
    g_h = ((g @ table.mT).permute(1, 2, 0) * h[:, None]).sum(2)
    Y = harmonics(v, g.shape[1])
    slopes = [harmonics_gradient(v, x) for x in (g_h, degrees * g)]
    (turn_h, steps), (turn, _) = (harmonics_curvature(v, x, p) for x in (g_h, degrees * g))
    y_h, y = ((x * Y).sum(1, keepdim=True) for x in (g_h, degrees * g))
    step_h, step = ((x * p).sum(1, keepdim=True) for x in slopes)
    third = s_inverse_p * y_h + inverse_p * slopes[0] + inverse * (step_h * fall + turn_h)
    third = third - s_hp * y - w_hp * slopes[1] - s_h * step - w_h * turn
    second = (_rise(inverse_p * Y + inverse * steps, table) * h[:, :, None]).sum(1)
    return third, second - degrees * (w_hp * Y + w_h * steps)


for _kernel, _name in (
    (harmonics, "values"),
    (harmonics_gradient, "gradient"),
    (harmonics_curvature, "curvature"),
):
    _kernel.offer("numba_cpu", device="cpu", at=f"tensornet.kernels.harmonics.cpu:{_name}")
    _kernel.offer("numba_cuda", device="cuda", at=f"tensornet.kernels.harmonics.cuda:{_name}")
    _kernel.case("no edges", e=0, d=3, m=9)
    _kernel.case("no harmonics", e=1, d=3, m=0)
    _kernel.case("one of each", e=1, d=3, m=1)
    _kernel.case("to degree two", e=1, d=3, m=9)
    _kernel.case("part of a degree", e=2, d=3, m=6)
    _kernel.case("vectors and a rest", e=37, d=3, m=16)
    _kernel.case("few harmonics", e=53, d=3, m=4)
    _kernel.case("high degrees", e=31, d=3, m=144)
    _kernel.case("real sizes", e=203, d=3, m=81)
    _kernel.case("many rows", e=1000, d=3, m=1)
