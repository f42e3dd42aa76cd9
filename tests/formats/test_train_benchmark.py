"""The benchmark of tensor trains runs, with what is installed, and says where it ran."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_benchmark_runs(tmp_path: Path) -> None:
    out = tmp_path / "tensor_train.json"
    script = ROOT / "examples" / "benchmarks" / "tensor_train.py"
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, str(script), "--smoke", "--out", str(out)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    content = json.loads(out.read_text(encoding="utf-8"))
    assert {"machine", "versions", "date", "command", "missing"} <= set(content)
    ours = [row for row in content["rows"] if row["candidate"].startswith("tensornet")]
    assert len({row["work"] for row in ours}) == 3
    for row in ours:
        assert row["error"] <= 1e-6
        assert row["seconds"] > 0
