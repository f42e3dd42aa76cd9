"""What the kernels of the symmetric contraction compute, and their derivatives.

A contraction of a symmetric tensor with copies of one vector is a polynomial in the components of
that vector, and sorted monomials say it without its many repetitions. With ``F = sum over n, t, c
of coefficients[species[n], t, c] g[n, at_k[t], c] prod over q of x[n, monomials[t, q], c]``,
`symmetric_polynomial` is the slope of F in g, `polynomial_slope` that in x, `polynomial_gradient`
those in x and in the coefficients at once, and `polynomial_curvature` gives the slopes in x, in the
coefficients and in g of the derivative of F along a change of x. F is linear in the coefficients
and in g, so third and higher derivatives need one more form, which is written in torch.
"""

import itertools
from collections.abc import Collection

import torch
from torch import Tensor

from tensornet.kernels._registry import kernel

Gradients = tuple[Tensor | None, ...]


@kernel("n i c, s t c, n<s, t q<o, t<k, =k -> n k c")
def symmetric_polynomial(
    x: Tensor,  # (n, i, c)
    coefficients: Tensor,  # (s, t, c)
    species: Tensor,  # (n,)
    monomials: Tensor,  # (t, q)
    at_k: Tensor,  # (t,)
    k: int,
) -> Tensor:  # (n, k, c)
    """Evaluate sparse polynomials in the components of each channel, with coefficients by species.

    ``out[n, k, c] = sum over t with at_k[t] = k of coefficients[species[n], t, c] times the product
    over q of x[n, monomials[t, q], c]``. An index equal to the number of components stands for the
    number one, so that monomials of lower degree fill their row with it. Monomials may come in any
    order, with their indices in any order, and more than once.

    Args:
        x: Features.
        coefficients: One number per species, monomial and channel.
        species: For each row of features whose coefficients it takes, 0 to s - 1.
        monomials: For each monomial the components it multiplies, 0 to i; i means one.
        at_k: For each monomial the component of the result it belongs to, 0 to k - 1.
        k: Number of components of the result.

    Returns:
        The values.

    Raises:
        TypeError: If the dtypes differ, or indices are not of int64.
        ValueError: If the shapes or devices differ from what is said above.
        IndexError: If an index is out of range. On a GPU the numbers it concerns are NaN instead.

    Derivatives:
        Any order, in the features and in the coefficients; the first two are fused.

    References:
        Batatia et al., MACE (2022), equations 10 and 11: the contraction that is such a polynomial.

    Examples:
        >>> x, zero = torch.tensor([[[2.0], [5.0]]]), torch.tensor([0, 0])
        >>> monomials = torch.tensor([[0, 0, 1], [1, 2, 2]])  # x0 x0 x1 and x1
        >>> symmetric_polynomial(x, torch.tensor([[[3.0], [1.0]]]), zero[:1], monomials, zero, 1)
        tensor([[[65.]]])
    """
    values = _product(_rows(x, monomials, 1)) * coefficients.index_select(0, species)
    return values.new_zeros(len(x), k, x.shape[2]).index_add(1, at_k, values)


@kernel("n i c, s t c, n k c, n<s, t q<o, t<k -> n i c")
def polynomial_slope(
    x: Tensor,  # (n, i, c)
    coefficients: Tensor,  # (s, t, c)
    g: Tensor,  # (n, k, c)
    species: Tensor,  # (n,)
    monomials: Tensor,  # (t, q)
    at_k: Tensor,  # (t,)
) -> Tensor:  # (n, i, c)
    """Give the slope in the features of ``sum of g symmetric_polynomial(x, ...)``.

    Args:
        x: Features.
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
        >>> x, zero = torch.tensor([[[2.0], [5.0]]]), torch.tensor([0])
        >>> one, monomials = torch.ones(1, 1, 1), torch.tensor([[0, 0, 1]])
        >>> polynomial_slope(x, one, one, zero, monomials, zero).flatten()
        tensor([20.,  4.])
    """
    return _slope(_rows(x, monomials, 1), _weights(coefficients, g, species, at_k), x, monomials)


