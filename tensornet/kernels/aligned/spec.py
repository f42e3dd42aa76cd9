"""What the aligned product computes, and its derivatives.

With D(r) the turn of harmonics that takes r to the polar axis, ``out = D(r)ᵀ K D(r) x``. The matrix
K commutes with turns about the axis, so which of the many turns is taken does not matter, and the
map is as smooth as r. It is equivariant: ``A(r + w x r) = A(r) + [w L, A(r)]`` for a small angle w
and the generators L. So its slope in r is a torque, of inputs, results and their slopes.
"""

import torch
from torch import Tensor

from tensornet.kernels._registry import kernel
from tensornet.kernels.aligned.tables import core_numbers, generators, tables

Gradients = tuple[Tensor | None, ...]


@kernel("n i c, n s, n c, q -> n i c")
def aligned_product(
    x: Tensor,  # (n, i, c), with i = (l_max + 1)²
    r: Tensor,  # (n, s), with s = 3
    w: Tensor,  # (n, c)
    core: Tensor,  # (q,)
) -> Tensor:  # (n, i, c)
    """Multiply features by an equivariant matrix of a direction each: few numbers on the axis.

    Features are turned so that `r` lies on the polar axis y. There only components of equal and of
    opposite order m meet, by the numbers of `core`. Then they are turned back. That takes some
    l_max³ multiplications per channel, where the matrix has (l_max + 1)⁴ numbers.

    Args:
        x: Features: real harmonics of degrees 0 to l_max, polar axis y, degree one (x, y, z).
        r: Vectors, of which the direction counts. A zero vector gives NaN.
        w: Weights of the channels.
        core: Numbers of the matrix for the polar axis, in the order of `core_numbers`.

    Returns:
        The products.

    Raises:
        TypeError: If the dtypes differ.
        ValueError: If the shapes or devices differ from what is said above.

    Derivatives:
        Any order, in every argument, also where r lies on the axis.

    References:
        Passaro & Zitnick, Reducing SO(3) convolutions to SO(2) (2023).

    Examples:
        >>> x, r = torch.tensor([[[1.0], [2.0], [3.0], [4.0]]]), torch.tensor([[0.0, 0.0, 5.0]])
        >>> core = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
        >>> aligned_product(x, r, torch.tensor([[2.0]]), core)[0, :, 0].round()
        tensor([2., 0., 0., 8.])
    """
    l_max = degree(x, r, core)
    D = _turn(r, l_max)
    out = torch.einsum("nji,jk,nkm,nmc->nic", D, _matrix(core, l_max), D, x)
    return (out * w[:, None]).contiguous()


@kernel("n i c, n i c, n s, n c, q -> n i c, n s, n c")
def aligned_slopes(
    x: Tensor,  # (n, i, c)
    g: Tensor,  # (n, i, c)
    r: Tensor,  # (n, s)
    w: Tensor,  # (n, c)
    core: Tensor,  # (q,)
) -> tuple[Tensor, Tensor, Tensor]:  # (n, i, c), (n, s), (n, c)
    """Slopes of ``sum(g * aligned_product(x, r, w, core))`` in x, r and w, in one pass.

    Args:
        x: Features.
        g: Slope of what follows in the products.
        r: Vectors, of which the direction counts. A zero vector gives NaN.
        w: Weights of the channels.
        core: Numbers of the matrix for the polar axis, in the order of `core_numbers`.

    Returns:
        The slopes in x, in r and in w.

    Raises:
        TypeError: If the dtypes differ.
        ValueError: If the shapes or devices differ from what is said above.

    Derivatives:
        Any order, in every argument, also where r lies on the axis.

    Examples:
        >>> x, r = torch.tensor([[[1.0], [2.0], [3.0], [4.0]]]), torch.tensor([[0.0, 0.0, 5.0]])
        >>> core = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
        >>> aligned_slopes(x, x, r, torch.tensor([[2.0]]), core)[2].round()
        tensor([[17.]])
    """
    l_max = degree(x, r, core)
    D, K = _turn(r, l_max), _matrix(core, l_max)
    out = torch.einsum("nji,jk,nkm,nmc->nic", D, K, D, x)
    gx = torch.einsum("nji,kj,nkm,nmc->nic", D, K, D, g) * w[:, None]
    torque = _torque(g, out * w[:, None], l_max) - _torque(gx, x, l_max)
    gr = torch.linalg.cross(torque, r) / r.square().sum(1, keepdim=True)
    return gx.contiguous(), gr, (g * out).sum(1)


