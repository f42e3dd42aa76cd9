"""Sorting by a small whole number, for kernels that sum without atomics."""

from tensornet.kernels import _bridge


@_bridge.jit
def counting_sort(index, order, starts):  # type: ignore[no-untyped-def]  # Numba infers them
    """Places in the order of their index, and where each index starts; whether all are in range."""
    n = len(starts) - 1
    for s in range(n + 1):
        starts[s] = 0
    for k in range(len(index)):
        if index[k] < 0 or index[k] >= n:
            return False
        starts[index[k]] += 1
    total = 0
    for s in range(n + 1):
        count = starts[s]
        starts[s] = total
        total += count
    for k in range(len(index)):
        order[starts[index[k]]] = k
        starts[index[k]] += 1
    for s in range(n, 0, -1):
        starts[s] = starts[s - 1]
    starts[0] = 0
    return True
