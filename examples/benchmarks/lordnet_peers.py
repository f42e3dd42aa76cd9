"""Networks beside LordNet: a U-Net, and the FNO of neuraloperator where that is installed."""

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tensornet.models import DiffusionFamily


class Corrected(nn.Module):
    """A network that adds to what the inverse of the scaled box makes of the right side."""

    def __init__(self, family: DiffusionFamily, net: nn.Module) -> None:
        super().__init__()
        self.family, self.net = family, net

    def forward(self, source: Tensor, coefficient: Tensor, boundary: Any = None) -> Tensor:
        """Solve, approximately."""
        right = source + self.family.operator(coefficient).load(boundary)
        z = self.family.scaled_residual(right, 1.0, coefficient)
        size = z.square().mean((1, 2), keepdim=True).sqrt()
        k = coefficient.log()
        features = torch.stack([z / size, k - k.mean((1, 2), keepdim=True)], 1)
        return z + size * self.net(features)[:, 0]


class UNet(nn.Module):
    """Three levels of two convolutions each, skips, no norm."""

    def __init__(self, width: int) -> None:
        super().__init__()

        def pair(a: int, b: int) -> nn.Sequential:
            kind = {"kernel_size": 3, "padding": 1}
            return nn.Sequential(
                nn.Conv2d(a, b, **kind), nn.GELU(), nn.Conv2d(b, b, **kind), nn.GELU()
            )

        w = width
        self.down = nn.ModuleList([pair(2, w), pair(w, 2 * w), pair(2 * w, 4 * w)])
        self.up = nn.ModuleList([pair(6 * w, 2 * w), pair(3 * w, w)])
        self.last = nn.Conv2d(w, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the network."""
        kept = []
        for k, block in enumerate(self.down):
            x = block(x if k == 0 else nn.functional.avg_pool2d(x, 2))
            kept.append(x)
        for block, skip in zip(self.up, (kept[1], kept[0]), strict=True):
            x = block(torch.cat([nn.functional.interpolate(x, scale_factor=2), skip], 1))
        out: Tensor = self.last(x)
        return out


class InSingle(nn.Module):
    """A network in single precision: the complex weights of FNO stay so."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net.float()

    def forward(self, x: Tensor) -> Tensor:
        """Apply the network."""
        y: Tensor = self.net(x.float())
        return y.to(x)


def nearest(make: Callable[[int], nn.Module], widths: range, wanted: int) -> nn.Module:
    """Make the network whose number of parameters is nearest to what is wanted."""
    return min(
        (make(w) for w in widths),
        key=lambda net: abs(sum(p.numel() for p in net.parameters()) - wanted),
    )


def peers(wanted: int) -> dict[str, nn.Module]:
    """Networks of other kinds with about as many parameters."""
    torch.manual_seed(0)
    found: dict[str, nn.Module] = {"U-Net": nearest(UNet, range(2, 20), wanted).double()}
    if importlib.util.find_spec("neuralop") is not None:
        from neuralop.models import FNO

        def fno(width: int) -> nn.Module:
            return FNO((12, 12), in_channels=2, out_channels=1, hidden_channels=width, n_layers=4)

        found["FNO (neuraloperator)"] = InSingle(nearest(fno, range(3, 24), wanted))
    return found
