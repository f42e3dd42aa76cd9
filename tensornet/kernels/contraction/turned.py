"""The polynomials of features whose components are last, as other libraries keep them.

Both kernels are those of `spec`, with the features turned over inside the code. Their derivatives
with respect to coefficients, and the second ones, turn the features and go on with the kernels of
`spec`.
"""

from torch import Tensor

from tensornet.kernels._registry import kernel
from tensornet.kernels.contraction.spec import (
    Gradients,
    polynomial_curvature,
    polynomial_gradient,
    polynomial_slope,
    symmetric_polynomial,
)


@kernel("n c i, s t c, n<s, t q<o, t<k, =k -> n k c")
def turned_polynomial(
    x: Tensor,  # (n, c, i)
    coefficients: Tensor,  # (s, t, c)
    species: Tensor,  # (n,)
    monomials: Tensor,  # (t, q)
    at_k: Tensor,  # (t,)
    k: int,
) -> Tensor:  # (n, k, c)
    """Evaluate ``symmetric_polynomial(x.mT, ...)``.

    Args:
        x: Features, components last.
        coefficients: One number per species, monomial and channel.
        species: For each row of features whose coefficients it takes, 0 to s - 1.
        monomials: For each monomial the components it multiplies, 0 to i; i means one.
        at_k: For each monomial the component of the result it belongs to, 0 to k - 1.
        k: Number of components of the result.

    Returns:
        The values, channels last.

    Raises:
        TypeError: If the dtypes differ, or indices are not of int64.
        ValueError: If the shapes or devices differ from what is said above.
        IndexError: If an index is out of range. On a GPU the numbers it concerns are NaN instead.

    Derivatives:
        Any order, in the features and in the coefficients; the first two are fused.

    Examples:
        >>> import torch
        >>> x, zero = torch.tensor([[[2.0, 5.0]]]), torch.tensor([0, 0])
        >>> monomials = torch.tensor([[0, 0, 1], [1, 2, 2]])  # x0 x0 x1 and x1
        >>> turned_polynomial(x, torch.tensor([[[3.0], [1.0]]]), zero[:1], monomials, zero, 1)
        tensor([[[65.]]])
    """
    return symmetric_polynomial.reference(x.mT, coefficients, species, monomials, at_k, k)


@kernel("n c i, s t c, n k c, n<s, t q<o, t<k -> n c i")
def turned_slope(
    x: Tensor,  # (n, c, i)
    coefficients: Tensor,  # (s, t, c)
    g: Tensor,  # (n, k, c)
    species: Tensor,  # (n,)
    monomials: Tensor,  # (t, q)
    at_k: Tensor,  # (t,)
) -> Tensor:  # (n, c, i)
    """Give the slope in the features of ``sum of g turned_polynomial(x, ...)``.

    Args:
        x: Features, components last.
        coefficients: One number per species, monomial and channel.
        g: What each value of the polynomials is multiplied by.
        species: For each row of features whose coefficients it takes, 0 to s - 1.
        monomials: For each monomial the components it multiplies, 0 to i; i means one.
        at_k: For each monomial the component of the result it belongs to, 0 to k - 1.

    Returns:
        One number per feature.

    Raises:
        TypeError: If the dtypes differ, or indices are not of int64.
        ValueError: If the shapes or devices differ from what is said above.
        IndexError: If an index is out of range. On a GPU the numbers it concerns are NaN instead.

    Derivatives:
        Any order, in the features, in the coefficients and in g; the first is fused.

    Examples:
        >>> import torch
        >>> x, zero = torch.tensor([[[2.0, 5.0]]]), torch.tensor([0])
        >>> one, monomials = torch.ones(1, 1, 1), torch.tensor([[0, 0, 1]])
        >>> turned_slope(x, one, one, zero, monomials, zero)
        tensor([[[20.,  4.]]])
    """
    at = species, monomials, at_k
    return polynomial_slope.reference(x.mT, coefficients, g, *at).mT.contiguous()


@turned_polynomial.vjp
def _polynomial_vjp(
    needs: tuple[bool, ...], g: Tensor, x: Tensor, c: Tensor,
    species: Tensor, monomials: Tensor, at_k: Tensor, k: int,
) -> Gradients:  # fmt: skip
    x, c = x.conj(), c.conj()
    gx: Tensor | None = None
    gc: Tensor | None = None
    if needs[1]:
        gx, gc = polynomial_gradient(x.mT, c, g, species, monomials, at_k)
        gx = gx.mT
    elif needs[0]:
        gx = turned_slope(x, c, g, species, monomials, at_k)
    return gx, gc, None, None, None, None


@turned_slope.vjp
def _slope_vjp(
    needs: tuple[bool, ...], h: Tensor, x: Tensor, c: Tensor, g: Tensor,
    species: Tensor, monomials: Tensor, at_k: Tensor,
) -> Gradients:  # fmt: skip
    x, c, g = x.conj(), c.conj(), g.conj()
    gx, gc, gg = polynomial_curvature(x.mT, c, g, h.mT, species, monomials, at_k)
    return gx.mT, gc, gg, None, None, None


for _kernel in (turned_polynomial, turned_slope):
    for _device in ("cpu", "cuda"):
        _module = f"tensornet.kernels.contraction.{_device}"
        _kernel.offer(f"numba_{_device}", device=_device, at=f"{_module}:{_kernel.name}")
    _kernel.case("no rows", n=0, i=2, o=3, c=2, s=2, t=3, q=2, k=2)
    _kernel.case("one of each", n=1, i=1, o=2, c=1, s=1, t=1, q=1, k=1)
    _kernel.case("three factors", n=2, i=3, o=4, c=1, s=2, t=5, q=3, k=2)
    _kernel.case("a vector and a rest", n=7, i=9, o=10, c=19, s=2, t=60, q=3, k=4)
    _kernel.case("many rows", n=41, i=16, o=17, c=35, s=3, t=300, q=3, k=9)
