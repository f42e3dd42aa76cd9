"""What the kernels of the edge convolution compute, and their derivatives.

With the coupling as a list of numbers ``values[t]`` at ``(i[t], j[t], k[t])`` of path ``p[t]``, the
form ``L = sum over e, t, c of values[t] x[sender[e], i[t], c] y[e, j[t]] w[e, p[t], c]
g[receiver[e], k[t], c]`` is linear in x, y, w and g. `edge_convolution` is its slope in g, and with
both ends of the edges exchanged its slope in x; `edge_weights` and `edge_harmonics` are those in w
and y. Any derivative of a slope is a slope again, with an argument replaced.
"""

import torch
from torch import Tensor

from tensornet import _check
from tensornet.kernels._registry import kernel


@kernel("n i c, e j, e p c, e<n, e<v, t<i, t<j, t<k, t<p, t, =v, =k -> v k c")
def edge_convolution(
    x: Tensor,  # (n, i, c)
    y: Tensor,  # (e, j)
    w: Tensor,  # (e, p, c)
    sender: Tensor,  # (e,)
    receiver: Tensor,  # (e,)
    at_i: Tensor,  # (t,)
    at_j: Tensor,  # (t,)
    at_k: Tensor,  # (t,)
    at_p: Tensor,  # (t,)
    values: Tensor,  # (t,)
    v: int,
    k: int,
) -> Tensor:  # (v, k, c)
    """Multiply features of senders by harmonics of edges, weigh each path, and sum at receivers.

    ``out[v, k, c] = sum over the edges e that v receives, and over t with at_k[t] = k, of values[t]
    x[sender[e], at_i[t], c] y[e, at_j[t]] w[e, at_p[t], c]``. No message is stored, and the sum at
    a receiver is taken in the order of the edges: the result is the same every time. Edges may come
    in any order; sorted by receiver (`receiver_order`) they are read in one sweep.

    Args:
        x: Features of the nodes that send.
        y: Harmonics of the edges.
        w: Weights, one per edge, path and channel.
        sender: For each edge the node it comes from, 0 to n - 1.
        receiver: For each edge the node it goes to, 0 to v - 1.
        at_i: Components of the features, one per number of the coupling.
        at_j: Components of the harmonics.
        at_k: Components of the result.
        at_p: Paths.
        values: Numbers of the coupling; see `sparse_coupling`.
        v: Number of nodes that receive.
        k: Number of components of the result.

    Returns:
        The features received, zero at nodes without edges.

    Raises:
        TypeError: If the dtypes differ, or indices are not of int64.
        ValueError: If the shapes or devices differ from what is said above.
        IndexError: If an index is out of range. On a GPU the numbers it concerns are NaN instead.

    Derivatives:
        Any order, in the features, harmonics, weights and values.

    Examples:
        >>> x, ones, zero = torch.tensor([[[1.0]], [[10.0]]]), torch.ones(3), torch.tensor([0])
        >>> sender, receiver = torch.tensor([0, 1, 1]), torch.tensor([1, 0, 1])
        >>> sizes = ones[:, None], ones[:, None, None]
        >>> edge_convolution(x, *sizes, sender, receiver, *[zero] * 4, ones[:1], 2, 1).flatten()
        tensor([10., 11.])
    """
    messages = x.index_select(0, sender).index_select(1, at_i) * w.index_select(1, at_p)
    messages = messages * (y.index_select(1, at_j) * values)[..., None]
    components = messages.new_zeros(len(sender), k, x.shape[2]).index_add(1, at_k, messages)
    return components.new_zeros(v, k, x.shape[2]).index_add(0, receiver, components)


@kernel("n i c, e j, v k c, e<n, e<v, t<i, t<j, t<k, t<p, t, =p -> e p c")
def edge_weights(
    x: Tensor,  # (n, i, c)
    y: Tensor,  # (e, j)
    g: Tensor,  # (v, k, c)
    sender: Tensor,  # (e,)
    receiver: Tensor,  # (e,)
    at_i: Tensor,  # (t,)
    at_j: Tensor,  # (t,)
    at_k: Tensor,  # (t,)
    at_p: Tensor,  # (t,)
    values: Tensor,  # (t,)
    p: int,
) -> Tensor:  # (e, p, c)
    """Multiply features of both ends of each edge by its harmonics, one number per path: a slope.

    ``out[e, p, c] = sum over t with at_p[t] = p of values[t] x[sender[e], at_i[t], c]
    y[e, at_j[t]] g[receiver[e], at_k[t], c]``, the gradient of the weights of `edge_convolution`.

    Args:
        x: Features of the nodes that send.
        y: Harmonics of the edges.
        g: Features of the nodes that receive.
        sender: For each edge the node it comes from, 0 to n - 1.
        receiver: For each edge the node it goes to, 0 to v - 1.
        at_i: Components of the features that are sent, one per number of the coupling.
        at_j: Components of the harmonics.
        at_k: Components of the features at the receivers.
        at_p: Paths.
        values: Numbers of the coupling.
        p: Number of paths.

    Returns:
        One number per edge, path and channel.

    Raises:
        TypeError: If the dtypes differ, or indices are not of int64.
        ValueError: If the shapes or devices differ from what is said above.
        IndexError: If an index is out of range. On a GPU the numbers it concerns are NaN instead.

    Derivatives:
        Any order, in the features, harmonics and values.

    Examples:
        >>> x, one, zero = torch.tensor([[[2.0]], [[10.0]]]), torch.ones(1), torch.tensor([0])
        >>> edge_weights(x, one[:, None], x, zero, zero + 1, *[zero] * 4, one, 1)
        tensor([[[20.]]])
    """
    pairs = x.index_select(0, sender).index_select(1, at_i)
    pairs = pairs * g.index_select(0, receiver).index_select(1, at_k)
    pairs = pairs * (y.index_select(1, at_j) * values)[..., None]
    return pairs.new_zeros(len(sender), p, x.shape[2]).index_add(1, at_p, pairs)


