"""Linear layers whose matrix is a tensor format."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from tensornet import _check
from tensornet.formats import CP, TTMatrix, Tucker
from tensornet.layers.factorized_fit import fitted
from tensornet.layers.factorized_parts import (
    IMPLEMENTATIONS,
    Rank,
    balanced_shape,
    kind_of,
    part_shapes,
    random_parts,
    ranks_of,
)
from tensornet.layers.factorized_routes import MOST_MODES, Route, linear_routes
from tensornet.layers.formed_parts import FormedParts


class FactorizedLinear(FormedParts):
    """A linear layer whose matrix is stored, and where that is cheaper applied, in factors.

    ``y = x W^T + b``, where ``W`` is, with its axes split into `out_shape` and `in_shape`,

    - ``"low_rank"``: a product of two matrices (a `CP` of two modes);
    - ``"cp"``: a `CP` of the modes ``(*out_shape, *in_shape)``;
    - ``"tucker"``: a `Tucker` of these modes;
    - ``"tensor_train"``: a `TTMatrix` from `in_shape` to `out_shape`.

    There are several orders in which an input can meet the factors; one is to form the matrix
    first. For each size of batch (to a power of two), ``"auto"`` takes the one that is cheapest by
    its count of multiplications, bytes and calls, at speeds that were measured once. Without
    gradients of the factors, what is formed of them is kept until they change, so that inference
    takes no longer than a dense layer; in training it is formed anew, with its derivatives.

    Args:
        in_features: Size of the inputs.
        out_features: Size of the outputs.
        factorization: Which format; ``"tt"`` is a tensor train too, and capitals do not matter.
        rank: One rank for all modes, cut to what a mode can have; a float, for about that share of
            the parameters of the dense matrix; or every rank.
        implementation: ``"factorized"`` never forms the matrix, ``"reconstructed"`` always.
        in_shape: Sizes whose product is `in_features`. By default three that are nearly equal.
        out_shape: Sizes whose product is `out_features`; for a train as many as of `in_shape`.
        bias: Whether a bias is added.
        device: As for `torch.nn.Linear`.
        dtype: As for `torch.nn.Linear`; real.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If a name is unknown, or sizes or ranks do not fit.

    Derivatives:
        Any order. The choice of the order depends on sizes only, so that bits are reproducible.

    References:
        Novikov et al., Tensorizing neural networks (2015); Lebedev et al. (2015) for CP; Kossaifi
        et al., Tensor regression networks, J. Mach. Learn. Res. 21, 1 (2020).

    Examples:
        >>> layer = FactorizedLinear(64, 32, "tensor_train", rank=0.2)
        >>> layer(torch.ones(5, 64)).shape, layer.ranks, layer.compression > 4
        (torch.Size([5, 32]), (4, 5), True)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        factorization: str = "cp",
        rank: Rank = 0.5,
        implementation: str = "auto",
        *,
        in_shape: Sequence[int] | None = None,
        out_shape: Sequence[int] | None = None,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = "FactorizedLinear"
        _check.at_least(name, 1, in_features=in_features, out_features=out_features)
        _check.one_of(name, IMPLEMENTATIONS, implementation=implementation)
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(f"`{name}(dtype=...)` must be real and floating. Got {dtype}.")
        self.in_features, self.out_features = in_features, out_features
        self.factorization, self.implementation = kind_of(name, factorization), implementation
        order = 1 if self.factorization == "low_rank" else 3
        self.in_shape = _split("in", in_features, in_shape, order)
        self.out_shape = _split("out", out_features, out_shape, order)
        self._kind = "cp" if self.factorization == "low_rank" else self.factorization
        if self.factorization == "low_rank" and len(self.in_shape) + len(self.out_shape) != 2:
            raise ValueError(
                f"`{name}(factorization='low_rank')` must have one size in `in_shape` and one in "
                f"`out_shape`. Got {self.in_shape} and {self.out_shape}. (`cp` takes several.)"
            )
        modes = self.out_shape + self.in_shape
        if self._kind == "tensor_train":
            if len(self.in_shape) != len(self.out_shape):
                raise ValueError(
                    f"`{name}(in_shape=...)` must have as many sizes as `out_shape`, for a tensor "
                    f"train. Got {self.in_shape} and {self.out_shape}."
                )
            modes = tuple(o * i for o, i in zip(self.out_shape, self.in_shape, strict=True))
        self.ranks = ranks_of(name, self._kind, modes, rank)
        shapes = part_shapes(self._kind, modes, self.ranks)
        std = 1 / math.sqrt(3 * in_features)  # as torch.nn.Linear
        for key, part in random_parts(shapes, self.ranks, std, dtype=dtype, device=device).items():
            if self._kind == "tensor_train":
                k = int(key.removeprefix("core_"))
                part = part.unflatten(1, (self.out_shape[k], self.in_shape[k]))
            self.register_parameter(key, nn.Parameter(part))
        self._names = tuple(shapes)
        edge = 1 / math.sqrt(in_features)
        start = torch.empty(out_features, device=device, dtype=dtype).uniform_(-edge, edge)
        self.bias = nn.Parameter(start) if bias else None
        self._routes = linear_routes(self._kind, self.out_shape, self.in_shape, self.ranks)

    def tensor(self) -> CP | Tucker | TTMatrix:
        """Give the weight as a value of `tensornet.formats`, which shares the parameters."""
        parts = self.parts()
        if self._kind == "cp":
            return CP(tuple(parts))
        if self._kind == "tucker":
            return Tucker(parts[0], tuple(parts[1:]))
        return TTMatrix(tuple(parts))

    @property
    def weight(self) -> Tensor:  # (out_features, in_features)
        """The dense matrix, formed anew, with derivatives."""
        return self._routes[0].fold(self.parts())[0]

    @property
    def compression(self) -> float:
        """How many times fewer parameters than the dense matrix."""
        return self.in_features * self.out_features / self.n_parameters

    def route(self, n: int, *, training: bool | None = None) -> Route:
        """Give the order of products for n rows.

        Args:
            n: Number of rows of an input.
            training: Whether with derivatives by the factors. By default as `self.training` says.
        """
        dense, *others = self._routes
        if self.implementation == "reconstructed" or not others:
            return dense
        choices = self._routes if self.implementation == "auto" else tuple(others)
        training = self.training if training is None else training
        part = self.parts()[0]
        size = 1 << max(0, n - 1).bit_length()
        kind = (part.dtype, part.device.type)
        key = (size, *kind, training, self.implementation)
        if key not in self._chosen:
            self._chosen[key] = min(
                choices, key=lambda route: route.seconds(size, *kind, training=training)
            )
        route: Route = self._chosen[key]
        return route

    def forward(
        self,
        x: Tensor,  # (..., in_features)
    ) -> Tensor:  # (..., out_features)
        """Multiply by the matrix, and add the bias.

        Raises:
            TypeError: If the dtype is not that of the layer.
            ValueError: If the last axis is not `in_features`.
        """
        if x.shape[-1:] != (self.in_features,):
            raise ValueError(
                f"`FactorizedLinear(...)(x=...)` must have shape (..., {self.in_features}). Got "
                f"{tuple(x.shape)}."
            )
        try:
            return self._multiplied(x)
        except RuntimeError as error:
            part = self.parts()[0]
            if x.dtype == part.dtype:
                raise
            raise TypeError(
                f"`FactorizedLinear(...)(x=...)` must have the layer's dtype {part.dtype}. Got "
                f"{x.dtype}."
            ) from error

    def _multiplied(self, x: Tensor) -> Tensor:
        size = max(0, x.numel() // self.in_features - 1).bit_length()
        kept = self._formed(size, lambda: self._form(size))
        if kept is None:
            route = self.route(1 << size, training=torch.is_grad_enabled())
            return route.apply(x, route.fold(self.parts()), self.bias)
        route, matrices = kept
        if len(matrices) == 1:
            return functional.linear(x, matrices[0], self.bias)
        return route.apply(x, matrices, self.bias)

    def _form(self, size: int) -> tuple[Route, list[Tensor]]:
        """Give the route for 2^size rows and its matrices, shared between sizes."""
        route = self.route(1 << size, training=False)
        for other, matrices in self._kept.values():
            if other is route:
                return route, matrices
        return route, [matrix.contiguous() for matrix in route.fold(self.parts())]

    @classmethod
    def from_linear(
        cls,
        linear: nn.Linear,
        factorization: str = "low_rank",
        *,
        rank: Rank | None = None,
        tolerance: float | None = None,
        implementation: str = "auto",
        in_shape: Sequence[int] | None = None,
        out_shape: Sequence[int] | None = None,
    ) -> Self:
        """Compress a dense layer.

        The result says in `relative_error` how far its matrix is from that of the layer, in the
        Frobenius norm.

        Args:
            linear: The layer; it is not changed.
            factorization: As for the class.
            rank: As for the class.
            tolerance: Largest relative error, instead of a rank; not for ``"cp"``.
            implementation: As for the class.
            in_shape: As for the class.
            out_shape: As for the class.

        Returns:
            A layer of the same dtype, on the same device.

        Raises:
            TypeError: If `linear` is no `torch.nn.Linear`.
            ValueError: If neither or both of `rank` and `tolerance` are given, `tolerance` for CP,
                the weights are not finite, or as for the class.

        Examples:
            >>> dense = torch.nn.Linear(30, 20)
            >>> exact = FactorizedLinear.from_linear(dense, "tucker", tolerance=1e-6)
            >>> exact.relative_error < 1e-6
            True
        """
        name = "FactorizedLinear.from_linear"
        if not isinstance(linear, nn.Linear):
            raise TypeError(f"`{name}(linear=...)` must be a torch.nn.Linear. Got {linear!r}.")
        if (rank is None) == (tolerance is None):
            raise ValueError(
                f"`{name}(rank=..., tolerance=...)` must have one of both. Got rank={rank!r} and "
                f"tolerance={tolerance!r}."
            )
        weight = linear.weight.detach()
        _check.dense(name, "linear.weight", weight)
        _check.tolerance(name, tolerance=tolerance)
        layer = cls(
            linear.in_features, linear.out_features, factorization, 1 if rank is None else rank,
            implementation, in_shape=in_shape, out_shape=out_shape, bias=linear.bias is not None,
            device=weight.device, dtype=weight.dtype,
        )  # fmt: skip
        found = fitted(layer._kind, weight, layer.out_shape, layer.in_shape, layer.ranks, tolerance)
        for key, part in zip(layer._names, found.parts, strict=True):
            setattr(layer, key, nn.Parameter(part.to(weight.dtype).contiguous()))
        layer.ranks = found.ranks
        layer._routes = linear_routes(layer._kind, layer.out_shape, layer.in_shape, layer.ranks)
        with torch.no_grad():
            if layer.bias is not None:
                layer.bias.copy_(linear.bias)
            norm = float(weight.double().norm())
            error = float((layer.weight.double() - weight.double()).norm())
        layer.relative_error = error / norm if norm else 0.0
        return layer

    relative_error: float | None = None
    """Error of the weight that `from_linear` measured; none for other layers."""

    def to_linear(self) -> nn.Linear:
        """Give a dense layer with the same matrix and bias, of its own."""
        weight = self.weight.detach()
        linear = nn.Linear(
            self.in_features, self.out_features, self.bias is not None, weight.device, weight.dtype
        )
        with torch.no_grad():
            linear.weight.copy_(weight)
            if self.bias is not None:
                linear.bias.copy_(self.bias)
        return linear

    def extra_repr(self) -> str:
        """Say sizes, format and ranks."""
        return (
            f"{self.in_features}, {self.out_features}, {self.factorization}, in_shape="
            f"{self.in_shape}, out_shape={self.out_shape}, ranks={self.ranks}, "
            f"bias={self.bias is not None}, {self.compression:.3g} times fewer parameters"
        )


def _split(which: str, features: int, shape: Sequence[int] | None, order: int) -> tuple[int, ...]:
    """Check the sizes that features are split into, or choose them."""
    if shape is None:
        return balanced_shape(features, order)
    given = tuple(shape)
    if not 0 < len(given) <= MOST_MODES or not all(isinstance(d, int) and d > 0 for d in given):
        raise ValueError(
            f"`FactorizedLinear({which}_shape=...)` must hold 1 to {MOST_MODES} whole numbers "
            f"above zero. Got {given}."
        )
    if math.prod(given) != features:
        raise ValueError(
            f"`FactorizedLinear({which}_shape=...)` must have the product {features}, as "
            f"{which}_features. Got {given}, whose product is {math.prod(given)}."
        )
    return given
