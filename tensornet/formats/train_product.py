"""Matrix times train, compressed on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tensornet import _check
from tensornet.formats import train_sketch, train_sweeps
from tensornet.formats.format import check_limits
from tensornet.formats.tensor_train import TensorTrain
from tensornet.formats.train_cut import Budget, cut
from tensornet.formats.train_rounding import round_train, sketched

if TYPE_CHECKING:
    from tensornet.formats.train_matrix import TTMatrix

METHODS = ("direct", "zipup", "randomized")


def compressed_product(
    A: TTMatrix, x: TensorTrain, tolerance: float, max_rank: int | None, method: str
) -> TensorTrain:
    """Multiply and lower the ranks; see `TTMatrix.apply`.

    Args:
        A: The matrix.
        x: The train.
        tolerance: Largest error, relative to the norm of the product.
        max_rank: Largest rank to keep.
        method: ``"direct"``, ``"zipup"`` or ``"randomized"``.
    """
    _check.one_of("TTMatrix.apply", METHODS, method=method)
    check_limits("TTMatrix.apply", tolerance, max_rank)
    frozen = not any(core.requires_grad for core in (*A.cores, *x.cores))
    if method == "zipup" and x.order > 1:
        return _zipup(A, x, tolerance, max_rank)
    if method == "randomized" and frozen and x.order > 1:
        product = train_sketch.Product(A.cores, x.cores)
        found = sketched([product], x.cores[0], tolerance, max_rank, seed=0)
        assert found is not None
        scale = train_sweeps.log_of(found[1], A.log_scale + x.log_scale)
        return TensorTrain(tuple(found[0]), scale)
    return round_train(A @ x, tolerance=tolerance, max_rank=max_rank).value


def _zipup(A: TTMatrix, x: TensorTrain, tolerance: float, max_rank: int | None) -> TensorTrain:
    """Truncate core by core as if what is to come were orthonormal, then round from the end.

    Both are brought to orthonormal cores behind the first, so that what is to come is well
    conditioned, but their product is not orthonormal: the first sweep keeps a tenth of the
    tolerance and twice the rank.
    """
    matrix, e_matrix = train_sweeps.orthogonalize(A.to_train().cores, 0)
    train, e_train = train_sweeps.orthogonalize(x.cores, 0)
    e = e_matrix + e_train
    n, loose = x.order, 0.1 * tolerance
    most = None if max_rank is None else 2 * max_rank
    budget = None
    m = matrix[0].new_ones(1, 1, 1)  # (q, R, r)
    cores = []
    for k, (pair, core) in enumerate(zip(matrix, train, strict=True)):
        o, i = A.cores[k].shape[1:3]
        block = pair.reshape(pair.shape[0], o, i, pair.shape[2])
        half = torch.einsum("qRc,cid->qRid", m, core)
        full = torch.einsum("qRid,RoiS->qoSd", half, block)
        if k == n - 1:
            cores.append(full.reshape(m.shape[0], o, 1))
            break
        flat, more = train_sweeps.split_scale(full.reshape(m.shape[0] * o, -1))
        e = e + more
        norm = float(torch.linalg.vector_norm(flat.detach()))
        budget = budget or Budget(loose, n - 1)
        basis, weight = cut(flat, budget.next() * norm, most)
        budget.spend(weight / (norm * norm) if norm > 0 else 0.0)
        cores.append(basis.reshape(m.shape[0], o, -1))
        m = (basis.mH @ flat).reshape(-1, block.shape[3], core.shape[2])
    scale = train_sweeps.log_of(e, A.log_scale + x.log_scale)
    if any(core.requires_grad for core in cores):
        return TensorTrain(tuple(cores), scale).round(tolerance=tolerance, max_rank=max_rank)
    new, _ = train_sketch.truncate_back(cores, 0.9 * tolerance, max_rank)
    return TensorTrain(tuple(new), scale)
