r"""From a dense tensor to a train: truncated decompositions, the cheaper end first.

A tensor of modes a..b with ranks l and r at its ends is a matrix (l d_a, rest) from the left and
(rest, d_b r) from the right. The end whose small side is shorter is cut off. All cuts are
orthogonal projections of what the last one left, so that their squared errors add up exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tensornet import _check
from tensornet.formats.decomposition import Decomposition
from tensornet.formats.format import HALF
from tensornet.formats.rank_limits import rank_limits
from tensornet.formats.tensor_train import TensorTrain
from tensornet.formats.train_cut import Budget, cut
from tensornet.formats.train_sweeps import log_of, real_dtype, split_scale
from tensornet.linalg.truncation import METHODS, n_kept, truncate


def tensor_train(
    x: Tensor,  # (d_1, ..., d_n)
    *,
    ranks: int | Sequence[int] | None = None,
    tolerance: float | None = None,
    method: str = "auto",
    seed: int = 0,
) -> Decomposition[TensorTrain]:
    """Approximate a dense tensor by a tensor train.

    Each of the n - 1 cuts may drop tolerance / sqrt(n - 1) of the norm and what earlier cuts left
    over, so that the whole error stays within the tolerance at small ranks.

    Args:
        x: Real or complex tensor. Half precision is computed in float32.
        ranks: Largest rank of every cut, or one for each of the n - 1 cuts (with or without the
            outer ones).
        tolerance: Largest error relative to the norm. By default the ranks alone decide, and
            without ranks round-off.
        method: ``"svd"``, singular values after a QR decomposition in blocks that fit the cache;
            ``"gram"``, eigenvectors of Gram matrices, several times faster and blind below the
            square root of round-off; ``"randomized"``, a range finder that grows until the
            tolerance is met, for ends of more than 64 rows (else as SVD); ``"auto"``, Gram where
            the tolerance allows it, else SVD.
        seed: Seed of the randomized method.

    Returns:
        The train; its relative error is that of the dense difference. ``converged`` says whether
        it is within the tolerance.

    Raises:
        ValueError: If `x` is empty or not finite, or a rank is below one or larger than possible.
            In the backward pass, if singular values on both sides of a cut are equal.
        TypeError: If `x` holds whole numbers.

    Derivatives:
        First order, by projectors on the kept directions: finite where singular values coincide.

    References:
        Oseledets, SIAM J. Sci. Comput. 33, 2295 (2011), algorithm 1; Roehrig-Zoellner, Thies &
        Basermann, SIAM J. Sci. Comput. 44, B1104 (2022) for QR in blocks.

    Examples:
        >>> i = torch.arange(4.0)
        >>> tensor_train(i[:, None, None] + i[:, None] + i, tolerance=1e-5).value.ranks
        (1, 2, 2, 1)
    """
    _check.dense("tensor_train", "x", x)
    _check.tolerance("tensor_train", tolerance=tolerance)
    _check.one_of("tensor_train", METHODS, method=method)
    if x.dtype in HALF:
        found = tensor_train(x.float(), ranks=ranks, tolerance=tolerance, method=method, seed=seed)
        value, exact = found.value.to(x.dtype), x.detach().float()
        error = float((value.detach().to(torch.float32).to_dense() - exact).norm())
        return _told(value, error / float(exact.norm() or 1.0), tolerance, exact.dtype)
    caps = _caps(x.shape, ranks)
    norm = float(torch.linalg.vector_norm(x.detach()))
    scaled, e = x, torch.zeros((), dtype=torch.int64, device=x.device)
    if not 1e-15 < norm < 1e15:  # squares would leave the range of single precision
        scaled, e = split_scale(x)
        norm = float(torch.linalg.vector_norm(scaled.detach()))
    if norm == 0:
        zeros = tuple(x.new_zeros(1, d, 1) for d in x.shape)
        return Decomposition(TensorTrain(zeros), 0.0, True, "The tensor is zero.", 0, 0)
    eps = torch.finfo(x.dtype).eps
    wanted = tolerance if tolerance is not None else 0.0 if ranks is not None else 20 * eps
    cores, squares = _peel(scaled, norm, max(wanted, 2 * eps), caps, method, seed)
    log_scale = log_of(e, torch.zeros((), dtype=real_dtype(x.dtype), device=x.device))
    error = math.sqrt(squares) / norm
    if error < (1e5 * eps if method == "svd" else 1e3 * math.sqrt(eps)):
        error = _difference(scaled.detach(), [c.detach() for c in cores]) / norm
    return _told(TensorTrain(tuple(cores), log_scale), error, tolerance, x.dtype)


def _told(
    value: TensorTrain, error: float, tolerance: float | None, dtype: torch.dtype
) -> Decomposition[TensorTrain]:
    """Say how it went, in the precision that it was computed in."""
    converged = tolerance is None or error <= max(tolerance, 100 * torch.finfo(dtype).eps)
    message = f"Relative error {error:.1e} at ranks up to {max(value.ranks)}" + (
        "." if converged else f", above the tolerance {tolerance:.1e}: allow higher ranks."
    )
    return Decomposition(value, error, converged, message, value.order - 1, 0)


def _caps(shape: Sequence[int], ranks: int | Sequence[int] | None) -> list[int]:
    """Largest rank of each cut, at most what the shape allows."""
    n = len(shape)
    most = [min(math.prod(shape[: k + 1]), math.prod(shape[k + 1 :])) for k in range(n - 1)]
    if ranks is not None and not isinstance(ranks, int):
        ranks = list(ranks)
        if len(ranks) == n + 1 and (ranks[0], ranks[-1]) == (1, 1):
            ranks = ranks[1:-1]
    return rank_limits("tensor_train", ranks, most, shape)


def _peel(
    x: Tensor, norm: float, tolerance: float, caps: list[int], method: str, seed: int
) -> tuple[list[Tensor], float]:
    """Cut cores off both ends until one is left. Gives the cores and the dropped weight."""
    left: list[Tensor] = []
    right: list[Tensor] = []
    budget = Budget(tolerance * norm, len(caps))
    a, b, l, r, m = 0, x.ndim - 1, 1, 1, x
    while a < b:
        from_left = l * x.shape[a] <= x.shape[b] * r
        rows = l * x.shape[a] if from_left else x.shape[b] * r
        m = m.reshape(rows, -1) if from_left else m.reshape(-1, rows)
        cap = caps[a] if from_left else caps[b - 1]
        basis, m, weight = _cut_end(m, from_left, budget.next(), cap, norm, method, seed)
        budget.spend(weight)
        if from_left:
            left.append(basis.reshape(l, x.shape[a], -1))
            a, l = a + 1, basis.shape[1]
        else:
            right.append(basis.mH.reshape(-1, x.shape[b], r))
            b, r = b - 1, basis.shape[1]
    return [*left, m.reshape(l, x.shape[a], r), *reversed(right)], budget.spent


def _cut_end(
    m: Tensor, from_left: bool, allowed: float, cap: int, norm: float, method: str, seed: int
) -> tuple[Tensor, Tensor, float]:
    """Give the basis of one end, the rest in it, and the squared norm that was dropped."""
    wide = m if from_left else m.mH
    n = len(wide)
    if m.requires_grad or (method == "randomized" and n > 64):
        how = "svd" if method == "auto" else method
        found = truncate(wide, rank=cap, tolerance=allowed, scale=1.0, method=how, seed=seed)
        return found.left, found.right if from_left else found.right.mH, found.weight
    floor = max(200, 4 * n) * torch.finfo(m.dtype).eps * norm * norm  # the Gram matrix is blind
    seen, basis, weight = allowed * allowed > floor, None, 0.0
    if n == min(m.shape) and method != "svd" and (seen or cap < n or method == "gram"):
        values, vectors = torch.linalg.eigh(wide @ wide.mH)
        values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
        k = n_kept(values, cap, allowed)
        weight = float(values[k:].sum())
        if seen or method == "gram" or k == n or weight > floor:
            basis = vectors[:, :k]
    if basis is None:
        basis, weight = cut(_reduced(m, from_left), allowed, cap)
    if basis.shape[1] == len(basis):  # nothing is dropped: keep the data as they are
        return torch.eye(len(basis), dtype=m.dtype, device=m.device), m, 0.0
    return basis, (basis.mH @ m if from_left else m @ basis), weight


def _reduced(m: Tensor, from_left: bool) -> Tensor:
    """Give L of m = L Q (from the right: of its adjoint), by QR of blocks that fit the cache."""
    n = m.shape[0] if from_left else m.shape[1]
    long = m.numel() // n
    block = max(4 * n, 2**15 // n)
    wide: Tensor = m if from_left else m.mH
    if long < 2 * block:
        return wide
    full = long // block * block
    if from_left:
        blocks = m[:, :full].reshape(n, -1, block).permute(1, 2, 0).conj()
        rest = m[:, full:].mH
    else:
        blocks, rest = m[:full].reshape(-1, block, n), m[full:]
    R = torch.linalg.qr(blocks, mode="r").R.reshape(-1, n)
    wide = torch.linalg.qr(torch.cat([R, rest]), mode="r").R.mH
    return wide


def _difference(x: Tensor, cores: list[Tensor]) -> float:
    """Norm of x minus the train, in blocks that fit the cache."""
    sizes = [math.prod(x.shape[: k + 1]) for k in range(x.ndim)]
    half = min(range(x.ndim), key=lambda k: max(sizes[k], x.numel() // sizes[k]))
    head, tail = cores[0].reshape(-1, cores[0].shape[2]), cores[-1].reshape(cores[-1].shape[0], -1)
    for core in cores[1 : half + 1]:
        head = (head @ core.reshape(core.shape[0], -1)).reshape(-1, core.shape[2])
    if half == x.ndim - 1:
        return float(torch.linalg.vector_norm(x.reshape(-1) - head.reshape(-1)))
    for core in reversed(cores[half + 1 : -1]):
        tail = (core.reshape(-1, core.shape[2]) @ tail).reshape(core.shape[0], -1)
    flat = x.reshape(len(head), -1)
    block, total = max(1, 2**17 // flat.shape[1]), 0.0
    for a in range(0, len(head), block):
        part = torch.addmm(flat[a : a + block], head[a : a + block], tail, alpha=-1)
        total += float(torch.linalg.vector_norm(part)) ** 2
    return math.sqrt(total)
