"""What the kernels of stencils compute, and their derivatives.

Each takes fields on a grid to ``diagonal x`` less the neighbours of every cell times weights; they
differ in how much the weights vary. All axes close to rings: where a grid ends, the weight is zero.
Grids of one or two axes have axes of size one in front. Two more kernels, `embed_runs` and
`restrict_runs`, put the cells of a mask on a grid and take them back.
"""

import torch
from torch import Tensor

from tensornet.kernels._registry import kernel

Gradients = tuple[Tensor | None, ...]


@kernel("b i j k, i j k, i, j, k -> b i j k")
def stencil_lines(
    x: Tensor,  # (b, i, j, k)
    diagonal: Tensor,  # (i, j, k)
    weight_i: Tensor,  # (i,)
    weight_j: Tensor,  # (j,)
    weight_k: Tensor,  # (k,)
) -> Tensor:  # (b, i, j, k)
    """Apply a symmetric stencil whose weights vary along their own axis only.

    ``out = diagonal x - sum over axes of (w[p] x[p + 1] + w[p - 1] x[p - 1])``, where p counts
    along the axis: ``w[p]`` couples the cells p and p + 1, the last weight the last cell and the
    first. It is the cheapest of the three: only x, the diagonal and the result pass through memory.

    Args:
        x: Fields.
        diagonal: What each cell is multiplied by.
        weight_i: Weights between cells along the first axis.
        weight_j: Weights along the second.
        weight_k: Weights along the third.

    Returns:
        Fields.

    Raises:
        TypeError: If the dtypes differ.
        ValueError: If the shapes or devices differ from what is said above.

    Derivatives:
        Any order, in all arguments.

    Examples:
        >>> x, one, none = torch.tensor([[[[1.0, 2.0, 4.0]]]]), torch.ones(3), torch.zeros(1)
        >>> stencil_lines(x, 2 * torch.ones(1, 1, 3), none, none, one).flatten()
        tensor([-4., -1.,  5.])
    """
    out = diagonal * x
    for axis, w in enumerate((weight_i[:, None, None], weight_j[:, None], weight_k), 1):
        out = out - w * x.roll(-1, axis) - (w * x).roll(1, axis)
    return out


@kernel("b i j k, i j k, i j k, i j k, i j k -> b i j k")
def stencil_faces(
    x: Tensor,  # (b, i, j, k)
    diagonal: Tensor,  # (i, j, k)
    weight_i: Tensor,  # (i, j, k)
    weight_j: Tensor,  # (i, j, k)
    weight_k: Tensor,  # (i, j, k)
) -> Tensor:  # (b, i, j, k)
    """Apply a symmetric stencil with a weight of its own at every face between two cells.

    ``out = diagonal x - sum over axes of (w[p] x[p + 1] + w[p - 1] x[p - 1])``, where p counts
    along the axis: ``w[p]`` couples the cells p and p + 1, the last weight the last cell and the
    first.

    Args:
        x: Fields.
        diagonal: What each cell is multiplied by.
        weight_i: Weights of the faces across the first axis.
        weight_j: Weights across the second.
        weight_k: Weights across the third.

    Returns:
        Fields.

    Raises:
        TypeError: If the dtypes differ.
        ValueError: If the shapes or devices differ from what is said above.

    Derivatives:
        Any order, in all arguments.

    Examples:
        >>> x, none = torch.tensor([[[[1.0, 2.0, 4.0]]]]), torch.zeros(1, 1, 3)
        >>> w = torch.tensor([[[1.0, 10.0, 0.0]]])
        >>> stencil_faces(x, none, none, none, w).flatten()
        tensor([ -2., -41., -20.])
    """
    out = diagonal * x
    for axis, w in enumerate((weight_i, weight_j, weight_k), 1):
        out = out - w * x.roll(-1, axis) - (w * x).roll(1, axis)
    return out


