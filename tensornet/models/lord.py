"""LordNet: diffusion problems solved by corrections from Lord modules, trained on residuals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tensornet import _check
from tensornet.layers import LordBasis, LordModule
from tensornet.models.lord_problem import DiffusionFamily, Values
from tensornet.pde import poisson

STEPS = ("exact", "learned")
STARTS = ("analytic", "random")


class LordNet(nn.Module):
    """Solve diffusion problems in a few corrections, each a Lord module that sees the residual.

    ``u = 0``, and for each block ``u = u + step D_j(f - A(k) u)`` with

    ``D_j = sum over c of s_c B_jc s_c + t / diagonal(A)``

    where ``A(k)`` is applied without a matrix, ``B_jc`` is a map in a Kronecker format that starts
    at the inverse of the box, and ``s_c = k^-1/2 exp(...)`` and ``t`` are fields that a few
    convolutions make of the logarithm of the coefficient, once per solution. Steps are exact: each
    direction is made A-orthogonal to the ones before, and its length minimises the error in the
    norm of the operator; no block can make that larger. Before training it is the method of
    conjugate gradients with a scaled box, cut off after some steps; for a constant coefficient one
    block is exact. Boundary values go into the right side, so that they hold by construction.

    Args:
        family: The problems.
        blocks: Number of corrections.
        channels: Directions that each block sums up.
        rank: If given, B are `LordModule`s of this rank; by default `LordBasis`, two products of
            matrices per axis whatever the rank.
        hidden: Channels of the convolutions; 0 leaves out what depends on the coefficient beyond
            ``k^-1/2``.
        steps: ``"exact"``, or ``"learned"``: one number per block, as in a plain residual network.
        start: ``"analytic"``, or ``"random"``, as a network would be begun that knows nothing.
        seed: Of random numbers.

    Raises:
        TypeError: If the family is none.
        ValueError: If numbers are out of range or words unknown.

    Derivatives:
        First order, in parameters and inputs.

    References:
        Huang et al., LordNet, Neural Networks 176, 106354 (2024), for modules and loss.

    Examples:
        >>> from tensornet.models import DiffusionFamily
        >>> from tensornet.pde import Grid
        >>> net = LordNet(DiffusionFamily(Grid((16, 16), spacing=1 / 16)), blocks=1)
        >>> f = torch.ones(16, 16, dtype=torch.float64)
        >>> u = net(f)
        >>> bool(net.family.residual(u, f).abs().max() < 1e-10)
        True
    """

    def __init__(
        self,
        family: DiffusionFamily,
        *,
        blocks: int = 4,
        channels: int = 1,
        rank: int | None = None,
        hidden: int = 8,
        steps: str = "exact",
        start: str = "analytic",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not isinstance(family, DiffusionFamily):
            raise TypeError(
                f"`LordNet(family=...)` must be a `DiffusionFamily`. Got {type(family).__name__}."
            )
        _check.at_least("LordNet", 1, blocks=blocks, channels=channels, rank=rank or 1)
        _check.at_least("LordNet", 0, hidden=hidden)
        _check.one_of("LordNet", STEPS, steps=steps)
        _check.one_of("LordNet", STARTS, start=start)
        self.family, self.blocks, self.channels = family, blocks, channels
        self.provenance: dict[str, Any] = {}
        self.settings: dict[str, Any] = {
            "blocks": blocks, "channels": channels, "rank": rank, "hidden": hidden,
            "steps": steps, "start": start, "seed": seed,
        }  # fmt: skip
        self.inverses = nn.ModuleList([self._inverse(j) for j in range(blocks)])
        self.steps = nn.Parameter(torch.ones(blocks, dtype=family.dtype))
        self.condition: nn.Module | None = None
        if hidden:
            self.condition = _Condition(len(family.shape), hidden, blocks * (channels + 1), seed)
            self.condition.to(family.dtype)

    def _inverse(self, block: int) -> nn.Module:
        family, rank, channels = self.family, self.settings["rank"], self.channels
        dtype, seed = family.dtype, self.settings["seed"] + 1000 * block
        A = poisson(family.domain, dtype=dtype).operator
        if self.settings["start"] == "analytic":
            if rank is None:
                return LordBasis.from_operator(A, channels=channels)
            one = LordModule.from_operator(A, rank)
            return nn.ModuleList([one, *(_copy(one) for _ in range(channels - 1))])
        if rank is None:
            made = LordBasis(family.shape, channels=channels, seed=seed, dtype=dtype)
            with torch.no_grad():  # of the size of the inverse, as a user who knows units would
                made.log_core.fill_(-math.log(float(A.diagonal().mean())))
            return made
        return nn.ModuleList(
            [LordModule(family.shape, rank, seed=seed + c, dtype=dtype) for c in range(channels)]
        )

    @property
    def n_parameters(self) -> int:
        """Number of parameters."""
        return sum(p.numel() for p in self.parameters())

    def forward(
        self,
        source: Tensor,  # (..., *shape)
        coefficient: Tensor | None = None,  # (..., *shape)
        boundary: Values | None = None,
    ) -> Tensor:  # (..., *shape)
        """Solve ``-div(coefficient grad u) = source``, approximately.

        Args:
            source: Sources at the centres of cells, any batch in front.
            coefficient: Positive, the same batch, or none; by default one.
            boundary: For the lower and the upper side of each axis the values held (or fluxes let
                in, where the side is closed), ``(..., *other axes)``; None means zero.

        Returns:
            Solutions at the centres.

        Raises:
            TypeError: If a field or a boundary value is of another dtype.
            ValueError: If shapes differ, or numbers are NaN or infinite.
        """
        shape = self.family.shape
        self._check("source", source)
        batch = source.shape[: source.ndim - len(shape)]
        k = source.new_ones(shape)
        if coefficient is not None:
            self._check("coefficient", coefficient)
            k = coefficient
            batch = torch.broadcast_shapes(batch, k.shape[: k.ndim - len(shape)])
        rows = (*batch, *shape), (math.prod(batch), *shape)
        A = self.family.operator(k.expand(rows[0]).reshape(rows[1]))
        values = None
        if boundary is not None:
            values = [None if v is None else self._side(v, batch) for v in boundary]
        right = source.expand(rows[0]).reshape(rows[1]) + A.load(values)
        return self._solved(A, right, coefficient is not None).reshape(rows[0])

    def _solved(self, A: Any, r: Tensor, varies: bool) -> Tensor:  # (b, *shape)
        k = A.coefficient
        fields = None
        if self.condition is not None:
            fields = self.condition(k.log() if varies else torch.zeros_like(k))
            fields = fields.reshape(len(k), self.blocks, self.channels + 1, *self.family.shape)
        root, diagonal = k.rsqrt(), A.diagonal()
        u = torch.zeros_like(r)
        before: list[tuple[Tensor, Tensor, Tensor]] = []
        for j, inverse in enumerate(self.inverses):
            g = None if fields is None else fields[:, j]
            p = self._direction(inverse, r, root, diagonal, g)
            if self.settings["steps"] == "learned":
                u = u + self.steps[j] * p
                r = r - A(self.steps[j] * p)
                continue
            Ap = A(p)
            for q, Aq, size in before:
                share = _dot(p, Aq) / size
                p, Ap = p - share * q, Ap - share * Aq
            size = _dot(p, Ap).clamp_min(torch.finfo(p.dtype).tiny)
            before.append((p, Ap, size))
            alpha = _dot(p, r) / size
            u, r = u + alpha * p, r - alpha * Ap
        return u

    def _direction(
        self, inverse: nn.Module, r: Tensor, root: Tensor, diagonal: Tensor, g: Tensor | None
    ) -> Tensor:  # (b, *shape)
        scale = root[:, None].expand(-1, self.channels, *root.shape[1:])
        if g is not None:
            scale = scale * g[:, :-1].exp()
        x = scale * r[:, None]
        if isinstance(inverse, nn.ModuleList):
            y = torch.cat([one(x[:, c : c + 1]) for c, one in enumerate(inverse)], 1)
        else:
            y = inverse(x)
        d = (scale * y).sum(1)
        return d if g is None else d + g[:, -1] * r / diagonal

    def _side(self, x: Tensor, batch: Sequence[int]) -> Tensor:  # (b, *other axes)
        """Values on one side, a row for each problem."""
        self._check_numbers("boundary", x)
        others = x.shape[max(x.ndim - len(self.family.shape) + 1, 0) :]
        try:
            rows = x.expand(*batch, *others)
        except RuntimeError as error:
            raise ValueError(
                f"`LordNet(boundary=...)` must have the batch of the source, {tuple(batch)}, or "
                f"none. Got values of shape {tuple(x.shape)}."
            ) from error
        return rows.reshape(math.prod(batch), *others)

    def _check(self, name: str, x: Tensor) -> None:
        self._check_numbers(name, x)
        shape = self.family.shape
        if x.shape[max(x.ndim - len(shape), 0) :] != shape:
            raise ValueError(
                f"`LordNet({name}=...)` must have shape (..., {', '.join(map(str, shape))}): the "
                f"grid is built into the network. Got {tuple(x.shape)}."
            )

    def _check_numbers(self, name: str, x: Tensor) -> None:
        dtype = self.steps.dtype
        if not isinstance(x, Tensor) or x.dtype != dtype:
            got = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"`LordNet({name}=...)` must be a tensor of {dtype}. Got {got}.")
        if not bool(x.detach().isfinite().all()):
            raise ValueError(f"`LordNet({name}=...)` must be finite. Got NaN or infinite numbers.")


class _Condition(nn.Module):
    """A few convolutions of the logarithm of the coefficient; zero before training."""

    def __init__(self, dim: int, hidden: int, out: int, seed: int) -> None:
        super().__init__()
        kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dim - 1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = nn.ModuleList(
                [
                    kind(1, hidden, 3, padding=1, padding_mode="replicate", bias=False),
                    kind(hidden, hidden, 3, padding=1, padding_mode="replicate"),
                    kind(hidden, out, 3, padding=1, padding_mode="replicate", bias=False),
                ]
            )
        last = self.layers[-1].weight
        assert isinstance(last, nn.Parameter)
        nn.init.zeros_(last)

    def forward(self, x: Tensor) -> Tensor:  # (b, *shape) -> (b, out, *shape)
        """Apply the convolutions; a constant gives what constant one gives.

        Args:
            x: Logarithm of the coefficient.
        """
        axes = tuple(range(1, x.ndim))
        y = (x - x.mean(axes, keepdim=True))[:, None]
        for layer in self.layers[:-1]:
            y = nn.functional.silu(layer(y))
        out: Tensor = self.layers[-1](y)
        return out


def _copy(module: LordModule) -> LordModule:
    return LordModule.from_cp(module.to_cp(), module.shape, module.out_shape)


def _dot(x: Tensor, y: Tensor) -> Tensor:  # (b, *shape) -> (b, 1, ...)
    return (x * y).sum(tuple(range(1, x.ndim)), keepdim=True)
