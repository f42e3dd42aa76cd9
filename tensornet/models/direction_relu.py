"""The network of the paper on deep conjugate directions: a convolutional one with ReLU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tensornet.pde import Domain

SIZES = {64: (4, 6, 4), 128: (6, 10, 6)}
"""Convolutions before, on and after the coarse grid, by the size of the grid in the paper."""


class ReluDirection(nn.Module):
    """Convolutions of 3 cells along each axis with ReLU, on two grids, as in the paper.

    A stem; pairs of convolutions with residual sums on the grid and on one of half the size
    (averages of cells, and back by repetition); a linear sum of channels at the end. It sees
    neither masks nor boundaries, and what it proposes is neither linear nor symmetric.

    Args:
        dim: Number of axes, two or three.
        size: Which of `SIZES`.
        channels: Number of channels.

    References:
        Kaneda et al., A deep conjugate direction method for iteratively solving linear systems,
        ICML (2023), and the code of the authors, where sizes and channels are read off.
    """

    def __init__(self, dim: int, size: int, channels: int) -> None:
        super().__init__()
        self.dim = dim
        kind: type[nn.Conv2d] | type[nn.Conv3d] = nn.Conv2d if dim == 2 else nn.Conv3d

        def chain(n: int) -> nn.ModuleList:
            return nn.ModuleList(kind(channels, channels, 3, padding=1) for _ in range(n))

        before, coarse, after = SIZES[size]
        self.stem = kind(1, channels, 3, padding=1)
        self.before, self.coarse, self.after = chain(before), chain(coarse), chain(after)
        self.last = kind(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Propose directions.

        Args:
            x: Residuals ``(b, *shape)``.
        """
        pool = nn.functional.avg_pool2d if self.dim == 2 else nn.functional.avg_pool3d
        fine = _residual(self.before, self.stem(x[:, None]))
        coarse = _residual(self.coarse, pool(fine, 2, ceil_mode=True))
        for axis, n in enumerate(x.shape[1:], 2):
            coarse = coarse.repeat_interleave(2, axis).narrow(axis, 0, n)
        result: Tensor = self.last(_residual(self.after, coarse + fine))[:, 0]
        return result


class ReluProposal(nn.Module):
    """The network on one operator, on vectors ``(..., n)``. See `DirectionNet.bind`.

    Args:
        net: The network.
        domain: Where the vectors live.
    """

    def __init__(self, net: ReluDirection, domain: Domain) -> None:
        super().__init__()
        self.net, self._domain = net, domain

    def forward(self, r: Tensor) -> Tensor:  # (..., n) -> (..., n)
        """Propose directions.

        Args:
            r: Unit residuals.
        """
        field = self._domain.embed(r.reshape(-1, r.shape[-1]))
        return self._domain.restrict(self.net(field)).reshape(r.shape)


def _residual(chain: nn.ModuleList, x: Tensor) -> Tensor:
    """Two convolutions and a sum with what came in, again and again."""
    layers = list(chain)
    for first, second in zip(layers[::2], layers[1::2], strict=True):
        x = torch.relu(x + second(torch.relu(first(x))))
    return x