def degree(x: Tensor, r: Tensor, core: Tensor) -> int:
    """Give the highest degree; a ValueError where sizes are not those of one."""
    l_max: int = round(int(x.shape[1]) ** 0.5) - 1
    name = "aligned_product"
    if (l_max + 1) ** 2 != x.shape[1]:
        raise ValueError(f"`{name}(x=...)` must have (l_max + 1)² rows. Got {x.shape[1]}.")
    if r.shape[1] != 3:
        raise ValueError(f"`{name}(r=...)` must have shape (n, 3). Got {tuple(r.shape)}.")
    q = len(core_numbers(l_max))
    if core.shape[0] != q:
        raise ValueError(
            f"`{name}(core=...)` must have {q} numbers for l_max {l_max}. Got {core.shape[0]}."
        )
    return l_max


def _generators(l_max: int) -> Tensor:  # (3, i, i)
    blocks = [torch.from_numpy(generators(l)) for l in range(l_max + 1)]
    return torch.stack([torch.block_diag(*(b[a] for b in blocks)) for a in range(3)])


def _turn(r: Tensor, l_max: int) -> Tensor:  # (n, 3) -> (n, i, i)
    """The turn of harmonics that takes vectors to the polar axis: about y, and then about x."""
    about_x, about_y, _ = _generators(l_max).to(r)
    x, y, z = r.unbind(1)
    first = torch.atan2(x, z)[:, None, None] * about_y
    second = torch.atan2(torch.hypot(x, z), y)[:, None, None] * about_x
    sizes = (r.square().sum(1) > 0)[:, None, None]
    turn = torch.linalg.matrix_exp(-second) @ torch.linalg.matrix_exp(-first)
    return torch.where(sizes, turn, torch.nan)


def _matrix(core: Tensor, l_max: int) -> Tensor:  # (q,) -> (i, i)
    """The numbers of a core at their places: rows are of the result."""
    matrix = core.new_zeros(2 * ((l_max + 1) ** 2,))
    rows, columns, numbers, signs = _cells(l_max)
    return matrix.index_put((rows, columns), core[numbers] * signs.to(core))


def _cells(l_max: int) -> Tensor:  # (4, cells)
    """Of each cell that is not zero: row, column, number of the core, sign."""
    found = []
    for number, (l1, l3, m) in enumerate(core_numbers(l_max)):
        out, given = l3 * (l3 + 1), l1 * (l1 + 1)
        found.append((out + abs(m), given + m, number, 1))
        if m:
            found.append((out - abs(m), given - m, number, 1 if m > 0 else -1))
    return torch.tensor(found).T


def _transposed(core: Tensor, l_max: int) -> Tensor:
    of = tables(l_max)
    numbers = torch.from_numpy(of.turned).to(core.device)
    return core[numbers] * torch.from_numpy(of.turned_signs).to(core)


def _core_slope(
    x: Tensor, g: Tensor, r: Tensor, w: Tensor, core: Tensor, l_max: int
) -> Tensor:  # (q,)
    """Slope of the form in the core. Few models train it, so this is plain torch.

    Where it is differentiated by the vectors in turn, each number is a product of its own: the
    angles of the turn have no derivative on the axis, the product has.
    """
    if torch.is_grad_enabled() and r.requires_grad:
        units = torch.eye(len(core)).to(core)
        return torch.stack([(g * aligned_product(x, r, w, unit)).sum() for unit in units])
    D = _turn(r, l_max)
    slope = torch.einsum("nic,njc->ij", D @ (g * w[:, None]), D @ x)
    rows, columns, numbers, signs = _cells(l_max)
    return torch.zeros_like(core).index_add(0, numbers, slope[rows, columns] * signs.to(core))


@aligned_product.vjp
def _product_vjp(
    needs: tuple[bool, ...], g: Tensor, x: Tensor, r: Tensor, w: Tensor, core: Tensor
) -> Gradients:
    gx = gr = gw = gcore = None
    if any(needs[:3]):
        gx, gr, gw = aligned_slopes(x, g, r, w, core)
    if needs[3]:
        gcore = _core_slope(x, g, r, w, core, degree(x, r, core))
    return gx, gr, gw, gcore


