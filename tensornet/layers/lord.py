"""Lord modules: linear maps of fields on a grid as sums of Kronecker products, with channels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from tensornet import _check
from tensornet.formats import CP, TTMatrix
from tensornet.pde import StencilOperator, kronecker_inverse

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": nn.functional.relu,
    "gelu": nn.functional.gelu,
    "silu": nn.functional.silu,
    "tanh": torch.tanh,
}
ORDERS = ("inside", "after")


class LordModule(nn.Module):
    """Low-rank decomposition of a fully connected layer on a grid, one matrix per axis.

    ``Y[o] = sum over c of mix_out[o, c] (sum over i of mix_in[c, i] X[i]) x_1 A_c x_2 B_c x_3 D_c``

    where ``x_k`` multiplies the axis k. With one channel in and out and no activation this is a
    sum of Kronecker products, the operator in the CP format (see `to_cp`): the paper's channels
    are the rank. A full layer would have the square of the number of cells as parameters; this has
    ``rank`` times the sum of squares along the axes. The grid is built in: there is no transfer
    to another size.

    Args:
        shape: Cells along each axis, one to three axes.
        rank: Number of Kronecker products, the inner channels.
        in_channels: Channels of the argument.
        out_channels: Channels of the result.
        out_shape: Cells of the result, by default those of the argument.
        factor_rank: If given, every matrix is a product of two of this rank.
        activation: None, the linear module; or ``"relu"``, ``"gelu"``, ``"silu"``, ``"tanh"``.
        order: Where the activation is: ``"inside"``, before the channels are mixed again, or
            ``"after"`` it.
        norm: Whether the argument is divided by its root mean square over channels and cells.
        residual: Whether the argument is added to the result.
        seed: Of the random start. By default torch's generator is used.
        dtype: Of the parameters, by default torch's.

    Raises:
        TypeError: If a size is no whole number.
        ValueError: If a size is below one, a word is unknown, or a residual does not fit.

    Derivatives:
        Any order, where the activation has them.

    References:
        Huang et al., LordNet, Neural Networks 176, 106354 (2024); the order of operations differs
        from theirs.

    Examples:
        >>> module = LordModule((8, 6), rank=3, in_channels=2)
        >>> module(torch.ones(5, 2, 8, 6)).shape
        torch.Size([5, 1, 8, 6])
    """

    def __init__(
        self,
        shape: Sequence[int],
        rank: int,
        *,
        in_channels: int = 1,
        out_channels: int = 1,
        out_shape: Sequence[int] | None = None,
        factor_rank: int | None = None,
        activation: str | None = None,
        order: str = "inside",
        norm: bool = False,
        residual: bool = False,
        seed: int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.out_shape = self.shape if out_shape is None else tuple(out_shape)
        if not 1 <= len(self.shape) <= 3 or len(self.out_shape) != len(self.shape):
            raise ValueError(
                "`LordModule(shape=...)` must have one to three axes, as many as `out_shape`. "
                f"Got {self.shape} and {self.out_shape}."
            )
        sizes = {"rank": rank, "in_channels": in_channels, "out_channels": out_channels}
        if factor_rank is not None:
            sizes["factor_rank"] = factor_rank
        _check.at_least("LordModule", 1, **sizes)
        for n in (*self.shape, *self.out_shape):
            _check.at_least("LordModule", 1, shape=n)
        if activation is not None:
            _check.one_of("LordModule", tuple(ACTIVATIONS), activation=activation)
        _check.one_of("LordModule", ORDERS, order=order)
        if residual and (in_channels, self.shape) != (out_channels, self.out_shape):
            raise ValueError(
                "`LordModule(residual=...)` must be False where channels or cells of argument and "
                f"result differ. Got {in_channels} x {self.shape}, {out_channels} x "
                f"{self.out_shape}."
            )
        self.rank, self.activation, self.order = rank, activation, order
        self.norm, self.residual = norm, residual
        generator = None if seed is None else torch.Generator().manual_seed(seed)

        def random(*size: int, over: int) -> nn.Parameter:
            made = torch.randn(size, generator=generator, dtype=torch.float64) / math.sqrt(over)
            return nn.Parameter(made.to(dtype or torch.get_default_dtype()))

        pairs = list(zip(self.out_shape, self.shape, strict=True))
        q = factor_rank
        if q is None:
            self.factors = nn.ParameterList([random(rank, o, i, over=i) for o, i in pairs])
        else:
            self.factors = nn.ParameterList([random(rank, o, q, over=q) for o, _ in pairs])
            self.inner = nn.ParameterList([random(rank, q, i, over=i) for _, i in pairs])
        self.factor_rank = factor_rank
        self.mix_in = random(rank, in_channels, over=in_channels)
        self.mix_out = random(out_channels, rank, over=rank)

    @property
    def linear(self) -> bool:
        """Whether it is a linear map."""
        return self.activation is None and not self.norm

    def matrices(self) -> list[Tensor]:  # each (rank, o, i)
        """Give the matrices of each axis."""
        if self.factor_rank is None:
            return list(self.factors)
        return [left @ right for left, right in zip(self.factors, self.inner, strict=True)]

    def forward(self, x: Tensor) -> Tensor:  # (..., in, *shape) -> (..., out, *out_shape)
        """Apply the module.

        Args:
            x: Fields on the grid, channels in front of the cells, any batch before.

        Raises:
            ValueError: If channels or cells differ.
        """
        d = len(self.shape)
        want = (self.mix_in.shape[1], *self.shape)
        if x.shape[max(x.ndim - d - 1, 0) :] != want:
            raise ValueError(
                f"`LordModule(x=...)` must have shape (..., {', '.join(map(str, want))}). "
                f"Got {tuple(x.shape)}."
            )
        batch = x.shape[: x.ndim - d - 1]
        given = x.reshape(math.prod(batch), *want)
        y = given / _size(given) if self.norm else given
        y = torch.einsum("ri,bi...->br...", self.mix_in, y)
        if self.factor_rank is None:
            y = _multiplied(y, list(self.factors))
        else:
            y = _multiplied(_multiplied(y, list(self.inner)), list(self.factors))
        activate = ACTIVATIONS[self.activation] if self.activation else None
        if activate and self.order == "inside":
            y = activate(y)
        y = torch.einsum("or,br...->bo...", self.mix_out, y)
        if activate and self.order == "after":
            y = activate(y)
        if self.residual:
            y = y + given
        return y.reshape(*batch, *y.shape[1:])

    def to_cp(self) -> CP:  # (o_1 i_1, ..., o_n i_n)
        """Give the map in the CP format, one mode of pairs (row, column) per axis.

        Raises:
            ValueError: If it is not linear, or has more than one channel in or out.

        Derivatives:
            Any order, in the parameters.
        """
        self._check_single("to_cp")
        factors = [A.flatten(1).mT for A in self.matrices()]
        weights = self.mix_out[0] * self.mix_in[:, 0]
        if self.residual:
            eyes = [torch.eye(n, dtype=weights.dtype, device=weights.device) for n in self.shape]
            factors = [
                torch.cat([F, e.reshape(-1, 1)], 1) for F, e in zip(factors, eyes, strict=True)
            ]
            weights = torch.cat([weights, weights.new_ones(1)])
        return CP(tuple(factors), weights)

    def to_tt_matrix(self) -> TTMatrix:
        """Give the map as a tensor-train matrix, all inner ranks the number of products.

        Raises:
            ValueError: As `to_cp`.
        """
        value = self.to_cp()
        d = len(self.shape)
        cores = []
        for k, (F, o, i) in enumerate(zip(value.factors, self.out_shape, self.shape, strict=True)):
            A = (F * value._weights() if k == 0 else F).reshape(o, i, -1)
            if k == 0 and d == 1:
                core = A.sum(-1)[None, :, :, None]
            elif k == 0:
                core = A[None]
            elif k == d - 1:
                core = A.movedim(-1, 0)[..., None]
            else:
                core = torch.diag_embed(A).movedim(-2, 0)
            cores.append(core)
        return TTMatrix(tuple(cores))

    def to_matrix(self) -> Tensor:  # (cells of the result, cells of the argument)
        """Give the matrix, for small grids.

        Raises:
            ValueError: As `to_cp`.
        """
        return self.to_tt_matrix().to_matrix()

    def _check_single(self, where: str) -> None:
        channels = (self.mix_in.shape[1], self.mix_out.shape[0])
        if not self.linear or channels != (1, 1):
            raise ValueError(
                f"`LordModule.{where}` must be asked of a linear module with one channel in and "
                f"out. Got activation {self.activation}, norm {self.norm}, channels {channels}."
            )

    @classmethod
    def from_cp(
        cls, value: CP, shape: Sequence[int], out_shape: Sequence[int] | None = None
    ) -> Self:
        """Make the module of a map in the CP format, one mode of pairs (row, column) per axis.

        Args:
            value: As `to_cp` gives it.
            shape: Cells of the argument.
            out_shape: Cells of the result, by default the same.

        Returns:
            A linear module with one channel in and out, whose parameters are copies.

        Raises:
            ValueError: If the modes are no pairs of these sizes.
        """
        shape = tuple(shape)
        out = shape if out_shape is None else tuple(out_shape)
        if value.shape != tuple(o * i for o, i in zip(out, shape, strict=False)):
            raise ValueError(
                "`LordModule.from_cp(value=...)` must have one mode of pairs per axis of the grid, "
                f"here {out} times {shape}. Got {value.shape}."
            )
        made = cls(shape, value.rank, out_shape=out, dtype=value.dtype).to(value.device)
        with torch.no_grad():
            for A, F, o, i in zip(made.factors, value.factors, out, shape, strict=True):
                A.copy_(F.mT.reshape(-1, o, i))
            made.mix_in.fill_(1)
            made.mix_out.copy_(value._weights()[None])
        return made

    @classmethod
    def from_tt_matrix(cls, value: TTMatrix) -> Self:
        """Make the module of a tensor-train matrix, exactly; its rank is the product of the ranks.

        Args:
            value: A matrix of one to three cores, none of its modes squeezed.

        Returns:
            A linear module with one channel in and out, whose parameters are copies.

        Raises:
            ValueError: If it has more cores.
        """
        cores = value.cores
        if len(cores) > 3:
            raise ValueError(
                "`LordModule.from_tt_matrix(value=...)` must have one to three cores. "
                f"Got {len(cores)}."
            )
        out, shape = [c.shape[1] for c in cores], [c.shape[2] for c in cores]
        parts = [cores[0][0].flatten(0, 1) * torch.exp(value.log_scale)]  # each (o i, terms)
        for core in cores[1:]:  # a term is a path through the ranks, the last index fastest
            left, right = core.shape[0], core.shape[3]
            times = parts[0].shape[1] // left
            parts = [F.repeat_interleave(right, 1) for F in parts]
            inner = core.permute(1, 2, 0, 3).reshape(-1, left * right)
            parts.append(inner.repeat(1, times))
        return cls.from_cp(CP(tuple(parts)), shape, out)

    @classmethod
    def from_operator(
        cls, A: StencilOperator, rank: int, *, loss: str = "error", seed: int = 0
    ) -> Self:
        """Start at the inverse of an operator, approximated by `kronecker_inverse`.

        Args:
            A: A symmetric operator of `pde`. Cells outside a mask get zero.
            rank: Number of Kronecker products.
            loss: ``"error"``, ``"energy"`` or ``"residual"``.
            seed: Of random numbers, where there are any.

        Returns:
            A linear module with one channel in and out.

        Raises:
            TypeError: As `kronecker_inverse`.
            ValueError: As `kronecker_inverse`.

        Examples:
            >>> from tensornet.pde import Grid, poisson
            >>> problem = poisson(Grid((16, 16), spacing=1 / 16), source=1.0)
            >>> module = LordModule.from_operator(problem.operator, 6)
            >>> u = module(problem.embed(problem.rhs)[None])[0]
            >>> left = problem.residual(problem.restrict(u))
            >>> bool(left.norm() < 1e-3 * problem.rhs.norm())
            True
        """
        found = kronecker_inverse(A, rank, loss=loss, seed=seed)
        return cls.from_cp(found.value, A.domain.grid.shape)

    def extra_repr(self) -> str:
        """Show sizes."""
        return f"{self.shape} -> {self.out_shape}, rank={self.rank}, activation={self.activation}"


def _size(x: Tensor) -> Tensor:  # (b, ...) -> (b, 1, ...)
    axes = tuple(range(1, x.ndim))
    return (x.square().mean(axes, keepdim=True) + torch.finfo(x.dtype).tiny).sqrt()


def _multiplied(x: Tensor, matrices: list[Tensor]) -> Tensor:  # (b, r, *in) -> (b, r, *out)
    """Multiply every axis by the matrix (r, o, i) of its channel."""
    b, r, *sizes = x.shape
    for k, A in enumerate(matrices):
        o, before, after = A.shape[1], math.prod(sizes[:k]), math.prod(sizes[k + 1 :])
        if after == 1:
            x = x.reshape(b, r, before, sizes[k]) @ A.mT
        else:
            x = A[:, None] @ x.reshape(b, r, before, sizes[k], after)
        sizes[k] = o
    return x.reshape(b, r, *sizes)
