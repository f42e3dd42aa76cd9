"""What is slow in NequIP: the products on edges, and self-connections with embedded types."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tensornet.interop.e3nn.accelerate_convolution import FusedProduct
from tensornet.interop.e3nn.accelerate_swap import Change, Swapped, UnsuitableError


class FusedScatter(Swapped):
    """The product and sum of NequIP, with the sum inside the product."""

    tp: Any

    def forward(
        self,
        x: Tensor,  # (n, dim1)
        edge_attr: Tensor,  # (e, dim2)
        edge_weight: Tensor,  # (e, weights)
        edge_dst: Tensor,  # (e,)
        edge_src: Tensor,  # (e,)
    ) -> Tensor:  # (n, dim_out)
        """Multiply and sum."""
        out: Tensor = self.tp(x, edge_attr, edge_weight, torch.stack([edge_src, edge_dst]))
        return out


class InformedInteraction(Swapped):
    """An interaction of NequIP, telling its self-connection which atoms are of one type."""

    sc: Any

    def forward(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """Interact."""
        self.sc.__dict__["species"] = data.get("atom_types")
        try:
            done: dict[str, Tensor] = self.plain(data)
        finally:
            del self.sc.__dict__["species"]
        return done


def changes(module: nn.Module) -> list[Change]:
    """Say what to swap in a module of NequIP; nothing in others.

    Args:
        module: A module of a model.

    Raises:
        UnsuitableError: If it is of a kind that is known, in a form that is not.
    """
    names = {name for name, _ in module.named_children()}
    if "tp_scatter" in names and "sc" in names and module.sc is not None:
        return [Change(module, InformedInteraction)]
    if "tp" in names and hasattr(module, "irreps_edge_attr"):
        if type(module).__name__ != "TensorProductScatter":
            raise UnsuitableError("another fused product is in use")
        product: Any = module.tp
        return [Change(module, FusedScatter), Change(product, FusedProduct)]
    return []
