"""The residual of a step of the stream function in Numba, for steps without derivatives."""

from typing import Any

from tensornet.kernels._bridge import jit


@jit
def stream_residual(
    after: Any, before: Any, drive: Any, stream: Any, omega: Any, out: Any,
    ring: bool, theta: float, rate: float, viscosity: float, hx: float, hy: float,
) -> None:  # fmt: skip
    """Do what `VorticityFlow._residual` does.

    Args:
        after: States after the step, ``(b, m, n)``.
        before: States before.
        drive: What sliding walls add to the vorticity, ``(m + 2, n + 2)``.
        stream: Work space, ``(m + 2, n + 2)``.
        omega: Work space, ``(m + 2, n + 2)``.
        out: The residual, ``(b, m, n)``.
        ring: Whether both axes are periodic.
        theta: Where between the states.
        rate: One over the time step.
        viscosity: Kinematic viscosity.
        hx: Spacing along the first axis.
        hy: Along the second.
    """
    rows, m, n = after.shape
    ax, ay = 1 / hx**2, 1 / hy**2
    middle = 2 * ax + 2 * ay
    for b in range(rows):
        # The change of the vorticity, from the change of the stream function with its ring.
        for i in range(m):
            for j in range(n):
                stream[i + 1, j + 1] = after[b, i, j] - before[b, i, j]
        _closed(stream, ring, m, n)
        for i in range(1, m + 1):
            for j in range(1, n + 1):
                out[b, i - 1, j - 1] = rate * (
                    middle * stream[i, j]
                    - ax * (stream[i + 1, j] + stream[i - 1, j])
                    - ay * (stream[i, j + 1] + stream[i, j - 1])
                )
        for i in range(m):
            for j in range(n):
                stream[i + 1, j + 1] = theta * after[b, i, j] + (1 - theta) * before[b, i, j]
        _closed(stream, ring, m, n)
        for i in range(1, m + 1):
            for j in range(1, n + 1):
                omega[i, j] = (
                    middle * stream[i, j]
                    - ax * (stream[i + 1, j] + stream[i - 1, j])
                    - ay * (stream[i, j + 1] + stream[i, j - 1])
                )
        if ring:
            _closed(omega, ring, m, n)
        else:
            for j in range(1, n + 1):
                omega[0, j] = -2 * ax * stream[1, j] + drive[0, j]
                omega[m + 1, j] = -2 * ax * stream[m, j] + drive[m + 1, j]
            for i in range(1, m + 1):
                omega[i, 0] = -2 * ay * stream[i, 1] + drive[i, 0]
                omega[i, n + 1] = -2 * ay * stream[i, n] + drive[i, n + 1]
        if ring:
            _add_both(out[b], stream, omega, viscosity, ax, ay, 1 / (12 * hx * hy), m, n)
        else:
            _add_energy(out[b], stream, omega, viscosity, ax, ay, 1 / (4 * hx * hy), m, n)


@jit
def _closed(x: Any, ring: bool, m: int, n: int) -> None:
    """Fill the ring: zero at walls, or the other end."""
    for j in range(1, n + 1):
        x[0, j] = x[m, j] if ring else 0
        x[m + 1, j] = x[1, j] if ring else 0
    for i in range(m + 2):
        x[i, 0] = x[i, n] if ring else 0
        x[i, n + 1] = x[i, 1] if ring else 0


@jit
def _add_energy(
    out: Any, p: Any, w: Any, viscosity: float, ax: float, ay: float, scale: float, m: int, n: int
) -> None:
    """Diffusion less the advection that keeps energy."""
    for i in range(1, m + 1):
        for j in range(1, n + 1):
            ne, se, nw, sw = p[i + 1, j + 1], p[i + 1, j - 1], p[i - 1, j + 1], p[i - 1, j - 1]
            e, west, north, s = w[i + 1, j], w[i - 1, j], w[i, j + 1], w[i, j - 1]
            bent = (2 * ax + 2 * ay) * w[i, j] - ax * (e + west) - ay * (north + s)
            swept = (ne - nw) * north - (se - sw) * s + (nw - sw) * west - (ne - se) * e
            out[i - 1, j - 1] += viscosity * bent - scale * swept


@jit
def _add_both(
    out: Any, p: Any, w: Any, viscosity: float, ax: float, ay: float, scale: float, m: int, n: int
) -> None:
    """Diffusion less Arakawa's advection."""
    for i in range(1, m + 1):
        for j in range(1, n + 1):
            ne, se, nw, sw = p[i + 1, j + 1], p[i + 1, j - 1], p[i - 1, j + 1], p[i - 1, j - 1]
            pe, pw, pn, ps = p[i + 1, j], p[i - 1, j], p[i, j + 1], p[i, j - 1]
            e, west, north, s = w[i + 1, j], w[i - 1, j], w[i, j + 1], w[i, j - 1]
            x, y = pe - pw, pn - ps
            bent = (2 * ax + 2 * ay) * w[i, j] - ax * (e + west) - ay * (north + s)
            swept = (x + ne - nw) * north - (x + se - sw) * s
            swept += (y + nw - sw) * west - (y + ne - se) * e
            swept += (pe - pn) * w[i + 1, j + 1] + (ps - pe) * w[i + 1, j - 1]
            swept += (pn - pw) * w[i - 1, j + 1] + (pw - ps) * w[i - 1, j - 1]
            out[i - 1, j - 1] += viscosity * bent - scale * swept
