"""The edge convolution as tensornet, e3nn and cuEquivariance do it, each in its own layout.

A side takes features of nodes, harmonics and weights of edges, and gives what nodes receive. Paths
are those of natural parity. `Side.to` brings ours to its layout, `Side.back` its numbers to ours.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import e3nn.o3
import torch
from torch import Tensor

from tensornet.kernels import edge_convolution, sparse_coupling
from tensornet.products.coupling import block, coupling, paths

Function = Callable[[Tensor, Tensor, Tensor], Tensor]
NAMES = ("ours", "e3nn", "cuequivariance")


@dataclass(frozen=True)
class Scene:
    """Sizes and edges, sorted by receiver."""

    l_max: int
    channels: int
    nodes: int
    sender: Tensor
    receiver: Tensor

    @property
    def paths(self) -> list[tuple[int, int, int]]:
        """The degrees of features, harmonics and result of each path."""
        return list(paths(self.l_max, odd_paths=False))

    def blocks(self) -> Tensor:  # (p, i, j, k)
        """The coupling of each path."""
        full = coupling("clebsch_gordan", self.l_max)
        blocks = torch.zeros(len(self.paths), *full.shape)
        for place, path in enumerate(self.paths):
            blocks[place][block(path)] = full[block(path)].float()
        return blocks


@dataclass(frozen=True)
class Side:
    """A convolution; what brings features there and back; its paths among ours, their factors."""

    run: Function
    to: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]
    order: Tensor | None = None  # (p,)
    factors: Tensor | None = None  # (p, 1)

    def weights(self, w: Tensor) -> Tensor:
        """Bring weights (e, p, c), or what goes with their gradients, there."""
        if self.order is not None:
            w = w[:, self.order] * self.factors
        return w.flatten(1)

    def weights_back(self, w: Tensor, channels: int) -> Tensor:
        """Bring gradients in weights back."""
        w = w.unflatten(1, (-1, channels))
        if self.order is not None:
            w = torch.zeros_like(w).index_add(1, self.order, w * self.factors)
        return w


def side(name: str, scene: Scene) -> Side | None:
    """Make a side, or none where it is not installed."""
    if name == "ours":
        return _ours(scene)
    if name == "e3nn":
        return _e3nn(scene)
    return _cuequivariance(scene) if find_spec("cuequivariance_torch") else None


def _ours(s: Scene) -> Side:
    i, j, k, p, values = sparse_coupling(s.blocks())
    ends, d = (s.sender, s.receiver), (s.l_max + 1) ** 2

    def run(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        w = w.unflatten(1, (-1, s.channels))
        return edge_convolution(x, y, w, *ends, i, j, k, p, values, s.nodes, d)

    return Side(run, lambda x: x, lambda x: x)


def _degrees(x: Tensor) -> list[Tensor]:
    return [x[:, l * l : (l + 1) ** 2] for l in range(round(x.shape[1] ** 0.5))]


def _e3nn(s: Scene) -> Side:
    irreps = e3nn.o3.Irreps([(s.channels, (l, (-1) ** l)) for l in range(s.l_max + 1)])
    edge = e3nn.o3.Irreps([(1, (l, (-1) ** l)) for l in range(s.l_max + 1)])
    product = e3nn.o3.TensorProduct(
        irreps, edge, irreps, [(*path, "uvu", True, 1.0) for path in s.paths],
        irrep_normalization="none", path_normalization="none", shared_weights=False,
    )  # fmt: skip
    sizes = [s.channels * (2 * l + 1) for l in range(s.l_max + 1)]

    def run(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        messages = product(x.index_select(0, s.sender), y, w)
        return messages.new_zeros(s.nodes, messages.shape[1]).index_add(0, s.receiver, messages)

    return Side(
        run,
        lambda x: torch.cat([b.mT.flatten(1) for b in _degrees(x)], 1),
        lambda x: torch.cat([b.unflatten(1, (s.channels, -1)).mT for b in x.split(sizes, 1)], 1),
    )


def _cuequivariance(s: Scene) -> Side:
    """Its product keeps paths apart, so that those of a degree are added at the receivers."""
    import cuequivariance
    import cuequivariance_torch

    def irreps(channels: int) -> Any:
        words = [f"{channels}x{l}{'eo'[l % 2]}" for l in range(s.l_max + 1)]
        return cuequivariance.Irreps("O3", " + ".join(words))

    product = cuequivariance_torch.ChannelWiseTensorProduct(
        irreps(s.channels), irreps(1), [part.ir for part in irreps(1)],
        layout=cuequivariance.ir_mul, shared_weights=False, method="naive",
    )  # fmt: skip
    listed = [ir.l for mul, ir in product.irreps_out for _ in range(mul // s.channels)]
    sizes = [s.channels * (2 * l + 1) for l in listed]

    def apart(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        return product(x.index_select(0, s.sender), y, w)

    def run(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        messages = apart(x, y, w)
        out = messages.new_zeros(s.nodes, messages.shape[1]).index_add(0, s.receiver, messages)
        parts = out.split(sizes, 1)
        sums = [
            torch.stack([p for p, l in zip(parts, listed, strict=True) if l == degree]).sum(0)
            for degree in range(s.l_max + 1)
        ]
        return torch.cat(sums, 1)

    def back(x: Tensor) -> Tensor:
        return x.unflatten(1, (-1, s.channels))

    return Side(run, lambda x: x.flatten(1), back, *_factors(s, product))


def _factors(s: Scene, product: Any) -> tuple[Tensor, Tensor]:
    """Find by trial which path each of its weights belongs to, and how it is normalized."""
    d, n_paths = (s.l_max + 1) ** 2, len(s.paths)
    x, y = torch.randn(1, d, s.channels), torch.randn(1, d)
    ours = torch.einsum("pijk,eic,ej->pekc", s.blocks(), x, y)
    place, factors = [], []
    for p in range(n_paths):
        w = torch.zeros(1, n_paths, s.channels)
        w[:, p] = 1
        theirs = product(x.flatten(1), y, w.flatten(1)).flatten()
        theirs = theirs[theirs != 0]
        for q, part in enumerate(ours):
            same = part[part != 0].flatten()
            if len(same) == len(theirs):
                ratio = theirs / same
                if (ratio - ratio[0]).abs().max() < 1e-3 * ratio[0].abs():
                    place.append(q)
                    factors.append(1 / float(ratio.median()))
    assert sorted(place) == list(range(n_paths))
    return torch.tensor(place), torch.tensor(factors)[:, None]
