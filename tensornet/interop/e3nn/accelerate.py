"""Put our kernels into a model that is already there: weights and results stay."""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from tensornet import _check
from tensornet.interop.e3nn import (
    accelerate_e3nn,
    accelerate_mace,
    accelerate_nequip,
    accelerate_radial,
    accelerate_sevennet,
)
from tensornet.interop.e3nn.accelerate_swap import (
    Change,
    Swapped,
    UnsuitableError,
    compare,
    swap,
    unswap,
)

Model = TypeVar("Model", bound=nn.Module)
Rule = Callable[[nn.Module], list[Change]]
RULES: tuple[Rule, ...] = (
    accelerate_mace.changes,
    accelerate_nequip.changes,
    accelerate_sevennet.changes,
    accelerate_e3nn.changes,
)


@dataclass(frozen=True)
class Place:
    """A module of a model, and what was done with it.

    Args:
        name: Where it stands, as in ``named_modules``.
        kind: Its class.
        said: What runs there now, or why it was left.
    """

    name: str
    kind: str
    said: str


@dataclass(frozen=True)
class Acceleration:
    """What `accelerate` did to a model. ``print`` it.

    Args:
        swapped: Modules that run by our kernels.
        left: Modules of a kind we know that stay as they are.
    """

    swapped: tuple[Place, ...]
    left: tuple[Place, ...]

    def __str__(self) -> str:
        lines = [f"{len(self.swapped)} modules swapped, {len(self.left)} left"]
        for title, places in (("swapped", self.swapped), ("left", self.left)):
            groups: dict[tuple[str, str], list[str]] = {}
            for place in places:
                groups.setdefault((place.kind, place.said), []).append(place.name)
            for (kind, said), names in groups.items():
                few = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if names[4:] else "")
                lines.append(f"  {title}: {kind} ({few}): {said}")
        return "\n".join(lines)


_DONE: WeakKeyDictionary[nn.Module, Acceleration] = WeakKeyDictionary()


def accelerate(model: Model, *, splines: float | None = None, verbose: bool = False) -> Model:
    """Swap the slow parts of a model of e3nn's family for our kernels, in place.

    It knows the interactions and products of MACE, NequIP and SevenNet, and in any model the
    products, linear maps, harmonics and radial networks of e3nn. Parameters stay the same objects
    under the same names: optimisers, averages and state dicts go on working, before and after.
    Every swap is first tried on random numbers, with gradients, and undone where results differ.
    A pickle of the model (``torch.save``, ``copy`` to another process) is one of the model as it
    was, to be accelerated again where it is read; ``copy.deepcopy`` keeps the acceleration.

    Args:
        model: On a CPU or a GPU, in float32 or float64. Parts in TorchScript are left as they are,
            so give a model that is not scripted; to script an accelerated one, `restore` it first.
        splines: In MACE, take radial networks from tables of the distance, with relative errors of
            values and slopes below this number, as 1e-6. Where a weight needs a gradient the
            networks themselves run. By default there are no tables.
        verbose: Say on standard error what was swapped and what was left.

    Returns:
        The same model. See `acceleration` for what was done.

    Warns:
        RuntimeWarning: If there was nothing to swap.

    Raises:
        TypeError: If `model` is not a `torch.nn.Module`, or `splines` no number.
        ValueError: If `splines` is not finite and above zero.

    Derivatives:
        Any order, as before.

    Examples:
        >>> import e3nn.o3
        >>> model = accelerate(torch.nn.Sequential(e3nn.o3.Linear("8x0e + 8x1o", "4x0e + 4x1o")))
        >>> print(acceleration(model))
        1 modules swapped, 0 left
          swapped: Linear (0): one matrix per irrep
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"`accelerate(model=...)` must be a torch.nn.Module. Got {type(model).__name__}."
        )
    _check.tolerance("accelerate", splines=splines)
    if splines == 0:
        raise ValueError(f"`accelerate(splines=...)` must be above zero. Got {splines}.")
    rules = RULES
    if splines is not None:
        rules = (partial(accelerate_radial.tables, tolerance=splines), *RULES)
    left = []
    for name, module in list(_places(model)):
        reason = _scripted(name, module) or _changed(module, _like(module, model), rules)
        if reason:
            left.append(Place(name, _kind(module), reason))
    report = Acceleration(_swapped(model), tuple(left))
    _DONE[model] = report
    if not report.swapped:
        warnings.warn(
            f"`accelerate(model=...)` found nothing to swap in {type(model).__name__}.\n{report}",
            RuntimeWarning,
            stacklevel=2,
        )
    if verbose:
        sys.stderr.write(f"{report}\n")
    return model


def acceleration(model: nn.Module) -> Acceleration:
    """Tell what `accelerate` did to a model.

    Args:
        model: A model, accelerated or not.

    Returns:
        What was swapped and what was left. Of a copy of an accelerated model only the former.

    Examples:
        >>> print(acceleration(torch.nn.Identity()))
        0 modules swapped, 0 left
    """
    before = _DONE.get(model)
    return Acceleration(_swapped(model), before.left if before else ())


def restore(model: Model) -> Model:
    """Undo `accelerate`, in place.

    Args:
        model: A model; one that is not accelerated is returned as it is.

    Returns:
        The same model, with the classes it had.

    Examples:
        >>> import e3nn.o3
        >>> linear = e3nn.o3.Linear("4x0e", "4x0e")
        >>> type(restore(accelerate(linear))) is e3nn.o3.Linear
        True
    """
    for module in list(model.modules()):
        if isinstance(module, Swapped):
            unswap(module)
    _DONE.pop(model, None)
    return model


def _places(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules by name, parents first, without what TorchScript holds."""
    inside: tuple[str, ...] = ()
    for name, module in model.named_modules():
        if inside and name.startswith(inside):
            continue
        if isinstance(module, torch.jit.ScriptModule):
            inside += (f"{name}.",)
        yield name, module


def _scripted(name: str, module: nn.Module) -> str:
    """Why TorchScript is left; what e3nn compiles for its own modules is not worth a word."""
    if not isinstance(module, torch.jit.ScriptModule) or name.split(".")[-1].startswith(
        "_compiled"
    ):
        return ""
    return "it is TorchScript, which cannot be changed: accelerate a model that is not scripted"


def _changed(module: nn.Module, like: Tensor | None, rules: tuple[Rule, ...]) -> str:
    """Swap what the first rule that knows a module says, and give the reason if it cannot be."""
    if isinstance(module, Swapped | torch.jit.ScriptModule):
        return ""
    done: list[Swapped] = []
    try:
        for rule in rules:
            listed = rule(module)
            if not listed:
                continue
            if like is None or like.dtype not in (torch.float32, torch.float64):
                dtype = None if like is None else like.dtype
                raise UnsuitableError(f"kernels take float32 and float64, not {dtype}")
            done = [swap(c.module, c.fast, **c.added) for c in listed]
            for swapped in done:
                compare(swapped, like)
            return ""
    except UnsuitableError as refused:
        for swapped in done:
            unswap(swapped)
        return str(refused)
    return ""


def _like(module: nn.Module, model: nn.Module) -> Tensor | None:
    """Give a tensor of the dtype and device that a module works in."""
    tensors = (itertools.chain(m.parameters(), m.buffers()) for m in (module, model))
    return next((t for t in itertools.chain(*tensors) if t.is_floating_point()), None)


def _swapped(model: nn.Module) -> tuple[Place, ...]:
    return tuple(
        Place(name, _kind(module), module.how)
        for name, module in _places(model)
        if isinstance(module, Swapped) and module.how
    )


def _kind(module: nn.Module) -> str:
    return type(module).__name__
