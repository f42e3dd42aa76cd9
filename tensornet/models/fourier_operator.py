"""Fourier neural operators, with dense or factorised spectral weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tensornet import _check
from tensornet.layers.factorized_parts import Rank
from tensornet.layers.spectral import SpectralConvolution


class FourierNeuralOperator(nn.Module):
    """A map between periodic fields on grids of any size, from spectral convolutions.

    ``v_0 = lift(u)``; ``v_{l+1} = mix_l(act(K_l v_l + S_l v_l))`` with a spectral convolution ``K``
    and a matrix of the channels ``S``, where ``mix`` adds a small network of the channels; the
    result is ``project(v_L)``. With a `factorization` this is the tensorised operator (TFNO).

    The arguments that neuraloperator's ``FNO`` has too are named as there; this model is smaller:
    no normalisation, no padding of domains, one kind of skip.

    Args:
        n_modes: Modes per axis, as of `SpectralConvolution`; says how many axes there are.
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        hidden_channels: Channels between.
        n_layers: Number of spectral convolutions.
        positional_embedding: ``"grid"`` adds the coordinates, from 0 to 1, to the input; None
            leaves them out, and the operator commutes with translations.
        factorization: As of `SpectralConvolution`.
        rank: As of `SpectralConvolution`.
        implementation: As of `SpectralConvolution`.
        separable: As of `SpectralConvolution`.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If a number is out of range, or a name unknown.

    Derivatives:
        Any order.

    References:
        Li et al., Fourier neural operator (2021); Kossaifi et al., Multi-grid tensorized Fourier
        neural operator (2024).

    Examples:
        >>> model = FourierNeuralOperator((8, 8), 1, 1, 16, factorization="tucker", rank=0.1)
        >>> model(torch.randn(2, 1, 32, 32)).shape, model(torch.randn(2, 1, 48, 64)).shape
        (torch.Size([2, 1, 32, 32]), torch.Size([2, 1, 48, 64]))
    """

    def __init__(
        self,
        n_modes: int | Sequence[int],
        in_channels: int,
        out_channels: int,
        hidden_channels: int,
        n_layers: int = 4,
        *,
        positional_embedding: str | None = "grid",
        factorization: str | None = None,
        rank: Rank = 0.5,
        implementation: str = "auto",
        separable: bool = False,
    ) -> None:
        super().__init__()
        name = "FourierNeuralOperator"
        _check.at_least(
            name, 1, in_channels=in_channels, out_channels=out_channels,
            hidden_channels=hidden_channels, n_layers=n_layers,
        )  # fmt: skip
        if positional_embedding is not None:
            _check.one_of(name, ("grid",), positional_embedding=positional_embedding)
        self.positional_embedding, self.in_channels = positional_embedding, in_channels
        self.convolutions = nn.ModuleList(
            SpectralConvolution(
                hidden_channels, hidden_channels, n_modes, factorization=factorization, rank=rank,
                implementation=implementation, separable=separable,
            )
            for _ in range(n_layers)
        )  # fmt: skip
        self.order = 1 if isinstance(n_modes, int) else len(n_modes)
        given = in_channels + (self.order if positional_embedding else 0)
        self.lift = _network(given, 2 * hidden_channels, hidden_channels)
        self.skips = nn.ModuleList(
            nn.Conv1d(hidden_channels, hidden_channels, 1) for _ in range(n_layers)
        )
        self.mixes = nn.ModuleList(
            _network(hidden_channels, hidden_channels, hidden_channels) for _ in range(n_layers)
        )
        self.project = _network(hidden_channels, 2 * hidden_channels, out_channels)

    def forward(
        self,
        x: Tensor,  # (n, in, *grid)
    ) -> Tensor:  # (n, out, *grid)
        """Map fields.

        Args:
            x: Fields on a grid of any size.

        Returns:
            Fields on the same grid.

        Raises:
            ValueError: If the number of channels or of axes is another.
        """
        if x.ndim != self.order + 2 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"`FourierNeuralOperator(...)(x=...)` must have shape (n, {self.in_channels}, "
                f"*grid) with {self.order} sizes of the grid. Got {tuple(x.shape)}."
            )
        n, grid = len(x), x.shape[2:]
        flat = x.flatten(2)
        if self.positional_embedding:
            axes = [torch.arange(d, dtype=x.dtype, device=x.device) / d for d in grid]
            places = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)
            flat = torch.cat((flat, places.expand(n, -1, -1)), 1)
        v = self.lift(flat)
        for convolution, skip, mix in zip(self.convolutions, self.skips, self.mixes, strict=True):
            spectral = convolution(v.reshape(n, -1, *grid)).flatten(2)
            v = nn.functional.gelu(spectral + skip(v))
            v = v + mix(v)
        found: Tensor = self.project(v).reshape(n, -1, *grid)
        return found


def _network(n_in: int, n_hidden: int, n_out: int) -> nn.Sequential:
    """Make a network of the channels, the same at every point."""
    return nn.Sequential(nn.Conv1d(n_in, n_hidden, 1), nn.GELU(), nn.Conv1d(n_hidden, n_out, 1))
