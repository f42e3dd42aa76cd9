"""Solving for states: a fixed point that is mixed, and Newton's method with sparse matrices."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]
DEPTH = 12  # of the memory of the mixing
_CHUNK = 400_000  # numbers in a batch of unit vectors
WORSE = 1e4  # growth of the residual that counts as divergence


def mixed(
    residual: Map, precondition: Map, x: Tensor, scale: Tensor, rtol: float, maxiter: int
) -> tuple[Tensor, Tensor, list[float], Tensor]:
    """Solve ``residual(x) = 0`` by Anderson's mixing of ``x - precondition(residual(x))``.

    Args:
        residual: Of rows ``(b, ...)``.
        precondition: About the inverse of its linear part.
        x: Where to start, ``(b, ...)``.
        scale: What the norm of the residual of each row is compared with, ``(b,)``.
        rtol: Where to stop.
        maxiter: Most evaluations after the first.

    Returns:
        The rows, the relative residual of each, the largest after each evaluation, and the number
        of iterations of each row.
    """
    b, shape = len(x), x.shape
    n = math.prod(shape[1:])
    moves, changes = x.new_zeros(2, b, DEPTH, n)
    gram = x.new_zeros(b, DEPTH, DEPTH)
    ridge = 1e-13 * torch.eye(DEPTH, dtype=x.dtype, device=x.device)
    counts = torch.zeros(b, dtype=torch.int64, device=x.device)
    history: list[float] = []
    x = x.reshape(b, n)
    last_x, last_f = x, x
    least = math.inf
    for k in range(maxiter + 1):
        r = residual(x.reshape(shape))
        error = torch.linalg.vector_norm(r.reshape(b, n), dim=1) / scale
        history.append(float(error.max()))
        least = min(least, history[-1])
        if k == maxiter or history[-1] <= rtol or not history[-1] <= WORSE * least:
            break
        f = precondition(r).reshape(b, n)  # less the way to go
        move = f
        if k:
            slot, m = (k - 1) % DEPTH, min(k, DEPTH)
            df = f - last_f
            length = torch.linalg.vector_norm(df, dim=1, keepdim=True)
            share = torch.where(length > 0, 1 / length, torch.zeros_like(length))
            df = df * share
            changes[:, slot] = df
            moves[:, slot] = (x - last_x) * share - df
            known = changes[:, :m]
            both = known @ torch.stack([df, f], 2)  # (b, m, 2)
            gram[:, slot, :m], gram[:, :m, slot] = both[..., 0], both[..., 0]
            mix, _ = torch.linalg.solve_ex(gram[:, :m, :m] + ridge[:m, :m], both[..., 1:])
            move = f + (mix.mT @ moves[:, :m])[:, 0]
        last_x, last_f = x, f
        if b == 1:
            counts += 1
            x = x - move
        else:
            open_ = error > rtol
            counts += open_
            x = torch.where(open_[:, None], x - move, x)
    return x.reshape(shape), error, history, counts


def coloured(
    linear: Map, shape: tuple[int, ...], reach: int, rings: tuple[bool, ...]
) -> Any:  # a scipy.sparse.csc_matrix
    """Make the sparse matrix of a local linear map from its action on sums of unit vectors.

    Args:
        linear: The map, ``(b, *shape)`` to the same.
        shape: Axes of space, last; axes of components in front of them.
        reach: How many places away along an axis an entry may matter.
        rings: Of the axes of space, which are periodic.
    """
    from scipy.sparse import coo_matrix

    dim = len(rings)
    space, parts = shape[-dim:], math.prod(shape[:-dim])
    periods = [_period(n, 2 * reach + 1, ring) for n, ring in zip(space, rings, strict=True)]
    places = torch.arange(math.prod(shape)).reshape(parts, *space)
    rows, columns, values = [], [], []
    colours = list(product(range(parts), product(*(range(k) for k in periods))))
    chunk = max(1, _CHUNK // math.prod(shape))
    for begin in range(0, len(colours), chunk):
        now = colours[begin : begin + chunk]
        probes = torch.zeros(len(now), parts, *space, dtype=torch.float64)
        for probe, (part, colour) in zip(probes, now, strict=True):
            every = tuple(slice(c, None, k) for c, k in zip(colour, periods, strict=True))
            probe[part][every] = 1
        found = linear(probes.reshape(len(now), *shape)).reshape(probes.shape)
        for one, (part, colour) in zip(found, now, strict=True):
            source, known = places[part], torch.ones(space, dtype=torch.bool)
            for axis, (n, c, k) in enumerate(zip(space, colour, periods, strict=True)):
                p = torch.arange(n)
                away = (c - p + reach) % k - reach  # the nearest place of this colour
                there = p + away
                ok = (away <= reach) & ((there % n == there) | rings[axis])
                source = source.index_select(axis, there % n)
                along = [1] * dim
                along[axis] = n
                known = known & ok.reshape(along)
            keep = known & (one != 0)
            rows.append(places[keep])
            columns.append(source.expand_as(places)[keep])
            values.append(one[keep])
    i, j, v = (torch.cat(part).numpy() for part in (rows, columns, values))
    return coo_matrix((v, (i, j)), (places.numel(),) * 2).tocsc()


def _period(n: int, least: int, ring: bool) -> int:
    """Distance of places of one colour; on a ring it divides the number of places."""
    if not ring:
        return min(n, least)
    return next(k for k in range(min(n, least), n + 1) if n % k == 0)


def pseudo_time(
    rest: Map, mass: Any, jacobian: Callable[[Tensor], Any], x: Tensor, scale: float,
    rtol: float, maxiter: int, dt: float, pinned: list[int],
) -> tuple[Tensor, list[float]]:  # fmt: skip
    """Solve ``rest(x) = 0`` by Newton's method, begun as implicit steps of growing length.

    Args:
        rest: The steady residual of ``(1, ...)``.
        mass: Sparse matrix of what changes in time.
        jacobian: Gives the sparse matrix of the derivative of `rest`.
        x: Where to start, ``(1, ...)``.
        scale: What the norm of the residual is compared with.
        rtol: Where to stop.
        maxiter: Most steps.
        dt: The first step.
        pinned: Unknowns of a singular problem that are held where they are, one per part.

    Returns:
        The state, and the relative residual before every step and after the last.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.linalg import splu

    history: list[float] = []
    hold = None
    if pinned:
        hold = coo_matrix(([1.0] * len(pinned), (pinned, pinned)), mass.shape).tocsc()
    r = rest(x)
    history.append(float(torch.linalg.vector_norm(r)) / scale)
    while history[-1] > rtol and len(history) <= maxiter:
        matrix = jacobian(x) + mass / dt
        if hold is not None:
            matrix = matrix + hold
        move = splu(matrix).solve(r.flatten().cpu().double().numpy())
        trial = x - torch.from_numpy(move).to(x).reshape(x.shape)
        r_trial = rest(trial)
        error = float(torch.linalg.vector_norm(r_trial)) / scale
        if not error <= 2 * history[-1]:  # too long a step: it is not taken
            dt /= 4
            history.append(history[-1])
            continue
        dt *= min(max(history[-1] / error, 0.5), 10.0) if error else 1.0
        x, r = trial, r_trial
        history.append(error)
    return x, history


