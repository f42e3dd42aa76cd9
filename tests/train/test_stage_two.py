import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tensornet.models import load
from tensornet.train import Recipe, RecipeError, fit
from tensornet.train.loss import Loss
from tensornet.train.module import TrainingModule
from tensornet.train.recipe import LossBlock, StageTwo

Make = Callable[..., Recipe]
Same = Callable[[Path, Path], bool]
LATE = {"energy": 1.0, "stage_two": {"start": 0.5, "energy": 50.0}}


class StopError(RuntimeError):
    """Ends a run on purpose."""


def stop_after(patch: pytest.MonkeyPatch, epochs: int) -> None:
    original = TrainingModule.on_train_epoch_start

    def stopping(self: TrainingModule) -> None:
        if self.epoch == epochs:
            raise StopError
        original(self)

    patch.setattr(TrainingModule, "on_train_epoch_start", stopping)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_weights_by_epoch() -> None:
    settings = LossBlock(energy=3, forces=2, stage_two=StageTwo(start=0.75, energy=90))
    loss = Loss(settings, scale=1.0)
    assert loss.at(5, 8).weights == {"energy": 3.0, "forces": 2.0}
    assert loss.at(6, 8).weights == {"energy": 90.0, "forces": 2.0}
    zero = {"energy": (torch.tensor(1.0), torch.tensor(2))}
    assert float(loss.at(6, 8).total(zero)) == 45.0


def test_the_same_until_it_begins_and_the_best_is_of_it(recipe: Make, folder: Path) -> None:
    fit(recipe(loss={"energy": 1.0}), folder / "one")
    fit(recipe(loss=LATE), folder / "two")
    one, two = rows(folder / "one"), rows(folder / "two")
    assert [r["valid_loss"] for r in one[:2]] == [r["valid_loss"] for r in two[:2]]
    assert one[2]["valid_loss"] != two[2]["valid_loss"]
    # The loss of stage two is larger, being weighted more; it is the best all the same.
    assert float(two[3]["valid_loss"]) > float(two[1]["valid_loss"])
    assert load(folder / "two" / "model.safetensors").provenance["epoch"] > 2


def test_it_may_come_while_it_lies_ahead(
    recipe: Make, folder: Path, same_bits: Same, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(recipe(loss=LATE), folder / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(StopError):
            fit(recipe(loss={"energy": 1.0}), folder / "parts")
    fit(recipe(loss=LATE), folder / "parts", resume=True)
    assert same_bits(folder / "whole", folder / "parts")


def test_it_may_not_come_when_it_is_past(
    recipe: Make, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(StopError):
            fit(recipe(loss={"energy": 1.0}), folder / "parts")
    with pytest.raises(RecipeError, match="stage_two"):
        fit(recipe(loss=LATE), folder / "parts", resume=True)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"stage_two": {"start": 1.5}}, "less than 1"),
        ({"stress": 0.0, "stage_two": {"stress": 1.0}}, "weight 0 cannot come later"),
        ({"stage_two": {"enrgy": 1.0}}, "enrgy"),
    ],
)
def test_bad_input(recipe: Make, block: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe(loss=block)
