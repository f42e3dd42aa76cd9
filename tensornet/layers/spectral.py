"""Convolutions that multiply Fourier modes by a weight, dense or in a tensor format."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tensornet import _check
from tensornet.formats import CP, TensorTrain, Tucker
from tensornet.layers.factorized_parts import (
    IMPLEMENTATIONS,
    Rank,
    kind_of,
    part_shapes,
    random_parts,
    ranks_of,
)
from tensornet.layers.formed_parts import FormedParts
from tensornet.layers.spectral_routes import Way, spectral_ways
from tensornet.layers.spectral_transform import analyse, kept_modes, synthesise


class SpectralConvolution(FormedParts):
    """Multiply the lowest Fourier modes of periodic fields by a weight, mixing channels.

    ``y[o](r) = b[o] + Re sum_k m_k sum_i W[i, o, k] X[i, k] exp(2 pi i k r)``, where ``X`` are the
    Fourier coefficients of the input (``X[i, 0]`` is the mean), ``r`` runs over the unit cell, and
    the sum goes over the modes that are kept. Fields are real, so a mode stands for its conjugate
    too, and ``m_k`` is 2; it is 1 where the conjugate is in the sum itself: at frequency zero of
    the last axis and, if the grid has an even number of points there, at the highest.

    The weight belongs to frequencies, not to points: the same layer takes grids of any size. On a
    grid that has fewer frequencies than modes, those that it has are used. Arguments are named as
    in neuraloperator's ``SpectralConv``, and give the same operator, with these differences. The
    FFT's normalisation is no argument, since it cancels. On grids with an odd number of points
    (where that class moves modes by one) and on grids coarser than the modes, every frequency
    keeps its own weight. `output_shape` resamples the field on the other grid.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        n_modes: Modes per axis, which says how many axes there are: along all but the last the
            frequencies -(m // 2) to (m + 1) // 2 - 1, along the last 0 to m // 2.
        bias: Whether a number per channel is added.
        separable: Multiply every channel by a weight of its own, and mix none.
        rank: Of the factorised weight: one number for all modes, a float for about that share of
            the dense weight, or every rank.
        factorization: None for a dense weight, ``"cp"``, ``"tucker"`` or ``"tt"``, of the modes
            (in, out, frequencies per axis).
        implementation: ``"factorized"``: channels are mixed before and after the frequencies by
            the factors. ``"reconstructed"``: the dense weight is formed. ``"auto"``: what is
            cheaper by its count, for training and for inference, where what is formed of the parts
            is kept until they change.
        init_std: Standard deviation of the entries of the weight in the beginning; ``"auto"`` is
            sqrt(2 / (in_channels + out_channels)).
        device: As for `torch.nn.Linear`.
        dtype: float32 or float64; the parts are stored as pairs of real numbers.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If a number is out of range, a name unknown, or `separable` is asked for
            different numbers of channels.

    Derivatives:
        Any order.

    References:
        Li et al., Fourier neural operator (2021); Kossaifi et al., Multi-grid tensorized Fourier
        neural operator (2024).

    Examples:
        >>> layer = SpectralConvolution(3, 4, (8, 8), factorization="tucker", rank=0.2)
        >>> layer(torch.randn(2, 3, 32, 20)).shape, layer(torch.randn(2, 3, 64, 64)).shape
        (torch.Size([2, 4, 32, 20]), torch.Size([2, 4, 64, 64]))
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        n_modes: int | Sequence[int],
        *,
        bias: bool = True,
        separable: bool = False,
        rank: Rank = 0.5,
        factorization: str | None = None,
        implementation: str = "auto",
        init_std: float | str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = "SpectralConvolution"
        _check.at_least(name, 1, in_channels=in_channels, out_channels=out_channels)
        _check.one_of(name, IMPLEMENTATIONS, implementation=implementation)
        modes = (n_modes,) if isinstance(n_modes, int) else tuple(n_modes)
        if not 1 <= len(modes) <= 3:
            raise ValueError(f"`{name}(n_modes=...)` must hold one to three numbers. Got {modes}.")
        for m in modes:
            _check.at_least(name, 1, n_modes=m)
        if separable and in_channels != out_channels:
            raise ValueError(
                f"`{name}(separable=True)` must have as many out_channels as in_channels. Got "
                f"{out_channels} and {in_channels}."
            )
        self.in_channels, self.out_channels, self.n_modes = in_channels, out_channels, modes
        self.separable, self.implementation = separable, implementation
        self.modes = (*modes[:-1], modes[-1] // 2 + 1)
        channels = (in_channels,) if separable else (in_channels, out_channels)
        self.weight_shape = (*channels, *self.modes)
        self._kind = "dense"
        if factorization is not None:
            self._kind = kind_of(name, factorization, ("cp", "tucker", "tensor_train"))
        std = _standard_deviation(init_std, in_channels + out_channels)
        dtype = torch.get_default_dtype() if dtype is None else dtype
        if dtype not in (torch.float32, torch.float64):
            raise TypeError(f"`{name}(dtype=...)` must be float32 or float64. Got {dtype}.")
        self.ranks: tuple[int, ...] = ()
        shapes: dict[str, tuple[int, ...]] = {"dense": (*self.modes, *channels)}
        if self._kind != "dense":
            self.ranks = ranks_of(name, self._kind, self.weight_shape, rank)
            shapes = part_shapes(self._kind, self.weight_shape, self.ranks)
        drawn = random_parts(shapes, self.ranks, std, dtype=dtype.to_complex(), device=device)
        for key, part in drawn.items():
            self.register_parameter(key, nn.Parameter(torch.view_as_real(part).clone()))
        self._names = tuple(shapes)
        start = torch.zeros(out_channels, *(1 for _ in modes), device=device, dtype=dtype)
        self.bias = nn.Parameter(start) if bias else None

    def tensor(self) -> Tensor | CP | Tucker | TensorTrain:  # (in, out, *modes)
        """Give the complex weight: dense, or as a value of `tensornet.formats`."""
        parts = [torch.view_as_complex(part) for part in self.parts()]
        if self._kind == "dense":
            order = len(self.modes)
            return parts[0].permute(*range(order, parts[0].ndim), *range(order))
        if self._kind == "cp":
            return CP(tuple(parts))
        if self._kind == "tucker":
            return Tucker(parts[0], tuple(parts[1:]))
        return TensorTrain(tuple(parts))

    @property
    def weight(self) -> Tensor:  # (in, out, *modes)
        """The dense complex weight, formed anew, with derivatives; (c, *modes) if separable."""
        value = self.tensor()
        return value if isinstance(value, Tensor) else value.to_dense()

    def way(self, n: int, grid: Sequence[int], *, training: bool | None = None) -> Way:
        """Give the products that n fields meet on a grid.

        Args:
            n: Number of fields.
            grid: Sizes of the grid.
            training: Whether with derivatives by the factors. By default as `self.training` says.
        """
        training = self.training if training is None else training
        return self._way(n, kept_modes(self.modes, grid), training)

    def _way(self, n: int, kept: tuple[tuple[int, int], ...], training: bool) -> Way:
        parts = self._cut(kept)
        ways = spectral_ways(self._kind, tuple(tuple(p.shape) for p in parts), self.separable)
        if self.implementation == "reconstructed" or len(ways) == 1:
            return ways[0]
        choices = ways if self.implementation == "auto" else ways[1:]
        kind = (parts[0].dtype, parts[0].device.type)
        size = 1 << max(0, n - 1).bit_length()
        key = (size, kept, *kind, training, self.implementation)
        if key not in self._chosen:
            self._chosen[key] = min(
                choices, key=lambda way: way.seconds(size, *kind, training=training)
            )
        way: Way = self._chosen[key]
        return way

    def _cut(self, kept: tuple[tuple[int, int], ...]) -> list[Tensor]:
        """Give complex parts with the frequencies that are kept."""
        parts = [torch.view_as_complex(part) for part in self.parts()]
        starts = [*(-(m // 2) for m in self.modes[:-1]), 0]
        slices = [slice(a - s, b - s) for (a, b), s in zip(kept, starts, strict=True)]
        if all(b - a == m for (a, b), m in zip(kept, self.modes, strict=True)):
            return parts
        if self._kind == "dense":
            return [parts[0][tuple(slices)]]
        first = len(parts) - len(slices)
        axis = (slice(None),) if self._kind == "tensor_train" else ()
        return parts[:first] + [p[(*axis, s)] for p, s in zip(parts[first:], slices, strict=True)]

    def forward(
        self,
        x: Tensor,  # (n, in, *grid)
        output_shape: Sequence[int] | None = None,
    ) -> Tensor:  # (n, out, *grid)
        """Convolve.

        Args:
            x: Real fields.
            output_shape: Sizes of the grid of the result. By default that of the input.

        Returns:
            Real fields.

        Raises:
            TypeError: If the dtype is not that of the layer.
            ValueError: If shapes do not fit.
        """
        grid = self._grid(x)
        out = grid if output_shape is None else tuple(output_shape)
        if len(out) != len(grid) or not all(isinstance(n, int) and n > 0 for n in out):
            raise ValueError(
                f"`SpectralConvolution(...)(output_shape=...)` must hold {len(grid)} whole numbers "
                f"above zero. Got {out}."
            )
        kept = kept_modes(self.modes, grid, out)
        n = len(x)
        size = max(0, n - 1).bit_length()
        formed = self._formed((size, kept), lambda: self._form(size, kept))
        if formed is None:
            way = self._way(n, kept, torch.is_grad_enabled())
            first, middle, last = way.fold(self._cut(kept))
        else:
            first, middle, last = formed[1]
        assert middle is not None
        found = analyse(x, kept)
        y = Way.apply(found.flatten(0, -3), first, middle, last)
        y = synthesise(y.reshape(*found.shape[:-2], n, self.out_channels), kept, out)
        return y if self.bias is None else y + self.bias

    def _form(
        self, size: int, kept: tuple[tuple[int, int], ...]
    ) -> tuple[Way, list[Tensor | None]]:
        """Give the way for 2^size fields and its products, shared between sizes."""
        way = self._way(1 << size, kept, False)
        for (_, others), (other, folded) in self._kept.items():
            if others == kept and other is way:
                return way, folded
        folded = way.fold(self._cut(kept))
        return way, [None if part is None else part.contiguous() for part in folded]

    def _grid(self, x: Tensor) -> tuple[int, ...]:
        """Check an input, and give the sizes of its grid."""
        order = len(self.modes)
        if x.ndim != order + 2 or x.shape[1] != self.in_channels or min(x.shape[2:]) < 1:
            raise ValueError(
                f"`SpectralConvolution(...)(x=...)` must have shape (n, {self.in_channels}, *grid) "
                f"with {order} sizes of the grid. Got {tuple(x.shape)}."
            )
        dtype = self.parts()[0].dtype
        if x.dtype != dtype:
            raise TypeError(
                f"`SpectralConvolution(...)(x=...)` must be real and of the layer's dtype {dtype}. "
                f"Got {x.dtype}."
            )
        return tuple(x.shape[2:])

    def extra_repr(self) -> str:
        """Say sizes, format and ranks."""
        ranks = f", {self._kind}, ranks={self.ranks}" if self.ranks else ""
        return (
            f"{self.in_channels}, {self.out_channels}, n_modes={self.n_modes}{ranks}, "
            f"separable={self.separable}, bias={self.bias is not None}"
        )


def _standard_deviation(init_std: float | str, channels: int) -> float:
    if init_std == "auto":
        return math.sqrt(2 / channels)
    if isinstance(init_std, str | bool) or not 0 <= init_std < math.inf:
        raise ValueError(
            "`SpectralConvolution(init_std=...)` must be 'auto' or a finite number of at least "
            f"zero. Got {init_std!r}."
        )
    return float(init_std)
