"""Code blocks of the pages and of the README run, each page from top to bottom as one script."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer
import yaml
from ase.build import bulk
from ase.io import write
from typer.core import TyperGroup
from typer.main import get_command

from tensornet import models
from tensornet.__main__ import app
from tensornet.datasets.generate import Source
from tensornet.datasets.generate.__main__ import command as generate
from tensornet.train import load_recipe

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


def commands() -> list[tuple[str, list[str]]]:
    """Lines of the shell blocks of all pages, without their comments."""
    found = []
    for page in PAGES:
        for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.S | re.M):
            lines = [line.split("  #")[0].strip() for line in block.splitlines()]
            found += [(page.name, shlex.split(line)) for line in lines if line]
    return found


@pytest.mark.parametrize(("page", "words"), commands(), ids=lambda x: x if str(x) else None)
def test_commands_of_pages_exist(page: str, words: list[str]) -> None:
    """Commands are taken apart as the command line does, without being run."""
    if "tensornet" in words:
        rest = words[words.index("tensornet") + 1 :]
        command = get_command(app)
        assert isinstance(command, TyperGroup)
        name, *arguments = rest
        found = command.commands[name].make_context(name, arguments, resilient_parsing=False)
        assert found.params
    elif words[:3] == ["python", "-m", "tensornet.datasets.generate"]:
        generator = typer.Typer()
        generator.command()(generate)
        assert get_command(generator).make_context("generate", words[3:]).params
    elif words[0] == "make":
        assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text()
    else:
        assert words[:2] == ["pip", "install"], (page, words)
        extras = re.findall(r"\[(\w+)\]", words[2])
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert set(extras) <= set(project["optional-dependencies"])


def recipes() -> list[object]:
    return [
        pytest.param(block, id=f"{page.name}-{n}")
        for page in PAGES
        for n, block in enumerate(re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.S | re.M))
    ]


@pytest.mark.parametrize("block", recipes())
def test_recipes_of_pages_are_valid(block: str, tmp_path: Path) -> None:
    content = yaml.safe_load(block)
    if "structure" in content:
        Source.model_validate(content)
        return
    content.setdefault("model", {"name": "gaunt", "cutoff": 5.0})
    content.setdefault("data", {"train": "train.extxyz"})
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content))
    recipe = load_recipe(tmp_path / "recipe.yaml", ())
    assert recipe.model.model_dump()["name"] == content["model"]["name"]
