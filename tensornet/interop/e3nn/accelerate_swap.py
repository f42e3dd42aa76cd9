"""Another class for a module that already lives: same parameters, buffers and names, other forward.

The class of the instance is changed to one that derives from the class it had, so that optimisers,
state dicts, hooks and ``isinstance`` see no difference. A pickle holds the class it had: a file
written by ``torch.save`` can be read where this library is not installed.
"""

from __future__ import annotations

import copy
import copyreg
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from tensornet.kernels import Kernel

_STATE = "_swap"  # the one attribute that is added


class UnsuitableError(Exception):
    """Why a module is left as it is."""


@dataclass(frozen=True)
class Change:
    """A module to swap.

    Args:
        module: What changes.
        fast: How its forward runs from then on.
        added: Attributes it gets.
    """

    module: nn.Module
    fast: type[Swapped]
    added: dict[str, Any] = field(default_factory=dict)


class Swapped(nn.Module):
    """A module whose forward runs by our kernels. Stands before the class it came from.

    Subclasses write `forward`, and `make` where they need tables; `example` gives inputs on which
    `plain`, the forward it had, and `forward` are compared before anything is believed.
    """

    original: ClassVar[type[nn.Module]]
    how: ClassVar[str] = ""  # what runs now, for the report
    kernel: ClassVar[Kernel[Any, Any] | None] = None  # without which it would be slow

    def make(self) -> Any:
        """Make what the forward needs beside the module's own tensors, a module without state.

        Raises:
            UnsuitableError: If the module is of a form that `forward` does not know.
        """
        return None

    def part(self, like: Tensor) -> Any:
        """Give what `make` made, on the device of `like`; it is made once per device and dtype.

        Args:
            like: An input.
        """
        parts, key = self.__dict__[_STATE]["parts"], (like.device, like.dtype)
        if key not in parts:
            made = self.make()
            parts[key] = made.to(like.device) if isinstance(made, nn.Module) else made
        return parts[key]

    def example(self, like: Tensor) -> tuple[Any, ...] | None:
        """Give random arguments to try, or none if there is nothing to try.

        Args:
            like: A tensor of the dtype and on the device that they are to have.
        """
        return None

    def plain(self, *args: Any) -> Any:
        """Do what the class it came from did."""
        return self.original.forward(self, *args)

    def __reduce_ex__(self, protocol: Any) -> Any:
        reduced: Any = super().__reduce_ex__(protocol)
        _, _, state, *rest = reduced
        added = {_STATE, *self.__dict__[_STATE]["added"]}
        kept = {name: value for name, value in state.items() if name not in added}
        return copyreg._reconstructor, (self.original, object, None), kept, *rest  # type: ignore[attr-defined]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        function, args, state, *_ = self.__reduce_ex__(4)
        made = function(*args)
        memo[id(self)] = made
        made.__setstate__(copy.deepcopy(state, memo))
        added = copy.deepcopy(self.__dict__[_STATE]["added"], memo)
        return swap(made, _fast(type(self)), **added)  # type: ignore[return-value]


class Handled(Swapped):
    """A module whose work its parent does from now on."""


_JOINED: dict[tuple[type[Swapped], type[nn.Module]], type[Swapped]] = {}


def _joined(fast: type[Swapped], original: type[nn.Module]) -> type[Swapped]:
    """Derive a class from both, the same one each time."""
    if (fast, original) not in _JOINED:
        made = type(original.__name__, (fast, original), {"original": original})
        made.__module__ = original.__module__
        _JOINED[fast, original] = made
    return _JOINED[fast, original]


def _fast(made: type[Swapped]) -> type[Swapped]:
    return made.__bases__[0]


def swap(module: nn.Module, fast: type[Swapped], **added: Any) -> Swapped:
    """Change the class of a module.

    Args:
        module: What changes, in place.
        fast: How its forward runs from now on.
        added: Attributes it gets until it is restored.

    Returns:
        The same module, which is a `Swapped` now.
    """
    original = type(module)
    module.__dict__.update(added)
    module.__dict__[_STATE] = {"parts": {}, "added": added}
    module.__class__ = _joined(fast, original)
    assert isinstance(module, Swapped)
    return module


def unswap(module: Swapped) -> None:
    """Give a module the class it had.

    Args:
        module: A module that `swap` changed, in place.
    """
    for name in module.__dict__.pop(_STATE)["added"]:
        del module.__dict__[name]
    object.__setattr__(module, "__class__", module.original)


def compare(module: Swapped, like: Tensor) -> None:
    """Run both forwards on an example, with gradients.

    Args:
        module: A module that was swapped.
        like: A tensor of the dtype and on the device that it works in.

    Raises:
        UnsuitableError: If they differ, or one of them fails.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        args = module.example(like)
    kernel, device = module.kernel, like.device.type
    if kernel is not None and kernel.choose(device, like.dtype) == "reference":
        raise UnsuitableError(f"no kernel for {like.dtype} on {device} here")
    if args is None:
        return
    try:
        before = _evaluated(module.plain, args)
        after = _evaluated(module, args)
    except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError) as error:
        raise UnsuitableError(f"our form of it failed on an example: {error}") from error
    tolerance = 1e-11 if like.dtype == torch.float64 else 2e-5
    for ours, theirs in zip(after, before, strict=True):
        size = float(theirs.abs().max()) if theirs.numel() else 0.0
        difference = float((ours - theirs).abs().max()) if theirs.numel() else 0.0
        if not difference <= tolerance * max(size, 1e-3):
            raise UnsuitableError(
                f"our form of it differs by {difference:.1e} of {size:.1e} on an example"
            )


def _evaluated(run: Callable[..., Any], args: tuple[Any, ...]) -> list[Tensor]:
    """Values, and gradients of a sum of them with weights, in the arguments that ask for one."""
    with torch.enable_grad():
        given = [a.clone() if isinstance(a, Tensor) and a.requires_grad else a for a in args]
        inputs = [g for g in given if isinstance(g, Tensor) and g.requires_grad]
        out = run(*given)
        weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype, device=out.device)
        grads = torch.autograd.grad((out.flatten() * weights).sum(), inputs, allow_unused=True)
    zeros = [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, grads, strict=True)]
    return [out.detach(), *zeros]
