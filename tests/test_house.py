"""Rules of the tree."""

import ast
import importlib
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PYTHON = sorted((ROOT / "tensornet").rglob("*.py"))
CARDS = sorted([*(ROOT / "models").glob("*/"), *(ROOT / "datasets").glob("*/")])


def functions(path: Path) -> list[tuple[str, int, int]]:
    """Name, line and length without docstring of each function."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            doc = ast.get_docstring(node, clean=False) or ""
            length = (node.end_lineno or 0) - node.lineno + 1 - doc.count("\n")
            found.append((node.name, node.lineno, length))
    return found


def test_no_python_beside_cards() -> None:
    for folder in ("models", "datasets"):
        assert not list((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("card", CARDS, ids=lambda card: f"{card.parent.name}/{card.name}")
def test_every_card_is_written(card: Path) -> None:
    assert len((card / "README.md").read_text(encoding="utf-8")) > 300
    assert (card / ("source.yaml" if card.parent.name == "datasets" else "recipe.yaml")).is_file()
    size = sum(f.stat().st_size for f in card.iterdir())
    assert size < 2_000_000, f"{card} has {size} bytes"


@pytest.mark.parametrize("recipe", sorted((ROOT / "models").glob("*/*.yaml")), ids=str)
def test_every_recipe_is_one(recipe: Path) -> None:
    from tensornet.datasets.generate import load_source
    from tensornet.models import DirectionNet
    from tensornet.train import fit_direction, load_recipe

    if recipe.name == "source.yaml":
        assert load_source(recipe).made is not None
        return
    if not recipe.parent.name.startswith("direction-"):
        load_recipe(recipe)
        return
    content = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    assert set(content) == {"model", "operators", "training"}
    net = DirectionNet.load(recipe.parent / "model.safetensors")
    assert DirectionNet(**content["model"]).config == net.config
    assert net.provenance["recipe"] == content
    inspect.signature(fit_direction).bind(net, [], **content["training"])


def test_rooms_are_packages_with_an_introduction() -> None:
    for folder in {path.parent for path in PYTHON}:
        init = folder / "__init__.py"
        assert init.is_file(), folder
        assert ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))), init


def test_short_tails() -> None:
    for path in PYTHON:
        lines = path.read_text(encoding="utf-8").count("\n")
        assert lines <= 400, f"{path} has {lines} lines"
        for name, line, length in functions(path):
            assert length <= 60, f"{path}:{line} {name} has {length} lines"


def test_no_rooms_for_everything() -> None:
    for path in (ROOT / "tensornet").rglob("*"):
        assert path.stem not in {"utils", "helpers", "common", "misc"}, path


def test_test_files_have_names_of_their_own() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))


def test_public_names_have_docstrings() -> None:
    for init in sorted((ROOT / "tensornet").rglob("__init__.py")):
        module = ".".join(init.parent.relative_to(ROOT).parts)
        room = importlib.import_module(module)
        for node in ast.parse(init.read_text(encoding="utf-8")).body:
            for alias in node.names if isinstance(node, ast.ImportFrom) else ():
                thing = getattr(room, alias.asname or alias.name)
                if callable(thing):
                    assert thing.__doc__, f"{module}.{alias.name}"


def test_importing_costs_nothing_but_torch() -> None:
    heavy = ("ase", "numba", "lightning", "torch_geometric", "e3nn", "matplotlib", "vesin")
    code = f"import sys, tensornet; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_layers_and_models_load_without_graphs_and_trainers() -> None:
    heavy = ("lightning", "torch_geometric", "vesin", "matplotlib", "e3nn")
    rooms = "formats, functional, pde, layers, models"
    code = f"from tensornet import {rooms}; import sys; print({{*{heavy}}} & {{*sys.modules}})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def test_version_is_told_once() -> None:
    import tensornet

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert tensornet.__version__ == project["version"]
    assert f"[{project['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
