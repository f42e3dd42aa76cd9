"""Reading recipes: from YAML, dictionaries and overrides, with one-line errors."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from tensornet._typing import AnyPath
from tensornet.models import CONFIGS
from tensornet.models import config as model_config_of
from tensornet.models.long_range import LongRangeConfig
from tensornet.train.recipe import Block, Recipe, RecipeError
from tensornet.train.unique_keys import UniqueKeyLoader
from tensornet.train.values import LARGEST, shown

PATHS = ("data.train", "data.valid", "data.test", "data.cache", "start.model")


def load_recipe(path: AnyPath, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and check it.

    Args:
        path: A YAML file. Relative paths inside are relative to its folder.
        overrides: Settings that win over the file, like ``optimizer.lr=1e-3``. Relative paths
            in overrides are relative to the current folder.

    Returns:
        The recipe with all defaults filled in and all paths absolute.

    Raises:
        RecipeError: If the file is missing or no YAML, a key is unknown (the nearest one is
            suggested), or a value does not fit. The message is one line.
    """
    path = Path(path)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=UniqueKeyLoader)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise RecipeError(f"Cannot read the recipe {path}: {reason}.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or "cannot be parsed"
        raise RecipeError(f"{path}{line}: not valid YAML ({reason}).") from None
    except RecursionError:
        raise RecipeError(f"{path}: not a recipe (it is nested too deeply).") from None
    if not isinstance(content, dict):
        raise RecipeError(f"{path}: a recipe must hold blocks like `model:` and `data:`.")
    for override in overrides:
        _set(content, override)
    return recipe_from(content, folder=path.parent, where=str(path))


def recipe_from(
    content: Mapping[str, Any], *, folder: AnyPath = ".", where: str = "recipe"
) -> Recipe:
    """Check a recipe that is given as a dictionary.

    Args:
        content: The blocks.
        folder: Folder that relative paths refer to.
        where: Name of the recipe in messages.

    Returns:
        The recipe with all defaults filled in.

    Raises:
        RecipeError: If a key is unknown or a value does not fit. The message is one line.
    """
    try:
        block = content.get("model")
        if isinstance(block, Mapping):
            _model_block(block)
        return Recipe.model_validate(dict(content), context={"folder": Path(folder).absolute()})
    except ValidationError as error:
        raise RecipeError(f"{where}: {_one_line(error)}") from None
    except ValueError as error:
        raise RecipeError(f"{where}: {error}") from None


def _model_block(block: Mapping[str, Any]) -> None:
    """Validate the model's block alone, for messages with its own keys."""
    try:
        fields = type(model_config_of(block)).model_fields
        for key, value in block.items():
            if isinstance(value, bool) and key in fields and fields[key].annotation is not bool:
                raise ValueError(f"`model.{key}` must not be true or false. Got {value}.")
            if isinstance(value, int) and abs(value) > LARGEST:
                raise ValueError(f"`model.{key}` must be below {LARGEST + 1}. Got {shown(value)}.")
    except ValidationError as error:
        known = list(CONFIGS[block["name"]].model_fields)
        raise ValueError(_one_line(error, prefix="model", known=known)) from None


def _set(content: dict[str, Any], override: str) -> None:
    """Put ``a.b=value`` into nested dictionaries."""
    key, equals, text = override.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        raise RecipeError(f"An override must look like optimizer.lr=1e-3. Got {shown(override)}.")
    try:
        value = yaml.load(text, Loader=UniqueKeyLoader)
    except (yaml.YAMLError, RecursionError):
        raise RecipeError(f"The value in {shown(override)} is not valid YAML.") from None
    value = _from_here(".".join(names), value)
    for name in names[:-1]:
        inner = content.get(name)
        if inner is None:
            inner = content[name] = {}
        if not isinstance(inner, dict):
            raise RecipeError(f"{shown(override)} goes below `{name}`, which is no block.")
        content = inner
    content[names[-1]] = value


def _from_here(key: str, value: Any) -> Any:
    """Make paths in an override relative to the current folder, not to that of the recipe."""
    if key in ("data", "start") and isinstance(value, dict):
        return {name: _from_here(f"{key}.{name}", x) for name, x in value.items()}
    if key not in PATHS:
        return value
    if isinstance(value, list):
        return [_absolute(x) if isinstance(x, str) else x for x in value]
    if isinstance(value, str) and not (key == "data.valid" and _is_number(value)):
        return _absolute(value)
    return value


def _absolute(path: str) -> str:
    return path if path.startswith("~") else str(Path(path).absolute())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _one_line(error: ValidationError, *, prefix: str = "", known: Sequence[str] = ()) -> str:
    """Say the first problem in one line, with the nearest key where one is misspelt."""
    problems = error.errors(include_url=False)
    problems.sort(key=lambda p: p["type"] != "extra_forbidden")  # a misspelt key explains others
    first, more = problems[0], len(problems) - 1
    names = [str(x) for x in first["loc"] if isinstance(x, str)]
    key = ".".join(([prefix] if prefix else []) + names) or "recipe"
    if first["type"] == "extra_forbidden":
        text = f"`{key}` is no key of a recipe. {_suggest(key, known)}"
    elif first["type"] == "missing":
        text = f"`{key}` is missing."
    elif first["type"] == "model_type":
        text = f"`{key}` must be a block of settings. Got {shown(first['input'])}."
    else:
        said = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
        said = said[:1].lower() + said[1:]
        text = f"`{key}` {said}." + (
            ""
            if isinstance(first["input"], Mapping | BaseModel)
            else f" Got {shown(first['input'])}."
        )
    return " ".join(text.split()) + (f" (And {more} more.)" if more else "")


def _suggest(key: str, known: Sequence[str]) -> str:
    block, _, name = key.rpartition(".")
    if block == "model.long_range":
        known = list(LongRangeConfig.model_fields)
    beside = list(known) or [k.rpartition(".")[2] for k in _keys() if k.rpartition(".")[0] == block]
    if near := difflib.get_close_matches(name, beside, n=1):
        return f"Did you mean `{block + '.' if block else ''}{near[0]}`?"
    if elsewhere := [k for k in _keys() if k.rpartition(".")[2] == name]:
        return f"Did you mean `{elsewhere[0]}`?"
    if near := difflib.get_close_matches(key, list(_keys()), n=1):
        return f"Did you mean `{near[0]}`?"
    return f"Known here: {', '.join(beside)}." if beside else ""


def _keys() -> Iterator[str]:
    """All keys of a recipe, with dots."""
    for name, field in Recipe.model_fields.items():
        yield name
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Block):
            yield from (f"{name}.{key}" for key in inner.model_fields)
