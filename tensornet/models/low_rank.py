"""Fine-tuning by updates of low rank: every weight stays, and a tensor in CP format is added."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tensornet import _check
from tensornet.formats import CP
from tensornet.models.potential import Potential
from tensornet.models.registry import build


class LowRankUpdate(nn.Module):
    """Add a tensor of low rank to a weight, as a parametrization of torch.

    A matrix gets the product of two thin ones (LoRA). A weight with more modes, as those per
    degree or per element, gets a CP tensor: one factor per mode, shared by all degrees.

    Args:
        shape: Of the weight.
        rank: Terms of the update, at most those that a tensor of the shape needs.
        generator: Random numbers of the first factors; the last is zero, and so is the update.

    Derivatives:
        Any order.

    References:
        Hu et al., LoRA: Low-rank adaptation of large language models (2022); Jie & Deng, FacT:
        factor-tuning for lightweight adaptation (2023), for more modes.

    Examples:
        >>> update = LowRankUpdate((8, 6), rank=2, generator=torch.Generator().manual_seed(0))
        >>> sum(p.numel() for p in update.parameters())
        28
        >>> bool((update(torch.ones(8, 6)) == 1).all())
        True
    """

    def __init__(self, shape: Sequence[int], rank: int, generator: torch.Generator) -> None:
        super().__init__()
        _check.at_least("LowRankUpdate", 1, rank=rank)
        if len(shape) < 2:
            raise ValueError(f"`LowRankUpdate(shape=...)` must have two modes. Got {tuple(shape)}.")
        rank = max(1, min(rank, math.prod(shape) // max(shape)))
        *first, last = shape
        random = [torch.randn(d, rank, generator=generator) / math.sqrt(d) for d in first]
        self.factors = nn.ParameterList([*random, torch.zeros(last, rank)])

    def forward(
        self,
        weight: Tensor,  # (d1, d2, ...)
    ) -> Tensor:  # (d1, d2, ...)
        """Add the update."""
        return weight + CP(tuple(self.factors)).to_dense()


def add_low_rank(
    model: nn.Module, rank: int, *, skip: Sequence[str] = (), seed: int = 0
) -> list[str]:
    """Add updates of low rank to the weights of a model; nothing else is trained from then on.

    Args:
        model: Any module; it is changed. What it computes is the same at first.
        rank: Terms of each update.
        skip: Names of weights that get none.
        seed: Seed of the factors.

    Returns:
        The names of the weights that got one: those with two modes or more.

    Raises:
        ValueError: If there are none, or the model has updates already.
    """
    if any(parametrize.is_parametrized(module) for module in model.modules()):
        raise ValueError(
            "`add_low_rank(model=...)` must have no updates yet. Got some. (Merge them first.)"
        )
    shapes = {name: p.shape for name, p in model.named_parameters() if p.ndim > 1}
    chosen = [name for name in shapes if name not in skip]
    if not chosen:
        raise ValueError("`add_low_rank(model=...)` must have a weight to update. Got none.")
    generator = torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    for name in chosen:
        owner, _, attribute = name.rpartition(".")
        update = LowRankUpdate(shapes[name], rank, generator)
        weight = model.get_parameter(name)
        module = model.get_submodule(owner)
        parametrize.register_parametrization(module, attribute, update.to(weight))
    return chosen


def merged(model: Potential) -> Potential:
    """Give a model whose updates are added to its weights: a model like any other.

    Args:
        model: A potential, with updates of `add_low_rank` or without.

    Returns:
        A new one, with all parameters trainable; without updates the model itself.
    """
    updated = [m for m in model.named_modules() if parametrize.is_parametrized(m[1])]
    if not updated:
        return model
    state = {k: x for k, x in model.state_dict().items() if "parametrizations." not in k}
    for owner, module in updated:
        for name in module.parametrizations:
            state[f"{owner}.{name}" if owner else name] = getattr(module, name).detach()
    # A copy would share the class that torch made for the model, and lose it to the original.
    result = build(
        model.config,
        elements=model.elements,
        reference_energies=model.reference_energies,
        seed=0,
    )
    result.load_state_dict(state)
    result.provenance = dict(model.provenance)
    return result.to(device=model.device, dtype=model.dtype).train(model.training)
