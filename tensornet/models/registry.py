"""The architectures by the names that recipes use."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
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


def register(model: type[Potential], config: type[BaseModel]) -> None:
    """Make an architecture known by name to recipes, model files and the command line.

    It is made by ``model(config, elements=..., reference_energies=...)`` and, of ``scale``,
    ``shift``, ``n_neighbours`` and ``closest`` (see `build`), those keywords that it names. A
    package of yours that defines it is imported by the command line where it says so in its
    ``pyproject.toml``: ``[project.entry-points."tensornet.models"]``, ``name = "package.module"``.

    Args:
        model: The architecture.
        config: Its settings, with a default for ``name``. Fields that recipes may not hold are
            refused if it forbids extra ones (``extra="forbid"``).

    Raises:
        TypeError: If these are no classes of a potential and of settings.
        ValueError: If the settings have no default ``name``, or another architecture has it.

    Examples:
        >>> from tensornet.models import CONFIGS, LennardJones, config, register
        >>> class ArgonConfig(CONFIGS["lennard_jones"]):
        ...     name: str = "argon"
        ...     epsilon: float = 0.0104
        >>> register(LennardJones, ArgonConfig)
        >>> config({"name": "argon"}).epsilon
        0.0104
        >>> del CONFIGS["argon"]  # not in a program
    """
    if not (isinstance(model, type) and issubclass(model, Potential)):
        raise TypeError(f"`register(model=...)` must be a class of `Potential`. Got {model!r}.")
    if not (isinstance(config, type) and issubclass(config, BaseModel)):
        raise TypeError(f"`register(config=...)` must be a class of pydantic. Got {config!r}.")
    field = config.model_fields.get("name")
    name = field.default if field is not None else None
    if not isinstance(name, str):
        raise ValueError(
            "`register(config=...)` must have a field `name` with a default. Got "
            f"{', '.join(config.model_fields) or 'no fields'}."
        )
    if name in CONFIGS and (_MODELS[name], CONFIGS[name]) != (model, config):
        raise ValueError(
            f"`register(config=...)` must have a name of its own. Got {name!r}, which is "
            f"{_MODELS[name].__name__}."
        )
    CONFIGS[name], _MODELS[name] = config, model


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
    if isinstance(name, str) and name not in CONFIGS:  # an installed package may know it
        for point in entry_points(group="tensornet.models"):
            if point.name == name:
                point.load()
    if not isinstance(name, str) or name not in CONFIGS:
        near = difflib.get_close_matches(str(name), CONFIGS, n=1)
        hint = f" (Did you mean `{near[0]}`?)" if near else ""
        raise ValueError(
            f"`model: {{name: ...}}` must be one of {', '.join(sorted(CONFIGS))}. "
            f"Got {name!r}.{hint}"
        )
    return CONFIGS[name].model_validate(dict(block))


_from_block = config  # for `build`, which has an argument of this name


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
            Å. Below `contact` times this distance a network sees no change, and the pair repels.
        seed: Seed of the initial parameters. By default torch's global generator is used.

    Returns:
        The potential in training mode, float64.

    Raises:
        ValueError: If the architecture is unknown, an argument does not fit, or a number is not
            finite.
        pydantic.ValidationError: If a key of `config` is unknown or a value does not fit.
    """
    block = config if isinstance(config, BaseModel) else _from_block(config)
    _check_statistics(elements, scale, shift or {}, n_neighbours, closest or {})
    model = _MODELS[block.model_dump()["name"]]
    given: dict[str, Any] = {
        "scale": scale, "shift": shift, "n_neighbours": n_neighbours, "closest": closest,
    }  # fmt: skip
    names = inspect.signature(model).parameters
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
                **{name: value for name, value in given.items() if name in names},
            )
        finally:
            torch.set_default_dtype(before)
    return potential


def _check_statistics(
    elements: Sequence[int],
    scale: float,
    shift: Mapping[int, float],
    n_neighbours: float,
    closest: Mapping[tuple[int, int], float],
) -> None:
    """Refuse statistics of training data that would make every energy NaN."""
    given = {"scale": [scale], "shift": shift.values(), "n_neighbours": [n_neighbours]}
    for name, numbers in {**given, "closest": closest.values()}.items():
        wrong = [x for x in numbers if not math.isfinite(x)]
        if wrong:
            raise ValueError(f"`build({name}=...)` must be finite. Got {wrong[0]}.")
    unknown = sorted({z for pair in closest for z in pair}.difference(elements))
    if unknown:
        raise ValueError(
            "`build(closest=...)` must hold pairs of the model's elements. Got the atomic "
            f"number(s) {', '.join(map(str, unknown))}."
        )
