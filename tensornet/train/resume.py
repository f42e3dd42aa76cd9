"""May this run go on from that checkpoint? Only with the recipe and the data it began with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tensornet.train.recipe import Recipe, RecipeError, StageTwo

FREE = (
    *("training.device", "training.n_threads", "training.progress", "training.loggers"),
    *("training.workers", "training.max_edges", "data.cache", "data.cache_edges"),
)
# What settings that came later were before, for runs that began then.
LATER = {
    "training.accumulate": "1",
    "training.steps_per_epoch": "null",
    "start.lora": "null",
    "data.free_atoms": "false",
}
FILES = ("train", "valid", "test")


def fingerprint(recipe: Recipe, files: tuple[dict[str, str], ...]) -> dict[str, str]:
    """Name every setting that the weights depend on.

    Args:
        recipe: The recipe.
        files: Its data files with checksums, which stand for their paths: a folder may be moved.

    Returns:
        Values in JSON by dotted key.
    """
    content = recipe.model_dump(mode="json")
    for name in FILES:
        if isinstance(content["data"][name], list):
            content["data"][name] = [f["sha256"][:16] for f in files if f["split"] == name]
    flat = dict(_flat(content))
    return {key: value for key, value in flat.items() if key not in FREE}


def must_match(recipe: Recipe, now: Mapping[str, str], state: Mapping[str, Any]) -> None:
    """Check that a checkpoint belongs to a recipe.

    The number of epochs may change where the learning rate does not depend on it: with the
    schedules plateau and constant. A second stage of the loss may come or change while it lies
    ahead.

    Args:
        recipe: The present recipe.
        now: Its fingerprint.
        state: The checkpoint.

    Raises:
        RecipeError: If settings or data changed; it names them.
    """
    before: dict[str, str] = {**LATER, **state["fingerprint"]}
    now = {**LATER, **now}
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if recipe.optimizer.schedule != "cosine" and recipe.training.epochs >= state["epoch"]:
        keys = [key for key in keys if key != "training.epochs"]
    if _stage_two_ahead(before, state["epoch"]) and _stage_two_ahead(now, state["epoch"]):
        keys = [key for key in keys if not key.startswith("loss.stage_two")]
    if not keys:
        return
    told = ", ".join(_change(key, before.get(key), now.get(key)) for key in keys[:4])
    more = f" and {len(keys) - 4} more" if len(keys) > 4 else ""
    hint = " (The cosine schedule depends on it.)" if keys == ["training.epochs"] else ""
    raise RecipeError(
        f"Cannot resume, the recipe has changed: {told}{more}.{hint} "
        "(Undo the change, or train anew with another folder or `overwrite`.)"
    )


def _stage_two_ahead(settings: Mapping[str, str], epoch: int) -> bool:
    """Whether a recipe has had no second stage of the loss by the end of some epochs."""
    start = settings.get("loss.stage_two.start")
    if start is None:
        return True
    two = StageTwo(start=json.loads(start))
    return two.first_epoch(json.loads(settings["training.epochs"])) >= epoch


def _change(key: str, before: str | None, now: str | None) -> str:
    if key in tuple(f"data.{name}" for name in FILES):
        return f"`{key}` (other files, or other content)"
    return f"`{key}` was {before if before is not None else 'not there'} and is " + (
        now if now is not None else "gone"
    )


def _flat(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    flat = []
    for key, value in content.items():
        if isinstance(value, dict):
            flat += _flat(value, f"{prefix}{key}.")
        else:
            flat.append((prefix + key, json.dumps(value)))
    return flat
