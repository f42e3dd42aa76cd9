"""Checks at public doors: shapes and numbers, with errors that say what must hold and what came."""

from torch import Tensor


def shapes(where: str, **args: tuple[Tensor, str]) -> dict[str, int]:
    """Check that the arguments of a public call agree on their axes.

    A letter binds to the first size it meets; a digit is that size; a leading ``...`` is any batch.

    Args:
        where: Name of the public call, for the message.
        args: Each argument with its axes, as in ``x=(x, "n i")``.

    Returns:
        The size bound to each letter.

    Raises:
        ValueError: If an argument has another number of axes or sizes that disagree.

    Examples:
        >>> import torch
        >>> shapes("f", x=(torch.ones(7, 4), "n i"), u=(torch.ones(4, 5), "i r"))
        {'n': 7, 'i': 4, 'r': 5}
    """
    bound: dict[str, int] = {}
    first: dict[str, str] = {}
    for name, (x, spec) in args.items():
        axes = spec.removeprefix("...").split()
        sizes = x.shape[x.ndim - len(axes) :]
        note = ""
        if x.ndim == len(axes) or (spec.startswith("...") and x.ndim > len(axes)):
            for axis, size in zip(axes, sizes, strict=True):
                if bound.setdefault(axis, int(axis) if axis.isdigit() else size) != size:
                    if not axis.isdigit():
                        note = f", with {axis} = {bound[axis]} as in `{first[axis]}`"
                    break
                first.setdefault(axis, name)
            else:
                continue
        raise ValueError(
            f"`{where}({name}=...)` must have shape ({', '.join(spec.split())}){note}. "
            f"Got {tuple(x.shape)}."
        )
    return {axis: size for axis, size in bound.items() if not axis.isdigit()}


def at_least(where: str, least: int, **args: int) -> None:
    """Check that whole numbers are not below `least`.

    Args:
        where: Name of the public call, for the message.
        least: Smallest allowed value.
        args: The arguments by name.

    Raises:
        TypeError: If an argument is no whole number.
        ValueError: If an argument is below `least`.

    Examples:
        >>> at_least("f", 1, rank=0)
        Traceback (most recent call last):
        ...
        ValueError: `f(rank=...)` must be at least 1. Got 0.
    """
    for name, value in args.items():
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"`{where}({name}=...)` must be a whole number. Got {value!r}.")
        if value < least:
            raise ValueError(f"`{where}({name}=...)` must be at least {least}. Got {value}.")
