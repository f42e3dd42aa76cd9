"""What is slow in MACE: the products on edges, and the symmetric contraction."""

from __future__ import annotations

from typing import Any

import e3nn.o3
import torch
from torch import Tensor, nn

from tensornet.interop.e3nn.accelerate_convolution import FusedProduct
from tensornet.interop.e3nn.accelerate_swap import Change, Swapped, UnsuitableError
from tensornet.interop.e3nn.contraction import fast_symmetric_contraction
from tensornet.kernels import symmetric_polynomial


class FusedInteraction(Swapped):
    """An interaction of MACE, told by an attribute that its product takes the edges too."""


class FastContraction(Swapped):
    """The symmetric contraction of MACE."""

    how = "sparse polynomials"
    kernel = symmetric_polynomial
    contractions: Any

    def make(self) -> nn.Module:
        """Read the couplings."""
        try:
            return fast_symmetric_contraction(self)
        except (TypeError, RuntimeError) as error:
            raise UnsuitableError(str(error)) from error

    def example(self, like: Tensor) -> tuple[Any, ...]:
        """Atoms of up to two elements."""
        first = self.contractions[0]
        elements, _, channels = first.weights_max.shape
        x = like.new_empty(3, channels, first.U_matrix_1.shape[-2]).normal_()
        kinds = torch.arange(3, device=like.device) % min(2, elements)
        return x.requires_grad_(), torch.nn.functional.one_hot(kinds, elements).to(like.dtype)

    def forward(
        self,
        x: Tensor,  # (n, channels, components)
        y: Tensor,  # (n, elements)
    ) -> Tensor:  # (n, dim_out)
        """Contract."""
        return self.part(x)(x, y)  # type: ignore[no-any-return]


def changes(module: nn.Module) -> list[Change]:
    """Say what to swap in a module of MACE; nothing in others.

    Args:
        module: A module of a model.

    Raises:
        UnsuitableError: If it is of a kind that is known, in a form that is not.
    """
    if {"contractions", "irreps_out"} <= {*module._modules, *vars(module)}:
        return [Change(module, FastContraction)]
    if hasattr(module, "conv_tp") and hasattr(module, "conv_tp_weights"):
        return _interaction(module)
    return []


def _interaction(module: nn.Module) -> list[Change]:
    """Turn on the hook that MACE has for fused products."""
    if hasattr(module, "conv_fusion"):
        raise UnsuitableError("another fused product is in use")
    if not isinstance(module.conv_tp, e3nn.o3.TensorProduct):
        raise UnsuitableError(f"its product is {type(module.conv_tp).__name__}, not e3nn's")
    code: Any = type(module).forward.__code__
    if "conv_fusion" not in (*code.co_consts, *code.co_names):
        raise UnsuitableError("this version of MACE has no place for a fused product")
    fused = Change(module.conv_tp, FusedProduct)
    return [Change(module, FusedInteraction, {"conv_fusion": True}), fused]
