"""Code blocks of the pages and of the README run, each page from top to bottom as one script."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ase.build import bulk
from ase.io import write

from tensornet import models

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SLOW = {"products.md"}  # times every product


def blocks(page: Path) -> str:
    """All Python of a page."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.S | re.M))


def pages() -> list[object]:
    return [
        pytest.param(page, id=page.name, marks=[pytest.mark.slow] if page.name in SLOW else [])
        for page in PAGES
        if blocks(page)
    ]


@pytest.mark.parametrize("page", pages())
def test_code_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    atoms = bulk("Ar", "fcc", 5.3, cubic=True)
    write(tmp_path / "test.extxyz", atoms)
    (tmp_path / "run").mkdir()
    model = models.build(
        {"name": "gaunt", "cutoff": 5.0, "channels": 4}, elements=[18], reference_energies={18: 0.0}
    )
    models.save(model, tmp_path / "run" / "model.safetensors")
    (tmp_path / "page.py").write_text(blocks(page))
    done = subprocess.run(
        [sys.executable, "page.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env={**os.environ, "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_pages_have_code() -> None:
    """Most pages show how to use what they explain."""
    assert len(pages()) >= 7
