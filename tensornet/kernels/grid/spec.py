"""What the kernels of the sphere compute, and their derivatives.

The integral of three functions on the sphere is linear and symmetric in all of them. Its slope in
one function is the product of the other two, so the product is its own derivative; only where one
function serves all channels, its slope is a sum over them, `sphere_overlap`.
"""

import torch
from torch import Tensor

from tensornet.kernels._registry import kernel
from tensornet.kernels.grid.tables import degree_of, points

Gradients = tuple[Tensor | None, ...]


@kernel("n i c, n j b, =k -> n k c")
def sphere_product(
    x: Tensor,  # (n, i, c)
    y: Tensor,  # (n, j, c) or (n, j, 1)
    k: int,
) -> Tensor:  # (n, k, c)
    """Multiply two functions on the sphere: the Gaunt product.

    ``out[n, k, c] = sum over i, j of G[i, j, k] x[n, i, c] y[n, j, c]``, G the integrals of three
    orthonormal harmonics: the harmonics of degrees 0 to l are numbered as in e3nn, (l + 1)² of
    them. Both functions are evaluated on a grid, multiplied there and integrated against the
    harmonics, exact to rounding. On a CPU the sums over degrees and over orders are taken one
    after the other, without the grid in memory.

    Args:
        x: First functions.
        y: Second functions, one for all channels or one for each.
        k: Number of harmonics of the result; what is beyond is cut off.

    Returns:
        The product of the functions.

    Raises:
        TypeError: If the dtypes differ.
        ValueError: If the shapes or devices differ from what is said above, or a number of
            harmonics is not a square.

    Derivatives:
        Any order, in both functions.

    References:
        Luo et al., Gaunt tensor products (2024); Xie et al., The Price of Freedom (2025).

    Examples:
        >>> one, x = torch.tensor([[[12.566370614359172**0.5]]]), torch.ones(1, 4, 2)
        >>> mean = sphere_product(x, one, 1)  # times the function that is one, cut to its mean
        >>> [round(float(v), 5) for v in mean.flatten()]
        [1.0, 1.0]
    """
    X, Y, Z, weights = _matrices("sphere_product", x, y, k)
    if y.shape[2] not in (1, x.shape[2]):
        raise ValueError(
            f"`sphere_product(y=...)` must have 1 channel or the {x.shape[2]} of `x`. "
            f"Got {y.shape[2]}."
        )
    values = (X @ x) * (Y @ y)
    return Z.mT @ (values * weights[:, None])


@kernel("n i c, n j c, =k -> n k")
def sphere_overlap(
    x: Tensor,  # (n, i, c)
    y: Tensor,  # (n, j, c)
    k: int,
) -> Tensor:  # (n, k)
    """Multiply two functions on the sphere in each channel, and sum over channels.

    ``out[n, k] = sum over i, j, c of G[i, j, k] x[n, i, c] y[n, j, c]``, as in `sphere_product`:
    the gradient of a function that serves all channels.

    Args:
        x: First functions.
        y: Second functions.
        k: Number of harmonics of the result.

    Returns:
        The sum of the products.

    Raises:
        TypeError: If the dtypes differ.
        ValueError: If the shapes or devices differ from what is said above, or a number of
            harmonics is not a square.

    Derivatives:
        Any order, in both functions.

    Examples:
        >>> overlap = sphere_overlap(torch.ones(1, 1, 3), torch.ones(1, 1, 3), 1)
        >>> round(float(overlap) * 12.566370614359172**0.5, 5)
        3.0
    """
    X, Y, Z, weights = _matrices("sphere_overlap", x, y, k)
    values = ((X @ x) * (Y @ y)).sum(-1)
    return (values * weights) @ Z


def _matrices(name: str, x: Tensor, y: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Harmonics of all three degrees at the points of one grid, and its weights."""
    degrees = degree_of(name, x=x.shape[1], y=y.shape[1], k=k)
    found = [points(l_max, sum(degrees)) for l_max in degrees]
    X, Y, Z = (torch.from_numpy(at).to(x) for at, _ in found)
    return X, Y, Z, torch.from_numpy(found[0][1]).to(x)


@sphere_product.vjp
def _product_vjp(needs: tuple[bool, ...], g: Tensor, x: Tensor, y: Tensor, k: int) -> Gradients:
    x, y = x.conj(), y.conj()
    gx = sphere_product(g, y, x.shape[1]) if needs[0] else None
    gy = None
    if needs[1]:
        if y.shape[2] == x.shape[2]:
            gy = sphere_product(g, x, y.shape[1])
        else:
            gy = sphere_overlap(g, x, y.shape[1])[..., None]
    return gx, gy, None


@sphere_overlap.vjp
def _overlap_vjp(needs: tuple[bool, ...], g: Tensor, x: Tensor, y: Tensor, k: int) -> Gradients:
    g = g[..., None]
    gx = sphere_product(y.conj(), g, x.shape[1]) if needs[0] else None
    gy = sphere_product(x.conj(), g, y.shape[1]) if needs[1] else None
    return gx, gy, None


for _kernel, _name in ((sphere_product, "product"), (sphere_overlap, "overlap")):
    _kernel.offer("numba_cpu", device="cpu", at=f"tensornet.kernels.grid.cpu:{_name}")
    _kernel.offer("numba_cuda", device="cuda", at=f"tensornet.kernels.grid.cuda:{_name}")
    _kernel.case("no functions", n=0, i=4, j=1, k=9, c=2, b=2)
    _kernel.case("no channels", n=2, i=1, j=4, k=4, c=0, b=1)
    _kernel.case("one of each", n=1, i=1, j=1, k=1, c=1, b=1)
    _kernel.case("three degrees", n=2, i=4, j=1, k=9, c=2, b=1)
    _kernel.case("channel by channel", n=1, i=4, j=9, k=4, c=2, b=2)
    _kernel.case("a vector and a rest", n=37, i=16, j=9, k=25, c=1, b=1)
    _kernel.case("few channels, one function", n=19, i=36, j=49, k=16, c=3, b=1)
    _kernel.case("many channels", n=3, i=81, j=64, k=100, c=53, b=53)
    _kernel.case("many channels, one function", n=18, i=49, j=49, k=49, c=37, b=1)
