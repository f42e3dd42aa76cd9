"""The inverse of an operator on a grid as a sum of Kronecker products, in the CP format."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tensornet import _check
from tensornet.formats import CP, Decomposition, cp, tensor_train
from tensornet.pde.axis import box_axes, outer_sum
from tensornet.pde.box import is_box
from tensornet.pde.operator import StencilOperator, check_symmetric

LOSSES = {"error": 0.0, "energy": 0.5, "residual": 1.0}
LARGEST = 4096  # unknowns of an operator whose inverse is made as a matrix
_POLISH = 1e-9  # change of the loss, relative, at which sweeps end


def kronecker_inverse(
    A: StencilOperator,
    rank: int,
    *,
    loss: str = "error",
    start: str = "analytic",
    max_iterations: int = 300,
    seed: int = 0,
) -> Decomposition[CP]:
    """Approximate the inverse of an operator on a grid by a sum of Kronecker products.

    On a box with a constant coefficient the inverse is diagonal in products of eigenvectors of one
    axis each, so that what is sought is a CP value of ``1 / (l_i + l_j + ...)``: in two dimensions
    by a singular value decomposition, which is optimal; in three by `formats.cp`. Losses that
    weigh the spectrum are then minimised by alternating least squares: given the other factors,
    each place of a factor is a linear problem of the size of the rank. That is what training on
    mean squared residuals of white right sides tends to, without its squared condition number.

    Otherwise, up to 4096 unknowns, the matrix is inverted, its indices are paired per axis, and
    the pairs are decomposed (in two dimensions this is the operator Schmidt decomposition).

    Args:
        A: A symmetric operator of `pde`. Where nothing holds a value, the constant is left out.
        rank: Number of Kronecker products.
        loss: What is minimised for a right side of white noise: ``"error"``, the error of the
            solution; ``"energy"``, that in the norm of the operator; ``"residual"``. Other than
            ``"error"`` on boxes with a constant coefficient only.
        start: ``"analytic"``, or ``"random"``, to see how far least squares alone gets.
        max_iterations: Sweeps of least squares, at most.
        seed: Of a random start.

    Returns:
        A CP value of one mode per axis, whose index is the pair (row, column) of that axis,
        flattened, as in `TTMatrix.to_train`; and the loss relative to that of zero.

    Raises:
        TypeError: If `A` is no operator of `pde`, or the rank no whole number.
        ValueError: If it is not symmetric, the rank is below one, a word is unknown, or there is no
            constant coefficient and the operator is too large or the loss another.

    Derivatives:
        None.

    References:
        Hackbusch & Khoromskij, Computing 76, 177 (2006); Van Loan & Pitsianis, Approximation with
        Kronecker products (1993).

    Examples:
        >>> from tensornet.pde import Grid, poisson
        >>> A = poisson(Grid((32, 32), spacing=1 / 32)).operator
        >>> found = kronecker_inverse(A, 6)
        >>> found.value.shape, found.relative_error < 1e-3
        ((1024, 1024), True)
    """
    where = "kronecker_inverse"
    check_symmetric(where, A)
    _check.at_least(where, 1, rank=rank, max_iterations=max_iterations)
    _check.one_of(where, tuple(LOSSES), loss=loss)
    _check.one_of(where, ("analytic", "random"), start=start)
    if is_box(A):
        return _of_box(A, rank, LOSSES[loss], start, max_iterations, seed)
    if loss != "error" or start != "analytic":
        raise ValueError(
            f"`{where}(loss=...)` must be 'error', from the analytic start, where the operator has "
            f"a mask or a coefficient that varies. Got {loss!r}, {start!r}."
        )
    return _of_matrix(A, rank, seed)


def _of_box(
    A: StencilOperator, rank: int, power: float, start: str, most: int, seed: int
) -> Decomposition[CP]:
    """Fit the eigenvalues of the inverse, and turn them back."""
    axes = box_axes("kronecker_inverse(A=...)", A.domain)
    total = outer_sum([float(A.coefficient) * axis.values for axis in axes], A.shift)
    floor = 1e-12 * float(total.max())
    target = torch.where(total > floor, 1 / total.clamp_min(floor), 0.0)
    weight = torch.where(total > floor, total, total[total > floor].min()) ** (2 * power)
    rank = min(rank, math.prod(sorted(total.shape)[:-1]))
    factors, sweeps = _start(target, rank, start, seed), 0
    if power or start == "random":
        factors, sweeps = _least_squares(target, weight, factors, most)
    error = math.sqrt(_loss(target, weight, factors) / _loss(target, weight, None))
    pairs = [
        torch.einsum("ai,ir,bi->abr", V, F, V).flatten(0, 1).to(A.device, A.dtype)
        for V, F in zip((a.vectors(torch.float64) for a in axes), factors, strict=True)
    ]
    return _found(CP(tuple(pairs)), error, sweeps, sweeps < most)


def _start(target: Tensor, rank: int, start: str, seed: int) -> list[Tensor]:  # each (d, r)
    if start == "random":
        made = torch.Generator().manual_seed(seed)
        size = float(target.abs().max()) ** (1 / target.ndim)
        return [
            size * torch.rand(d, rank, generator=made, dtype=torch.float64) for d in target.shape
        ]
    if target.ndim == 1:
        return [target[:, None].clone()]
    if target.ndim == 2:
        U, S, Vh = torch.linalg.svd(target, full_matrices=False)
        root = S[:rank].sqrt()
        return [U[:, :rank] * root, Vh[:rank].mT * root]
    found = cp(target, rank, tolerance=1e-10).value
    third = found._weights().abs() ** (1 / 3)
    first = found.factors[0] * found._weights().sign()
    return [F * third for F in (first, *found.factors[1:])]


def _loss(target: Tensor, weight: Tensor, factors: list[Tensor] | None) -> float:
    value = 0.0 if factors is None else CP(tuple(factors)).to_dense()
    return float((weight * (value - target).square()).sum())


def _least_squares(
    target: Tensor, weight: Tensor, factors: list[Tensor], most: int
) -> tuple[list[Tensor], int]:
    """Alternating least squares with a weight per entry: one small problem per place."""
    factors, last = list(factors), math.inf
    rank = factors[0].shape[1]
    if target.ndim == 1:
        return [target[:, None] / rank * torch.ones(rank, dtype=torch.float64)], 1
    for sweep in range(1, most + 1):
        for k in range(target.ndim):
            others = torch.ones(1, rank, dtype=torch.float64)
            for j, F in enumerate(factors):
                if j != k:
                    others = (others[:, None] * F).flatten(0, 1)
            norms = torch.linalg.vector_norm(others, dim=0).clamp_min(1e-300)
            others = others / norms
            w = weight.movedim(k, 0).flatten(1)
            right = (w * target.movedim(k, 0).flatten(1)) @ others
            pairs = (others[:, :, None] * others[:, None, :]).flatten(1)
            gram = (w @ pairs).reshape(-1, rank, rank)
            ridge = 1e-14 * gram.diagonal(dim1=1, dim2=2).mean(1)
            gram = gram + ridge[:, None, None] * torch.eye(rank, dtype=torch.float64)
            factors[k] = torch.linalg.solve(gram, right) / norms
        loss = _loss(target, weight, factors)
        if not loss < last * (1 - _POLISH):
            return factors, sweep
        last = loss
    return factors, most


def _of_matrix(A: StencilOperator, rank: int, seed: int) -> Decomposition[CP]:
    """Invert the matrix, and decompose it with its indices paired per axis."""
    n, sizes = A.shape[0], A.domain.grid.shape
    if n > LARGEST:
        raise ValueError(
            f"`kronecker_inverse(A=...)` must have at most {LARGEST} unknowns where it has a mask "
            f"or a coefficient that varies, for its matrix is inverted. Got {n}. (A `LordNet` "
            "corrects what the inverse of a box leaves.)"
        )
    Z = A.nullspace.double()
    dense = A.to_dense().detach().double()
    scale = dense.diagonal().mean()
    inverse = torch.linalg.inv(dense + scale * Z.mT @ Z) - Z.mT @ Z / scale
    domain = A.domain.to("cpu")
    full = domain.embed(domain.embed(inverse.cpu()).flatten(1).mT.contiguous())
    d = len(sizes)
    full = full.reshape(*sizes, *sizes)
    pairs = full.permute(*[axis for k in range(d) for axis in (k, d + k)])
    pairs = pairs.reshape([m * m for m in sizes]).contiguous()
    if d == 1:
        found = CP((pairs[:, None],)), 0.0
    elif d == 2:
        train = tensor_train(pairs, ranks=(min(rank, *pairs.shape),), method="randomized")
        first, second = train.value.cores
        scale = torch.exp(train.value.log_scale)
        found = CP((first[0] * scale, second[..., 0].mT.contiguous())), train.relative_error
    else:
        fitted = cp(pairs, rank, seed=seed)
        found = fitted.value, fitted.relative_error
    value = CP(tuple(F.to(A.device, A.dtype) for F in found[0].factors), found[0].weights)
    return _found(value, found[1], 0, True)


def _found(value: CP, error: float, sweeps: int, done: bool) -> Decomposition[CP]:
    said = f"{value.rank} Kronecker products, relative loss {error:.2e}"
    if sweeps:
        said += f", after {sweeps} sweeps of least squares" + ("" if done else ", still falling")
    return Decomposition(value, error, done, said + ".", sweeps, 0)
