"""Maps of fields that are diagonal in a learned Kronecker basis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from tensornet import _check
from tensornet.formats import CP, cp
from tensornet.layers.lord import LordModule
from tensornet.linalg.mode_product import mode_multiplied
from tensornet.pde import StencilOperator
from tensornet.pde.axis import box_axes, outer_sum
from tensornet.pde.operator import check_symmetric


class LordBasis(nn.Module):
    """``Y_c = (P x Q x R) diag(core_c) (P x Q x R)^T X_c``, the Kronecker basis learned.

    The matrices P, Q, R of the axes are shared by all channels; the core has a number per cell
    and channel, the exponential of a parameter, so that the map is symmetric positive definite.
    Two matrix products per axis whatever the rank, where a `LordModule` has one per axis and
    rank. Started at the eigenvectors and the inverse eigenvalues of a box it is the fast solver of
    Poisson's equation, exactly; a low-rank core would make it a `LordModule` (see `to_lord`).

    Args:
        shape: Cells along each axis, one to three axes.
        channels: Channels.
        seed: Of the random start: orthogonal matrices, core one. By default torch's generator.
        dtype: Of the parameters, by default torch's.

    Raises:
        TypeError: If a size is no whole number.
        ValueError: If a size is below one.

    Derivatives:
        Any order.

    References:
        Lynch, Rice & Thomas, Numer. Math. 6, 185 (1964), for the start.

    Examples:
        >>> LordBasis((8, 6))(torch.ones(5, 1, 8, 6)).shape
        torch.Size([5, 1, 8, 6])
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        channels: int = 1,
        seed: int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        if not 1 <= len(self.shape) <= 3:
            raise ValueError(
                f"`LordBasis(shape=...)` must have one to three axes. Got {self.shape}."
            )
        for n in self.shape:
            _check.at_least("LordBasis", 1, shape=n)
        _check.at_least("LordBasis", 1, channels=channels)
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        dtype = dtype or torch.get_default_dtype()
        made = [torch.randn(n, n, generator=generator, dtype=torch.float64) for n in self.shape]
        self.bases = nn.ParameterList(
            [nn.Parameter(torch.linalg.qr(one).Q.to(dtype).contiguous()) for one in made]
        )
        self.log_core = nn.Parameter(torch.zeros(channels, *self.shape, dtype=dtype))

    @property
    def core(self) -> Tensor:  # (channels, *shape)
        """The diagonal, positive."""
        return self.log_core.exp()

    def forward(self, x: Tensor) -> Tensor:  # (..., channels, *shape) -> (..., channels, *shape)
        """Apply the map.

        Args:
            x: Fields on the grid, channels in front of the cells, any batch before.

        Raises:
            ValueError: If channels or cells differ.
        """
        want = self.log_core.shape
        if x.shape[max(x.ndim - len(want), 0) :] != want:
            raise ValueError(
                f"`LordBasis(x=...)` must have shape (..., {', '.join(map(str, want))}). "
                f"Got {tuple(x.shape)}."
            )
        d = len(self.shape)
        y = x.reshape(-1, *self.shape) if x.numel() else x.reshape(0, *self.shape)
        for k, V in enumerate(self.bases, 1):
            y = mode_multiplied(y, V.mT, k)
        y = (y.reshape(-1, *want) * self.core).reshape(-1, *self.shape)
        for k, V in enumerate(self.bases, 1):
            y = mode_multiplied(y, V, k)
        return y.reshape(*x.shape[: x.ndim - d], *self.shape)

    @classmethod
    def from_operator(cls, A: StencilOperator, *, power: float = 1.0, channels: int = 1) -> Self:
        """Start at a power of the inverse of a box.

        A mask is ignored, and of a coefficient that varies the mean is taken. Where the boundaries
        leave the constant undetermined, it gets what the smoothest other field gets.

        Args:
            A: A symmetric operator of `pde`.
            power: Of the inverse: 1 solves, 1/2 is the inverse of the root.
            channels: Channels, all with the same start.

        Raises:
            TypeError: If `A` is no operator of `pde`.
            ValueError: If it is not symmetric, or `power` not finite.

        Examples:
            >>> from tensornet.pde import Grid, poisson
            >>> A = poisson(Grid((6, 6), spacing=1 / 6)).operator
            >>> x = torch.ones(36, dtype=torch.float64)
            >>> y = LordBasis.from_operator(A)(A(x).reshape(1, 6, 6))
            >>> bool((y - 1).abs().max() < 1e-12)
            True
        """
        where = "LordBasis.from_operator"
        check_symmetric(where, A)
        if not math.isfinite(power):
            raise ValueError(f"`{where}(power=...)` must be finite. Got {power}.")
        k = A.coefficient
        mean = float(A.domain.restrict(k.detach()).mean()) if isinstance(k, Tensor) else float(k)
        axes = box_axes(f"{where}(A=...)", A.domain)
        total = outer_sum([mean * axis.values for axis in axes], A.shift)
        least = float(total[total > 1e-12 * total.max()].min())
        made = cls(A.domain.grid.shape, channels=channels, dtype=A.dtype).to(A.device)
        with torch.no_grad():
            for V, axis in zip(made.bases, axes, strict=True):
                V.copy_(axis.vectors(torch.float64))
            made.log_core.copy_(-power * total.clamp_min(least).log().expand_as(made.log_core))
        return made

    def to_lord(self, rank: int) -> LordModule:
        """Give the map of one channel as a sum of Kronecker products, the core in the CP format.

        Args:
            rank: Number of Kronecker products; fewer where fewer are exact.

        Returns:
            A linear module with parameters of its own.

        Raises:
            TypeError: If `rank` is no whole number.
            ValueError: If there is more than one channel, or `rank` is below one.
        """
        _check.at_least("LordBasis.to_lord", 1, rank=rank)
        if len(self.log_core) != 1:
            raise ValueError(
                "`LordBasis.to_lord` must be asked of one channel. "
                f"Got {len(self.log_core)} channels."
            )
        core = self.core[0].detach()
        if core.ndim == 1:
            value = CP((core[:, None],))
        else:
            value = cp(core, min(rank, math.prod(sorted(core.shape)[:-1]))).value
        pairs = [
            torch.einsum("ai,ir,bi->abr", V.detach(), F, V.detach()).flatten(0, 1)
            for V, F in zip(self.bases, value.factors, strict=True)
        ]
        return LordModule.from_cp(CP(tuple(pairs), value.weights), self.shape)

    def extra_repr(self) -> str:
        """Show sizes."""
        return f"{self.shape}, channels={len(self.log_core)}"
