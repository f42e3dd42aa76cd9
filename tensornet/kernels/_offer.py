"""One implementation of a kernel: where it runs and where its code is."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

Run = Callable[..., Any]


@dataclass(frozen=True)
class Offer:
    """One implementation: where it runs and where its code is.

    Args:
        device: ``"cpu"``, ``"cuda"`` or ``"any"``.
        at: ``"package.module:function"``, imported at the first call.
        dtypes: What it takes; an empty tuple means everything.
    """

    device: str
    at: str
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64)
    _loaded: dict[str, Run] = field(default_factory=dict, repr=False, compare=False)

    def load(self) -> Run:
        """Import the implementation.

        Returns:
            The function that runs.
        """
        if self.at not in self._loaded:
            module, function = self.at.split(":")
            found = getattr(importlib.import_module(module), function)
            self._loaded[self.at] = getattr(found, "reference", found)  # a kernel's own
        return self._loaded[self.at]

    def obstacle(self, device: str, dtype: torch.dtype) -> str | None:
        """Say why this offer cannot run here.

        Args:
            device: Type of the device of the tensors.
            dtype: Their dtype.

        Returns:
            The reason in words, or none when it can run.
        """
        if self.dtypes and dtype not in self.dtypes:
            return f"not for {dtype}"
        if self.device == "any":
            return None
        if self.device == "cuda":
            from tensornet.kernels import _bridge

            if device in _bridge.devices():
                return None
            return "no GPU, and NUMBA_ENABLE_CUDASIM is off"
        return None if self.device == device else f"not for {device}"
