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
        self.pieces: list[int] = []  # sizes of paths in the given order, if that can stay
        self.piece_of: list[list[int]] = []  # by step the pieces of its paths
        self.alone = False  # whether all weights there are come here
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
        before = sum(len(paths) for paths in self.piece_of)
        weighted = [path for path in paths if path.offset is not None]
        self.piece_of.append([before + k for k in range(len(weighted))])
        self.tables.append(Table(numbers))
        self.steps.append((place, g, total, total * width - plain, plain))

    def take_order(self) -> Tensor:
        """Give the places of the weights, in the order of their use, which are kept no longer."""
        order = torch.cat([*self.order, torch.empty(0, dtype=torch.int64)])
        plain = any(step[4] for step in self.steps)
        if order.numel() and not plain and all((o.diff() == 1).all() for o in self.order):
            starts = [int(o[0]) for o in self.order]
            ranked = sorted(range(len(starts)), key=lambda k: starts[k])
            self.pieces = [len(self.order[k]) for k in ranked]
            self.piece_of = [[ranked.index(k) for k in step] for step in self.piece_of]
        self.n_weights, self.order = len(order), []
        return order

    def takes_as_given(self, n: int) -> bool:
        """Whether weights of `n` rows, all of them its own, are to stay in the given order.

        They are read once, so that to arrange them would take longer than to use them.
        """
        return self.alone and n > 1 and bool(self.pieces)

    def rows(self, x: Tensor, y: Tensor, w: Tensor) -> Tensor:  # (n, dim1), (n, dim2) -> (n, dim)
        """Multiply row by row."""
        firsts = self.one.split(x)
        seconds = [y] * len(firsts) if self.kind == "many" else self.two.split(y)
        if self.kind == "pairs":
            both = [pairs(a, b) for a, b in zip(firsts, seconds, strict=True)]
            firsts, seconds = [a for a, _ in both], [b for _, b in both]
        if self.takes_as_given(w.shape[0]):
            pieces = w.split(self.pieces, 1)
            parts = [[pieces[k] for k in step] for step in self.piece_of]
        else:
            sizes = [weighted * self.sizes[place][0] for place, _, _, weighted, _ in self.steps]
            parts = [[own] for own in split(w, sizes)]
        sums: list[Tensor | None] = [None] * len(self.outs)
        for table, own, (place, g, total, _, plain) in zip(
            self.tables, parts, self.steps, strict=True
        ):
            made = self._made(firsts[g], seconds[g], table, self.sizes[place][1], total)
            sums[place] = self._mixed(made, own, self.sizes[place][0], plain, sums[place])
        return self.outside.join([s for s in sums if s is not None], x, x.shape[0])

    def _made(self, x: Tensor, y: Tensor, table: Table, d: int, total: int) -> Tensor:
        """Give the channels of all paths of a step: (n, d, channels)."""
        at, values = (table.at_i, table.at_j, table.at_k), table.values(x.dtype)
        n, shape = x.shape[0], (x.shape[0], d, total * x.shape[2])
        if self.kind != "many":
            return sparse_product(x, y, *at, values, d * total).reshape(shape)
        one, row = x.new_ones(1, 1, x.shape[2]).expand(n, -1, -1), torch.arange(n, device=x.device)
        made = edge_convolution(x, y, one, row, row, *at, table.at_p, values, n, d * total)
        return made.reshape(shape)

    def _mixed(
        self, made: Tensor, parts: list[Tensor], mul: int, plain: int, before: Tensor | None
    ) -> Tensor:  # (n, d, mul)
        """Take channels to the output by matrices: one of all paths, or one of each."""
        (n, d, _), rows = made.shape, parts[0].shape[0]
        matrices = [own.unflatten(1, (own.shape[1] // mul, mul)) for own in parts]
        if plain:
            matrices = [torch.cat([matrices[0], made.new_ones(rows, plain, mul)], 1)]
        if rows == 1:
            mixed: Tensor = (made.flatten(0, 1) @ matrices[0][0]).view(n, d, mul)
            return mixed if before is None else before + mixed
        widths = [matrix.shape[1] for matrix in matrices]
        for channels, matrix in zip(split(made, widths), matrices, strict=True):
            if before is None:
                before = torch.bmm(channels, matrix)
            else:
                before = torch.baddbmm(before, channels, matrix)
        assert before is not None
        return before
