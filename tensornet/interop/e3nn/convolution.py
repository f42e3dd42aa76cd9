"""e3nn's product over the edges of a graph, summed at receivers, in one kernel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from tensornet import _check
from tensornet.interop.e3nn.arrangement import Arrangement, Permutation, groups
from tensornet.interop.e3nn.coupling import Table, spread
from tensornet.interop.e3nn.instructions import ProductError, Program, of_module, program
from tensornet.kernels import edge_convolution


class PathConvolution(nn.Module):
    """Instructions of mode ``uvu``: one call of the kernel per group of multiplicities."""

    def __init__(self, made: Program) -> None:
        super().__init__()
        paths = [n for n, ins in enumerate(made.instructions) if 0 not in ins.path_shape]
        sides = [(made.instructions[n].i_in1, made.instructions[n].i_out) for n in paths]
        parts = groups((one, made.irreps_in1[one].mul) for one, _ in sides)
        outs = [(c, sorted({o for i, o in sides if i in blocks})) for c, blocks in parts]
        self.inside = Arrangement(made.irreps_in1, parts)
        self.outside = Arrangement(made.irreps_out, outs)
        self.tables = nn.ModuleList()
        self.n_paths: list[int] = []  # with weights
        self.has_plain: list[bool] = []  # paths without
        order: list[Tensor] = []
        for channels, blocks in parts:
            mine = [n for n in paths if made.instructions[n].i_in1 in blocks]
            order += self._group(made, mine, channels)
        self.weights = Permutation(torch.cat([*order, torch.empty(0)]).long())

    def _group(self, made: Program, mine: list[int], channels: int) -> list[Tensor]:
        """Add a group of instructions; give the places of its weights."""
        slices, offsets = made.irreps_in2.slices(), made.offsets()
        order, blocks, n_paths = [], [], 0
        weighted = [made.instructions[n] for n in mine if made.instructions[n].has_weight]
        total = sum(ins.path_shape[0] // channels * ins.path_shape[1] for ins in weighted)
        for n in mine:
            ins = made.instructions[n]
            one, two, three = made.degrees(ins)
            copies, mul_2 = ins.path_shape[0] // channels, ins.path_shape[1]
            a, v = np.divmod(np.arange(copies * mul_2), mul_2)
            path = n_paths + a * mul_2 + v if ins.has_weight else np.full_like(a, total)
            places = (
                self.inside.start[ins.i_in1] + a * (2 * one + 1),
                slices[ins.i_in2].start + v * (2 * two + 1),
                self.outside.start[ins.i_out] + a * (2 * three + 1),
                path,
            )
            blocks.append(spread((one, two, three), ins.path_weight, places))
            if ins.has_weight:
                own = offsets[n] + torch.arange(copies * channels * mul_2)
                order.append(own.view(copies, channels, mul_2).mT.flatten())
                n_paths += copies * mul_2
        self.n_paths.append(total)
        self.has_plain.append(len(weighted) < len(mine))
        self.tables.append(Table(blocks))
        return order

    def forward(
        self,
        x: Tensor,  # (n, dim1)
        y: Tensor,  # (e, dim2)
        w: Tensor,  # (e, weights)
        sender: Tensor,  # (e,)
        receiver: Tensor,  # (e,)
        v: int,
    ) -> Tensor:  # (v, dim)
        """Multiply and sum."""
        parts = self.inside.split(x)
        sizes = [n * c for n, (_, c) in zip(self.n_paths, self.inside.shapes, strict=True)]
        weights = self.weights(w).split(sizes, 1) if sizes else ()
        sums = []
        for part, own, table, plain, n, (k, c) in zip(
            parts, weights, self.tables, self.has_plain, self.n_paths, self.outside.shapes,
            strict=True,
        ):  # fmt: skip
            own = own.unflatten(1, (n, c))
            if plain:
                own = torch.cat([own, own.new_ones(len(own), 1, c)], 1)
            at = table.at_i, table.at_j, table.at_k, table.at_p, table.values(x.dtype)
            sums.append(edge_convolution(part, y, own, sender, receiver, *at, v, k))
        return self.outside.join(sums, x, v)


class TensorProductConv(nn.Module):
    """Multiply features of senders by harmonics of edges, weigh, and sum at receivers.

    It is ``index_add`` over receivers of `e3nn.o3.TensorProduct` applied to every edge, with
    weights of its own per edge (``shared_weights=False, internal_weights=False``), in one pass:
    no edge's product is stored. Edges sorted by receiver are the fastest; any order is right.

    Args:
        irreps_in1: Irreps of the features, as e3nn's `Irreps` or a string.
        irreps_in2: Irreps of the harmonics.
        irreps_out: Irreps of the result.
        instructions: Tuples ``(i_1, i_2, i_out, mode, train[, path_weight])``, as in e3nn. Mode
            ``"uvu"`` is fused.
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
        self.weight_numel = made.weight_numel
        modes = {ins.connection_mode for ins in made.instructions}
        if modes - {"uvu"}:
            raise ProductError(f"only uvu so far, not {modes}")
        self.product = PathConvolution(made)

    @classmethod
    def from_product(cls, product: Any) -> Self:
        """Make the convolution of a product, of e3nn or of `tensornet.interop.e3nn`.

        Args:
            product: An `e3nn.o3.TensorProduct`; its own weights, if it has any, are not taken.

        Returns:
            The convolution, with the same irreps, paths and factors.

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
        if edge_index.dtype not in (torch.int64, torch.int32):
            raise TypeError(
                f"`{name}(edge_index=...)` must hold torch.int64 or torch.int32. "
                f"Got {edge_index.dtype}."
            )
        dims = self.irreps_in1.dim, self.irreps_in2.dim, self.weight_numel
        _check.shapes(
            name, x=(x, f"n {dims[0]}"), edge_index=(edge_index, "2 e"),
            sh=(sh, f"e {dims[1]}"), weight=(weight, f"e {dims[2]}"),
        )  # fmt: skip
        n = x.shape[0] if n_receivers is None else n_receivers
        _check.at_least(name, 0, n_receivers=n)
        sender, receiver = edge_index.long()
        try:
            out: Tensor = self.product(x, sh, weight, sender, receiver, n)
        except IndexError as error:
            raise IndexError(self._range(edge_index, x.shape[0], n)) from error
        return out

    @staticmethod
    def _range(edge_index: Tensor, n_senders: int, n_receivers: int) -> str:
        low, high = (t.tolist() for t in edge_index.aminmax(dim=1))
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
