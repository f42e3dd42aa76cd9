"""Linear maps, norms and gates that act on features ``(..., (l_max + 1)², channels)``."""

import math

import torch
from torch import Tensor, nn

from tensornet import _check
from tensornet.so3 import degrees, dim


class EquivariantLinear(nn.Module):
    """Mix channels, with one matrix per degree; only degree zero has a bias.

    Args:
        l_max: Highest degree.
        channels_in: Channels of the input.
        channels_out: Channels of the output.
        shared: Use the same matrix for every degree, as in the paper of TDN.
        bias: Whether degree zero has a bias.

    Raises:
        TypeError: If a size is no whole number.
        ValueError: If a size is too small; in a call, if components or channels do not fit.

    Derivatives:
        Any order.
    """

    def __init__(
        self,
        l_max: int,
        channels_in: int,
        channels_out: int,
        *,
        shared: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        name = "EquivariantLinear"
        _check.at_least(name, 0, l_max=l_max)
        _check.at_least(name, 1, channels_in=channels_in, channels_out=channels_out)
        matrices = 1 if shared else l_max + 1
        weight = torch.randn(matrices, channels_in, channels_out) / math.sqrt(channels_in)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(channels_out)) if bias else None
        self.register_buffer("degrees", degrees(l_max), persistent=False)
        self.degrees: Tensor
        self.shape = dim(l_max), channels_in

    def forward(
        self,
        x: Tensor,  # (..., m, c)
    ) -> Tensor:  # (..., m, c')
        """Map each degree on its own."""
        _check_features(type(self).__name__, x, self.shape)
        if len(self.weight) == 1:
            out = x @ self.weight[0]
        else:
            rows = x if x.ndim == 3 else x.reshape(math.prod(x.shape[:-2]), *self.shape)
            matrices = self.weight.index_select(0, self.degrees)
            out = torch.bmm(rows.transpose(0, 1), matrices).transpose(0, 1)
            out = out if x.ndim == 3 else out.reshape(*x.shape[:-1], out.shape[-1])
        if self.bias is None:
            return out
        return out + nn.functional.pad(self.bias[None], (0, 0, 0, len(self.degrees) - 1))


class GatedLinear(nn.Module):
    """A linear map, then each channel times a sigmoid gate made of the scalars.

    All degrees are gated alike, degree zero too (a gated linear unit), so that nothing has to be
    taken apart and put together again.

    Args:
        l_max: Highest degree.
        channels_in: Channels of the input.
        channels_out: Channels of the output.
        shared: As in `EquivariantLinear`.

    Raises:
        TypeError: As `EquivariantLinear`.
        ValueError: As `EquivariantLinear`.

    References:
        Weiler et al., 3D Steerable CNNs (2018), section 4.3; Dauphin et al., Language modeling
        with gated convolutional networks (2017), equation 1.

    Derivatives:
        Any order.
    """

    def __init__(
        self, l_max: int, channels_in: int, channels_out: int, *, shared: bool = False
    ) -> None:
        super().__init__()
        self.linear = EquivariantLinear(l_max, channels_in, channels_out, shared=shared)
        self.gates = nn.Linear(channels_in, channels_out)

    def forward(
        self,
        x: Tensor,  # (..., m, c)
    ) -> Tensor:  # (..., m, c')
        """Map and gate."""
        out: Tensor = self.linear(x) * torch.sigmoid(self.gates(x[..., :1, :]))
        return out


class EquivariantNorm(nn.Module):
    """Bring features to unit size, atom by atom.

    Args:
        l_max: Highest degree.
        channels: Channels.
        kind: ``"rms"``: all degrees are divided by one root mean square over degrees and
            channels. ``"layer"``: each degree by its own, degree zero after subtracting its mean,
            as in the paper of TDN. The first does not blow small vectors up, so that a neighbour
            that leaves is forgotten smoothly.
        epsilon: Added to the mean square before its root is taken.

    Raises:
        TypeError: If a size is no whole number, or `epsilon` no number.
        ValueError: If the kind is unknown, or a number too small; in a call, if components or
            channels do not fit.

    Derivatives:
        Any order.
    """

    def __init__(self, l_max: int, channels: int, kind: str = "rms", epsilon: float = 1e-5) -> None:
        super().__init__()
        name = "EquivariantNorm"
        _check.one_of(name, ("rms", "layer"), kind=kind)
        _check.at_least(name, 0, l_max=l_max)
        _check.at_least(name, 1, channels=channels)
        _check.tolerance(name, epsilon=epsilon)
        self.shape = dim(l_max), channels
        self.kind, self.epsilon = kind, epsilon
        self.weight = nn.Parameter(torch.ones(l_max + 1, channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        index = degrees(l_max)
        self.register_buffer("degrees", index, persistent=False)
        self.degrees: Tensor
        # Averages the 2l + 1 components of each degree, and for "rms" the degrees as well.
        average = torch.zeros(dim(l_max), dim(l_max))
        for i, l in enumerate(index.tolist()):
            if kind == "rms":
                average[:, i] = 1 / ((2 * l + 1) * (l_max + 1))
            else:
                average[index == l, i] = 1 / (2 * l + 1)
        self.register_buffer(
            "average", average if kind == "layer" else average[:1], persistent=False
        )
        self.average: Tensor

    def forward(
        self,
        x: Tensor,  # (..., m, c)
    ) -> Tensor:  # (..., m, c)
        """Normalise, then scale each degree and channel by its weight."""
        _check_features(type(self).__name__, x, self.shape)
        if self.kind == "layer":
            mean = x[..., :1, :].mean(-1, keepdim=True)
            x = x - nn.functional.pad(mean, (0, 0, 0, x.shape[-2] - 1))
        square = self.average @ x.square().mean(-1, keepdim=True)  # (..., m or 1, 1)
        out = x * torch.rsqrt(square + self.epsilon) * self.weight.index_select(0, self.degrees)
        return out + nn.functional.pad(self.bias[None], (0, 0, 0, x.shape[-2] - 1))


def _check_features(where: str, x: Tensor, shape: tuple[int, int]) -> None:
    if x.shape[-2:] != shape:  # a wrong size of one would be broadcast
        _check.shapes(where, x=(x, f"... {shape[0]} {shape[1]}"))