@kernel("n i c, e p c, v k c, e<n, e<v, t<i, t<j, t<k, t<p, t, =j -> e j")
def edge_harmonics(
    x: Tensor,  # (n, i, c)
    w: Tensor,  # (e, p, c)
    g: Tensor,  # (v, k, c)
    sender: Tensor,  # (e,)
    receiver: Tensor,  # (e,)
    at_i: Tensor,  # (t,)
    at_j: Tensor,  # (t,)
    at_k: Tensor,  # (t,)
    at_p: Tensor,  # (t,)
    values: Tensor,  # (t,)
    j: int,
) -> Tensor:  # (e, j)
    """Multiply features of both ends of each edge, weigh them and sum over channels: a slope.

    ``out[e, j] = sum over c, and t with at_j[t] = j, of values[t] x[sender[e], at_i[t], c]
    w[e, at_p[t], c] g[receiver[e], at_k[t], c]``, the gradient of the harmonics of
    `edge_convolution`.

    Args:
        x: Features of the nodes that send.
        w: Weights, one per edge, path and channel.
        g: Features of the nodes that receive.
        sender: For each edge the node it comes from, 0 to n - 1.
        receiver: For each edge the node it goes to, 0 to v - 1.
        at_i: Components of the features that are sent, one per number of the coupling.
        at_j: Components of the harmonics.
        at_k: Components of the features at the receivers.
        at_p: Paths.
        values: Numbers of the coupling.
        j: Number of components of the harmonics.

    Returns:
        One row per edge.

    Raises:
        TypeError: If the dtypes differ, or indices are not of int64.
        ValueError: If the shapes or devices differ from what is said above.
        IndexError: If an index is out of range. On a GPU the numbers it concerns are NaN instead.

    Derivatives:
        Any order, in the features, weights and values.

    Examples:
        >>> x, one, zero = torch.tensor([[[2.0]], [[10.0]]]), torch.ones(1), torch.tensor([0])
        >>> edge_harmonics(x, one[:, None, None], x, zero, zero + 1, *[zero] * 4, one, 1)
        tensor([[20.]])
    """
    pairs = x.index_select(0, sender).index_select(1, at_i)
    pairs = pairs * g.index_select(0, receiver).index_select(1, at_k)
    sums = (pairs * w.index_select(1, at_p)).sum(-1) * values
    return sums.new_zeros(len(sender), j).index_add(1, at_j, sums)


def sparse_coupling(
    blocks: Tensor,  # (p, i, j, k)
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # (t,) each
    """List the numbers of a coupling that are not zero, as the kernels of the convolution take it.

    Args:
        blocks: The coupling of each path: component of the features, of the harmonics, of the
            result.

    Returns:
        Components i, j, k and paths p, of int64, and the values.

    Raises:
        ValueError: If `blocks` has not four axes.

    Examples:
        >>> i, j, k, p, values = sparse_coupling(torch.eye(2)[None, :, None, :])
        >>> i, k, values
        (tensor([0, 1]), tensor([0, 1]), tensor([1., 1.]))
    """
    _check.shapes("sparse_coupling", blocks=(blocks, "p i j k"))
    p, i, j, k = blocks.nonzero(as_tuple=True)
    return i, j, k, p, blocks[p, i, j, k]


def receiver_order(
    receiver: Tensor,  # (e,)
) -> Tensor:  # (e,)
    """Give the order that sorts edges by receiver; edges of one receiver keep theirs.

    Args:
        receiver: For each edge the node it goes to.

    Returns:
        Index that sorts whatever belongs to edges.

    Examples:
        >>> receiver_order(torch.tensor([2, 0, 2, 1]))
        tensor([1, 3, 0, 2])
    """
    return torch.argsort(receiver, stable=True)