@kernel("n i c, s t c, n k c, n<s, t q<o, t<k -> n i c, s t c")
def polynomial_gradient(
    x: Tensor,  # (n, i, c)
    coefficients: Tensor,  # (s, t, c)
    g: Tensor,  # (n, k, c)
    species: Tensor,  # (n,)
    monomials: Tensor,  # (t, q)
    at_k: Tensor,  # (t,)
) -> tuple[Tensor, Tensor]:  # (n, i, c), (s, t, c)
    """Give the slopes of ``sum of g symmetric_polynomial(x, ...)`` in both of its arguments.

    Args:
        x: Features.
        coefficients: One number per species, monomial and channel.
        g: What each value of the polynomials is multiplied by.
        species: For each row of features whose coefficients it takes, 0 to s - 1.
        monomials: For each monomial the components it multiplies, 0 to i; i means one.
        at_k: For each monomial the component of the result it belongs to, 0 to k - 1.

    Returns:
        The slope in the features, as by `polynomial_slope`, and that in the coefficients.

    Raises:
        TypeError: If the dtypes differ, or indices are not of int64.
        ValueError: If the shapes or devices differ from what is said above.
        IndexError: If an index is out of range. On a GPU the numbers it concerns are NaN instead.

    Derivatives:
        Any order, in the features, in the coefficients and in g; the first is fused.

    Examples:
        >>> x, zero = torch.tensor([[[2.0], [5.0]]]), torch.tensor([0])
        >>> one, monomials = torch.ones(1, 1, 1), torch.tensor([[0, 0, 1]])
        >>> polynomial_gradient(x, one, one, zero, monomials, zero)[1]
        tensor([[[20.]]])
    """
    rows, weights = _rows(x, monomials, 1), _weights(coefficients, g, species, at_k)
    slope = _slope(rows, weights, x, monomials)
    return slope, _by_species(_product(rows), g, coefficients, species, at_k)


@kernel("n i c, s t c, n k c, n i c, n<s, t q<o, t<k -> n i c, s t c, n k c")
def polynomial_curvature(
    x: Tensor,  # (n, i, c)
    coefficients: Tensor,  # (s, t, c)
    g: Tensor,  # (n, k, c)
    h: Tensor,  # (n, i, c)
    species: Tensor,  # (n,)
    monomials: Tensor,  # (t, q)
    at_k: Tensor,  # (t,)
) -> tuple[Tensor, Tensor, Tensor]:  # (n, i, c), (s, t, c), (n, k, c)
    """Give the slopes of ``sum of h polynomial_slope(x, coefficients, g, ...)``.

    It is what training on forces needs: one pass over the monomials with dual numbers, whose second
    part is the change along h.

    Args:
        x: Features.
        coefficients: One number per species, monomial and channel.
        g: What each value of the polynomials is multiplied by.
        h: What each slope is multiplied by: a change of the features.
        species: For each row of features whose coefficients it takes, 0 to s - 1.
        monomials: For each monomial the components it multiplies, 0 to i; i means one.
        at_k: For each monomial the component of the result it belongs to, 0 to k - 1.

    Returns:
        The slopes in the features (the second derivatives times h), in the coefficients and in g
        (the change of the polynomials along h).

    Raises:
        TypeError: If the dtypes differ, or indices are not of int64.
        ValueError: If the shapes or devices differ from what is said above.
        IndexError: If an index is out of range. On a GPU the numbers it concerns are NaN instead.

    Derivatives:
        Any order, in x, coefficients, g and h; they are composed in torch, which is slower.

    Examples:
        >>> x, zero = torch.tensor([[[2.0], [5.0]]]), torch.tensor([0])
        >>> one, monomials = torch.ones(1, 1, 1), torch.tensor([[0, 0, 1]])
        >>> bent = polynomial_curvature(x, one, one, x, zero, monomials, zero)
        >>> [y.flatten().tolist() for y in bent]
        [[40.0, 8.0], [60.0], [60.0]]
    """
    rows, turns = _rows(x, monomials, 1), _rows(h, monomials, 0)
    weights, which = _weights(coefficients, g, species, at_k), range(len(rows))
    change = sum(turns[a] * _product(rows, {a}) for a in which) + torch.zeros_like(weights)
    at_g = (change * coefficients.index_select(0, species)).new_zeros(g.shape)
    at_g = at_g.index_add(1, at_k, change * coefficients.index_select(0, species))
    at_x = weights.new_zeros(len(x), x.shape[1] + 1, x.shape[2])
    for a, b in itertools.permutations(which, 2):
        at_x = at_x.index_add(1, monomials[:, b], weights * turns[a] * _product(rows, {a, b}))
    at_x = at_x[:, :-1].contiguous()
    return at_x, _by_species(change, g, coefficients, species, at_k), at_g


