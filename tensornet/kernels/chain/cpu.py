"""The chain of cores in Numba: points sorted by index, then products in registers."""

import numpy as np
import torch
from torch import Tensor

from tensornet.kernels import _bridge
from tensornet.kernels._index import sorted_places
from tensornet.kernels._tile import BYTES, STORE, product


@_bridge.jit
def _products(order, starts, a, x, o, r, d, width, first, last):  # type: ignore[no-untyped-def]
    """Rows times slices, for the points of the indices from first to last."""
    vectors = width * o.itemsize // BYTES
    for s in range(first, last):
        product(
            STORE, order, starts[s], starts[s + 1], r, a, 0, r, 1,
            x, s * width, d * width, o, 0, width, 0, 0, 0, vectors,
        )  # fmt: skip


@_bridge.jit
def _sums(rows, starts, a, x, o, r, d, width, first, last):  # type: ignore[no-untyped-def]
    """Sums of outer products of sorted points, one slice per index from first to last."""
    vectors = width * o.itemsize // BYTES
    for s in range(first, last):
        p = starts[s]
        product(
            STORE, rows, 0, r, starts[s + 1] - p, a, p * r, 1, r,
            x, p * width, width, o, s * width, d * width, 0, 0, 0, vectors,
        )  # fmt: skip


def step(left: Tensor, core: Tensor, index: Tensor) -> Tensor:
    """`chain_step`, points of one index together."""
    (n, r), (_, d, q) = left.shape, core.shape
    order, starts = sorted_places("chain_step", "index", index, d)
    (core,) = _bridge.padded(core)
    width = core.shape[2]
    out = left.new_empty(n, width)
    a, x, o = _bridge.arrays(left.view(-1), core.view(-1), out.view(-1))
    _bridge.spread(
        lambda first, last: _products(order, starts, a, x, o, r, d, width, first, last),
        d,
        max(1, 100_000 * d // (n * r * width)),
    )
    return out if width == q else out[:, :q].contiguous()


def moments(left: Tensor, right: Tensor, index: Tensor, d: int) -> Tensor:
    """`chain_moments`, points of one index together."""
    (n, r), q = left.shape, right.shape[1]
    order, starts = sorted_places("chain_moments", "index", index, d)
    sequence = torch.from_numpy(order)
    (right,) = _bridge.padded(right.index_select(0, sequence))
    width = right.shape[1]
    out = left.new_empty(r, d, width)
    left = left.index_select(0, sequence)
    a, x, o = _bridge.arrays(left.view(-1), right.view(-1), out.view(-1))
    rows = np.arange(r)
    _bridge.spread(
        lambda first, last: _sums(rows, starts, a, x, o, r, d, width, first, last),
        d,
        max(1, 100_000 * d // (n * r * width)),
    )
    return out if width == q else out[..., :q].contiguous()