@kernel("b i j k, i j k, i j k, i j k, i j k, i j k, i j k, i j k -> b i j k")
def stencil_sides(
    x: Tensor,  # (b, i, j, k)
    diagonal: Tensor,  # (i, j, k)
    lower_i: Tensor,  # (i, j, k)
    upper_i: Tensor,  # (i, j, k)
    lower_j: Tensor,  # (i, j, k)
    upper_j: Tensor,  # (i, j, k)
    lower_k: Tensor,  # (i, j, k)
    upper_k: Tensor,  # (i, j, k)
) -> Tensor:  # (b, i, j, k)
    """Apply a stencil with a weight of its own at every side of every cell.

    ``out = diagonal x - sum over axes of (lower[p] x[p - 1] + upper[p] x[p + 1])``, where p counts
    along the axis; the neighbour of the last cell is the first.

    Args:
        x: Fields.
        diagonal: What each cell is multiplied by.
        lower_i: Weight of the neighbour below along the first axis.
        upper_i: Weight of the neighbour above.
        lower_j: Weight of the neighbour below along the second axis.
        upper_j: Weight of the neighbour above.
        lower_k: Weight of the neighbour below along the third axis.
        upper_k: Weight of the neighbour above.

    Returns:
        Fields.

    Raises:
        TypeError: If the dtypes differ.
        ValueError: If the shapes or devices differ from what is said above.

    Derivatives:
        Any order, in all arguments.

    Examples:
        >>> x, none = torch.tensor([[[[1.0, 2.0, 4.0]]]]), torch.zeros(1, 1, 3)
        >>> below = torch.tensor([[[0.0, 1.0, 1.0]]])
        >>> stencil_sides(x, none + 1, none, none, none, none, below, none).flatten()
        tensor([1., 1., 2.])
    """
    out, weights = diagonal * x, (lower_i, upper_i, lower_j, upper_j, lower_k, upper_k)
    for axis, lower, upper in zip((1, 2, 3), weights[::2], weights[1::2], strict=True):
        out = out - lower * x.roll(1, axis) - upper * x.roll(-1, axis)
    return out


@kernel("b n, r<g, r<n, r<n, =g -> b g")
def embed_runs(
    x: Tensor,  # (b, n)
    first: Tensor,  # (r,)
    start: Tensor,  # (r,)
    length: Tensor,  # (r,)
    g: int,
) -> Tensor:  # (b, g)
    """Add runs of numbers to a grid that is zero elsewhere, as the cells of a mask are stored.

    Run r goes from ``x[start[r] : start[r] + length[r]]`` to the places from ``first[r]`` on. What
    would reach over an end of either is left out, as are runs that begin before one and runs of a
    negative length.

    Args:
        x: Rows of numbers.
        first: Where each run begins on the grid.
        start: Where it begins in the row.
        length: How long it is.
        g: Number of places.

    Returns:
        Rows of the grid.

    Raises:
        TypeError: If the runs are not of int64.
        ValueError: If the shapes or devices differ from what is said above.

    Derivatives:
        Any order, in x.

    Examples:
        >>> first, start, length = torch.tensor([[0, 3], [0, 2], [2, 1]])
        >>> embed_runs(torch.tensor([[5.0, 6.0, 7.0]]), first, start, length, 5)
        tensor([[5., 6., 0., 7., 0.]])
    """
    place, source = _pairs_of(first, start, length, g, x.shape[1])
    return x.new_zeros(x.shape[0], g).index_add(1, place, x.index_select(1, source))


@kernel("b g, r<g, r<n, r<n, =n -> b n")
def restrict_runs(
    x: Tensor,  # (b, g)
    first: Tensor,  # (r,)
    start: Tensor,  # (r,)
    length: Tensor,  # (r,)
    n: int,
) -> Tensor:  # (b, n)
    """Take runs of numbers from a grid, the adjoint of `embed_runs`.

    Args:
        x: Rows of the grid.
        first: Where each run begins on the grid.
        start: Where it begins in the row.
        length: How long it is.
        n: Length of the rows.

    Returns:
        Rows of numbers, zero where no run goes.

    Raises:
        TypeError: If the runs are not of int64.
        ValueError: If the shapes or devices differ from what is said above.

    Derivatives:
        Any order, in x.

    Examples:
        >>> first, start, length = torch.tensor([[0, 3], [0, 2], [2, 1]])
        >>> restrict_runs(torch.tensor([[5.0, 6.0, 0.0, 7.0, 0.0]]), first, start, length, 3)
        tensor([[5., 6., 7.]])
    """
    place, source = _pairs_of(first, start, length, x.shape[1], n)
    return x.new_zeros(x.shape[0], n).index_add(1, source, x.index_select(1, place))


def _pairs_of(
    first: Tensor, start: Tensor, length: Tensor, g: int, n: int
) -> tuple[Tensor, Tensor]:
    """Every place on the grid and in the row that runs tie together."""
    length = length.clamp_min(0)
    run = torch.repeat_interleave(length)
    offset = torch.arange(len(run), device=run.device) - (length.cumsum(0) - length)[run]
    place, source = first[run] + offset, start[run] + offset
    inside = (place < g) & (source < n) & ((first >= 0) & (start >= 0))[run]
    return place[inside], source[inside]


