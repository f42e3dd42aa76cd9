"""Products whose weights, one per path and channel, are applied inside the kernel."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tensornet.interop.e3nn.arrangement import Arrangement, Block, groups, split
from tensornet.interop.e3nn.coupling import Table, spread
from tensornet.interop.e3nn.paths import Path, members
from tensornet.kernels import edge_convolution, sparse_product, weighted_product


class _Weighted(nn.Module):
    """Tables and places of weights of groups of paths."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: Any = nn.ModuleList()
        self.order: list[Tensor] = []  # places of the weights
        self.n_weights = 0
        self.n_paths: list[int] = []  # with weights
        self.has_plain: list[bool] = []  # paths without

    def _group(
        self, paths: list[Path], channels: int, width: int,
        inside: dict[int, int], second: dict[int, int], outside: dict[int, int], *, many: bool,
    ) -> None:  # fmt: skip
        """Add a group; `width` channels of weights, which pairs have more of."""
        total = sum(len(path.copies(channels)[0]) for path in paths if path.offset is not None)
        filled, numbers = 0, []
        for path in paths:
            a, v = path.copies(channels)
            one, two, three = (2 * l + 1 for l in path.degrees)
            number = np.full_like(a, total)
            if path.offset is not None:
                number = filled + np.arange(len(a))
                filled += len(a)
                own = path.offset + torch.arange(len(a) * width)
                shape = (path.others, -1, width) if path.turned else (-1, width, path.others)
                turn = (1, 0, 2) if path.turned else (0, 2, 1)
                self.order.append(own.view(shape).permute(turn).flatten())
            kept = path.others if path.outer else 1
            places = (
                inside[path.first] + a * one,
                second[path.second] + (v if many else a) * two,
                outside[path.out] + (a * kept + v * path.outer) * three,
                number,
            )
            numbers.append(spread(path.degrees, path.factor, places, turned=path.turned))
        self.n_paths.append(total)
        self.has_plain.append(any(path.offset is None for path in paths))
        self.tables.append(Table(numbers))

    def take_order(self) -> Tensor:
        """Give the places of the weights, in the order of their use, which are kept no longer."""
        order = torch.cat([*self.order, torch.empty(0, dtype=torch.int64)])
        self.n_weights, self.order = len(order), []
        return order

    def _weights(self, w: Tensor, channels: Sequence[int]) -> list[Tensor]:  # -> (s, p, c) each
        """Take weights ``(s, own)`` apart; paths without have ones."""
        sizes = [n * c for n, c in zip(self.n_paths, channels, strict=True)]
        made = []
        for own, n, c, plain in zip(
            split(w, sizes), self.n_paths, channels, self.has_plain, strict=True
        ):
            part = own.unflatten(1, (n, c))
            made.append(torch.cat([part, part.new_ones(w.shape[0], 1, c)], 1) if plain else part)
        return made


class OneToMany(_Weighted):
    """Every channel of the first side meets the same numbers of the second.

    Args:
        paths: What to compute.
        first: Blocks of the side with channels.
        second: Blocks of the other side.
        out: Blocks of the output; one that keeps both multiplicities has those of the others in
            its components.
    """

    def __init__(
        self, paths: list[Path], first: list[Block], second: list[Block], out: list[Block]
    ) -> None:
        super().__init__()
        parts = groups(path.mul for path in paths)
        self.inside = Arrangement(first, members(paths, parts, "first"))
        self.outside = Arrangement(out, members(paths, parts, "out"))
        starts = np.cumsum([0, *(mul * d for mul, d in second)]).tolist()
        for channels, muls in parts:
            mine = [path for path in paths if path.mul in muls]
            self._group(
                mine, channels, channels,
                self.inside.start, dict(enumerate(starts)), self.outside.start, many=True,
            )  # fmt: skip

    def forward(
        self,
        x: Tensor,  # (n, dim1)
        y: Tensor,  # (e, dim2)
        w: Tensor,  # (e, weights) or (1, weights)
        sender: Tensor,  # (e,)
        receiver: Tensor,  # (e,)
        v: int,
    ) -> Tensor:  # (v, dim)
        """Multiply, and sum at receivers."""
        sums = []
        shapes = self.outside.shapes
        weights = self._weights(w, [c for _, c in shapes])
        for part, own, table, (k, _) in zip(
            self.inside.split(x), weights, self.tables, shapes, strict=True
        ):
            at = table.at_i, table.at_j, table.at_k, table.at_p, table.values(x.dtype)
            own = own.expand(y.shape[0], -1, -1)
            sums.append(edge_convolution(part, y, own, sender, receiver, *at, v, k))
        return self.outside.join(sums, x, v)

    def rows(self, x: Tensor, y: Tensor, w: Tensor) -> Tensor:  # (n, dim1), (n, dim2) -> (n, dim)
        """Multiply row by row."""
        row = torch.arange(x.shape[0], device=x.device)
        done: Tensor = self(x, y, w, row, row, x.shape[0])
        return done


class OneToOne(_Weighted):
    """Every channel of the first side meets its own of the second, or one of a higher number.

    Args:
        paths: What to compute.
        first: Blocks of the first side.
        second: Blocks of the second side.
        out: Blocks of the output.
        pairs: Whether channels are pairs u < v, u of the first and v of the second side.
    """

    def __init__(
        self,
        paths: list[Path],
        first: list[Block],
        second: list[Block],
        out: list[Block],
        *,
        pairs: bool = False,
    ) -> None:
        super().__init__()
        parts = [(m, {m}) for m in sorted({path.mul for path in paths})]
        parts = parts if pairs else groups(path.mul for path in paths)
        widths = [c * (c - 1) // 2 if pairs else c for c, _ in parts]
        results = members(paths, parts, "out")
        self.pairs = pairs
        self.one = Arrangement(first, members(paths, parts, "first"))
        self.two = Arrangement(second, members(paths, parts, "second"))
        self.outside = Arrangement(
            out, [(width, made) for width, (_, made) in zip(widths, results, strict=True)]
        )
        for (channels, muls), width in zip(parts, widths, strict=True):
            mine = [path for path in paths if path.mul in muls]
            starts = self.one.start, self.two.start, self.outside.start
            self._group(mine, channels, width, *starts, many=False)

    def rows(self, x: Tensor, y: Tensor, w: Tensor) -> Tensor:  # (n, dim1), (n, dim2) -> (n, dim)
        """Multiply row by row."""
        made = []
        shapes = self.outside.shapes
        weights = self._weights(w, [c for _, c in shapes])
        for one, two, own, table, n, (k, _) in zip(
            self.one.split(x), self.two.split(y), weights, self.tables, self.n_paths, shapes,
            strict=True,
        ):  # fmt: skip
            if self.pairs:
                one, two = pairs(one, two)
            at, values = (table.at_i, table.at_j, table.at_k), table.values(x.dtype)
            if n:
                made.append(weighted_product(one, two, own, *at, table.at_p, values, k))
            else:
                made.append(sparse_product(one, two, *at, values, k))
        return self.outside.join(made, x, x.shape[0])


def pairs(
    x: Tensor,  # (n, i, c)
    y: Tensor,  # (n, j, c)
) -> tuple[Tensor, Tensor]:  # (n, i, c (c - 1) / 2), (n, j, c (c - 1) / 2)
    """Give every channel u of the first with every channel v > u of the second."""
    c = x.shape[-1]
    u, v = torch.triu_indices(c, c, 1, device=x.device)
    return x.index_select(-1, u), y.index_select(-1, v)
