"""Products on the grid in Numba CUDA: one thread per number of each step, in a fixed order.

To heights, around rings times the other function, back to orders, and down to harmonics: each step
sums over one short axis.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from numba import cuda
from torch import Tensor

from tensornet.kernels import _bridge
from tensornet.kernels.grid.tables import degree_of, meridian


def rise_kernel(real: Any) -> Any:
    """One order at one height: the sum over degrees."""

    def run(x, heights, out, n, n_h, l_max, c):  # type: ignore[no-untyped-def]  # flat or pointers
        n_v = 2 * l_max + 1
        n_i = (l_max + 1) * (l_max + 1)
        for place in range(cuda.grid(1), n * n_h * n_v * c, cuda.gridsize(1)):
            channel = place % c
            v = place // c % n_v - l_max
            h = place // (c * n_v) % n_h
            sample = place // (c * n_v * n_h)
            total = real(0)
            for l in range(abs(v), l_max + 1):
                i = l * l + l + v
                total += heights[h * n_i + i] * x[(sample * n_i + i) * c + channel]
            out[place] = total

    return run


def meet_kernel(real: Any) -> Any:
    """One point: the values of both functions there, multiplied, and summed over `s` channels."""

    def run(  # type: ignore[no-untyped-def]
        f, g, around_f, around_g, out, rings, n_g, n_u, n_v, c, b, s
    ):
        n_c = c // s
        for place in range(cuda.grid(1), rings * n_g * n_c, cuda.gridsize(1)):
            first = place % n_c * s
            point = place // n_c % n_g
            ring = place // (n_c * n_g)
            total = real(0)
            for channel in range(first, first + s):
                one = real(0)
                for u in range(n_u):
                    one += around_f[point * n_u + u] * f[(ring * n_u + u) * c + channel]
                two = real(0)
                for v in range(n_v):
                    two += around_g[point * n_v + v] * g[(ring * n_v + v) * b + channel % b]
                total += one * two
            out[place] = total

    return run


def back_kernel(real: Any) -> Any:
    """One order on one ring: the sum over longitudes."""

    def run(values, around, out, rings, n_g, n_v, c):  # type: ignore[no-untyped-def]
        for place in range(cuda.grid(1), rings * n_v * c, cuda.gridsize(1)):
            channel = place % c
            v = place // c % n_v
            ring = place // (c * n_v)
            total = real(0)
            for point in range(n_g):
                total += around[point * n_v + v] * values[(ring * n_g + point) * c + channel]
            out[place] = total

    return run


def fall_kernel(real: Any) -> Any:
    """One harmonic: the sum over heights."""

    def run(f, heights, out, n, n_h, l_max, c):  # type: ignore[no-untyped-def]
        n_v = 2 * l_max + 1
        n_k = (l_max + 1) * (l_max + 1)
        for place in range(cuda.grid(1), n * n_k * c, cuda.gridsize(1)):
            channel = place % c
            k = place // c % n_k
            sample = place // (c * n_k)
            l = 0
            while (l + 1) * (l + 1) <= k:
                l += 1
            v = k - l * l - l + l_max
            total = real(0)
            for h in range(n_h):
                at = ((sample * n_h + h) * n_v + v) * c + channel
                total += heights[h * n_k + k] * f[at]
            out[place] = total

    return run


KERNELS = {
    rise_kernel: "ppp" + "i" * 4,
    meet_kernel: "ppppp" + "i" * 7,
    back_kernel: "ppp" + "i" * 4,
    fall_kernel: "ppp" + "i" * 4,
}
"""For each kernel its arguments: p points to numbers, i is a size."""


@cache
def _tables(
    l_max: int, total: int, weighted: bool, dtype: torch.dtype, device: str
) -> tuple[Tensor, Tensor]:  # (h, m), (g, v)
    """Harmonics at heights, with weights if asked, and cosines and sines at longitudes."""
    height, weight = np.polynomial.legendre.leggauss(total // 2 + 1)
    P = meridian(l_max, height)
    if weighted:
        P = P * (weight * 2 * np.pi / (total + 1))[:, None, None]
    pairs = [(l, abs(m)) for l in range(l_max + 1) for m in range(-l, l + 1)]
    rows = np.stack([P[:, l, m] for l, m in pairs], 1)
    longitude = 2 * np.pi * np.arange(total + 1) / (total + 1)
    waves = [(np.sin if v < 0 else np.cos)(abs(v) * longitude) for v in range(-l_max, l_max + 1)]
    made = rows, np.stack(waves, 1)
    one, two = (torch.from_numpy(np.ascontiguousarray(a)).to(device, dtype) for a in made)
    return one, two


def product(x: Tensor, y: Tensor, k: int) -> Tensor:
    """`sphere_product` with one thread per number."""
    if y.shape[2] not in (1, x.shape[2]):
        raise ValueError(
            f"`sphere_product(y=...)` must have 1 channel or the {x.shape[2]} of `x`. "
            f"Got {y.shape[2]}."
        )
    return _product("sphere_product", x, y, k, 1)


def overlap(x: Tensor, y: Tensor, k: int) -> Tensor:
    """`sphere_overlap` with one thread per number."""
    return _product("sphere_overlap", x, y, k, x.shape[2])[..., 0]


def _product(name: str, x: Tensor, y: Tensor, k: int, summed: int) -> Tensor:
    lx, ly, lz = degree_of(name, x=x.shape[1], y=y.shape[1], k=k)
    total = lx + ly + lz
    (n, _, c), b = x.shape, y.shape[2]
    n_h, n_g, n_c = total // 2 + 1, total + 1, c // summed
    kind = x.dtype, str(x.device)
    up_x, around_x = _tables(lx, total, False, *kind)
    up_y, around_y = _tables(ly, total, False, *kind)
    down, around = _tables(lz, total, True, *kind)

    def run(make: Any, shape: tuple[int, ...], *args: Tensor, sizes: tuple[int, ...]) -> Tensor:
        out = x.new_empty(shape)
        _bridge.launch(make, out.numel(), *args, out, *sizes)
        return out

    f = run(rise_kernel, (n, n_h, 2 * lx + 1, c), x, up_x, sizes=(n, n_h, lx, c))
    g = run(rise_kernel, (n, n_h, 2 * ly + 1, b), y, up_y, sizes=(n, n_h, ly, b))
    meet = n * n_h, n_g, 2 * lx + 1, 2 * ly + 1, c, b, summed
    values = run(meet_kernel, (n, n_h, n_g, n_c), f, g, around_x, around_y, sizes=meet)
    rings = n * n_h, n_g, 2 * lz + 1, n_c
    f = run(back_kernel, (n, n_h, 2 * lz + 1, n_c), values, around, sizes=rings)
    return run(fall_kernel, (n, k, n_c), f, down, sizes=(n, n_h, lz, n_c))