def _rows(x: Tensor, monomials: Tensor, one: int) -> list[Tensor]:  # (n, t, c) each
    """The factors of the monomials; `one` is what the index that means one stands for."""
    wide = torch.cat([x, torch.full_like(x[:, :1], one)], 1)
    return [wide.index_select(1, column) for column in monomials.unbind(1)]


def _product(rows: list[Tensor], without: Collection[int] = ()) -> Tensor:  # (n, t, c)
    product = torch.ones_like(rows[0])
    for place, row in enumerate(rows):
        product = product if place in without else product * row
    return product


def _weights(c: Tensor, g: Tensor, species: Tensor, at_k: Tensor) -> Tensor:  # (n, t, c)
    return c.index_select(0, species) * g.index_select(1, at_k)


def _slope(rows: list[Tensor], weights: Tensor, x: Tensor, monomials: Tensor) -> Tensor:
    total = weights.new_zeros(len(x), x.shape[1] + 1, x.shape[2])
    for p in range(len(rows)):
        total = total.index_add(1, monomials[:, p], weights * _product(rows, {p}))
    return total[:, :-1].contiguous()


def _by_species(
    values: Tensor, g: Tensor, coefficients: Tensor, species: Tensor, at_k: Tensor
) -> Tensor:  # (s, t, c)
    values = values * g.index_select(1, at_k)
    return values.new_zeros(coefficients.shape).index_add(0, species, values)


@symmetric_polynomial.vjp
def _polynomial_vjp(
    needs: tuple[bool, ...], g: Tensor, x: Tensor, c: Tensor,
    species: Tensor, monomials: Tensor, at_k: Tensor, k: int,
) -> Gradients:  # fmt: skip
    x, c = x.conj(), c.conj()
    gx: Tensor | None = None
    gc: Tensor | None = None
    if needs[1]:
        gx, gc = polynomial_gradient(x, c, g, species, monomials, at_k)
    elif needs[0]:
        gx = polynomial_slope(x, c, g, species, monomials, at_k)
    return gx, gc, None, None, None, None


@polynomial_slope.vjp
def _slope_vjp(
    needs: tuple[bool, ...], h: Tensor, x: Tensor, c: Tensor, g: Tensor,
    species: Tensor, monomials: Tensor, at_k: Tensor,
) -> Gradients:  # fmt: skip
    x, c, g = x.conj(), c.conj(), g.conj()
    return *polynomial_curvature(x, c, g, h, species, monomials, at_k), None, None, None


@polynomial_gradient.vjp
def _gradient_vjp(
    needs: tuple[bool, ...], h: tuple[Tensor | None, ...], x: Tensor, c: Tensor, g: Tensor,
    species: Tensor, monomials: Tensor, at_k: Tensor,
) -> Gradients:  # fmt: skip
    x, c, g = x.conj(), c.conj(), g.conj()
    hx, hc = h
    at = species, monomials, at_k
    gx: Tensor | None = None
    gc: Tensor | None = None
    gg: Tensor | None = None
    if hx is not None:
        gx, gc, gg = polynomial_curvature(x, c, g, hx, *at)
    if hc is not None:
        if needs[0]:
            gx = _plus(gx, polynomial_slope(x, hc, g, *at))
        if needs[2]:
            gg = _plus(gg, symmetric_polynomial(x, hc, *at, g.shape[1]))
    return gx, gc, gg, None, None, None