def told(error: Tensor, rtol: float, maxiter: int) -> str:
    """Say the outcome as a sentence.

    Args:
        error: Relative residual of each state.
        rtol: What was asked.
        maxiter: Most iterations.
    """
    failed = ~(error <= rtol)
    if not bool(failed.any()):
        return f"Converged to a relative residual of {rtol:.1e}."
    worst = float(error.max())
    who = f"{int(failed.sum())} of {len(error)} states" if len(error) > 1 else "It"
    if not math.isfinite(worst):
        return f"{who} diverged: NaN or infinite numbers. (Shorten the time step.)"
    return (
        f"{who} did not reach a relative residual of {rtol:.1e} within {maxiter} iterations; the "
        f"largest is {worst:.1e}. (Shorten the time step, or allow more iterations.)"
    )


def check_states(
    where: str,
    states: Mapping[str, Tensor],
    shape: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
) -> None:
    """Check that states are tensors of the shape, the dtype and the device of a flow.

    Args:
        where: Name of the public call, for messages.
        states: The states by name.
        shape: Of a state, without a batch.
        dtype: Of the flow.
        device: Of the flow.

    Raises:
        TypeError: If one is no tensor of the dtype.
        ValueError: If its shape or device is another.
    """
    for name, x in states.items():
        if not isinstance(x, Tensor) or x.dtype != dtype:
            got = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"`{where}({name}=...)` must be a tensor of {dtype}. Got {got}.")
        if x.shape[max(x.ndim - len(shape), 0) :] != shape:
            raise ValueError(
                f"`{where}({name}=...)` must have shape (..., {', '.join(map(str, shape))}). "
                f"Got {tuple(x.shape)}."
            )
        if x.device != device:
            raise ValueError(f"`{where}({name}=...)` must be on {device}. Got {x.device}.")


def broadcast(where: str, **states: Tensor) -> Sequence[Tensor]:
    """Broadcast states to one batch, or say that their batches do not fit.

    Args:
        where: Name of the public call, for messages.
        states: The states by name.

    Raises:
        ValueError: If they cannot be broadcast.
    """
    try:
        found: Sequence[Tensor] = torch.broadcast_tensors(*states.values())
        return found
    except RuntimeError:
        names = ", ".join(f"{name}=..." for name in states)
        raise ValueError(
            f"`{where}({names})` must have batches that broadcast. Got shapes "
            f"{', '.join(str(tuple(x.shape)) for x in states.values())}."
        ) from None


def finite(where: str, **states: Tensor) -> None:
    """Check that states are finite.

    Args:
        where: Name of the public call, for messages.
        states: The states by name.

    Raises:
        ValueError: If one is not.
    """
    for name, x in states.items():
        bad = int((~x.detach().isfinite()).sum())
        if bad:
            raise ValueError(
                f"`{where}({name}=...)` must be finite. Got {bad} NaN or infinite of "
                f"{x.numel()} numbers."
            )


def refuse_long_steps(dt: float, courant: float, spread: float) -> None:
    """Check that an explicit step of third order is stable.

    Args:
        dt: The time step.
        courant: Sum over axes of the speed times the time step over the spacing.
        spread: Sum of four times the viscosity times the time step over the squared spacing.

    Raises:
        ValueError: If it is not.
    """
    share = courant / 1.7 + spread / 2.5
    if not share <= 1:
        raise ValueError(
            f"`step(method='explicit')` must have a time step of at most {dt / share:.2e} here: "
            f"the sum of |u| dt / spacing is {courant:.2f}, that of 4 viscosity dt / spacing² "
            f"{spread:.2f}, and the first / 1.7 + the second / 2.5 is to be at most 1. Got "
            f"{dt:.2e}."
        )
