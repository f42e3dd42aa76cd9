"""What every engine does with a model before it runs it."""

import copy
from os import PathLike

import torch

from tensornet.models import Potential, load
from tensornet.models.gaunt_inference import infer

_DTYPES = {"float32": torch.float32, "float64": torch.float64}


def prepared(
    model: str | PathLike[str] | Potential,
    device: str | torch.device | None,
    dtype: str,
    caller: str,
) -> Potential:
    """Load or copy a model, in evaluation mode and without gradients of its parameters.

    Where there is a way to evaluate it without autograd (`infer`), it is evaluated so.

    Args:
        model: A model file or a potential.
        device: Where it shall compute; by default where it is.
        dtype: ``"float64"`` or ``"float32"``.
        caller: Who asks, for what is said when something does not fit.

    Returns:
        A potential of the caller's own.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no model file, or there is no such dtype.
        TypeError: If `model` is something else.
    """
    if dtype not in _DTYPES:
        raise ValueError(f"`{caller}(dtype=...)` must be 'float64' or 'float32'. Got {dtype!r}.")
    if isinstance(model, str | PathLike):
        potential = load(model)
    elif isinstance(model, Potential):
        potential = copy.deepcopy(model)
    else:
        raise TypeError(
            f"`{caller}(model=...)` must be a model file, a potential, or a list of them. Got "
            f"{type(model).__name__}."
        )
    potential = potential.to(device=device, dtype=_DTYPES[dtype]).eval().requires_grad_(False)
    infer(potential)
    return potential
