"""The loop of all conjugate direction methods, for many right-hand sides at once.

The letters are those of the papers: r residual, z = M r, p direction, a = p·A p. A system that has
converged leaves the arrays, so that the others go on alone.

References:
    Hestenes & Stiefel, J. Res. Nat. Bur. Stand. 49, 409 (1952), section 3.
    Notay, Flexible conjugate gradients, SIAM J. Sci. Comput. 22, 1444 (2000), section 2.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tensornet.linalg.krylov_record import (
    Callback,
    Choice,
    Record,
    diagnose,
    dots,
    norms,
    numbers,
    without,
)
from tensornet.linalg.linear_map import LinearMap, Rows


class ConjugateDirections:
    """Systems on their way down, and what conjugate gradients remember.

    Args:
        A: The operator.
        M: Approximate inverse, or none.
        b: Right-hand sides ``(k, n)``.
        x: First guesses.
        record: Where to write.
    """

    def __init__(
        self, A: LinearMap, M: Rows | None, b: Tensor, x: Tensor | None, record: Record
    ) -> None:
        self.A, self.M, self.record = A, M, record
        self.all_b, self.out = b, torch.zeros_like(b)
        self.rows = np.arange(len(b))
        self.b = b
        self.x = torch.zeros_like(b) if x is None else without(x.clone(), A.nullspace)
        self.r = b.clone() if x is None else b - A(self.x)
        self.exact = np.ones(len(b), dtype=np.bool_)  # whether r is b - A x, not the recursion
        self.before = np.full(len(b), np.inf)  # the true residual when r was last replaced
        self.largest = np.zeros(len(b))  # curvature
        self.p = self.rho = self.first = None

    p: Tensor | None
    rho: Tensor | None
    first: tuple[Tensor, Tensor, Tensor] | None

    def run(self, maxiter: int, callback: Callback | None) -> Tensor:  # (k, n)
        """Iterate to the goals of the record.

        Args:
            maxiter: Largest number of iterations.
            callback: Called with all solutions after each.
        """
        self.stop_at_goal()
        self.record.close()
        for step in range(1, maxiter + 1):
            if len(self.rows) == 0:
                break
            self.step(step)
            self.stop_at_goal()
            self.record.close()
            if callback is not None:
                callback(self.values())
        self.give_up()
        return self.out

    def values(self) -> Tensor:  # (k, n)
        """Where all systems are now."""
        every = self.out.clone()
        every[self.rows] = self.x
        return every

    def direction(self, z: Tensor) -> tuple[Tensor, Tensor, Choice]:
        """The next direction, its product with the residual, and which systems must stop."""
        rho = dots(self.r, z)
        size = numbers(rho)
        bad = ~(size > 0) | ~np.isfinite(size)
        for at in np.flatnonzero(bad):
            self.record.why[self.rows[at]] = (
                f"`{self.record.where}(M=...)` must be positive definite. Got r·M(r) = "
                f"{size[at]:.1e} at iteration {self.record.iterations[self.rows[at]] + 1}."
            )
        if self.p is None or self.rho is None:
            self.p = z.clone()  # z may be the residual itself, or a buffer of the preconditioner
        else:
            self.p.mul_((rho / self.rho)[:, None]).add_(z)
        self.rho = rho
        return self.p, rho, bad

    def remember(self, p: Tensor, Ap: Tensor, a: Tensor) -> None:
        """Keep what later directions are made of."""

    def restart(self, choice: Choice) -> None:
        """Forget the directions of some systems."""
        if self.rho is not None:
            self.rho[torch.from_numpy(choice)] = torch.inf  # the next one is z

    def keep(self, choice: Choice) -> None:
        """Leave all other systems behind."""
        at = torch.from_numpy(choice).to(self.x.device)
        self.out[self.rows] = self.x
        self.rows = self.rows[choice]
        self.b, self.x, self.r = self.b[at], self.x[at], self.r[at]
        self.exact, self.before = self.exact[choice], self.before[choice]
        self.largest = self.largest[choice]
        self.p = None if self.p is None else self.p[at]
        self.rho = None if self.rho is None else self.rho[at]
        if self.first is not None:
            p, Ap, r = self.first
            self.first = p[at], Ap[at], r[at]

    def step(self, step: int) -> None:
        """Go to the lowest point of the energy along one direction."""
        z = self.r if self.M is None else without(self.M(self.r), self.A.nullspace)
        p, slope, stop = self.direction(z)
        Ap = self.A(p)
        a = dots(p, Ap)
        stop |= self.not_positive(p, a, step, stop)
        if self.first is not None:
            stop |= self.asymmetric(p, Ap, z)
        self.first = (p.clone(), Ap.clone(), self.r.clone()) if step == 1 else None
        if stop.any():
            at = torch.from_numpy(~stop).to(p.device)
            self.keep(~stop)
            p, Ap, a, slope = p[at], Ap[at], a[at], slope[at]
            if len(self.rows) == 0:
                return
        length = (slope / a)[:, None].to(p.dtype)
        self.x.addcmul_(length, p)
        self.r.addcmul_(length, Ap, value=-1)
        self.exact[:] = False
        self.record.iterations[self.rows] = step
        self.remember(p, Ap, a)

    def not_positive(self, p: Tensor, a: Tensor, step: int, known: Choice) -> Choice:
        """Which systems met a direction along which the energy has no lowest point, and say so."""
        size = numbers(a)
        bend = numbers(a / dots(p, p))
        self.largest = np.fmax(self.largest, np.where(known, 0.0, np.abs(bend)))
        tiny = 4 * self.record.eps * self.largest  # what rounding leaves of a null vector's
        bad = ~known & ~(bend > tiny)
        name = f"`{self.record.where}(A=...)`"
        for at in np.flatnonzero(bad):
            if not np.isfinite(size[at]):
                why = f"{name} gave NaN or infinite numbers at iteration {step}."
            elif bend[at] < -(self.record.eps**0.5) * self.largest[at]:
                why = (
                    f"{name} must be positive definite. Got negative curvature: p·A p = "
                    f"{size[at]:.1e} at iteration {step}. (Turn the sign, or take `gmres`.)"
                )
            else:
                share = bend[at] / self.largest[at] if self.largest[at] else 0.0
                why = (
                    f"{name} is singular: its curvature along the direction of iteration {step} is "
                    f"{share:.1e} of the largest. The right-hand side has the part "
                    f"{self.part_along(p, int(at)):.1e} along it. (Give the operator a "
                    "`nullspace`, or take that part off the right-hand side.)"
                )
            self.record.why[self.rows[at]] = why
        return bad

    def part_along(self, p: Tensor, at: int) -> float:
        """Cosine between a direction and a right-hand side."""
        inner = float(dots(p[at][None], self.b[at][None]))
        return abs(inner) / float(norms(p[at]) * norms(self.b[at]))

    def asymmetric(self, p: Tensor, Ap: Tensor, z: Tensor) -> bool:
        """Compare p·A q with q·A p for the first two directions: two inner products."""
        if self.first is None:
            return False
        q, Aq, r = self.first
        self.check_preconditioner(z, q, r)
        one, other = numbers(dots(p, Aq)), numbers(dots(q, Ap))
        scale = numbers(norms(p) * norms(Aq) + norms(q) * norms(Ap))
        gap = np.abs(one - other)
        worst = int(np.argmax(gap / np.maximum(scale, 1e-300)))
        if gap[worst] <= self.record.eps**0.5 * scale[worst]:
            return False
        for row in self.rows:
            self.record.why[row] = (
                f"`{self.record.where}(A=...)` must be symmetric. Got p·A q = {one[worst]:.6e} and "
                f"q·A p = {other[worst]:.6e} for the first two directions. (Take `gmres`.)"
            )
        return True

    def check_preconditioner(self, z: Tensor, z0: Tensor, r0: Tensor) -> None:
        """Compare r·M s with s·M r for the first two residuals."""
        if self.M is None:
            return
        gap = numbers((dots(z, r0) - dots(self.r, z0)).abs())
        scale = numbers(norms(z) * norms(r0) + norms(self.r) * norms(z0))
        if (gap > self.record.eps**0.5 * scale).any():
            self.record.note(
                f"`{self.record.where}(M=...)` is not symmetric or not linear; `fcg` takes such."
            )

    def stop_at_goal(self) -> None:
        """Take leave of the systems whose true residual is at its goal."""
        rows, record = self.rows, self.record
        if len(rows) == 0:
            return
        size, goal = numbers(norms(self.r)), record.goal[rows]
        floor = 0.1 * record.eps * record.size[rows]  # no residual is that accurate
        claim = size <= np.maximum(goal, floor)
        fresh = claim & ~self.exact
        if fresh.any():
            self.replace(fresh)
            size = np.where(fresh, numbers(norms(self.r)), size)
        done, lost = claim & (size <= goal), ~np.isfinite(size)
        stuck = fresh & ~done & (size > 0.5 * self.before)
        again = fresh & ~done & ~stuck & ~lost
        if again.any():
            record.note("The recursive residual had drifted and was replaced #.", again.sum())
            self.before = np.where(again, size, self.before)
            self.restart(again)
        for row in rows[lost]:
            record.why[row] = "The iteration broke down: its residual is not finite."
        for row in rows[stuck]:
            record.why[row] = (
                "The residual stays above its goal: this is as accurate as "
                f"{str(self.x.dtype).removeprefix('torch.')} gets here."
            )
        record.residuals(rows, size)
        record.done[rows[done]] = True
        if (done | stuck | lost).any():
            self.keep(~(done | stuck | lost))

    def replace(self, choice: Choice) -> None:
        """Recompute residuals from their definition."""
        at = torch.from_numpy(choice).to(self.x.device)
        self.r[at] = self.b[at] - self.A(self.x[at])
        self.exact |= choice

    def give_up(self) -> None:
        """Recompute the residuals of the systems that have not converged, and say why."""
        record = self.record
        if len(self.rows):
            self.keep(np.zeros(len(self.rows), dtype=np.bool_))
        failed = np.flatnonzero(~record.done)
        if len(failed) == 0:
            return
        x, b = self.out[failed], self.all_b[failed]
        r = b - self.A(x)
        record.residuals(failed, numbers(norms(r)))
        silent = np.array([not record.why[row] for row in failed])
        for row in failed[silent]:
            record.why[row] = record.too_few(row)
        diagnose(
            record, self.A, b[torch.from_numpy(silent)], r[torch.from_numpy(silent)], failed[silent]
        )
