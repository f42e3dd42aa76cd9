"""The edge convolution in Numba CUDA: one thread per number of the result, in a fixed order."""

from typing import Any

from numba import cuda
from torch import Tensor

from tensornet.kernels import _bridge
from tensornet.kernels._index import order_and_starts


def convolution_kernel(real: Any) -> Any:
    """One number of one receiver; `order` and `starts` sort the edges, `terms` the coupling."""

    def run(  # type: ignore[no-untyped-def]  # flat or pointers
        x, y, w, sender, order, starts, at_i, at_j, at_p, values, terms, begins, out,
        n, n_i, n_j, n_p, v, n_k, c, n_edges,
    ):  # fmt: skip
        for place in range(cuda.grid(1), v * n_k * c, cuda.gridsize(1)):
            node = place // (n_k * c)
            k = place // c % n_k
            channel = place % c
            total = real(0)
            if starts[0] > 0 or starts[v] < n_edges:  # a receiver is out of range
                total = real(float("nan"))
            for s in range(starts[node], starts[node + 1]):
                e = order[s]
                node_x = sender[e]
                for q in range(begins[k], begins[k + 1]):
                    t = terms[q]
                    i = at_i[t]
                    j = at_j[t]
                    p = at_p[t]
                    low = node_x < 0 or i < 0 or j < 0 or p < 0
                    if low or node_x >= n or i >= n_i or j >= n_j or p >= n_p:
                        total = real(float("nan"))
                    else:
                        message = (
                            x[(node_x * n_i + i) * c + channel] * w[(e * n_p + p) * c + channel]
                        )
                        total += values[t] * y[e * n_j + j] * message
            out[place] = total

    return run


def weights_kernel(real: Any) -> Any:
    """One number of one edge; `terms` sorts the coupling by path."""

    def run(  # type: ignore[no-untyped-def]
        x, y, g, sender, receiver, at_i, at_j, at_k, values, terms, begins, out,
        n, n_i, n_j, v, n_k, n_p, c, n_edges,
    ):  # fmt: skip
        for place in range(cuda.grid(1), n_edges * n_p * c, cuda.gridsize(1)):
            e = place // (n_p * c)
            p = place // c % n_p
            channel = place % c
            a = sender[e]
            b = receiver[e]
            total = real(0)
            for q in range(begins[p], begins[p + 1]):
                t = terms[q]
                i = at_i[t]
                j = at_j[t]
                k = at_k[t]
                ends = a >= 0 and a < n and b >= 0 and b < v
                inside = i >= 0 and j >= 0 and k >= 0
                if ends and inside and i < n_i and j < n_j and k < n_k:
                    pair = x[(a * n_i + i) * c + channel] * g[(b * n_k + k) * c + channel]
                    total += values[t] * y[e * n_j + j] * pair
                else:
                    total = real(float("nan"))
            out[place] = total

    return run


def harmonics_kernel(real: Any) -> Any:
    """One number of one edge, summed over channels; `terms` sorts the coupling by harmonic."""

    def run(  # type: ignore[no-untyped-def]
        x, w, g, sender, receiver, at_i, at_k, at_p, values, terms, begins, out,
        n, n_i, n_p, v, n_k, n_j, c, n_edges,
    ):  # fmt: skip
        for place in range(cuda.grid(1), n_edges * n_j, cuda.gridsize(1)):
            e = place // n_j
            j = place % n_j
            a = sender[e]
            b = receiver[e]
            total = real(0)
            for q in range(begins[j], begins[j + 1]):
                t = terms[q]
                i = at_i[t]
                k = at_k[t]
                p = at_p[t]
                ends = a >= 0 and a < n and b >= 0 and b < v
                inside = i >= 0 and k >= 0 and p >= 0
                if ends and inside and i < n_i and k < n_k and p < n_p:
                    inner = real(0)
                    for s in range(c):
                        pair = x[(a * n_i + i) * c + s] * g[(b * n_k + k) * c + s]
                        inner += pair * w[(e * n_p + p) * c + s]
                    total += values[t] * inner
                else:
                    total = real(float("nan"))
            out[place] = total

    return run


