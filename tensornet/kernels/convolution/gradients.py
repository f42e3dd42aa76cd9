"""All slopes of the form L of the edge convolution at once, and the derivatives of those.

`edge_slopes` gives the gradients of ``L(x, y, w, g)`` in x, y and w, `edge_curvatures` those of the
derivative of L along (hx, hy, hw) in all four: one pass over the edges each. Training on forces
takes them.
"""

from torch import Tensor

from tensornet.kernels._registry import kernel
from tensornet.kernels.convolution.spec import edge_convolution


@kernel(
    "n i c, e j, e p c, v k c, e<n, e<v, t<i, t<j, t<k, t<p, t"
    " -> n i c, e j, e p c"
)  # fmt: skip
def edge_slopes(
    x: Tensor,  # (n, i, c)
    y: Tensor,  # (e, j)
    w: Tensor,  # (e, p, c)
    g: Tensor,  # (v, k, c)
    sender: Tensor,  # (e,)
    receiver: Tensor,  # (e,)
    at_i: Tensor,  # (t,)
    at_j: Tensor,  # (t,)
    at_k: Tensor,  # (t,)
    at_p: Tensor,  # (t,)
    values: Tensor,  # (t,)
) -> tuple[Tensor, Tensor, Tensor]:  # (n, i, c), (e, j), (e, p, c)
    """Take all gradients of `edge_convolution` in one pass over the edges.

    They are the slopes, in x, y and w, of ``L = sum over e, t, c of values[t] x[sender[e], at_i[t],
    c] y[e, at_j[t]] w[e, at_p[t], c] g[receiver[e], at_k[t], c]``. On a CPU gradients in x are
    summed per thread, then over threads in a fixed order: their last digits depend on the number of
    threads (`torch.set_num_threads`), and are the same every time for the same number.

    Args:
        x: Features of the nodes that send.
        y: Harmonics of the edges.
        w: Weights, one per edge, path and channel.
        g: Cotangent of the features received.
        sender: For each edge the node it comes from, 0 to n - 1.
        receiver: For each edge the node it goes to, 0 to v - 1.
        at_i: Components of the features that are sent, one per number of the coupling.
        at_j: Components of the harmonics.
        at_k: Components of the features at the receivers.
        at_p: Paths.
        values: Numbers of the coupling.

    Returns:
        Gradients in x, y and w.

    Raises:
        TypeError: If the dtypes differ, or indices are not of int64.
        ValueError: If the shapes or devices differ from what is said above.
        IndexError: If an index is out of range. On a GPU the numbers it concerns are NaN instead.

    Derivatives:
        Any order, in x, y, w, g and the values.

    Examples:
        >>> import torch
        >>> x, one, zero = torch.tensor([[[2.0]], [[10.0]]]), torch.ones(1), torch.tensor([0])
        >>> sizes = one[:, None], one[:, None, None]
        >>> gx, gy, gw = edge_slopes(x, *sizes, x, zero, zero + 1, *[zero] * 4, one)
        >>> gx.flatten(), gy, gw
        (tensor([10.,  0.]), tensor([[20.]]), tensor([[[20.]]]))
    """
    xs, gs = x.index_select(0, sender), g.index_select(0, receiver)
    xs, gs = xs.index_select(1, at_i), gs.index_select(1, at_k)
    ws, ys = w.index_select(1, at_p), (y.index_select(1, at_j) * values)[..., None]
    of_edges = x.new_zeros(len(sender), *x.shape[1:]).index_add(1, at_i, ys * ws * gs)
    gx = x.new_zeros(x.shape).index_add(0, sender, of_edges)
    gy = y.new_zeros(y.shape).index_add(1, at_j, (xs * ws * gs).sum(-1) * values)
    gw = w.new_zeros(w.shape).index_add(1, at_p, xs * ys * gs)
    return gx, gy, gw


@kernel(
    "n i c, e j, e p c, v k c, n i c, e j, e p c, e<n, e<v, t<i, t<j, t<k, t<p, t"
    " -> n i c, e j, e p c, v k c"
)
def edge_curvatures(
    x: Tensor,  # (n, i, c)
    y: Tensor,  # (e, j)
    w: Tensor,  # (e, p, c)
    g: Tensor,  # (v, k, c)
    hx: Tensor,  # (n, i, c)
    hy: Tensor,  # (e, j)
    hw: Tensor,  # (e, p, c)
    sender: Tensor,  # (e,)
    receiver: Tensor,  # (e,)
    at_i: Tensor,  # (t,)
    at_j: Tensor,  # (t,)
    at_k: Tensor,  # (t,)
    at_p: Tensor,  # (t,)
    values: Tensor,  # (t,)
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # (n, i, c), (e, j), (e, p, c), (v, k, c)
    """Differentiate `edge_slopes`, contracted with (hx, hy, hw), in x, y, w and g, in one pass.

    With L as in `edge_slopes` these are the gradients of ``L(hx, y, w, g) + L(x, hy, w, g) +
    L(x, y, hw, g)``.

    Args:
        x: Features of the nodes that send.
        y: Harmonics of the edges.
        w: Weights, one per edge, path and channel.
        g: Features at the receivers.
        hx: Cotangent of the gradient in x.
        hy: Cotangent of the gradient in y.
        hw: Cotangent of the gradient in w.
        sender: For each edge the node it comes from, 0 to n - 1.
        receiver: For each edge the node it goes to, 0 to v - 1.
        at_i: Components of the features that are sent, one per number of the coupling.
        at_j: Components of the harmonics.
        at_k: Components of the features at the receivers.
        at_p: Paths.
        values: Numbers of the coupling.

    Returns:
        Gradients in x, y, w and g.

    Raises:
        TypeError: If the dtypes differ, or indices are not of int64.
        ValueError: If the shapes or devices differ from what is said above.
        IndexError: If an index is out of range. On a GPU the numbers it concerns are NaN instead.

    Derivatives:
        Any order, in all that is not an index. From here on they are composed of this kernel and
        `edge_slopes`, six passes each.

    Examples:
        >>> import torch
        >>> x, one, zero = torch.tensor([[[2.0]]]), torch.ones(1), torch.tensor([0])
        >>> y, w = one[:, None], one[:, None, None]
        >>> rest = zero, zero, *[zero] * 4, one
        >>> [float(t) for t in edge_curvatures(x, y, w, w, x, 0 * y, 0 * w, *rest)]
        [0.0, 2.0, 2.0, 2.0]
    """
    rest = sender, receiver, at_i, at_j, at_k, at_p, values
    _, dy, dw = edge_slopes.reference(hx, y, w, g, *rest)
    dx, _, more_w = edge_slopes.reference(x, hy, w, g, *rest)
    more_x, more_y, _ = edge_slopes.reference(x, y, hw, g, *rest)
    size, parts = (g.shape[0], g.shape[1]), []
    for a, b, c in ((hx, y, w), (x, hy, w), (x, y, hw)):
        parts.append(edge_convolution.reference(a, b, c, *rest, *size))
    return dx + more_x, dy + more_y, dw + more_w, parts[0] + parts[1] + parts[2]
