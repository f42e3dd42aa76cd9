"""Products of the features of atoms with small matrices, and readouts, in Numba, for inference.

The matrices are small and many: as calls of a library, with copies before and after, they would
take several times as long as their multiplications. Channels are whole vectors (`padded`).
"""

from math import exp
from typing import Any

import numpy as np

from tensornet.kernels import _bridge
from tensornet.kernels._tile import BYTES, STORE, product

Array = np.ndarray[Any, Any]
_GRAIN = 1_000_000  # multiplications worth a thread


@_bridge.jit
def _multiply(  # type: ignore[no-untyped-def]  # Numba infers them
    order, starts, steps, n_components, x, x_steps, matrices, out, out_steps, first, last
):
    """Rows from first to last in the order of their groups."""
    of_group, of_component = steps
    x_row, size = x_steps
    out_row, width = out_steps
    vectors = width * out.itemsize // BYTES
    for s in range(len(starts) - 1):
        begin, end = max(starts[s], first), min(starts[s + 1], last)
        if begin >= end:
            continue
        for k in range(n_components):
            product(
                STORE, order, begin, end, size, x, k * size, x_row, 1,
                matrices, s * of_group + k * of_component, width,
                out, k * width, out_row, 0, 0, 0, vectors,
            )  # fmt: skip


def multiply(
    order: Array,  # (n,) int64
    starts: Array,  # (groups + 1,) int64
    x: Array,  # (n, m, c)
    matrices: Array,  # (groups, c, c'), or by component (k, c, c')
    out: Array,  # (n, m', c'), written to
    n_components: int | None = None,
) -> None:
    """Multiply features by the matrix of each atom's group, or by that of each component.

    Args:
        order: The atoms in the order of their groups.
        starts: Where each group starts.
        x: Features.
        matrices: The matrices.
        out: Where results go; components that are not multiplied stay as they are.
        n_components: How many components are multiplied, where matrices go by group.
    """
    n, size = len(x), matrices[0].size
    steps, k = ((0, size), len(matrices)) if n_components is None else ((size, 0), n_components)
    given = (
        order, starts, steps, k, x.reshape(-1), (x[0].size, x.shape[2]),
        matrices.reshape(-1), out.reshape(-1), (out[0].size, out.shape[2]),
    )  # fmt: skip
    _bridge.spread(lambda a, b: _multiply(*given, a, b), n, max(1, _GRAIN // (k * size)))


@_bridge.jit
def _readout(  # type: ignore[no-untyped-def]
    order, x, x_row, inwards, bias, of_output, outwards, last, output, slope
):
    """Last layers, outputs, and the slopes of these, atom by atom."""
    n, width = last.shape
    vectors = width * x.itemsize // BYTES
    made = np.empty(n * width, x.dtype)
    product(
        STORE, order, 0, n, width, x, 0, x_row, 1, inwards, 0, width,
        last.reshape(-1), 0, width, 0, 0, 0, vectors,
    )  # fmt: skip
    for a in range(n):
        total = 0.0
        for c in range(width):
            before = last[a, c] + bias[c]
            s = 1 / (1 + exp(-before))
            last[a, c] = before * s
            total += last[a, c] * of_output[c]
            made[a * width + c] = of_output[c] * s * (1 + before * (1 - s))
        output[a] += total
    product(
        STORE, order, 0, n, width, made, 0, width, 1, outwards, 0, width,
        slope.reshape(-1), 0, width, 0, 0, 0, vectors,
    )  # fmt: skip


def readout(
    order: Array,  # (n,) int64
    x: Array,  # (n, m, c)
    inwards: Array,  # (c, c)
    bias: Array,  # (c,)
    of_output: Array,  # (c,)
    output: Array,  # (n,), added to
) -> tuple[Array, Array]:  # (n, c), (n, c)
    """Read the scalars of atoms: the last layer, and the derivative of the output.

    Args:
        order: The atoms.
        x: Features.
        inwards: Weights of the first layer.
        bias: Its bias.
        of_output: Weights of the last one.
        output: Where outputs are added.

    Returns:
        The last layer, and the derivative of the outputs in the scalars.
    """
    last, slope = (np.empty((len(x), len(bias)), x.dtype) for _ in range(2))
    given = inwards.reshape(-1), bias, of_output, inwards.T.reshape(-1)
    _readout(order, x.reshape(-1), x[0].size, *given, last, output, slope)
    return last, slope