KERNELS = {
    convolution_kernel: "pppqqqqqqpqqp" + "i" * 8,
    weights_kernel: "pppqqqqqpqqp" + "i" * 8,
    harmonics_kernel: "pppqqqqqpqqp" + "i" * 8,
}
"""For each kernel its arguments: p points to numbers, q to whole numbers, i is a size."""


def convolution(
    x: Tensor, y: Tensor, w: Tensor, sender: Tensor, receiver: Tensor,
    i: Tensor, j: Tensor, k: Tensor, p: Tensor, values: Tensor, v: int, n_k: int,
) -> Tensor:  # fmt: skip
    """`edge_convolution` with one thread per number."""
    (n, n_i, c), n_p = x.shape, w.shape[1]
    out = x.new_empty(v, n_k, c)
    _bridge.launch(
        convolution_kernel, out.numel(),
        x, y, w, sender, *order_and_starts(receiver, v), i, j, p, values,
        *order_and_starts(k, n_k), out, n, n_i, y.shape[1], n_p, v, n_k, c, len(sender),
    )  # fmt: skip
    return out


def weights(
    x: Tensor, y: Tensor, g: Tensor, sender: Tensor, receiver: Tensor,
    i: Tensor, j: Tensor, k: Tensor, p: Tensor, values: Tensor, n_p: int,
) -> Tensor:  # fmt: skip
    """`edge_weights` with one thread per number."""
    (n, n_i, c), (v, n_k, _) = x.shape, g.shape
    out = x.new_empty(len(sender), n_p, c)
    _bridge.launch(
        weights_kernel, out.numel(),
        x, y, g, sender, receiver, i, j, k, values, *order_and_starts(p, n_p), out,
        n, n_i, y.shape[1], v, n_k, n_p, c, len(sender),
    )  # fmt: skip
    return out


def harmonics(
    x: Tensor, w: Tensor, g: Tensor, sender: Tensor, receiver: Tensor,
    i: Tensor, j: Tensor, k: Tensor, p: Tensor, values: Tensor, n_j: int,
) -> Tensor:  # fmt: skip
    """`edge_harmonics` with one thread per number."""
    (n, n_i, c), (v, n_k, _) = x.shape, g.shape
    out = x.new_empty(len(sender), n_j)
    _bridge.launch(
        harmonics_kernel, out.numel(),
        x, w, g, sender, receiver, i, k, p, values, *order_and_starts(j, n_j), out,
        n, n_i, w.shape[1], v, n_k, n_j, c, len(sender),
    )  # fmt: skip
    return out


def slopes(
    x: Tensor, y: Tensor, w: Tensor, g: Tensor, sender: Tensor, receiver: Tensor,
    i: Tensor, j: Tensor, k: Tensor, p: Tensor, values: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """`edge_slopes`: one launch per gradient."""
    back = receiver, sender, k, j, i, p, values, x.shape[0], x.shape[1]
    rest = sender, receiver, i, j, k, p, values
    gx = convolution(g, y, w, *back)
    return gx, harmonics(x, w, g, *rest, y.shape[1]), weights(x, y, g, *rest, w.shape[1])


def curvatures(
    x: Tensor, y: Tensor, w: Tensor, g: Tensor, hx: Tensor, hy: Tensor, hw: Tensor,
    sender: Tensor, receiver: Tensor, i: Tensor, j: Tensor, k: Tensor, p: Tensor, values: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """`edge_curvatures`: one launch per term."""
    back = receiver, sender, k, j, i, p, values, x.shape[0], x.shape[1]
    rest = sender, receiver, i, j, k, p, values
    ends = *rest, g.shape[0], g.shape[1]
    dx = convolution(g, hy, w, *back) + convolution(g, y, hw, *back)
    dy = harmonics(hx, w, g, *rest, y.shape[1]) + harmonics(x, hw, g, *rest, y.shape[1])
    dw = weights(hx, y, g, *rest, w.shape[1]) + weights(x, hy, g, *rest, w.shape[1])
    dg = convolution(hx, y, w, *ends) + convolution(x, hy, w, *ends) + convolution(x, y, hw, *ends)
    return dx, dy, dw, dg
