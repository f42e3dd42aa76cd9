"""The aligned product in Numba CUDA: one thread per number, there, on the axis, and back.

A thread sums in a fixed order. Features on the axis pass through memory.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from numba import cuda
from torch import Tensor

from tensornet.kernels import _bridge
from tensornet.kernels.aligned.spec import degree
from tensornet.kernels.aligned.tables import tables

# Of each row by degree: the harmonic of order zero, its order, and of its block the first row, the
# number of rows, and the first cell. Of each row by order: the last three.


def forth_kernel(real: Any) -> Any:
    """One number on the axis, by order."""

    def run(x, turns, tilts, info, order_of, out, size, d, c, l_max, cells):  # type: ignore[no-untyped-def]
        for place in range(cuda.grid(1), size, cuda.gridsize(1)):
            node = place // (d * c)
            row = place // c % d
            channel = place % c
            first = info[row * 5 + 2]
            n = info[row * 5 + 3]
            cell = node * cells + info[row * 5 + 4] + (row - first) * n
            total = real(0)
            for k in range(n):
                middle = info[(first + k) * 5]
                m = info[(first + k) * 5 + 1]
                here = x[(node * d + middle + m) * c + channel]
                if m != 0:
                    there = x[(node * d + middle - m) * c + channel]
                    angle = node * 2 * l_max + abs(m) - 1
                    sin = turns[angle + l_max]
                    here = here * turns[angle] + (there * sin if m > 0 else -there * sin)
                total += tilts[cell + k] * here
            out[(node * d + order_of[row]) * c + channel] = total

    return run


def axis_kernel(real: Any) -> Any:
    """One number of the product on the axis, by order, or of that with the transpose."""

    def run(x, core, info, out, size, d, c, transposed):  # type: ignore[no-untyped-def]
        for place in range(cuda.grid(1), size, cuda.gridsize(1)):
            node = place // (d * c)
            row = place // c % d
            channel = place % c
            first = info[row * 3]
            n = info[row * 3 + 1]
            cell = info[row * 3 + 2]
            total = real(0)
            for k in range(n):
                at = cell + k * n + row - first if transposed else cell + (row - first) * n + k
                total += core[at] * x[(node * d + first + k) * c + channel]
            out[place] = total

    return run


def back_kernel(real: Any) -> Any:
    """One number of the result: of two rows by degree, of opposite orders."""

    def run(x, w, turns, tilts, info, order_of, at, out, size, d, c, l_max, cells):  # type: ignore[no-untyped-def]
        for place in range(cuda.grid(1), size, cuda.gridsize(1)):
            node = place // (d * c)
            harmonic = place // c % d
            channel = place % c
            row = at[harmonic]
            middle = info[row * 5]
            m = info[row * 5 + 1]
            total = real(0)
            for side in range(2 if m else 1):
                row = at[middle + m] if side == 0 else at[middle - m]
                first = info[row * 5 + 2]
                n = info[row * 5 + 3]
                cell = node * cells + info[row * 5 + 4] + row - first
                inner = real(0)
                for k in range(n):
                    value = x[(node * d + order_of[first + k]) * c + channel]
                    inner += tilts[cell + k * n] * value
                if m == 0:
                    total = inner
                else:
                    angle = node * 2 * l_max + abs(m) - 1
                    if side == 0:
                        total = inner * turns[angle]
                    else:
                        sin = turns[angle + l_max]
                        total += -inner * sin if m > 0 else inner * sin
            out[place] = total * w[node * c + channel]

    return run


def torque_kernel(real: Any) -> Any:
    """Of one item and channel: torques about x and z on the axis, and the slope of the weight."""

    def run(x, z, g, b, w, left, right, values, out, size, d, c, about_x, n_pairs):  # type: ignore[no-untyped-def]
        for place in range(cuda.grid(1), size, cuda.gridsize(1)):
            node = place // c
            start = node * d * c + place % c
            weight = real(0)
            for row in range(d):
                weight += g[start + row * c] * z[start + row * c]
            about = real(0)
            for t in range(n_pairs):
                if t == about_x:
                    out[node * 3 * c + place % c] = about * w[place]
                    about = real(0)
                i = start + left[t] * c
                k = start + right[t] * c
                crossed = g[i] * z[k] - g[k] * z[i] - (b[i] * x[k] - b[k] * x[i])
                about += values[t] * crossed
            out[(node * 3 + 1) * c + place % c] = about * w[place]
            out[(node * 3 + 2) * c + place % c] = weight

    return run


KERNELS = {
    forth_kernel: "pppqqpiiiii",
    axis_kernel: "ppqpiiii",
    back_kernel: "ppppqqqpiiiii",
    torque_kernel: "pppppqqppiiiii",
}
"""For each kernel its arguments: p points to numbers, q to whole numbers, i is a size."""


@cache
def _info(l_max: int, device: torch.device) -> tuple[Tensor, ...]:
    """Rows by degree, rows by order, and the place by degree of each harmonic."""
    of = tables(l_max)
    by_degree, by_order = [], []
    row = cell = 0
    for l in range(l_max + 1):
        for size, sign in ((l + 1, 1), (l, -1)):
            for k in range(size):
                m = k if sign > 0 else -1 - k
                by_degree.append((l * l + l, m, row, size, cell))
            row, cell = row + size, cell + size * size
    row = cell = 0
    for m in range(l_max + 1):
        size = (l_max + 1 - m) * (2 if m else 1)
        by_order += [(row, size, cell)] * size
        row, cell = row + size, cell + size * size
    tensors = (
        torch.tensor(by_degree), torch.tensor(by_order), torch.from_numpy(of.order_of),
        torch.from_numpy(np.argsort(of.by_degree)), *map(torch.from_numpy, of.pairs.copy()),
    )  # fmt: skip
    return tuple(t.to(device) for t in tensors)


class _Items:
    """What belongs to the directions, and the steps of the product."""

    def __init__(self, x: Tensor, r: Tensor, core: Tensor) -> None:
        self.l_max = degree(x, r, core)
        of = tables(self.l_max)
        _, self.d, self.c = x.shape
        far = torch.hypot(r[:, 0], r[:, 2])
        length = torch.hypot(far, r[:, 1])
        off = (far > 0)[:, None]
        tilt = torch.atan2(far / length, r[:, 1] / length)[:, None]
        azimuth = torch.where(off, torch.atan2(r[:, :1], r[:, 2:]), 0.0)
        orders = torch.arange(self.l_max + 1, device=r.device)
        series = torch.cat([(orders * tilt).cos(), (orders[1:] * tilt).sin()], 1)
        self.tilts = (series @ torch.from_numpy(of.tilts).to(r).mT).contiguous()
        angles = orders[1:] * azimuth
        self.turns = torch.cat([angles.cos(), angles.sin()], 1)
        numbers = torch.from_numpy(of.cores).to(core.device)
        self.core = core.index_select(0, numbers) * torch.from_numpy(of.signs).to(core)
        self.degrees, self.orders, self.order_of, self.at, self.left, self.right = _info(
            self.l_max, x.device
        )
        self.values = torch.from_numpy(of.pair_values).to(x)
        self.about_x = of.about_x
        self.tilt, self.length = tilt, length[:, None]
        self.azimuth = azimuth

    def forth(self, x: Tensor) -> Tensor:
        out = torch.empty_like(x)
        sizes = out.numel(), self.d, self.c, self.l_max, self.tilts.shape[1]
        tables_ = self.turns, self.tilts, self.degrees, self.order_of
        _bridge.launch(forth_kernel, sizes[0], x, *tables_, out, *sizes)
        return out

    def axis(self, x: Tensor, transposed: int) -> Tensor:
        out = torch.empty_like(x)
        sizes = out.numel(), self.d, self.c, transposed
        _bridge.launch(axis_kernel, sizes[0], x, self.core, self.orders, out, *sizes)
        return out

    def back(self, x: Tensor, w: Tensor) -> Tensor:
        out = torch.empty_like(x)
        sizes = out.numel(), self.d, self.c, self.l_max, self.tilts.shape[1]
        tables_ = self.turns, self.tilts, self.degrees, self.order_of, self.at
        _bridge.launch(back_kernel, sizes[0], x, w, *tables_, out, *sizes)
        return out


def product(x: Tensor, r: Tensor, w: Tensor, core: Tensor) -> Tensor:
    """`aligned_product` with one thread per number."""
    items = _Items(x, r, core)
    return items.back(items.axis(items.forth(x), 0), w)


def slopes(
    x: Tensor, g: Tensor, r: Tensor, w: Tensor, core: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`aligned_slopes` with one thread per number."""
    items = _Items(x, r, core)
    there, slope = items.forth(x), items.forth(g)
    made, given = items.axis(there, 0), items.axis(slope, 1)
    found = x.new_zeros(x.shape[0], 3, items.c)
    pairs = items.left, items.right, items.values
    sizes = x.shape[0] * items.c, items.d, items.c, items.about_x, len(items.left)
    if len(items.left):
        _bridge.launch(torque_kernel, sizes[0], there, made, slope, given, w, *pairs, found, *sizes)
    else:
        found[:, 2] = slope[:, 0] * made[:, 0]
    about_x, about_z = found[:, 0].sum(1, keepdim=True), found[:, 1].sum(1, keepdim=True)
    c, s = items.tilt.cos(), items.tilt.sin()
    p, t = items.azimuth.cos(), items.azimuth.sin()
    slope_r = [about_x * c * t - about_z * p, -about_x * s, about_x * c * p + about_z * t]
    in_r = torch.cat(slope_r, 1) / items.length
    return items.back(given, w), in_r, found[:, 2].contiguous()