@polynomial_curvature.vjp
def _curvature_vjp(
    needs: tuple[bool, ...], u: tuple[Tensor | None, ...],
    x: Tensor, c: Tensor, g: Tensor, h: Tensor,
    species: Tensor, monomials: Tensor, at_k: Tensor,
) -> Gradients:  # fmt: skip
    x, c, g, h = x.conj(), c.conj(), g.conj(), h.conj()
    ux, uc, ug = u
    at = species, monomials, at_k
    gx: Tensor | None = None
    gc: Tensor | None = None
    gg: Tensor | None = None
    gh: Tensor | None = None
    if ux is not None:
        gx, gc, gg = _third(x, c, g, h, ux, *at)
        gh = polynomial_curvature(x, c, g, ux, *at)[0]
    if uc is not None:
        at_x, _, at_g = polynomial_curvature(x, uc, g, h, *at)
        gx, gg, gh = _plus(gx, at_x), _plus(gg, at_g), _plus(gh, polynomial_slope(x, uc, g, *at))
    if ug is not None:
        at_x, at_c, _ = polynomial_curvature(x, c, ug, h, *at)
        gx, gc, gh = _plus(gx, at_x), _plus(gc, at_c), _plus(gh, polynomial_slope(x, c, ug, *at))
    return gx, gc, gg, gh, None, None, None


def _third(
    x: Tensor, c: Tensor, g: Tensor, h: Tensor, u: Tensor,
    species: Tensor, monomials: Tensor, at_k: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Slopes in x, c and g of the second derivative of F along changes h and u of x."""
    rows, h_rows, u_rows = _rows(x, monomials, 1), _rows(h, monomials, 0), _rows(u, monomials, 0)
    weights, which = _weights(c, g, species, at_k), range(len(rows))
    change = torch.zeros_like(weights)
    for a, b in itertools.permutations(which, 2):
        change = change + h_rows[a] * u_rows[b] * _product(rows, {a, b})
    at_x = weights.new_zeros(len(x), x.shape[1] + 1, x.shape[2])
    for a, b, r in itertools.permutations(which, 3):
        values = weights * h_rows[a] * u_rows[b] * _product(rows, {a, b, r})
        at_x = at_x.index_add(1, monomials[:, r], values)
    values = change * c.index_select(0, species)
    at_g = values.new_zeros(g.shape).index_add(1, at_k, values)
    return at_x[:, :-1], _by_species(change, g, c, species, at_k), at_g


def _plus(x: Tensor | None, y: Tensor) -> Tensor:
    return y if x is None else x + y


for _kernel, _name in (
    (symmetric_polynomial, "polynomial"),
    (polynomial_slope, "slope"),
    (polynomial_gradient, "gradient"),
    (polynomial_curvature, "curvature"),
):
    _kernel.offer("numba_cpu", device="cpu", at=f"tensornet.kernels.contraction.cpu:{_name}")
    _kernel.offer("numba_cuda", device="cuda", at=f"tensornet.kernels.contraction.cuda:{_name}")
    _kernel.case("no rows", n=0, i=2, o=3, c=2, s=2, t=3, q=2, k=2)
    _kernel.case("no monomials", n=2, i=2, o=3, c=2, s=2, t=0, q=2, k=2)
    _kernel.case("one of each", n=1, i=1, o=2, c=1, s=1, t=1, q=1, k=1)
    _kernel.case("three factors", n=2, i=3, o=4, c=1, s=2, t=5, q=3, k=2)
    _kernel.case("four factors", n=3, i=2, o=3, c=1, s=2, t=8, q=4, k=2)
    _kernel.case("two channels", n=2, i=2, o=3, c=2, s=1, t=4, q=3, k=1)
    _kernel.case("a species without rows", n=3, i=4, o=5, c=5, s=9, t=20, q=3, k=3)
    _kernel.case("a vector and a rest", n=7, i=9, o=10, c=19, s=2, t=60, q=3, k=4)
    _kernel.case("five factors", n=6, i=5, o=6, c=3, s=2, t=90, q=5, k=3)
    _kernel.case("many rows", n=41, i=16, o=17, c=35, s=3, t=300, q=3, k=9)
