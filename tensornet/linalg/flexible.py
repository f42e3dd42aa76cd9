"""Conjugate directions out of proposals: each is made A-orthogonal to the last few.

References:
    Notay, Flexible conjugate gradients, SIAM J. Sci. Comput. 22, 1444 (2000), section 2.
    Kaneda et al., A deep conjugate direction method for iteratively solving linear systems,
    ICML (2023).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tensornet.linalg.conjugate import ConjugateDirections
from tensornet.linalg.krylov_record import Choice, Record, dots, norms
from tensornet.linalg.linear_map import LinearMap, Rows


class FlexibleDirections(ConjugateDirections):
    """Conjugate directions out of any proposals, which may be a network's.

    A proposal that is of no use is replaced by the residual: one that is not finite, zero, or at
    right angles to the residual.

    Args:
        A: The operator.
        M: What proposes a direction for a residual, or none for the residual itself.
        b: Right-hand sides ``(k, n)``.
        x: First guesses.
        record: Where to write.
        width: How many directions are remembered.
        notay: Whether to use ``max(1, i mod (width + 1))`` of them in iteration i, which saves
            work, instead of all.
        proposal: The argument that proposes, for messages.
    """

    def __init__(
        self,
        A: LinearMap,
        M: Rows | None,
        b: Tensor,
        x: Tensor | None,
        record: Record,
        *,
        width: int,
        notay: bool = False,
        proposal: str = "M",
    ) -> None:
        super().__init__(A, M, b, x, record)
        self.width, self.notay, self.proposal = width, notay, proposal
        self.memory: list[tuple[Tensor, Tensor, Tensor]] = []
        self.made = 0

    def direction(self, z: Tensor) -> tuple[Tensor, Tensor, Choice]:
        """The next direction, its product with the residual, and which systems must stop."""
        p = self.orthogonal(z)
        slope = dots(p, self.r)
        if self.M is not None:
            useful = slope.abs() > 100 * self.record.eps * norms(z) * norms(self.r)
            if not bool(useful.all()):
                self.record.note(
                    f"The proposal of `{self.record.where}({self.proposal}=...)` was NaN, zero or "
                    "at right angles to the residual #; the residual was taken instead.",
                    int((~useful).sum()),
                )
                p = self.orthogonal(torch.where(useful[:, None], z, self.r))
                slope = dots(p, self.r)
        return p, slope, np.zeros(len(p), dtype=np.bool_)

    def orthogonal(self, z: Tensor) -> Tensor:
        """Make proposals A-orthogonal to the directions in memory."""
        p = z.clone()
        used = self.memory
        if self.notay and self.made:
            used = used[-max(1, self.made % (self.width + 1)) :]
        for q, Aq, a in used:
            share = torch.bmm(Aq.conj()[:, None, :], z[:, :, None])[:, :, 0]
            p.addcmul_(share / a[:, None], q, value=-1)
        return p

    def check_preconditioner(self, z: Tensor, z0: Tensor, r0: Tensor) -> None:
        """Anything may propose."""

    def remember(self, p: Tensor, Ap: Tensor, a: Tensor) -> None:
        """Keep what later directions are made of."""
        self.made += 1
        if self.width > 0:
            self.memory.append((p, Ap.clone(), a))  # an operator may write into its last result
            del self.memory[: -self.width]

    def restart(self, choice: Choice) -> None:
        """Forget the directions of some systems."""
        for q, _, _ in self.memory:
            q[torch.from_numpy(choice).to(q.device)] = 0.0

    def keep(self, choice: Choice) -> None:
        """Leave all other systems behind."""
        super().keep(choice)
        at = torch.from_numpy(choice).to(self.x.device)
        self.memory = [(q[at], Aq[at], a[at]) for q, Aq, a in self.memory]
