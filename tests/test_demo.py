import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tensornet import demo
from tensornet.datasets import sample
from tensornet.train import RecipeError

ROOT = Path(__file__).parents[1]


@pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning")
def test_runs_end_to_end_and_says_what_came_out(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    with pytest.raises(ValueError, match="at least 1"):
        demo.run(out, steps=0)
    result = demo.run(out, epochs=1, steps=40)
    assert json.loads((out / "demo.json").read_text()) == result
    for name in ("model.safetensors", "metrics.json", "md.png", "md.extxyz", "parity.png"):
        assert (out / name).stat().st_size > 1000
    assert result["test"]["forces_rmse"] < 0.5 * result["mean_predictor"]["forces_rmse"]
    assert abs(result["drift_mev_atom_ps"]) < 5  # short, so the line is uncertain
    with pytest.raises(RecipeError, match="not empty"):
        demo.run(out, epochs=1, steps=40)
    results = tmp_path / "results.json"
    script = ROOT / "examples" / "benchmarks" / "results.py"
    test = sample("ethanol") / "test.extxyz.gz"
    subprocess.run(
        [sys.executable, script, out, test, "--out", results],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True,
    )  # fmt: skip
    content = json.loads(results.read_text())
    assert content["test"]["forces_rmse"] == result["test"]["forces_rmse"]
    assert content["checks"]["forces_against_differences"] < 1e-6
    assert [row["epoch"] for row in content["curve"]] == [1]
    assert "/" not in content["provenance"]["data"][0]["path"]
