"""Loops of the Kalman filter and smoother in Numba."""

from typing import Any

import numpy as np

from tensornet.kernels._bridge import jit


@jit
def _propagate(a: Any, r: int, x: Any, work: Any, transposed: bool) -> None:
    """Multiply a matrix by ``a (x) 1`` from the left and by its transpose from the right.

    With `transposed`, ``a`` is replaced by its transpose. In place.
    """
    p, s = a.shape[0], x.shape[0]
    for i in range(p):
        for k in range(r):
            for c in range(s):
                work[i * r + k, c] = 0.0
            for l in range(p):
                value = a[l, i] if transposed else a[i, l]
                for c in range(s):
                    work[i * r + k, c] += value * x[l * r + k, c]
    for c in range(s):
        for j in range(p):
            for k in range(r):
                total = 0.0
                for l in range(p):
                    value = a[l, j] if transposed else a[j, l]
                    total += value * work[c, l * r + k]
                x[c, j * r + k] = total


@jit
def _eliminate(m: Any, right: Any) -> float:
    """Solve ``m x = right`` in place of the right-hand sides; give the logarithm of |det m|."""
    n, columns = m.shape[0], right.shape[1]
    log_determinant = 0.0
    for k in range(n):
        best = k
        for i in range(k + 1, n):
            if abs(m[i, k]) > abs(m[best, k]):
                best = i
        if best != k:
            for j in range(n):
                m[k, j], m[best, j] = m[best, j], m[k, j]
            for j in range(columns):
                right[k, j], right[best, j] = right[best, j], right[k, j]
        log_determinant += np.log(abs(m[k, k]))
        for i in range(k + 1, n):
            ratio = m[i, k] / m[k, k]
            for j in range(k + 1, n):
                m[i, j] -= ratio * m[k, j]
            for j in range(columns):
                right[i, j] -= ratio * right[k, j]
    for k in range(n - 1, -1, -1):
        for j in range(columns):
            for i in range(k + 1, n):
                right[k, j] -= m[k, i] * right[i, j]
            right[k, j] /= m[k, k]
    return log_determinant


