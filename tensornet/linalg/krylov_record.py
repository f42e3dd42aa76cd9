"""What a Krylov method writes down while it runs, and the sentence it ends with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tensornet.linalg.linear_map import Rows
from tensornet.linalg.solution import LinearSolution

Numbers = NDArray[np.float64]
Choice = NDArray[np.bool_]

_SHOWN = 3  # systems of a batch whose failure is told


def norms(x: Tensor) -> Tensor:  # (k, n) -> (k,)
    """Euclidean norms of rows."""
    found: Tensor = torch.linalg.vector_norm(x, dim=-1)
    return found


def dots(x: Tensor, y: Tensor) -> Tensor:  # (k, n), (k, n) -> (k,)
    """Real parts of the inner products of rows, without a temporary of their size."""
    return torch.bmm(x.conj()[:, None, :], y[:, :, None]).flatten().real


def without(x: Tensor, nullspace: Tensor | None) -> Tensor:  # (k, n), (m, n) -> (k, n)
    """Project rows to the complement of a null space."""
    return x if nullspace is None else x - (x @ nullspace.mH) @ nullspace


def numbers(x: Tensor) -> Numbers:
    """Copy to the CPU, in float64."""
    return x.detach().to("cpu", torch.float64).numpy()


class Record:
    """Residuals, iterations and fate of each system.

    Args:
        where: Name of the public call.
        b: Right-hand sides ``(k, n)``.
        rtol: Tolerance relative to their norms.
        atol: Absolute tolerance.
    """

    def __init__(self, where: str, b: Tensor, rtol: float, atol: float) -> None:
        self.where, self.rtol, self.atol = where, rtol, atol
        self.size = numbers(norms(b))
        self.goal = np.maximum(rtol * self.size, atol)
        self.residual = np.ones(len(b))
        self.iterations = np.zeros(len(b), dtype=np.int64)
        self.why: list[str] = ["" for _ in b]
        self.done = np.zeros(len(b), dtype=np.bool_)
        self.history: list[float] = []
        self.notes: dict[str, int] = {}
        self.eps = torch.finfo(b.dtype).eps

    def residuals(self, rows: NDArray[np.int64], size: Numbers) -> None:
        """Write down residual norms of some of the systems."""
        self.residual[rows] = size / np.where(self.size[rows] > 0, self.size[rows], 1.0)

    def close(self) -> None:
        """End an iteration."""
        self.history.append(float(self.residual.max()))

    def note(self, text: str, times: int = 1) -> None:
        """Remember something that does not end the run."""
        self.notes[text] = self.notes.get(text, 0) + times

    def solution(self, x: Tensor) -> LinearSolution[Tensor]:
        """The end."""
        steps = int(self.iterations.max())
        if self.history:
            self.history[-1] = float(self.residual.max())
        return LinearSolution(
            x,
            bool(self.done.all()),
            self.message(),
            tuple(self.history),
            steps,
            torch.from_numpy(self.residual),
            torch.from_numpy(self.iterations),
        )

    def message(self) -> str:
        """The outcome as sentences."""
        batch = len(self.done) > 1
        head = f"Relative residual {self.residual.max():.1e} after {self.iterations.max()} "
        head += f"iteration{'s' if self.iterations.max() != 1 else ''}"
        if batch:
            head += f", {int(self.done.sum())} of {len(self.done)} systems converged"
        failed = np.flatnonzero(~self.done)
        said = [head + "."]
        for row in failed[:_SHOWN]:
            said.append((f"System {row}: " if batch else "") + self.why[row])
        if len(failed) > _SHOWN:
            said.append(f"{len(failed) - _SHOWN} more systems failed.")
        said += [
            text.replace("#", f"{times} time{'s' if times > 1 else ''}")
            for text, times in self.notes.items()
        ]
        return " ".join(said)

    def too_few(self, row: np.int64) -> str:
        """Why a system that ran out of iterations has not converged."""
        goal = f"atol {self.atol:.1e}" if self.goal[row] == self.atol else f"rtol {self.rtol:.1e}"
        return f"This is above {goal}: allow more iterations, or precondition."


def diagnose(
    record: Record,
    A: Rows,
    b: Tensor,  # (k, n)
    r: Tensor,  # (k, n)
    rows: NDArray[np.int64],  # (k,)
) -> None:
    """Name the systems whose residual is nearly a null vector: they may have no solution.

    Args:
        record: Where to write.
        A: The adjoint of the operator.
        b: Right-hand sides.
        r: Residuals.
        rows: Which of the systems these are.
    """
    if len(rows) == 0 or not bool(r.isfinite().all()):
        return
    image = numbers(norms(A(r)) / norms(r).clamp_min(torch.finfo(r.dtype).tiny))
    scale = numbers(norms(A(b)) / norms(b))
    for at, row in enumerate(rows):
        if image[at] <= 1e-3 * scale[at] and image[at] <= 1e3 * record.eps**0.5 * scale[at]:
            record.why[row] = (
                f"What is left is nearly a null vector, ‖A^H r‖ / ‖r‖ = {image[at]:.1e} where "
                f"‖A^H b‖ / ‖b‖ = {scale[at]:.1e}: if `{record.where}(A=...)` is singular, the "
                "right-hand side is outside its range. (Then give the operator a `nullspace`, or "
                "take that part off the right-hand side.)"
            )


Callback = Callable[[Tensor], object]