@aligned_slopes.vjp
def _slopes_vjp(
    needs: tuple[bool, ...], h: tuple[Tensor | None, ...],
    x: Tensor, g: Tensor, r: Tensor, w: Tensor, core: Tensor,
) -> Gradients:  # fmt: skip
    """The form F(x, g, w) with one argument replaced, for each slope; a turn by v replaces both."""
    l_max = degree(x, r, core)
    back = _transposed(core, l_max)
    hx, hr, hw = h
    terms: list[tuple[Tensor, Tensor, Tensor, int]] = []  # x, g, w and what was replaced
    g_x, g_g, g_r, g_w = (torch.zeros_like(t) for t in (x, g, r, w))
    g_core = torch.zeros_like(core) if needs[4] else None
    if hx is not None:
        terms.append((hx, g, w, 0))
        g_g = g_g + aligned_product(hx, r, w, core)
    if hw is not None:
        terms.append((x, g, hw, 2))
        g_x, g_g = g_x + aligned_product(g, r, hw, back), g_g + aligned_product(x, r, hw, core)
    if hr is not None:
        square = r.square().sum(1, keepdim=True)
        v = torch.linalg.cross(r, hr) / square
        turned_x, turned_g = _turned(x, v, l_max), _turned(g, v, l_max)
        terms += [(-turned_x, g, w, 1), (x, -turned_g, w, 1)]
        gx, gr, _ = aligned_slopes(x, g, r, w, core)
        out = aligned_product(x, r, w, core)
        g_x = g_x + _turned(gx, v, l_max) - aligned_product(turned_g, r, w, back)
        g_g = g_g + _turned(out, v, l_max) - aligned_product(turned_x, r, w, core)
        torque = torch.linalg.cross(r, gr)
        along = 2 * (torque * v).sum(1, keepdim=True)
        g_r = g_r + (torch.linalg.cross(hr, torque) - along * r) / square
    for one, two, weight, replaced in terms:
        _, in_r, in_w = aligned_slopes(one, two, r, weight, core)
        g_r = g_r + in_r
        g_w = g_w if replaced == 2 else g_w + in_w
        if g_core is not None:
            g_core = g_core + _core_slope(one, two, r, weight, core, l_max)
    return g_x, g_g, g_r, g_w, g_core


def _turned(x: Tensor, v: Tensor, l_max: int) -> Tensor:  # (n, i, c), (n, 3) -> (n, i, c)
    """What a turn by a small v adds to features."""
    parts = [torch.zeros_like(x[:, :1])]
    for l in range(1, l_max + 1):
        of_degree = torch.from_numpy(generators(l)).to(x)
        parts.append(torch.einsum("na,aij->nij", v, of_degree) @ x[:, l * l : (l + 1) ** 2])
    return torch.cat(parts, 1)


def _torque(a: Tensor, b: Tensor, l_max: int) -> Tensor:  # (n, i, c) twice -> (n, 3)
    """``sum of a L b`` for the three generators L."""
    total = a.new_zeros(a.shape[0], 3)
    for l in range(1, l_max + 1):
        rows = slice(l * l, (l + 1) ** 2)
        pairs = (a[:, rows] @ b[:, rows].mT).flatten(1)
        total = total + pairs @ torch.from_numpy(generators(l)).to(a).flatten(1).mT
    return total


for _kernel, _name in ((aligned_product, "product"), (aligned_slopes, "slopes")):
    _kernel.offer("numba_cpu", device="cpu", at=f"tensornet.kernels.aligned.cpu:{_name}")
    _kernel.offer("numba_cuda", device="cuda", at=f"tensornet.kernels.aligned.cuda:{_name}")
    _kernel.case("no items", n=0, i=4, c=3, s=3, q=6)
    _kernel.case("one of each", n=1, i=1, c=1, s=3, q=1)
    _kernel.case("two vectors", n=2, i=4, c=1, s=3, q=6)
    _kernel.case("degree two", n=2, i=9, c=1, s=3, q=19)
    _kernel.case("a block and a rest", n=70, i=9, c=5, s=3, q=19)
    _kernel.case("many channels", n=9, i=25, c=83, s=3, q=85)
