"""Products whose weights mix channels: paths by a kernel, then one matrix product per output."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tensornet.interop.e3nn.arrangement import Arrangement, Block, groups, split
from tensornet.interop.e3nn.coupling import Table, spread
from tensornet.interop.e3nn.paths import Path, members
from tensornet.interop.e3nn.weighted import pairs
from tensornet.kernels import edge_convolution, sparse_product


class Mixed(nn.Module):
    """Every path gives channels, and a matrix takes the channels of all paths to an output.

    Args:
        paths: What to compute.
        first: Blocks of the side with channels.
        second: Blocks of the other side.
        out: Blocks of the output.
        kind: ``"many"``: every channel meets all of the second side. ``"one"``: each meets its
            own. ``"pairs"``: u meets v > u.
    """

    def __init__(
        self, paths: list[Path], first: list[Block], second: list[Block], out: list[Block],
        kind: str,
    ) -> None:  # fmt: skip
        super().__init__()
        self.kind = kind
        parts = groups(path.mul for path in paths)
        if kind == "pairs":
            parts = [(mul, {mul}) for mul in sorted({path.mul for path in paths})]
        self.one = Arrangement(first, members(paths, parts, "first"))
        met = [] if kind == "many" else members(paths, parts, "second")
        self.two = Arrangement(second, met)
        self.outs = sorted({path.out for path in paths})
        self.outside = Arrangement(out, [(out[o][0], [o]) for o in self.outs])
        self.sizes = [out[o] for o in self.outs]
        starts = np.cumsum([0, *(mul * d for mul, d in second)]).tolist()
        second_start = dict(enumerate(starts)) if kind == "many" else self.two.start
        self.order: list[Tensor] = []  # places of the weights
        self.n_weights = 0
        self.tables: Any = nn.ModuleList()
        self.steps: list[tuple[int, int, int, int, int]] = []
        for place, o in enumerate(self.outs):
            for g, (channels, muls) in enumerate(parts):
                mine = [path for path in paths if path.out == o and path.mul in muls]
                if mine:
                    self._step(mine, place, g, channels, second_start)

    def _step(
        self, paths: list[Path], place: int, g: int, channels: int, second: dict[int, int]
    ) -> None:
        """Add the paths of one group to one output; those without weights come last."""
        width = channels * (channels - 1) // 2 if self.kind == "pairs" else channels
        many = self.kind == "many"
        paths = sorted(paths, key=lambda path: path.offset is None)
        total = sum(len(path.copies(channels)[0]) for path in paths)
        filled, numbers, plain = 0, [], 0
        for path in paths:
            a, v = path.copies(channels)
            one, two, _ = (2 * l + 1 for l in path.degrees)
            places = (
                self.one.start[path.first] + a * one,
                second[path.second] + (v if many else a) * two,
                filled + np.arange(len(a)),
                np.zeros_like(a),
            )
            numbers.append(spread(path.degrees, path.factor, places, total, turned=path.turned))
            filled += len(a)
            if path.offset is None:
                plain += len(a) * width
                continue
            own = path.offset + torch.arange(len(a) * width * path.mul_out)
            shape = (-1, width, path.others, path.mul_out)
            turn = (0, 2, 1, 3)
            if path.turned:
                shape, turn = (path.others, -1, width, path.mul_out), (1, 0, 2, 3)
            self.order.append(own.view(shape).permute(turn).flatten())
        self.tables.append(Table(numbers))
        self.steps.append((place, g, total, total * width - plain, plain))

    def take_order(self) -> Tensor:
        """Give the places of the weights, in the order of their use, which are kept no longer."""
        order = torch.cat([*self.order, torch.empty(0, dtype=torch.int64)])
        self.n_weights, self.order = len(order), []
        return order

    def rows(self, x: Tensor, y: Tensor, w: Tensor) -> Tensor:  # (n, dim1), (n, dim2) -> (n, dim)
        """Multiply row by row."""
        firsts = self.one.split(x)
        seconds = [y] * len(firsts) if self.kind == "many" else self.two.split(y)
        if self.kind == "pairs":
            both = [pairs(a, b) for a, b in zip(firsts, seconds, strict=True)]
            firsts, seconds = [a for a, _ in both], [b for _, b in both]
        row = torch.arange(x.shape[0], device=x.device)
        sizes = [weighted * self.sizes[place][0] for place, _, _, weighted, _ in self.steps]
        sums: list[Tensor | None] = [None] * len(self.outs)
        for table, own, (place, g, total, weighted, plain) in zip(
            self.tables, split(w, sizes), self.steps, strict=True
        ):
            mul, d = self.sizes[place]
            matrix = own.unflatten(1, (weighted, mul))
            if plain:
                matrix = torch.cat([matrix, own.new_ones(w.shape[0], plain, mul)], 1)
            at, values = (table.at_i, table.at_j, table.at_k), table.values(x.dtype)
            if self.kind == "many":
                one = x.new_ones(1, 1, firsts[g].shape[2]).expand(x.shape[0], -1, -1)
                made = edge_convolution(
                    firsts[g],
                    seconds[g],
                    one,
                    row,
                    row,
                    *at,
                    table.at_p,
                    values,
                    x.shape[0],
                    d * total,
                )
            else:
                made = sparse_product(firsts[g], seconds[g], *at, values, d * total)
            made = made.reshape(x.shape[0], d, weighted + plain)
            mixed = made.flatten(0, 1) @ matrix[0] if w.shape[0] == 1 else torch.bmm(made, matrix)
            mixed = mixed.view(x.shape[0], d, mul)
            before = sums[place]
            sums[place] = mixed if before is None else before + mixed
        return self.outside.join([s for s in sums if s is not None], x, x.shape[0])
