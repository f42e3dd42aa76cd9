"""How close the kernels of the edge convolution come to what one core can compute and read.

The peak is that of multiply-adds of vector registers, the bandwidth that of reading memory in one
sweep. A kernel can be no faster than its multiply-adds at the peak, nor than its weights (which are
nearly all that it reads and writes) at that bandwidth; the larger of the two times is the roof.
"""

import time
from typing import Any

import numpy as np
import torch
from convolution_sides import Scene
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tensornet.kernels import (
    _bridge,
    edge_convolution,
    edge_curvatures,
    edge_slopes,
    sparse_coupling,
)
from tensornet.kernels._tile import BYTES, Vectors
from tensornet.kernels.convolution.gradient_plan import gradient_plan
from tensornet.kernels.convolution.plan import plan

CHAINS = 16  # more than the latency of an addition times the units


@intrinsic
def _turn(typing: Any, n: Any, o: Any) -> Any:
    """Multiply and add n times in each of 16 vector registers."""

    def code(context: Any, b: Any, signature: Any, args: Any) -> Any:
        kind, data = signature.args[1], context.make_array(signature.args[1])(context, b, args[1])
        simd = Vectors(b, context.get_value_type(kind.dtype), kind.dtype.bitwidth)
        zero = ir.IntType(64)(0)
        x, y = simd.load(data.data, zero), simd.load(data.data, zero, 1)
        sums = [cgutils.alloca_once_value(b, x) for _ in range(CHAINS)]
        with cgutils.for_range(b, args[0]):
            for total in sums:
                b.store(simd.multiply_add(b.load(total), x, y), total)
        for v, total in enumerate(sums):
            simd.store(b.load(total), data.data, zero, v)
        return context.get_dummy_value()

    return types.void(types.intp, o), code


@_bridge.jit
def _peak(n, o):  # type: ignore[no-untyped-def]
    _turn(n, o)


def peak(turns: int = 2_000_000) -> float:
    """Measure the multiply-adds of a second, times two, best of five."""
    o = np.zeros(CHAINS * BYTES // 4, np.float32)
    _peak(10, o)
    times = []
    for _ in range(5):
        begin = time.process_time()
        _peak(turns, o)
        times.append(time.process_time() - begin)
    return 2 * turns * o.size / min(times)


def bandwidth(size: int = 1 << 28) -> float:
    """Measure the bytes of a second that a core reads from memory, best of five."""
    x = torch.ones(size // 4)
    times = []
    for _ in range(5):
        begin = time.process_time()
        x.amax()
        times.append(time.process_time() - begin)
    return size / min(times)


def rows(scene: Scene, repeats: int, top: float, stream: float) -> list[dict[str, Any]]:
    """Time the kernels alone; a multiply-add counts two, multiplications alone do not count."""
    d, e, c = (scene.l_max + 1) ** 2, len(scene.sender), scene.channels
    *index, values = sparse_coupling(scene.blocks())
    n_paths = len(scene.paths)
    shape, coupling = (d, d, d, n_paths), tuple(index)
    once = plan("edge_convolution", shape, coupling, values)
    again = gradient_plan("edge_slopes", shape, coupling, values, c, 1)
    tables = [  # which cells are not zero, and how many columns there are
        (np.diff(once.cell_starts) > 0, len(once.columns)),
        (again.cell_values != 0, len(again.columns)),
    ]
    x, hx, g = (torch.randn(scene.nodes, d, c) for _ in range(3))
    y, hy = (torch.randn(e, d) for _ in range(2))
    w, hw = (torch.randn(e, n_paths, c) for _ in range(2))
    rest = (scene.sender, scene.receiver, *index, values)
    calls = {
        "forward": (lambda: edge_convolution(x, y, w, *rest, scene.nodes, d), 1, 0, 1),
        "slopes": (lambda: edge_slopes(x, y, w, g, *rest), 2, 2, 2),
        "curvatures": (lambda: edge_curvatures(x, y, w, g, hx, hy, hw, *rest), 5, 5, 3),
    }
    found = []
    for name, (call, per_cell, per_column, arrays) in calls.items():
        call()
        times = []
        for _ in range(max(repeats, 2)):
            begin = time.process_time()
            call()
            times.append(time.process_time() - begin)
        times.sort()
        seconds = times[len(times) // 2]
        full, columns = tables[name != "forward"]
        issued, useful = (
            2 * e * c * (per_cell * n + per_column * columns) for n in (len(full), int(full.sum()))
        )
        roof = max(issued / top, arrays * w.nbytes / stream)
        found.append({
            "l_max": scene.l_max, "channels": c, "kernel": name, "seconds": seconds,
            "gflops": issued / seconds / 1e9, "of_peak": issued / seconds / top,
            "of_peak_without_zeros": useful / seconds / top, "of_roof": roof / seconds,
        })  # fmt: skip
    return found
