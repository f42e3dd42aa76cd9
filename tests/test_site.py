"""Pages that are made from the code hold what is there, and links lead somewhere."""

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
HOOKS = ROOT / "docs" / "hooks"
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES += [*sorted((ROOT / "models").rglob("*.md")), ROOT / "datasets" / "README.md"]


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(HOOKS))
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "benchmarks"))
    yield importlib.import_module
    ours = {path.stem for path in (*HOOKS.glob("*.py"), ROOT / "examples/benchmarks/headlines.py")}
    for name in ours & set(sys.modules):
        del sys.modules[name]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_files_lead_to_files(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if not target.startswith(("http:", "https:", "mailto:")):
            made = ("benchmarks.md", "gallery/", "models/", "datasets/", "api/")
            if page.is_relative_to(ROOT / "docs") and any(part in target for part in made):
                continue  # made for the site, and checked when that is built
            assert (page.parent / target).exists(), target


def test_every_public_name_has_a_place(hook: Any) -> None:
    made = hook("api").pages(ROOT / "tensornet")
    assert {"api/formats.md", "api/pde.md", "api/interop.e3nn.md"} <= set(made)
    for page, text in made.items():
        names = re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)
        assert names, page
        assert len(names) == len(set(names))
        room = importlib.import_module(names[0].rpartition(".")[0])
        for name in names:
            assert hasattr(room, name.rpartition(".")[2]), name


def told(name: str) -> dict[str, Any]:
    path = ROOT / "examples" / "benchmarks" / f"{name}.json"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def test_headlines_without_a_peer_are_left_out(hook: Any, tmp_path: Path) -> None:
    rows = [{"sites": 16, "candidate": "tensornet ground_state", "ratio": None}]
    (tmp_path / "dmrg.json").write_text(json.dumps({"rows": rows}))
    (tmp_path / "tucker.json").write_text('{"rows": []}')
    assert list(hook("headlines").measured(tmp_path)) == []


def test_headlines_are_in_the_files(hook: Any) -> None:
    made = hook("benchmarks").pages()
    page = made["benchmarks.md"]
    for path in (ROOT / "examples" / "benchmarks").glob("*.json"):
        assert f"## {path.stem.replace('_', ' ')}\n" in page
    headlines = hook("headlines")
    values = list(headlines.measured(ROOT / "examples" / "benchmarks"))
    assert len(values) == len(headlines.HEADLINES)
    assert all(0.01 < value < 1000 for _, value in values)
    cp = next(r for r in told("cp")["rows"] if r["work"].startswith("100^3"))["seconds"]
    assert values[0][1] == pytest.approx(cp["tensorly"] / cp["tensornet"], rel=1e-9)
    by = next(r for r in told("poisson_sphere")["rows"] if r["case"] == "sphere")["by"]
    best = min(by["pyamg SA"]["seconds"], by["pyamg RS"]["seconds"])
    ours = min(found["seconds"] for name, found in by.items() if name[:3] in ("box", "mul"))
    (value,) = (v for h, v in values if h.benchmark == "poisson_sphere")
    assert value == pytest.approx(best / ours, rel=1e-9)
    assert made["benchmarks.png"][:4] == b"\x89PNG"


def test_tables_keep_what_the_rows_hold(hook: Any) -> None:
    rows = [{"a": 1, "same": 2.5, "by": {"x": {"t": 0.125}, "y": {"t": 3}}}]
    text = hook("benchmarks").table(rows)
    assert "In all rows: a 1, same 2.5." in text
    assert "| x | 0.125 |" in text
    assert "| y | 3 |" in text


@pytest.mark.parametrize(
    ("page", "before", "after"),
    [
        ("pde.md", "../examples/benchmarks/stencil.py", "benchmarks.md#stencil"),
        ("pde.md", "../examples/08_poisson_solvers.py", "gallery/08_poisson_solvers.md"),
        ("how_to/choosing.md", "../../models/gaunt-si/README.md", "../models/gaunt-si.md"),
        ("models/index.md", "../docs/products.md", "../products.md"),
    ],
)
def test_links_are_led_to_pages(hook: Any, page: str, before: str, after: str) -> None:
    assert hook("links").rewritten(f"see [x]({before})", page) == f"see [x]({after})"
