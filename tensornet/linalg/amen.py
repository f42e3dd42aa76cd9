"""Linear systems in tensor-train format, by alternating minimal energy (AMEn).

The unknown is solved for core by core, as seen from its place (`projection`). Before the sweep
goes on, the basis of the core is enriched by the residual, which a second, small train z follows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from tensornet import _check
from tensornet.linalg.amen_chain import Chain
from tensornet.linalg.projection import StateTrain, Train, checked_cores, log_scale, summed
from tensornet.linalg.solution import Solution

State = TypeVar("State", bound=StateTrain)


def solve_tt(
    A: Train,  # cores (w, d, d, w')
    b: State,  # cores (r, d, r')
    *,
    tolerance: float = 1e-8,
    max_rank: int = 256,
    max_sweeps: int = 40,
    start: Train | None = None,
    seed: int = 0,
) -> Solution[State]:  # value: cores (r, d, r')
    """Solve a linear system whose matrix and right-hand side are trains.

    Made for symmetric positive definite matrices; others often converge too, and the residual
    tells.

    Args:
        A: Square in each mode, as `formats.TTMatrix`.
        b: Right-hand side, as `formats.TensorTrain`, of the dtype of `A`.
        tolerance: Residual at which to stop, relative to the norm of `b`.
        max_rank: Largest rank of the solution.
        max_sweeps: Sweeps from one end to the other, at most.
        start: First guess; by default a random train.
        seed: Seed of the random trains.

    Returns:
        The solution in the kind of `b`. The last of the residuals is ``‖A x - b‖ / ‖b‖``,
        computed from the trains; those before are the largest that the sweep met at one core
        before it was solved for.

    Raises:
        TypeError: If an argument is no train, or dtypes differ.
        ValueError: If `A` is not square or zero, or shapes do not fit.

    References:
        Dolgov & Savostyanov, Alternating minimal energy methods for linear systems in higher
        dimensions, SIAM J. Sci. Comput. 36, A2248 (2014), section 5.

    Examples:
        >>> from tensornet.formats import TensorTrain, TTMatrix
        >>> A = TTMatrix((2 * torch.eye(3)[None, :, :, None],) * 4)
        >>> b = TensorTrain((torch.ones(1, 3, 1),) * 4)
        >>> x = solve_tt(A, b).value
        >>> round(float(x[0, 0, 0, 0]), 4)
        0.0625
    """
    _check.at_least("solve_tt", 1, max_rank=max_rank, max_sweeps=max_sweeps)
    _check.tolerance("solve_tt", tolerance=tolerance)
    with torch.no_grad():
        ops, right = _checked(A, b, start)
        log_norm = norm_log(right) + log_scale(b)
        if log_norm == -math.inf:
            zeros = [torch.zeros_like(core[:1, :, :1]) for core in right]
            return Solution(_value(b, zeros, 0.0), True, "The right-hand side is zero.", (0.0,), 0)
        if norm_log([op.flatten(1, 2) for op in ops]) == -math.inf:
            raise ValueError("`solve_tt(A=...)` must be invertible. Got zero.")
        goal = max(tolerance, 10 * torch.finfo(ops[0].dtype).eps)
        factor = log_scale(A) - log_scale(b)
        generator = torch.Generator().manual_seed(seed)
        chain = Chain(ops, right, start, factor, log_norm - log_scale(b), generator)
        residuals, clean = list[float](), False
        for sweep in range(1, max_sweeps + 1):
            # The last sweep, and one after a sweep that found nothing left to do, adds no
            # directions; then the residual of the whole is computed.
            settled = sweep > 1 and residuals[-1] <= goal
            clean = sweep == max_sweeps or (settled and not clean)
            residuals.append(chain.sweep(goal, max_rank, enrich=not clean))
            if clean:
                error = residual(ops, chain.cores(), factor + chain.log, right)
                if error <= goal:
                    break
    value = _value(b, chain.cores(), chain.log)
    converged = error <= goal
    rank = max(core.shape[0] for core in chain.cores())
    message = f"Relative residual {error:.1e} at rank {rank} after {sweep} sweeps"
    if not converged:
        message += f", above the tolerance {tolerance:.1e}: allow a higher rank or more sweeps"
    if chain.singular is not None:
        message += f". The system of core {chain.singular} is singular; perhaps the matrix is"
    return Solution(value, converged, message + ".", (*residuals, error), sweep)


def _checked(A: Train, b: Train, start: Train | None) -> tuple[list[Tensor], list[Tensor]]:
    ops, right = checked_cores("solve_tt", "A", A, 4), checked_cores("solve_tt", "b", b, 3)
    _check.one_kind("solve_tt", A=ops[0], b=right[0])
    rows, columns = tuple(c.shape[1] for c in ops), tuple(c.shape[2] for c in ops)
    if rows != columns:
        raise ValueError(f"`solve_tt(A=...)` must be square in each mode. Got {rows} x {columns}.")
    named = {"b": right}
    if start is not None:
        named["start"] = checked_cores("solve_tt", "start", start, 3)
        _check.one_kind("solve_tt", A=ops[0], start=named["start"][0])
    for name, cores in named.items():
        if tuple(c.shape[1] for c in cores) != rows:
            raise ValueError(
                f"`solve_tt({name}=...)` must have the shape {rows} of the matrix. Got "
                f"{tuple(c.shape[1] for c in cores)}."
            )
    return ops, right


def _value(b: State, cores: Sequence[Tensor], log: float) -> State:
    parts = {f"core_{k}": core for k, core in enumerate(cores)}
    real = cores[0].real.dtype
    parts["log_scale"] = torch.tensor(log, dtype=real, device=cores[0].device)
    return b.from_parts(parts, {})


def norm_log(cores: Sequence[Tensor]) -> float:
    """Logarithm of the norm of a train, by QR decompositions."""
    return _orthonormal(cores)[1]


def _orthonormal(cores: Sequence[Tensor]) -> tuple[list[Tensor], float]:
    """Make a train of norm one whose cores are orthonormal from the left; logarithm of its norm."""
    carry, log, new = cores[0].new_ones(1, 1), 0.0, list[Tensor]()
    for core in cores:
        matrix = torch.tensordot(carry, core, 1).flatten(0, 1)
        last = len(new) == len(cores) - 1
        q, carry = (matrix, matrix) if last else torch.linalg.qr(matrix)
        size = float(torch.linalg.vector_norm(carry))
        if size == 0:
            return [], -math.inf
        carry, log = carry / size, log + math.log(size)
        new.append((carry if last else q).view(-1, core.shape[1], q.shape[1]))
    return new, log


def residual(
    ops: Sequence[Tensor], cores: Sequence[Tensor], log: float, right: Sequence[Tensor]
) -> float:
    """Norm of exp(log) A x - b over that of b, by the norm of their difference as a train."""
    images = []
    for op, core in zip(ops, cores, strict=True):
        w, i, _, v = op.shape
        a, _, c = core.shape
        image = torch.tensordot(op, core, ([2], [1]))  # (w, i, v, a, c)
        images.append(image.permute(0, 3, 1, 2, 4).reshape(w * a, i, v * c))
    # of norm one first: in other gauges, parts of long trains are out of each other's range
    images, log_image = _orthonormal(images)
    right, log_right = _orthonormal(right)
    if not images:
        return 1.0
    log = log + log_image - log_right
    shift = max(log, 0.0)
    images[-1] = images[-1] * math.exp(log - shift)
    right[-1] = right[-1] * -math.exp(-shift)
    return math.exp(min(700.0, norm_log(summed(images, right)) + shift))
