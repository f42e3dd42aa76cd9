"""The page of the products is what its JSON says, and the benchmark behind it runs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "examples" / "benchmarks"


def run(*words: str) -> str:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, *words], env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_tables_of_the_page_are_those_of_the_measurement() -> None:
    assert "is what field.json says" in run(str(BENCHMARKS / "field_page.py"), "--check")
    page = (ROOT / "docs" / "products.md").read_text(encoding="utf-8")
    for figure in re.findall(r"\]\((figures/\S+)\)", page):
        assert (ROOT / "docs" / figure).stat().st_size < 300_000
    for link in re.findall(r"\]\(\.\./(\S+)\)", page):
        assert (ROOT / link).is_file(), link


def test_the_picture_holds_the_laws() -> None:
    content = json.loads((BENCHMARKS / "field.json").read_text(encoding="utf-8"))
    assert content["smoke"] is False
    for row in content["products"]:
        exact = "7 l_max" not in row["product"]
        assert (row["equivariance"] < 1e-12) == exact, row
        assert row["expressivity"] <= row["interactable"] <= row["paths"]
    gaunt = [row for row in content["products"] if row["product"] == "Gaunt"]
    assert [row["expressivity"] for row in gaunt] == [3 * row["l_max"] + 1 for row in gaunt]
    assert {row["l_max"] for row in content["gaunt"]} == set(range(1, 11))


@pytest.mark.slow
def test_the_benchmark_runs(tmp_path: Path) -> None:
    out = tmp_path / "field.json"
    printed = run(str(BENCHMARKS / "field.py"), "--smoke", "--out", str(out))
    fresh = json.loads(out.read_text(encoding="utf-8"))
    kept = json.loads((BENCHMARKS / "field.json").read_text(encoding="utf-8"))
    assert set(kept) - {"again"} <= set(fresh)
    assert fresh["smoke"] is True
    assert "Gaunt" in printed
