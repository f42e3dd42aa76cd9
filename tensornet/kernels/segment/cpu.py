"""Sums over segments in Numba: edges in their order, each thread for receivers of its own."""

from torch import Tensor

from tensornet.kernels import _bridge
from tensornet.kernels._index import check_range
from tensornet.kernels._tile import BYTES
from tensornet.kernels._vector import load, store

_GRAIN = 200_000  # numbers worth a thread
_FEW = 4  # columns that torch adds one by one as fast


@_bridge.jit
def _sum(x, receiver, out, c, first, last):  # type: ignore[no-untyped-def]  # Numba infers them
    """Sum at the receivers from first to last."""
    lanes = BYTES // x.itemsize
    for k in range(first * c, last * c):
        out[k] = 0
    whole = c // lanes * lanes
    for e in range(len(receiver)):
        v = receiver[e]
        if first <= v < last:
            o, i = v * c, e * c
            for k in range(0, whole, lanes):
                store(load(out, o + k) + load(x, i + k), out, o + k)
            for k in range(whole, c):
                out[o + k] += x[i + k]


def total(x: Tensor, receiver: Tensor, n: int) -> Tensor:
    """`segment_sum`, receivers in parallel."""
    (e, c), out = x.shape, x.new_empty(n, x.shape[1])
    flat, index, o = (a.reshape(-1) for a in _bridge.arrays(x, receiver, out))
    check_range("segment_sum", "receiver", index, n)
    if c <= _FEW:
        return out.zero_().index_add_(0, receiver, x.detach())
    grain = max(1, n * _GRAIN // (e * c))
    _bridge.spread(lambda a, b: _sum(flat, index, o, c, a, b), n, grain)
    return out


def rows(x: Tensor, receiver: Tensor) -> Tensor:
    """`segment_rows`: copies, in which torch is as fast as memory."""
    (index,) = _bridge.arrays(receiver)
    check_range("segment_rows", "receiver", index, len(x))
    return x.detach().index_select(0, receiver)
