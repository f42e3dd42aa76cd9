"""Checks at public doors: shapes and numbers, with errors that say what must hold and what came."""

from collections.abc import Sequence

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
        TypeError: If an argument is no tensor.
        ValueError: If an argument has another number of axes or sizes that disagree.

    Examples:
        >>> import torch
        >>> shapes("f", x=(torch.ones(7, 4), "n i"), u=(torch.ones(4, 5), "i r"))
        {'n': 7, 'i': 4, 'r': 5}
    """
    bound: dict[str, int] = {}
    first: dict[str, str] = {}
    for name, (x, spec) in args.items():
        _tensor(where, name, x)
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


def dense(where: str, name: str, x: Tensor, *, order: int | None = None, least: int = 1) -> None:
    """Check that an argument is a finite, non-empty tensor of floating or complex numbers.

    Args:
        where: Name of the public call, for the message.
        name: Name of the argument.
        x: The argument.
        order: Number of axes it must have, or any number.
        least: Smallest number of axes it may have.

    Raises:
        TypeError: If it is no tensor, or holds whole numbers.
        ValueError: If it has another number of axes, no entries, or NaN or infinite ones.

    Examples:
        >>> import torch
        >>> dense("f", "x", torch.tensor([1.0, float("nan")]))
        Traceback (most recent call last):
        ...
        ValueError: `f(x=...)` must be finite. Got 1 NaN or infinite of 2 entries.
    """
    _numbers(where, name, x)
    if x.ndim < least or (order is not None and x.ndim != order):
        want = f"{order} axes" if order is not None else f"at least {least} axes"
        raise ValueError(f"`{where}({name}=...)` must have {want}. Got shape {tuple(x.shape)}.")
    if x.numel() == 0:
        raise ValueError(f"`{where}({name}=...)` must not be empty. Got shape {tuple(x.shape)}.")
    if not bool(x.detach().sum().isfinite()):  # one pass; where it overflows, count to be sure
        bad = int((~x.detach().isfinite()).sum())
        if bad == 0:
            return
        raise ValueError(
            f"`{where}({name}=...)` must be finite. Got {bad} NaN or infinite of {x.numel()} "
            "entries."
        )


def tolerance(where: str, **args: float | None) -> None:
    """Check that tolerances are finite numbers of at least zero; none is allowed.

    Args:
        where: Name of the public call, for the message.
        args: The arguments by name.

    Raises:
        TypeError: If an argument is no number.
        ValueError: If an argument is negative, infinite or NaN.

    Examples:
        >>> tolerance("f", tolerance=-1.0)
        Traceback (most recent call last):
        ...
        ValueError: `f(tolerance=...)` must be a finite number of at least zero. Got -1.0.
    """
    for name, value in args.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"`{where}({name}=...)` must be a number. Got {value!r}.")
        if not 0 <= value < float("inf"):
            raise ValueError(
                f"`{where}({name}=...)` must be a finite number of at least zero. Got {value}."
            )


def one_of(where: str, allowed: Sequence[str], **args: str) -> None:
    """Check that arguments are among the allowed words.

    Args:
        where: Name of the public call, for the message.
        allowed: The words.
        args: The arguments by name.

    Raises:
        ValueError: If an argument is another.

    Examples:
        >>> one_of("f", ("svd", "gram"), method="qr")
        Traceback (most recent call last):
        ...
        ValueError: `f(method=...)` must be one of svd, gram. Got 'qr'.
    """
    for name, value in args.items():
        if value not in allowed:
            raise ValueError(
                f"`{where}({name}=...)` must be one of {', '.join(allowed)}. Got {value!r}."
            )


def one_kind(where: str, **args: Tensor) -> None:
    """Check that tensors hold floating or complex numbers of one dtype on one device.

    Args:
        where: Name of the public call, for the message.
        args: The tensors by name.

    Raises:
        TypeError: If one is no tensor, holds whole numbers, or differs from the first in dtype.
        ValueError: If one is on another device than the first.

    Examples:
        >>> import torch
        >>> one_kind("f", a=torch.ones(1), b=torch.ones(1, dtype=torch.float16))
        Traceback (most recent call last):
        ...
        TypeError: `f(b=...)` must have the dtype torch.float32 of `a`. Got torch.float16.
    """
    first, x0 = next(iter(args.items()))
    for name, x in args.items():
        _numbers(where, name, x)
        if x.dtype != x0.dtype:
            raise TypeError(
                f"`{where}({name}=...)` must have the dtype {x0.dtype} of `{first}`. Got {x.dtype}."
            )
        if x.device != x0.device:
            raise ValueError(
                f"`{where}({name}=...)` must be on {x0.device}, as `{first}` is. Got {x.device}."
            )


def _tensor(where: str, name: str, x: object) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"`{where}({name}=...)` must be a torch.Tensor. Got {type(x).__name__}.")


def _numbers(where: str, name: str, x: Tensor) -> None:
    _tensor(where, name, x)
    if not (x.is_floating_point() or x.is_complex()):
        raise TypeError(
            f"`{where}({name}=...)` must hold floating or complex numbers. Got {x.dtype}."
        )
