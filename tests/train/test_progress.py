import io
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tensornet.train import Recipe, fit
from tensornet.train.keeper import Keeper
from tensornet.train.progress import ProgressReport


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("parity", "learning_curve"):
        monkeypatch.setattr(f"tensornet.train.report.{name}", lambda *_, **__: None)


def test_line_per_epoch_where_there_is_no_terminal(
    recipe: Callable[..., Recipe], folder: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="tensornet"):
        fit(recipe(), folder / "out")
    lines = [line for line in caplog.messages if line.startswith("epoch")]
    assert len(lines) == 4
    number = r"[\d.e+-]+"
    assert re.fullmatch(
        rf"epoch 4/4  loss {number} valid {number}  E {number} meV/atom  F {number} meV/Å  "
        r"left 0:00:00",
        lines[-1],
    )


@pytest.mark.parametrize("width", [80, 130])
def test_bar_fits_into_the_terminal(
    recipe: Callable[..., Recipe], folder: Any, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=width, color_system=None)
    original = ProgressReport.__init__

    def with_console(self: ProgressReport, *args: Any, **settings: Any) -> None:
        original(self, *args, **{**settings, "console": console})

    monkeypatch.setattr(ProgressReport, "__init__", with_console)
    fit(recipe(), folder / "out")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    last = re.split(r"[\r\n]+", text.rstrip())[-1]
    assert last.startswith("epoch 4/4")
    assert "left 0:00:00" in last
    assert "valid" in last
    assert len(last.rstrip()) <= width


def test_more_time_than_can_be_told(caplog: pytest.LogCaptureFixture) -> None:
    keeper = Keeper(Path(), patience=None, fingerprint={}, provenance={})
    keeper.history.append({"seconds": 1e6, "train_loss": 1.0, "valid_loss": 1.0})
    shown = ProgressReport(
        keeper, epochs=2**31 - 1, steps_per_epoch=1, console=Console(file=io.StringIO())
    )
    with caplog.at_level("INFO", logger="tensornet"):
        shown.on_train_epoch_end(None, None)  # type: ignore[arg-type]
    assert "left 115740 days" in caplog.text
