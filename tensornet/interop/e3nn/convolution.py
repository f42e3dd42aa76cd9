"""e3nn's product over the edges of a graph, summed at receivers, in one kernel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from tensornet import _check
from tensornet.interop.e3nn.arrangement import Permutation
from tensornet.interop.e3nn.instructions import ProductError, Program, of_module, program
from tensornet.interop.e3nn.paths import blocks, seen
from tensornet.interop.e3nn.product import of_program
from tensornet.interop.e3nn.weighted import OneToMany


class TensorProductConv(nn.Module):
    """Multiply features of senders by harmonics of edges, weigh, and sum at receivers.

    It is ``index_add`` over receivers of `e3nn.o3.TensorProduct` applied to every edge, with
    weights of its own per edge (``shared_weights=False, internal_weights=False``), in one pass:
    no edge's product is stored. Edges sorted by receiver are the fastest; any order is right.

    Args:
        irreps_in1: Irreps of the features, as e3nn's `Irreps` or a string.
        irreps_in2: Irreps of the harmonics.
        irreps_out: Irreps of the result.
        instructions: Tuples ``(i_1, i_2, i_out, mode, train[, path_weight])``, as in e3nn.
            Fused where all modes are ``"uvu"``; else `TensorProduct` and ``index_add``.
        in1_var: Variance of each block of the features, one by default.
        in2_var: Variance of each block of the harmonics.
        out_var: Variance wanted of each block of the result.
        irrep_normalization: ``"component"``, ``"norm"`` or ``"none"``.
        path_normalization: ``"element"``, ``"path"`` or ``"none"``.

    Raises:
        ValueError: If an instruction breaks parity, the triangle rule or multiplicities, or a
            variance or normalisation is wrong.
        IndexError: If an instruction names a block that is not there.

    Derivatives:
        Any order, in features, harmonics and weights.

    References:
        Batzner et al., E(3)-equivariant graph neural networks (2022), equation 7; conventions:
        e3nn 0.6, ``o3.TensorProduct``.

    Examples:
        >>> conv = TensorProductConv("8x0e", "0e + 1o", "8x1o", [(0, 1, 0, "uvu", True)])
        >>> edges = torch.tensor([[0, 1], [2, 2]])  # 0 -> 2 and 1 -> 2
        >>> x, sh, weight = torch.ones(3, 8), torch.ones(2, 4), torch.ones(2, conv.weight_numel)
        >>> conv(x, sh, weight, edges)[:, :3]
        tensor([[0., 0., 0.],
                [0., 0., 0.],
                [2., 2., 2.]])
    """

    def __init__(
        self,
        irreps_in1: Any,
        irreps_in2: Any,
        irreps_out: Any,
        instructions: Iterable[Sequence[Any]],
        in1_var: Sequence[float] | Tensor | None = None,
        in2_var: Sequence[float] | Tensor | None = None,
        out_var: Sequence[float] | Tensor | None = None,
        irrep_normalization: str | None = None,
        path_normalization: str | None = None,
    ) -> None:
        super().__init__()
        made = program(
            "TensorProductConv", irreps_in1, irreps_in2, irreps_out, instructions,
            in1_var, in2_var, out_var, irrep_normalization, path_normalization,
        )  # fmt: skip
        self._build(made)

    def _build(self, made: Program) -> None:
        self.irreps_in1, self.irreps_in2 = made.irreps_in1, made.irreps_in2
        self.irreps_out, self.instructions = made.irreps_out, list(made.instructions)
        self.dims, self.weight_numel = made.dims, made.weight_numel
        self.flipped = made.flipped
        paths = [
            seen(made, n, offset)
            for n, (ins, offset) in enumerate(zip(made.instructions, made.offsets(), strict=True))
            if 0 not in ins.path_shape
        ]
        self.fused = all(ins.connection_mode == "uvu" for ins in made.instructions)
        if self.fused:
            sides = blocks(made.irreps_in1), blocks(made.irreps_in2), blocks(made.irreps_out)
            self.product: Any = OneToMany(paths, *sides)
            self.arranged = Permutation(self.product.take_order())
        else:
            self.product = of_program(made, internal=False, shared=False)

    @classmethod
    def from_product(cls, product: Any) -> Self:
        """Make the convolution of a product, of e3nn or of `tensornet.interop.e3nn`.

        Args:
            product: An `e3nn.o3.TensorProduct`; its own weights, if it has any, are not taken.

        Returns:
            The convolution, with the same irreps, paths and factors.

        Raises:
            TypeError: If it is no such product.

        Examples:
            >>> conv = TensorProductConv("8x0e", "1o", "8x1o", [(0, 0, 0, "uvu", True)])
            >>> TensorProductConv.from_product(conv)
            TensorProductConv(8x0e x 1x1o -> 8x1o | 8 weights per edge)
        """
        made = cls.__new__(cls)
        nn.Module.__init__(made)
        made._build(of_module(product))
        return made

    def forward(
        self,
        x: Tensor,  # (n, dim1)
        sh: Tensor,  # (e, dim2)
        weight: Tensor | None,  # (e, weight_numel)
        edge_index: Tensor,  # (2, e)
        n_receivers: int | None = None,
    ) -> Tensor:  # (n_receivers, dim_out)
        """Multiply and sum.

        Args:
            x: Features of the nodes that send.
            sh: Harmonics of the edges.
            weight: Weights of the edges; may be none where the product has none.
            edge_index: Rows sender and receiver, whole numbers.
            n_receivers: Number of nodes that receive, the number that send by default.

        Returns:
            One row per node that receives, zero without edges.

        Raises:
            TypeError: If dtypes differ or `edge_index` holds no whole numbers.
            ValueError: If a shape or device is wrong, or a weight is missing.
            IndexError: If an index is out of range. On a GPU the numbers it concerns are NaN
                instead.
        """
        name = "TensorProductConv"
        if weight is None:
            if self.weight_numel:
                raise ProductError(
                    f"`{name}(weight=...)` must have shape (e, {self.weight_numel}). Got none."
                )
            weight = sh.new_empty(len(sh), 0)
        _check.one_kind(name, x=x, sh=sh, weight=weight)
        indices = edge_index.dtype if isinstance(edge_index, Tensor) else type(edge_index).__name__
        if indices not in (torch.int64, torch.int32):
            raise TypeError(
                f"`{name}(edge_index=...)` must hold torch.int64 or torch.int32. Got {indices}."
            )
        _check.shapes(
            name, x=(x, f"n {self.dims[0]}"), edge_index=(edge_index, "2 e"),
            sh=(sh, f"e {self.dims[1]}"), weight=(weight, f"e {self.weight_numel}"),
        )  # fmt: skip
        n = x.shape[0] if n_receivers is None else n_receivers
        _check.at_least(name, 0, n_receivers=n)
        sender, receiver = edge_index.long()
        if min(x.shape[0], n) == 0 and self._outside(edge_index, x.shape[0], n):
            raise IndexError(self._outside(edge_index, x.shape[0], n))
        try:
            if self.fused:
                w = self.arranged(weight)
                out: Tensor = self.product(x, sh, w, sender, receiver, n)
                return out
            products: Tensor = self.product(x.index_select(0, sender), sh, weight)
            return products.new_zeros(n, self.dims[2]).index_add(0, receiver, products)
        except (IndexError, RuntimeError) as error:
            if self._outside(edge_index, x.shape[0], n):
                raise IndexError(self._outside(edge_index, x.shape[0], n)) from error
            raise

    @staticmethod
    def _outside(edge_index: Tensor, n_senders: int, n_receivers: int) -> str:
        """Say which indices are out of range, if any."""
        if edge_index.is_cuda or not edge_index.numel():
            return ""
        low, high = (t.tolist() for t in edge_index.aminmax(dim=1))
        if min(low) >= 0 and high[0] < n_senders and high[1] < n_receivers:
            return ""
        return (
            f"`TensorProductConv(edge_index=...)` must have senders from 0 to {n_senders - 1} and "
            f"receivers from 0 to {n_receivers - 1}. Got {low[0]} to {high[0]} and {low[1]} to "
            f"{high[1]}."
        )

    def extra_repr(self) -> str:
        """Irreps and number of weights."""
        sides = (self.irreps_in1, self.irreps_in2, self.irreps_out)
        one, two, three = (side.simplify() for side in sides)
        return f"{one} x {two} -> {three} | {self.weight_numel} weights per edge"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"
