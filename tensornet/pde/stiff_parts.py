"""Parts of a domain where the coefficient is large: their constants, taken care of one by one."""

from __future__ import annotations

import torch
from torch import Tensor

from tensornet.pde.domain import connected
from tensornet.pde.operator import StencilOperator

_CONTRAST = 10.0  # below which nothing is stiff


class StiffParts:
    """The constants on stiff parts, and the exact solution among them.

    No two parts are neighbours, so that the operator among their constants is diagonal.

    Args:
        A: The operator.
        place: Which active cells belong to a part, (c,).
        label: To which, (c,).
    """

    def __init__(self, A: StencilOperator, place: Tensor, label: Tensor) -> None:
        self.place, self.label, self.count = place, label, int(label.max()) + 1
        ones = torch.zeros(1, A.shape[0], dtype=A.dtype)
        ones[0, place] = 1
        energy, scale = self._sums(A(ones))[0], self._sums(A.diagonal()[None])[0]
        held = energy > 1e3 * torch.finfo(A.dtype).eps * scale
        self.inverse = torch.where(held, 1 / energy.where(held, scale), 0.0)

    def _sums(self, x: Tensor) -> Tensor:  # (b, n) -> (b, parts)
        found = x.new_zeros(len(x), self.count)
        return found.index_add_(1, self.label, x.index_select(1, self.place))

    def __call__(self, r: Tensor) -> Tensor:  # (b, n) -> (b, n)
        """Solve for the constants on the parts.

        Args:
            r: Residuals.
        """
        found = torch.zeros_like(r)
        found[:, self.place] = (self._sums(r) * self.inverse)[:, self.label]
        return found


def stiff_parts(A: StencilOperator) -> StiffParts | None:
    """Find the connected parts where the coefficient is above its geometric middle.

    Args:
        A: A symmetric operator on the CPU, without derivatives.

    Returns:
        The parts; none where the coefficient hardly varies.
    """
    if not isinstance(A.coefficient, Tensor):
        return None
    k = A.domain.restrict(A.coefficient.detach())
    low, high = float(k.min()), float(k.max())
    if not high > _CONTRAST * low > 0:
        return None
    stiff = k > (low * high) ** 0.5
    cells = A.domain.embed(stiff.to(torch.float64)) > 0
    labels = connected(cells, A.domain.periodic).flatten()[A.domain.place]
    return StiffParts(A, stiff.nonzero()[:, 0], labels[stiff] - 1)
