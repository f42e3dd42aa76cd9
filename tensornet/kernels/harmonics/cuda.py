"""Harmonics in Numba CUDA: one thread per harmonic, or per edge where edges get one vector."""

from typing import Any

import torch
from numba import cuda
from torch import Tensor

from tensornet.kernels import _bridge
from tensornet.kernels.harmonics.tables import n_degrees, recursion, three


def values_kernel(real: Any) -> Any:
    """One harmonic of one edge; rows of four hold a direction and one over the length."""

    def run(frames, first, up, down, places, out, n_l, m, e):  # type: ignore[no-untyped-def]
        for place in range(cuda.grid(1), e * m, cuda.gridsize(1)):
            edge = place // m
            index = place % m
            l = 0
            while (l + 1) * (l + 1) <= index:
                l += 1
            order = index - l * l - l
            size = abs(order)
            x = frames[4 * edge]
            y = frames[4 * edge + 1]
            z = frames[4 * edge + 2]
            zero = x * x + y * y + z * z == real(0)
            c = real(1)
            s = real(0)
            for _ in range(size):
                c_less = c
                c = z * c - x * s
                s = z * s + x * c_less
            now = first[size]
            before = real(0)
            k = places[size]
            for _ in range(size, l):
                after = up[k] * y * now - down[k] * before
                before = now
                now = after
                k += 1
            if index == 0:
                out[place] = real(1) + real(0) * (x + y + z)
            elif zero:
                out[place] = real(0)
            elif order < 0:
                out[place] = now * s
            else:
                out[place] = now * c

    return run


def steps_kernel(real: Any) -> Any:
    """One harmonic of one edge, differentiated along its vector h."""

    def run(frames, h, first, up, down, places, out, n_l, m, e):  # type: ignore[no-untyped-def]
        for place in range(cuda.grid(1), e * m, cuda.gridsize(1)):
            edge = place // m
            index = place % m
            l = 0
            while (l + 1) * (l + 1) <= index:
                l += 1
            order = index - l * l - l
            size = abs(order)
            x = frames[4 * edge]
            y = frames[4 * edge + 1]
            z = frames[4 * edge + 2]
            inverse = frames[4 * edge + 3]
            hx = h[3 * edge]
            hy = h[3 * edge + 1]
            hz = h[3 * edge + 2]
            along = x * hx + y * hy + z * hz
            hx = (hx - x * along) * inverse
            hy = (hy - y * along) * inverse
            hz = (hz - z * along) * inverse
            c = real(1)
            s = real(0)
            dc = real(0)
            ds = real(0)
            for k in range(size):
                dc = real(k + 1) * (hz * c - hx * s)
                ds = real(k + 1) * (hz * s + hx * c)
                c_less = c
                c = z * c - x * s
                s = z * s + x * c_less
            p = first[size]
            p_less = real(0)
            q = real(0)
            q_less = real(0)
            k = places[size]
            for _ in range(size, l):
                rise = up[k]
                fall = down[k]
                q_more = rise * (y * q + p) - fall * q_less
                p_more = rise * y * p - fall * p_less
                q_less = q
                q = q_more
                p_less = p
                p = p_more
                k += 1
            if order < 0:
                out[place] = hy * q * s + p * ds
            else:
                out[place] = hy * q * c + p * dc

    return run


