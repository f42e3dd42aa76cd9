"""Modules that form matrices of their parameters, and keep them until the parameters change."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from operator import attrgetter
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")
_version = attrgetter("_version")


class FormedParts(nn.Module):
    """A module whose weight is made of parts, and what it formed of them.

    What was formed without derivatives is used again until a parameter is changed or replaced, or
    the module is moved, copied, or switched between training and evaluation. A change that autograd
    is not told, as of ``part.data.mul_(2)``, is not seen before one of these.
    """

    _names: tuple[str, ...]

    def __init__(self) -> None:
        super().__init__()
        self._chosen: dict[Hashable, Any] = {}
        self._forget()

    def _forget(self) -> None:
        """Drop what was formed of the parts."""
        self._seen: tuple[Any, ...] = ()
        self._held: tuple[Any, ...] = ()  # so that no other parameter gets the place of one
        self._kept: dict[Any, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was formed: a copy counts the changes of its parts from zero."""
        return {**self.__dict__, "_seen": (), "_held": (), "_kept": {}}

    def _apply(self, *args: Any, **kwargs: Any) -> Self:
        self._forget()
        moved: Self = super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]
        return moved

    def train(self, mode: bool = True) -> Self:
        """Change between training and evaluation, and drop what was formed of the parts.

        Args:
            mode: True for training.
        """
        self._forget()
        return super().train(mode)

    def parts(self) -> list[Tensor]:
        """Give the parts of the weight, in order."""
        return [getattr(self, name) for name in self._names]

    @property
    def n_parameters(self) -> int:
        """Number of real parameters of the weight, without the bias."""
        return sum(part.numel() for part in self.parts())

    def _formed(self, key: Hashable, form: Callable[[], T]) -> T | None:
        """Give what is kept under a key, formed if the parameters changed; none if it may not be.

        Without gradients of the parts only, and not where they are not the parameters themselves,
        as under the transforms of `torch.func`.
        """
        if torch.compiler.is_compiling():
            return None
        if torch.is_grad_enabled() and any(part.requires_grad for part in self.parts()):
            return None
        parts: Any = self._parameters.values()  # the bias does no harm
        try:
            seen = (*map(id, parts), *map(_version, parts), *map(Tensor.data_ptr, parts))
        except (RuntimeError, TypeError, AttributeError):
            return None
        if seen == self._seen:
            found: T | None = self._kept.get(key)
            if found is not None:
                return found
        if not all(type(part) is nn.Parameter for part in self.parts()):
            return None
        if seen != self._seen:
            self._forget()
        plain = torch.autocast(self.parts()[0].device.type, enabled=False)
        with torch.inference_mode(False), torch.no_grad(), plain:
            formed = form()
        self._seen, self._held, self._kept[key] = seen, (*parts,), formed
        return formed