@jit
def _multiply(a: Any, b: Any, out: Any, keep: float, scale: float) -> None:
    """Set the output to `keep` of itself plus `scale` of the product of a and the rows of b."""
    for i in range(a.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = keep * out[i, j] if keep else 0.0
        for k in range(a.shape[1]):
            value = scale * a[i, k]
            for j in range(out.shape[1]):
                out[i, j] += value * b[k, j]


@jit
def _keep(mean: Any, covariance: Any, means: Any, covariances: Any, t: int) -> None:
    """Write one mean and one covariance into those of all coordinates."""
    for i in range(len(mean)):
        means[t, i] = mean[i]
        for j in range(len(mean)):
            covariances[t, i, j] = covariance[i, j]


@jit
def _symmetrise(x: Any) -> None:
    """Replace a matrix by its symmetric part."""
    for i in range(x.shape[0]):
        for j in range(i):
            x[i, j] = 0.5 * (x[i, j] + x[j, i])
            x[j, i] = x[i, j]


@jit
def _turn(a: Any, r: int, x: Any, transposed: bool) -> Any:
    """Multiply a state by ``a (x) 1``, or by its transpose."""
    out = np.zeros_like(x)
    for i in range(a.shape[0]):
        for l in range(a.shape[0]):
            value = a[l, i] if transposed else a[i, l]
            for k in range(r):
                out[i * r + k] += value * x[l * r + k]
    return out


@jit
def _absorb(precision: Any, shift: Any, mean: Any, covariance: Any, gain: Any, push: Any) -> Any:
    """Take in one message: write gain and push, and give its part of the evidence."""
    r = len(shift)
    m, right, difference = np.empty((r, r)), np.empty((r, r + 1)), np.empty(r)
    _multiply(precision, covariance, m, 0.0, 1.0)
    part = 0.0
    for i in range(r):
        m[i, i] += 1.0
        difference[i] = shift[i]
        for j in range(r):
            difference[i] -= precision[i, j] * mean[j]
            right[i, j] = precision[i, j]
        right[i, r] = difference[i]
        part += 0.5 * (shift[i] + difference[i]) * mean[i]
    part -= 0.5 * _eliminate(m, right)
    for i in range(r):
        push[i] = right[i, r]
        for j in range(r):
            gain[i, j] = 0.5 * (right[i, j] + right[j, i])
            part += 0.5 * difference[i] * covariance[i, j] * right[j, r]
    return part


@jit
def forwards(
    transition: Any,
    innovation: Any,
    precision: Any,
    shift: Any,
    predicted: Any,
    predicted_covariance: Any,
    filtered: Any,
    filtered_covariance: Any,
    gain: Any,
    push: Any,
) -> float:
    """Filter one series; all results are written.

    Args:
        transition: From the coordinate before, ``(n, p, p)``; the first is not used.
        innovation: The same; the first is the stationary covariance.
        precision: Of the messages, ``(n, r, r)``.
        shift: Precision times mean of the messages, ``(n, r)``.
        predicted: Mean before each message, ``(n, p r)``.
        predicted_covariance: ``(n, p r, p r)``.
        filtered: Mean after each message, ``(n, p r)``.
        filtered_covariance: ``(n, p r, p r)``.
        gain: ``(1 + precision S)^-1 precision`` with the predicted covariance S, ``(n, r, r)``.
        push: ``(1 + precision S)^-1 (shift - precision mean)``, ``(n, r)``.

    Returns:
        Logarithm of the integral of the messages times the prior.
    """
    n, p, r = len(transition), transition.shape[1], precision.shape[1]
    s = p * r
    covariance, work, mean = np.zeros((s, s)), np.empty((s, s)), np.zeros(s)
    half = np.zeros((s, r))
    log_evidence = 0.0
    for t in range(n):
        if t:
            _propagate(transition[t], r, covariance, work, False)
            mean = _turn(transition[t], r, mean, False)
        for i in range(p):
            for j in range(p):
                for k in range(r):
                    covariance[i * r + k, j * r + k] += innovation[t, i, j]
        _keep(mean, covariance, predicted, predicted_covariance, t)
        log_evidence += _absorb(precision[t], shift[t], mean, covariance, gain[t], push[t])
        for i in range(r):
            for c in range(s):
                mean[c] += covariance[i, c] * push[t, i]
                half[c, i] = 0.0
                for j in range(r):
                    half[c, i] += covariance[j, c] * gain[t, j, i]
        _multiply(half, predicted_covariance[t], covariance, 1.0, -1.0)
        _symmetrise(covariance)
        _keep(mean, covariance, filtered, filtered_covariance, t)
    return log_evidence


@jit
def backwards(
    transition: Any,
    gain: Any,
    push: Any,
    predicted: Any,
    predicted_covariance: Any,
    adjoint: Any,
    information: Any,
    mean: Any,
    covariance: Any,
) -> None:
    """Smooth one series that was filtered; all results are written.

    Args:
        transition: As for `forwards`.
        gain: The same.
        push: The same.
        predicted: The same.
        predicted_covariance: The same.
        adjoint: What the state before each message gains in mean, in units of its predicted
            covariance, from this message and later ones, ``(n, p r)``.
        information: The same for the covariance, ``(n, p r, p r)``.
        mean: Smoothed mean of the process, ``(n, r)``.
        covariance: Smoothed covariance of the process, ``(n, r, r)``.
    """
    n, r = len(transition), gain.shape[1]
    s = predicted.shape[1]
    x, big, work = np.zeros(s), np.zeros((s, s)), np.empty((s, s))
    cross, change, left = np.empty((s, r)), np.empty(s), np.empty((r, s))
    for t in range(n - 1, -1, -1):
        before = predicted_covariance[t]
        if t < n - 1:
            _propagate(transition[t + 1], r, big, work, True)
            x = _turn(transition[t + 1], r, x, True)
        _multiply(gain[t], before, left, 0.0, 1.0)
        _multiply(left, big, work, 0.0, 1.0)  # first rows only
        for i in range(r):
            change[i] = push[t, i]
            for c in range(s):
                change[i] -= left[i, c] * x[c]
                big[i, c] -= work[i, c]
        for i in range(r):
            x[i] += change[i]
            for d in range(s):
                cross[d, i] = gain[t, i, d] if d < r else 0.0
                for c in range(s):
                    cross[d, i] -= big[d, c] * left[i, c]
        for i in range(r):
            for d in range(s):
                big[d, i] += cross[d, i]
        _symmetrise(big)
        _keep(x, big, adjoint, information, t)
        _multiply(before[:r], big, work, 0.0, -1.0)
        for i in range(r):
            mean[t, i] = predicted[t, i]
            for c in range(s):
                mean[t, i] += before[i, c] * x[c]
            for j in range(r):
                covariance[t, i, j] = before[i, j]
                for c in range(s):
                    covariance[t, i, j] += work[i, c] * before[c, j]
        _symmetrise(covariance[t])
