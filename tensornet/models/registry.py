"""The architectures by the names that recipes use."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import BaseModel

from tensornet.models.gaunt import Gaunt, GauntConfig
from tensornet.models.lennard_jones import LennardJones, LennardJonesConfig
from tensornet.models.potential import Potential
from tensornet.models.tdn import TDN, TDNConfig

CONFIGS: dict[str, type[BaseModel]] = {
    "gaunt": GauntConfig,
    "tdn": TDNConfig,
    "lennard_jones": LennardJonesConfig,
}
_MODELS: dict[str, type[Any]] = {
    "gaunt": Gaunt,
    "tdn": TDN,
    "lennard_jones": LennardJones,
}


def config(block: Mapping[str, Any]) -> BaseModel:
    """Validate the block `model` of a recipe.

    Args:
        block: Keys and values, among them ``name``.

    Returns:
        The architecture's frozen configuration with all defaults filled in.

    Raises:
        ValueError: If the name is missing or unknown.
        pydantic.ValidationError: If a key is unknown or a value does not fit.
    """
    name = block.get("name")
    if not isinstance(name, str) or name not in CONFIGS:
        near = difflib.get_close_matches(str(name), CONFIGS, n=1)
        hint = f" (Did you mean `{near[0]}`?)" if near else ""
        raise ValueError(
            f"`model: {{name: ...}}` must be one of {', '.join(sorted(CONFIGS))}. "
            f"Got {name!r}.{hint}"
        )
    return CONFIGS[name].model_validate(dict(block))


def build(
    config: BaseModel | Mapping[str, Any],
    *,
    elements: Sequence[int],
    reference_energies: Mapping[int, float],
    scale: float = 1.0,
    shift: Mapping[int, float] | None = None,
    n_neighbours: float = 1.0,
    closest: Mapping[tuple[int, int], float] | None = None,
    seed: int | None = None,
) -> Potential:
    """Make a potential with fresh parameters.

    Args:
        config: A configuration, or the block `model` of a recipe.
        elements: Atomic numbers it shall know.
        reference_energies: Energy of the free atom per atomic number, eV.
        scale: Unit of the network's energies, eV: by custom the RMS of the training forces
            times 1 Å.
        shift: Mean interaction energy of a bound atom per atomic number, eV. Default zero.
        n_neighbours: Mean number of neighbours within the cutoff.
        closest: Shortest distance of two elements in the training data by their atomic numbers,
            Å: closer than `contact` of it, a network is not asked.
        seed: Seed of the initial parameters. By default torch's global generator is used.

    Returns:
        The potential in training mode, float64.

    Raises:
        ValueError: If the architecture is unknown or an argument does not fit.
        pydantic.ValidationError: If a key of `config` is unknown or a value does not fit.
    """
    from_block = globals()["config"]
    block: BaseModel = config if isinstance(config, BaseModel) else from_block(config)
    model = _MODELS[block.model_dump()["name"]]
    before = torch.get_default_dtype()
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        torch.set_default_dtype(torch.float64)
        try:
            potential: Potential = model(
                block,
                elements=elements,
                reference_energies=reference_energies,
                scale=scale,
                shift=shift,
                n_neighbours=n_neighbours,
                closest=closest,
            )
        finally:
            torch.set_default_dtype(before)
    return potential
