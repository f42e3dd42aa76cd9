"""A whole implicit step of the stream function in Numba, for small grids on a CPU."""

import math
from typing import Any

import numpy as np

from tensornet.kernels._bridge import jit
from tensornet.pde.flow_sweeps import stream_residual


@jit
def stream_step(
    x: Any, before: Any, drive: Any, ring: bool, theta: float, rate: float, viscosity: float,
    hx: float, hy: float, V: Any, Vt: Any, W: Any, Wt: Any, inverse: Any, capacitance: Any,
    scale: float, rtol: float, maxiter: int, worse: float, depth: int, history: Any,
) -> int:  # fmt: skip
    """Do what `mixed` does for one state, with the residual and the plate of the stream function.

    Args:
        x: Where to start, and the state after the step, ``(1, m, n)``.
        before: The state before, ``(1, m, n)``.
        drive: What sliding walls add to the vorticity.
        ring: Whether both axes are periodic.
        theta: Where between the states.
        rate: One over the time step.
        viscosity: Kinematic viscosity.
        hx: Spacing along the first axis.
        hy: Along the second.
        V: Eigenvectors of the first axis.
        Vt: Transposed.
        W: Eigenvectors of the second axis.
        Wt: Transposed.
        inverse: One over the eigenvalues, ``(m, n)``.
        capacitance: Of Woodbury's formula; empty in a periodic box.
        scale: What the norm of the residual is compared with.
        rtol: Where to stop.
        maxiter: Most iterations.
        worse: Growth of the residual that counts as divergence.
        depth: Of the memory of the mixing.
        history: Relative residuals, ``(maxiter + 1,)``.

    Returns:
        The number of iterations.
    """
    _, m, n = x.shape
    stream, omega = np.empty((m + 2, n + 2), x.dtype), np.empty((m + 2, n + 2), x.dtype)
    r, f = np.empty_like(x), np.empty((m, n), x.dtype)
    one, two = np.empty((m, n), x.dtype), np.empty((m, n), x.dtype)
    last_x, last_f = np.empty((m, n), x.dtype), np.empty((m, n), x.dtype)
    moves, changes = np.empty((depth, m, n), x.dtype), np.empty((depth, m, n), x.dtype)
    gram, right = np.zeros((depth, depth)), np.zeros(depth)
    least = math.inf
    for k in range(maxiter + 1):
        stream_residual(
            x, before, drive, stream, omega, r, ring, theta, rate, viscosity, hx, hy
        )  # fmt: skip
        total = 0.0
        for i in range(m):
            for j in range(n):
                total += r[0, i, j] * r[0, i, j]
        error = math.sqrt(total) / scale
        history[k] = error
        least = min(least, error)
        if k == maxiter or error <= rtol or not error <= worse * least:
            return k
        _plate(r[0], V, Vt, W, Wt, inverse, capacitance, one, two, f)
        known = min(k, depth)
        if k > 0:
            slot = (k - 1) % depth
            _remember(moves, changes, gram, right, x[0], f, last_x, last_f, slot, known)
            _eliminated(gram, right, known)
        for i in range(m):
            for j in range(n):
                last_x[i, j], last_f[i, j] = x[0, i, j], f[i, j]
                x[0, i, j] -= f[i, j]
        for q in range(known):
            for i in range(m):
                for j in range(n):
                    x[0, i, j] -= right[q] * moves[q, i, j]
    return maxiter


@jit
def _plate(
    r: Any, V: Any, Vt: Any, W: Any, Wt: Any, inverse: Any, capacitance: Any,
    one: Any, two: Any, out: Any,
) -> None:  # fmt: skip
    """Do what `Plate.solve` does."""
    m, n = r.shape
    np.dot(Vt, r, one)
    np.dot(one, W, two)
    for i in range(m):
        for j in range(n):
            two[i, j] *= inverse[i, j]
    if capacitance.size:
        _clamp(two, V, W, Wt, inverse, capacitance, one)
    np.dot(V, two, one)
    np.dot(one, Wt, out)


@jit
def _clamp(held: Any, V: Any, W: Any, Wt: Any, inverse: Any, capacitance: Any, push: Any) -> None:
    """Take the ties of Thom's formula into account, among coefficients."""
    m, n = held.shape
    ends, across = np.zeros((2, n), held.dtype), np.zeros((m, 2), held.dtype)
    for i in range(m):
        low, high = V[0, i], V[m - 1, i]
        a = b = held[i, 0] * 0
        for j in range(n):
            ends[0, j] += low * held[i, j]
            ends[1, j] += high * held[i, j]
            a += held[i, j] * W[0, j]
            b += held[i, j] * W[n - 1, j]
        across[i, 0], across[i, 1] = a, b
    known = np.concatenate((np.dot(ends, Wt).ravel(), np.dot(V, across).ravel()))
    ties = np.dot(capacitance, known)
    rows = np.dot(ties[: 2 * n].reshape(2, n), W)
    columns = np.dot(np.ascontiguousarray(V.T), ties[2 * n :].reshape(m, 2))
    for i in range(m):
        for j in range(n):
            push[i, j] = (
                V[0, i] * rows[0, j] + V[m - 1, i] * rows[1, j]
                + columns[i, 0] * W[0, j] + columns[i, 1] * W[n - 1, j]
            )  # fmt: skip
            held[i, j] -= push[i, j] * inverse[i, j]


@jit
def _remember(
    moves: Any, changes: Any, gram: Any, right: Any, x: Any, f: Any, last_x: Any, last_f: Any,
    slot: int, known: int,
) -> None:  # fmt: skip
    """Add the last move to the memory, and make the small system."""
    m, n = x.shape
    total = 0.0
    for i in range(m):
        for j in range(n):
            total += (f[i, j] - last_f[i, j]) ** 2
    share = 1 / math.sqrt(total) if total > 0 else 0.0
    for i in range(m):
        for j in range(n):
            df = (f[i, j] - last_f[i, j]) * share
            changes[slot, i, j] = df
            moves[slot, i, j] = (x[i, j] - last_x[i, j]) * share - df
    flat = changes.reshape(len(changes), m * n)
    own, there = np.dot(flat, flat[slot]), np.dot(flat, f.reshape(m * n))
    for q in range(known):
        gram[slot, q] = gram[q, slot] = own[q]
        right[q] = there[q]


@jit
def _eliminated(gram: Any, right: Any, n: int) -> None:
    """Solve the small system by elimination, a trace added to its diagonal."""
    a = gram[:n, :n].copy()
    for k in range(n):
        a[k, k] += 1e-13
    for k in range(n):
        for i in range(k + 1, n):
            share = a[i, k] / a[k, k]
            right[i] -= share * right[k]
            for j in range(k, n):
                a[i, j] -= share * a[k, j]
    for k in range(n - 1, -1, -1):
        for j in range(k + 1, n):
            right[k] -= a[k, j] * right[j]
        right[k] /= a[k, k]
