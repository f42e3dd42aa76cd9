"""Which modules of e3nn are swapped, wherever they stand."""

from __future__ import annotations

import e3nn.nn
import e3nn.o3
from torch import nn

from tensornet.interop.e3nn.accelerate_convolution import FastProduct
from tensornet.interop.e3nn.accelerate_modules import (
    FastGate,
    FastHarmonics,
    FastLinear,
    FastNetwork,
)
from tensornet.interop.e3nn.accelerate_selector import FastSelector
from tensornet.interop.e3nn.accelerate_swap import Change, Handled


def changes(module: nn.Module) -> list[Change]:
    """Say what to swap in a module of e3nn; nothing in others.

    Args:
        module: A module of a model.
    """
    if isinstance(module, e3nn.o3.Linear):
        return [Change(module, FastLinear)]
    if isinstance(module, e3nn.o3.SphericalHarmonics):
        return [Change(module, FastHarmonics)]
    if isinstance(module, e3nn.nn.FullyConnectedNet):
        return [Change(module, FastNetwork)]
    if isinstance(module, e3nn.nn.Gate):
        return [Change(module, FastGate), Change(module.mul, Handled)]
    if isinstance(module, e3nn.o3.TensorProduct):
        scalars = all(ir.l == 0 for _, ir in module.irreps_in2)
        if scalars and all(ins.connection_mode == "uvw" for ins in module.instructions):
            return [Change(module, FastSelector)]
        return [Change(module, FastProduct)]
    return []
