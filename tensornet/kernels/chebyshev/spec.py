"""What the kernels of Chebyshev series compute, and their derivatives.

Two kernels are adjoint to each other: `chebyshev_rows` goes from coefficients to values,
`chebyshev_moments` from numbers at the points back to coefficients. With the coefficients of the
derivative, all derivatives of both are made of the two.
"""

import torch
from torch import Tensor

from tensornet.kernels._registry import kernel


@kernel("n, m r -> n r")
def chebyshev_rows(
    x: Tensor,  # (n,)
    coefficients: Tensor,  # (m, r)
) -> Tensor:  # (n, r)
    """Evaluate series of Chebyshev polynomials at points of [-1, 1].

    ``out[n, r] = sum over k of coefficients[k, r] T_k(x[n])``. Use it for the factors of a function
    in Chebyshev-Tucker format. Outside [-1, 1] the polynomials continue, and grow.

    Args:
        x: Points.
        coefficients: One series per column, the constant term first.

    Returns:
        One row per point.

    Raises:
        TypeError: If the dtypes differ.
        ValueError: If the shapes or devices differ from what is said above.

    Derivatives:
        Any order, in the points and in the coefficients.

    References:
        Trefethen, Approximation Theory and Approximation Practice, chapter 3.

    Examples:
        >>> x = torch.tensor([0.0, 0.5])
        >>> chebyshev_rows(x, torch.tensor([[1.0], [0.0], [2.0]]))  # 1 + 2 T_2
        tensor([[-1.],
                [ 0.]])
    """
    return _polynomials(x, coefficients.shape[0]) @ coefficients


@kernel("n, n r, =m -> m r")
def chebyshev_moments(
    x: Tensor,  # (n,)
    values: Tensor,  # (n, r)
    m: int,
) -> Tensor:  # (m, r)
    """Sum numbers at points against the first Chebyshev polynomials, the adjoint of a series.

    ``out[k, r] = sum over n of T_k(x[n]) values[n, r]``.

    Args:
        x: Points.
        values: One row per point.
        m: Number of polynomials.

    Returns:
        One row per polynomial.

    Raises:
        TypeError: If the dtypes differ.
        ValueError: If the shapes or devices differ from what is said above.

    Derivatives:
        Any order, in the points and in the values.

    Examples:
        >>> chebyshev_moments(torch.tensor([0.5]), torch.tensor([[2.0]]), 3)
        tensor([[ 2.],
                [ 1.],
                [-1.]])
    """
    return _polynomials(x, m).mT @ values


def chebyshev_derivative(
    coefficients: Tensor,  # (m, r)
) -> Tensor:  # (m, r)
    """Coefficients of the derivative of series, the last of them zero.

    ``d_k = 2 sum over p = k + 1, k + 3, ... of p c_p``, and half of that for k = 0.
    """
    m = coefficients.shape[0]
    if m < 2:
        return torch.zeros_like(coefficients)
    p = torch.arange(m, dtype=coefficients.real.dtype, device=coefficients.device)
    terms = (2 * p)[1:, None] * coefficients[1:]
    pad = terms.new_zeros(1 + m % 2 if m % 2 == 0 else 2, terms.shape[1])
    terms = torch.cat([terms, pad])
    pairs = terms.reshape(-1, 2, terms.shape[1])  # p = 1, 2 | 3, 4 | ...
    sums = pairs.flip(0).cumsum(0).flip(0).reshape(terms.shape)[:m]
    return torch.cat([sums[:1] / 2, sums[1:]])


def _polynomials(x: Tensor, m: int) -> Tensor:  # (n, m)
    rows = [torch.ones_like(x), x]
    for _ in range(m - 2):
        rows.append(2 * x * rows[-1] - rows[-2])
    return torch.stack(rows[:m], -1) if m else x.new_empty(x.shape[0], 0)


@chebyshev_rows.vjp
def _rows_vjp(
    needs: tuple[bool, ...], g: Tensor, x: Tensor, coefficients: Tensor
) -> tuple[Tensor | None, ...]:
    gx = gc = None
    if needs[0]:
        slope = chebyshev_rows(x, chebyshev_derivative(coefficients))
        gx = (slope.conj() * g).sum(-1)
    if needs[1]:
        gc = chebyshev_moments(x.conj(), g, coefficients.shape[0])
    return gx, gc


@chebyshev_moments.vjp
def _moments_vjp(
    needs: tuple[bool, ...], g: Tensor, x: Tensor, values: Tensor, m: int
) -> tuple[Tensor | None, ...]:
    gx = gv = None
    if needs[0]:
        slope = chebyshev_rows(x.conj(), chebyshev_derivative(g))
        gx = (slope * values.conj()).sum(-1)
    if needs[1]:
        gv = chebyshev_rows(x.conj(), g)
    return gx, gv, None


for _kernel, _name in ((chebyshev_rows, "rows"), (chebyshev_moments, "moments")):
    _kernel.offer("numba_cpu", device="cpu", at=f"tensornet.kernels.chebyshev.cpu:{_name}")
    _kernel.offer("numba_cuda", device="cuda", at=f"tensornet.kernels.chebyshev.cuda:{_name}")
    _kernel.case("no points", n=0, m=3, r=2)
    _kernel.case("no coefficients", n=3, m=0, r=2)
    _kernel.case("one of each", n=1, m=1, r=1)
    _kernel.case("linear", n=2, m=2, r=3)
    _kernel.case("seven columns", n=5, m=6, r=7)
    _kernel.case("a block and a rest", n=67, m=7, r=13)
    _kernel.case("a real size", n=2050, m=65, r=24)
