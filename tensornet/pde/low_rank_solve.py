"""Solutions and residuals of low rank on a box, in the format of the right side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from tensornet.formats.cp import CP
from tensornet.formats.tensor_train import TensorTrain
from tensornet.formats.tucker import Tucker
from tensornet.linalg.mode_product import mode_multiplied
from tensornet.pde.axis import Axis

Value = TypeVar("Value", CP, Tucker, TensorTrain)


def solved(axes: Sequence[Axis], inverse: CP, rhs: Any, cut: float) -> Any:
    """Divide a right side by the eigenvalues of a box.

    Args:
        axes: Of the box.
        inverse: One over the eigenvalues.
        rhs: The right side, of which the solution has the format.
        cut: Largest error of a Tucker or train solution that comes from lowering its ranks,
            relative to its norm.
    """
    if isinstance(rhs, TensorTrain):
        parts = [axis.analysed(core, 1) for axis, core in zip(axes, rhs.cores, strict=True)]
        found = _train(inverse).round(tolerance=cut) * TensorTrain(tuple(parts), rhs.log_scale)
        found = found.round(tolerance=cut)
        made = (axis.made(core, 1) for axis, core in zip(axes, found.cores, strict=True))
        return TensorTrain(tuple(made), found.log_scale)
    factors = []
    for axis, F, E in zip(axes, rhs.factors, inverse.factors, strict=True):
        coefficients = axis.analysed(F)
        factors.append((E[:, :, None] * coefficients[:, None, :]).flatten(1))
    if isinstance(rhs, CP):
        weights = torch.outer(_weights(inverse), _weights(rhs)).flatten()
        return CP(tuple(axis.made(F) for axis, F in zip(axes, factors, strict=True)), weights)
    core, bases = _tucker(rhs.core, factors, _weights(inverse), cut)
    return Tucker(core, tuple(axis.made(Q) for axis, Q in zip(axes, bases, strict=True)))


def _weights(x: CP) -> Tensor:
    return x.factors[0].new_ones(x.rank) if x.weights is None else x.weights


def _train(x: CP) -> TensorTrain:
    """The same numbers as a train."""
    first, *others = x.factors
    cores = [(first * _weights(x))[None]]
    cores += [torch.diag_embed(F).movedim(0, 1) for F in others]
    cores[-1] = cores[-1].sum(2, keepdim=True)
    return TensorTrain(tuple(cores))


def _tucker(
    core: Tensor, factors: list[Tensor], weights: Tensor, cut: float
) -> tuple[Tensor, list[Tensor]]:
    """Sum over k of ``weights[k]`` times a core with the k-th columns, in orthogonal bases."""
    bases, mixed = [], []
    for F in factors:
        U, S, V = torch.linalg.svd(F, full_matrices=False)
        keep = max(1, int(torch.count_nonzero(0.1 * cut * S[0] < S)))
        bases.append(U[:, :keep])
        mixed.append(S[:keep, None] * V[:keep])
    total = core.new_zeros([len(U) for U in mixed])
    for k, weight in enumerate(weights):
        term = weight * core
        for a, M in enumerate(mixed):
            r = core.shape[a]
            term = mode_multiplied(term, M[:, k * r : (k + 1) * r], a)
        total = total + term
    return total, bases


def residual_norms(
    axes: Sequence[Axis], u: Value, rhs: Value, coefficient: float, shift: float, singular: bool
) -> tuple[float, float]:
    """Norms of the residual and of the right side, from neighbours on the grid, nothing dense.

    Factors are orthogonalised first, so that what is left of a small difference is not lost.

    Args:
        axes: Of the box.
        u: A solution.
        rhs: Its right side.
        coefficient: Of the diffusion.
        shift: What the identity is multiplied by.
        singular: Whether the mean of the right side is taken off.
    """
    if isinstance(u, TensorTrain) and isinstance(rhs, TensorTrain):
        return _train_norms(axes, u, rhs, coefficient, shift, singular)
    return _factor_norms(axes, u, rhs, coefficient, shift, singular)


def _factor_norms(
    axes: Sequence[Axis], u: Any, rhs: Any, coefficient: float, shift: float, singular: bool
) -> tuple[float, float]:
    plain: list[Tensor] = []
    applied: list[Tensor] = []
    given: list[Tensor] = []
    ones: list[Tensor] = []
    for axis, U, F in zip(axes, u.factors, rhs.factors, strict=True):
        one = torch.ones(axis.n, 1, dtype=U.dtype)
        both = torch.cat([U, coefficient * axis.multiplied(U), F, one], 1)
        R: Tensor = torch.linalg.qr(both, mode="r").R
        sizes = [U.shape[1], U.shape[1], F.shape[1], 1]
        for column, part in zip((plain, applied, given, ones), R.split(sizes, 1), strict=True):
            column.append(part)
    means = [F.mean(0, keepdim=True) for F in rhs.factors]
    right = _with(rhs, given)
    if singular:
        right = right - _with(rhs, means) * CP(tuple(ones)).to_dense()
    total = shift * _with(u, plain) - right
    for mode in range(len(applied)):
        mixed = [*plain[:mode], applied[mode], *plain[mode + 1 :]]
        total = total + _with(u, mixed)
    return float(torch.linalg.vector_norm(total)), float(torch.linalg.vector_norm(right))


def _with(x: CP | Tucker, factors: Sequence[Tensor]) -> Tensor:
    """A value with other factors, dense."""
    factors = tuple(factors)
    return (CP(factors, x.weights) if isinstance(x, CP) else Tucker(x.core, factors)).to_dense()


def _train_norms(
    axes: Sequence[Axis], u: TensorTrain, rhs: TensorTrain, k: float, shift: float, singular: bool
) -> tuple[float, float]:
    applied, last = [], len(axes) - 1
    for a, (axis, core) in enumerate(zip(axes, u.cores, strict=True)):
        turned, none = k * axis.multiplied(core, 1), torch.zeros_like(core)
        first = [core, turned + shift * core if a == 0 else turned]
        rows = [torch.cat(row, 2) for row in (first, [none, core])][: 1 if a == 0 else 2]
        whole = torch.cat(rows, 0)
        applied.append(whole[..., core.shape[2] :] if a == last else whole)
    given = [*rhs.cores]
    if singular:
        mean = rhs.cores[0].new_ones(1, 1)
        for core in rhs.cores:
            mean = mean @ core.mean(1)
        ones = [torch.ones(1, axis.n, 1, dtype=mean.dtype) for axis in axes]
        given = _added(given, [-mean * ones[0], *ones[1:]])
    scales = torch.exp(u.log_scale), torch.exp(rhs.log_scale)
    applied[0], given[0] = scales[0] * applied[0], -scales[1] * given[0]
    return _norm(_added(applied, given)), _norm(given)


def _added(x: Sequence[Tensor], y: Sequence[Tensor]) -> list[Tensor]:
    """Cores of the sum of two trains."""
    found = []
    for a, (p, q) in enumerate(zip(x, y, strict=True)):
        made = p.new_zeros(p.shape[0] + q.shape[0], p.shape[1], p.shape[2] + q.shape[2])
        made[: p.shape[0], :, : p.shape[2]] = p
        made[p.shape[0] :, :, p.shape[2] :] = q
        made = made.sum(0, keepdim=True) if a == 0 else made
        found.append(made.sum(2, keepdim=True) if a == len(x) - 1 else made)
    return found


def _norm(cores: Sequence[Tensor]) -> float:
    """Norm of a train, by orthogonalising from the left."""
    carried = torch.ones(1, 1, dtype=cores[0].dtype)
    for core in cores:
        moved = mode_multiplied(core, carried, 0)
        carried = torch.linalg.qr(moved.flatten(0, 1), mode="r").R
    return float(torch.linalg.vector_norm(carried))
