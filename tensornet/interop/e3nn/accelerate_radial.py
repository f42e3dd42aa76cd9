"""Radial networks from tables of the distance, for inference: optional, and within a tolerance."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from tensornet.interop.e3nn.accelerate_modules import FastNetwork
from tensornet.interop.e3nn.accelerate_swap import Change, Swapped, UnsuitableError
from tensornet.layers.table import RadialTable

_START = 0.02  # of the cutoff: Bessel functions are written as sin(r) / r


class Distances(Swapped):
    """The radial embedding of MACE, which passes distances on where tables are used."""

    networks: list[nn.Module]

    def forward(self, lengths: Tensor, *args: Any) -> Any:
        """Give distances and no cutoff, or what it always gave."""
        owners = (self, *self.networks)
        if torch.is_grad_enabled() and any(p.requires_grad for m in owners for p in m.parameters()):
            return self.plain(lengths, *args)
        return lengths, None


class TabulatedNetwork(FastNetwork):
    """A radial network and the embedding before it, as a table of the distance.

    The table is made again when weights have changed.
    """

    how = "a table of the distance where no weight needs a gradient, else as before"
    embedding: nn.Module
    tolerance: float

    def forward(
        self,
        x: Tensor,  # (e, r) or distances (e, 1)
    ) -> Tensor:  # (e, w)
        """Evaluate."""
        if x.shape[1] > 1:
            return super().forward(x)
        out: Tensor = self._table(x)(x.flatten())
        return out

    def _table(self, like: Tensor) -> RadialTable:
        tensors = [*self.parameters(), *self.embedding.parameters(), *self.embedding.buffers()]
        now = like.device, like.dtype, *((t.data_ptr(), t._version) for t in tensors)
        kept = self.__dict__["_swap"]
        if kept.get("made_of") != now:
            kept["table"], kept["made_of"] = self._tabulated().to(like), now
        return kept["table"]  # type: ignore[no-any-return]

    def _tabulated(self) -> RadialTable:
        """Tabulate in float64."""
        embedding, network = (
            copy.deepcopy(m).to("cpu", torch.float64).requires_grad_(False)
            for m in (self.embedding, self)
        )
        assert isinstance(embedding, Distances)
        assert isinstance(network, TabulatedNetwork)
        cutoff, none = float(_cutoff(embedding)), torch.empty(0)

        def function(r: Tensor) -> Tensor:
            rows, _ = embedding.plain(r[:, None], none, none, none)
            return FastNetwork.forward(network, rows)

        start, dtype = _START * cutoff, torch.float64
        return RadialTable(function, cutoff, tolerance=self.tolerance, start=start, dtype=dtype)


def tables(module: nn.Module, tolerance: float) -> list[Change]:
    """Say what to swap in a model of MACE; nothing in others.

    Args:
        module: A module of a model.
        tolerance: Largest relative error of values and slopes.

    Raises:
        UnsuitableError: If its radial networks see more than the distance.
    """
    names = {name for name, _ in module.named_children()}
    if not {"radial_embedding", "interactions"} <= names:
        return []
    embedding: Any = module.radial_embedding
    interactions: Any = module.interactions
    if hasattr(embedding, "distance_transform") or not getattr(embedding, "apply_cutoff", True):
        raise UnsuitableError("no tables: distances are transformed, or the cutoff comes later")
    n = embedding.out_dim
    networks: list[Any] = [getattr(block, "conv_tp_weights", None) for block in interactions]
    for block, network in zip(interactions, networks, strict=True):
        alone = not hasattr(block, "density_fn") and hasattr(network, "hs")
        if not alone or network.hs[0] != n or n < 2:
            raise UnsuitableError("no tables: a radial network sees more than the distance")
    if _cutoff(embedding) is None:
        raise UnsuitableError("no tables: the cutoff is not known")
    more = {"embedding": embedding, "tolerance": tolerance}
    return [
        Change(embedding, Distances, {"networks": networks}),
        *(Change(network, TabulatedNetwork, more) for network in networks),
    ]


def _cutoff(embedding: Any) -> Any:
    return getattr(getattr(embedding, "cutoff_fn", None), "r_max", None)