@embed_runs.vjp
def _embed_vjp(
    needs: tuple[bool, ...], h: Tensor, x: Tensor, first: Tensor, start: Tensor, length: Tensor,
    g: int,
) -> Gradients:  # fmt: skip
    return restrict_runs(h, first, start, length, x.shape[1]), None, None, None, None


@restrict_runs.vjp
def _restrict_vjp(
    needs: tuple[bool, ...], h: Tensor, x: Tensor, first: Tensor, start: Tensor, length: Tensor,
    n: int,
) -> Gradients:  # fmt: skip
    return embed_runs(h, first, start, length, x.shape[1]), None, None, None, None


@stencil_lines.vjp
def _lines_vjp(
    needs: tuple[bool, ...], g: Tensor, x: Tensor, diagonal: Tensor, *weights: Tensor
) -> Gradients:
    gx = stencil_lines(g, diagonal.conj(), *(w.conj() for w in weights)) if needs[0] else None
    found = _pairs(needs, g, x)
    others = ((1, 2), (0, 2), (0, 1))
    lines = (p if p is None else p.sum(o) for p, o in zip(found[1:], others, strict=True))
    return gx, found[0], *lines


@stencil_faces.vjp
def _faces_vjp(
    needs: tuple[bool, ...], g: Tensor, x: Tensor, diagonal: Tensor, *weights: Tensor
) -> Gradients:
    gx = stencil_faces(g, diagonal.conj(), *(w.conj() for w in weights)) if needs[0] else None
    return gx, *_pairs(needs, g, x)


@stencil_sides.vjp
def _sides_vjp(
    needs: tuple[bool, ...], g: Tensor, x: Tensor, diagonal: Tensor, *weights: Tensor
) -> Gradients:
    gx = None
    if needs[0]:
        turned = []
        for axis, lower, upper in zip((0, 1, 2), weights[::2], weights[1::2], strict=True):
            turned += [upper.conj().roll(1, axis), lower.conj().roll(-1, axis)]
        gx = stencil_sides(g, diagonal.conj(), *turned)
    found: list[Tensor | None] = [(g * x.conj()).sum(0) if needs[1] else None]
    for n, need in enumerate(needs[2:]):
        shift = 1 - 2 * (n % 2)
        found.append(-(g * x.conj().roll(shift, 1 + n // 2)).sum(0) if need else None)
    return gx, *found


def _pairs(needs: tuple[bool, ...], g: Tensor, x: Tensor) -> Gradients:
    """Gradients of the diagonal and of the weight between each cell and the next."""
    x = x.conj()
    found: list[Tensor | None] = [(g * x).sum(0) if needs[1] else None]
    for axis, need in enumerate(needs[2:], 1):
        pairs = -(g * x.roll(-1, axis) + g.roll(-1, axis) * x).sum(0) if need else None
        found.append(pairs)
    return tuple(found)


for _kernel, _name in (
    (stencil_lines, "lines"),
    (stencil_faces, "faces"),
    (stencil_sides, "sides"),
):
    _kernel.offer("numba_cpu", device="cpu", at=f"tensornet.kernels.stencil.cpu:{_name}")
    _kernel.offer("numba_cuda", device="cuda", at=f"tensornet.kernels.stencil.cuda:{_name}")
    _kernel.case("no fields", b=0, i=2, j=2, k=2)
    _kernel.case("no cells", b=2, i=2, j=0, k=2)
    _kernel.case("one of each", b=1, i=1, j=1, k=1)
    _kernel.case("two by three", b=1, i=1, j=2, k=3)
    _kernel.case("a small cube", b=2, i=2, j=2, k=2)
    _kernel.case("short rows", b=3, i=4, j=3, k=7)
    _kernel.case("a vector and its ends", b=1, i=3, j=2, k=10)
    _kernel.case("vectors and a rest", b=2, i=3, j=5, k=45)
    _kernel.case("a line", b=2, i=1, j=1, k=200)

for _mover, _name in ((embed_runs, "embed"), (restrict_runs, "restrict")):
    _mover.offer("numba_cpu", device="cpu", at=f"tensornet.kernels.stencil.cpu:{_name}")
    _mover.offer("numba_cuda", device="cuda", at=f"tensornet.kernels.stencil.cuda:{_name}")
    _mover.case("no rows", b=0, n=3, g=4, r=2)
    _mover.case("no runs", b=2, n=3, g=4, r=0)
    _mover.case("one of each", b=1, n=1, g=1, r=1)
    _mover.case("runs over each other", b=2, n=7, g=6, r=4)
    _mover.case("long runs", b=3, n=90, g=120, r=9)
