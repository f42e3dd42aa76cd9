"""What is slow in SevenNet: the products on edges."""

from __future__ import annotations

from typing import Any

import e3nn.o3
from torch import Tensor, nn

from tensornet.interop.e3nn.accelerate_convolution import FusedProduct
from tensornet.interop.e3nn.accelerate_swap import Change, Swapped, UnsuitableError


class FusedConvolution(Swapped):
    """The convolution of SevenNet, with the sum inside the product."""

    convolution: Any
    weight_nn: Any
    denominator: Tensor

    def forward(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """Multiply and sum."""
        x, harmonics = data[self.key_x], data[self.key_filter]  # type: ignore[index]
        weight = self.weight_nn(data[self.key_weight_input])  # type: ignore[index]
        receiver_sender = data[self.key_edge_idx]  # type: ignore[index]
        sums = self.convolution(x, harmonics, weight, receiver_sender.flip(0))
        data[self.key_x] = sums / self.denominator  # type: ignore[index]
        return data


def changes(module: nn.Module) -> list[Change]:
    """Say what to swap in a module of SevenNet; nothing in others.

    Args:
        module: A module of a model.

    Raises:
        UnsuitableError: If it is of a kind that is known, in a form that is not.
    """
    if not (hasattr(module, "convolution_cls") and hasattr(module, "key_weight_input")):
        return []
    if not isinstance(module.convolution, e3nn.o3.TensorProduct):
        raise UnsuitableError(f"its product is {type(module.convolution).__name__}, not e3nn's")
    if module.is_parallel:
        raise UnsuitableError("it exchanges atoms with other processes")
    return [Change(module, FusedConvolution), Change(module.convolution, FusedProduct)]
