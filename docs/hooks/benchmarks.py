"""The page of benchmarks: every table of every committed JSON, and the headlines as a picture."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

BENCHMARKS = Path(__file__).parents[2] / "examples" / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
from headlines import draw, measured  # noqa: E402

Row = dict[str, Any]
ABOUT = """# Benchmarks

Every number of this page is read from the JSON files in `examples/benchmarks/`, each written by the
script of the same name. Contenders take turns in one process, on one thread, warm, and must agree
before they are timed. `python -m examples.benchmarks` repeats the quick ones on your machine,
with `--full` all.

![How many times faster than whom](benchmarks.png)
"""


def number(value: Any) -> str:
    """Write a value of a table."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(number, value))
    return str(value).replace("|", "\\|")


def flat(row: Row, before: str = "") -> Row:
    """Turn values that are tables into columns of their own."""
    found: Row = {}
    for key, value in row.items():
        if isinstance(value, dict):
            found |= flat(value, f"{before}{key}: ")
        else:
            found[before + key] = value
    return found


def spread(rows: list[Row]) -> list[Row]:
    """Give each contender under ``by`` a row of its own."""
    return [
        flat({**{k: v for k, v in row.items() if not isinstance(v, dict)}, "by": name, **found})
        if isinstance(found, dict) else flat(row)
        for row in rows for name, found in (row.get("by") or {"": None}).items()
    ]  # fmt: skip


def table(rows: list[Row]) -> str:
    """Write rows as Markdown; what is the same in all stands above."""
    rows = spread(rows)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    same = [k for k in columns if len({number(row.get(k)) for row in rows}) == 1 < len(rows)]
    kept = [k for k in columns if k not in same]
    lines = [kept, ["---"] * len(kept)]
    lines += [[number(row.get(key)) for key in kept] for row in rows]
    head = ", ".join(f"{k} {number(rows[0][k])}" for k in same if number(rows[0][k]))
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return (f"In all rows: {head}.\n\n" if head else "") + body


def tables(content: Any, name: str = "") -> list[tuple[str, str]]:
    """Find the tables of a JSON, however deep."""
    if isinstance(content, list) and content and all(isinstance(row, dict) for row in content):
        return [(name or "rows", table(content))]
    if isinstance(content, dict):
        inner = {k: v for k, v in content.items() if k not in ("machine", "versions")}
        found = [t for k, v in inner.items() for t in tables(v, f"{name}, {k}" if name else k)]
        plain = {k: v for k, v in inner.items() if not isinstance(v, list | dict)}
        if name and not found and plain:
            return [(name, table([flat(content)]))]
        return found
    return []


def section(path: Path) -> str:
    """Write what one benchmark says."""
    content = json.loads(path.read_text(encoding="utf-8"))
    doc = ast.get_docstring(ast.parse(path.with_suffix(".py").read_text(encoding="utf-8"))) or ""
    machine, versions = content["machine"], content["versions"]
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    parts = [
        f"## {path.stem.replace('_', ' ')}",
        doc.split("\n\n")[0],
        f"`{content['command']}`, {content['date'][:10]}, {machine['processor']}, "
        f"{machine['threads']} thread, load {machine['load'][0]:g}; {packages}.",
    ]
    for name, text in tables({k: v for k, v in content.items() if k not in ("commands", "by")}):
        inner = "\n".join("    " + line for line in text.splitlines())
        parts.append(f'??? note "{name}"\n\n{inner}')
    return "\n\n".join(parts)


def pages() -> dict[str, str | bytes]:
    """Give the page and its picture by file name."""
    sections = [section(path) for path in sorted(BENCHMARKS.glob("*.json"))]
    with TemporaryDirectory() as folder:
        picture = Path(folder) / "benchmarks.png"
        draw(list(measured(BENCHMARKS)), picture)
        image = picture.read_bytes()
    return {"benchmarks.md": "\n\n".join([ABOUT, *sections]) + "\n", "benchmarks.png": image}