def bend_kernel(real: Any) -> Any:
    """The gradient of one edge, and the same differentiated along its vector h."""

    def run(frames, g, h, first, up, down, gradients, bends, n_l, m, e):  # type: ignore[no-untyped-def]
        for edge in range(cuda.grid(1), e, cuda.gridsize(1)):
            at, f = 3 * edge, 4 * edge
            x, y, z, inverse = frames[f], frames[f + 1], frames[f + 2], frames[f + 3]
            along = x * h[at] + y * h[at + 1] + z * h[at + 2]
            hx = (h[at] - x * along) * inverse
            hy = (h[at + 1] - y * along) * inverse
            hz = (h[at + 2] - z * along) * inverse
            zero = real(0)
            c, s, c_less, s_less = real(1), zero, zero, zero
            dc, ds, dc_less, ds_less = zero, zero, zero, zero
            gx, gy, gz, wx, wy, wz = zero, zero, zero, zero, zero, zero
            k = 0
            for order in range(n_l):
                p, q, r, p_less, q_less, r_less = first[order], zero, zero, zero, zero, zero
                a, a_q, a_r, b, b_q, b_r = zero, zero, zero, zero, zero, zero
                for l in range(order, n_l):
                    middle, g_c, g_s = l * l + l, zero, zero
                    if middle + order < m:
                        g_c = g[edge * m + middle + order]
                    if middle - order < m:
                        g_s = g[edge * m + middle - order]
                    a, a_q, a_r = a + g_c * p, a_q + g_c * q, a_r + g_c * r
                    b, b_q, b_r = b + g_s * p, b_q + g_s * q, b_r + g_s * r
                    rise, fall = up[k], down[k]
                    r, r_less = rise * (y * r + q + q) - fall * r_less, r
                    q, q_less = rise * (y * q + p) - fall * q_less, q
                    p, p_less = rise * y * p - fall * p_less, p
                    k += 1
                times, a_h, b_h = real(order), hy * a_q, hy * b_q
                gx += times * (b * c_less - a * s_less)
                gy += a_q * c + b_q * s
                gz += times * (a * c_less + b * s_less)
                wx += times * (b_h * c_less + b * dc_less - a_h * s_less - a * ds_less)
                wy += hy * (a_r * c + b_r * s) + a_q * dc + b_q * ds
                wz += times * (a_h * c_less + a * dc_less + b_h * s_less + b * ds_less)
                c_less, s_less, dc_less, ds_less = c, s, dc, ds
                c, s = z * c_less - x * s_less, z * s_less + x * c_less
                times = real(order + 1)
                dc, ds = times * (hz * c_less - hx * s_less), times * (hz * s_less + hx * c_less)
            radial = x * gx + y * gy + z * gz
            turn = hx * gx + hy * gy + hz * gz + x * wx + y * wy + z * wz
            stretch = along * inverse
            gx, gy, gz = gx - x * radial, gy - y * radial, gz - z * radial
            gradients[at] = inverse * gx
            gradients[at + 1] = inverse * gy
            gradients[at + 2] = inverse * gz
            bends[at] = inverse * (wx - x * turn - hx * radial - stretch * gx)
            bends[at + 1] = inverse * (wy - y * turn - hy * radial - stretch * gy)
            bends[at + 2] = inverse * (wz - z * turn - hz * radial - stretch * gz)

    return run


KERNELS = {values_kernel: "ppppqpiii", steps_kernel: "pppppqpiii", bend_kernel: "p" * 8 + "iii"}
"""For each kernel its arguments: p points to numbers, q to whole numbers, i is a size."""


def _frames(vectors: Tensor) -> Tensor:  # (e, 4)
    """Directions and one over lengths, all zero for a vector that is zero."""
    size = vectors.abs().amax(1, keepdim=True)
    size = torch.where(size == 0, 1.0, size)
    small = vectors / size
    length = (small * small).sum(1, keepdim=True).sqrt()
    inverse = torch.where(length == 0, 0.0, 1 / length)
    return torch.cat([small * inverse, inverse / size], 1)


def _tables(m: int, like: Tensor) -> tuple[int, list[Tensor], Tensor]:
    """The recursion, and where each order starts in it."""
    n_l = n_degrees(m)
    numbers = [torch.from_numpy(a).to(like) for a in recursion(n_l)]
    orders = torch.arange(n_l + 1, device=like.device)
    return n_l, numbers, orders * n_l - orders * (orders - 1) // 2


def values(vectors: Tensor, m: int) -> Tensor:
    """`harmonics` with one thread per harmonic."""
    three("harmonics", vectors=vectors)
    out = vectors.new_empty(len(vectors), m)
    n_l, numbers, places = _tables(m, vectors)
    if m:
        _bridge.launch(
            values_kernel, out.numel(),
            _frames(vectors), *numbers, places, out, n_l, m, len(vectors),
        )  # fmt: skip
    return out


def gradient(vectors: Tensor, g: Tensor) -> Tensor:
    """`harmonics_gradient` with one thread per edge."""
    three("harmonics_gradient", vectors=vectors)
    return _bend(_frames(vectors), g, torch.zeros_like(vectors))[0]


def curvature(vectors: Tensor, g: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """`harmonics_curvature` with one thread per edge, then one per harmonic."""
    three("harmonics_curvature", vectors=vectors, h=h)
    frames, steps, m = _frames(vectors), torch.empty_like(g), g.shape[1]
    n_l, numbers, places = _tables(m, vectors)
    _bridge.launch(
        steps_kernel, g.numel(),
        frames, h, *numbers, places, steps, n_l, m, len(g),
    )  # fmt: skip
    return _bend(frames, g, h)[1], steps


def _bend(frames: Tensor, g: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    gradients, bends = torch.empty_like(h), torch.empty_like(h)
    n_l, numbers, _ = _tables(g.shape[1], g)
    _bridge.launch(
        bend_kernel, len(g),
        frames, g, h, *numbers, gradients, bends, n_l, g.shape[1], len(g),
    )  # fmt: skip
    return gradients, bends
