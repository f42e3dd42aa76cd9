import json
from pathlib import Path

import pytest

from tensornet import demo
from tensornet.train import RecipeError


@pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning")
def test_runs_end_to_end_and_says_what_came_out(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    result = demo.run(out, epochs=1, steps=40)
    assert json.loads((out / "demo.json").read_text()) == result
    for name in ("model.safetensors", "metrics.json", "md.png", "md.extxyz", "parity.png"):
        assert (out / name).stat().st_size > 1000
    assert result["test"]["forces_rmse"] < 0.5 * result["mean_predictor"]["forces_rmse"]
    assert abs(result["drift_mev_atom_ps"]) < 5  # short, so the line is uncertain
    with pytest.raises(RecipeError, match="not empty"):
        demo.run(out, epochs=1, steps=40)
