"""One page for each room, with every public name of its `__init__.py`."""

from __future__ import annotations

import ast
from pathlib import Path

ROOMS = (
    "formats", "linalg", "kernels", "so3", "atoms", "products", "functional", "pde", "layers",
    "models", "datasets", "train", "calculators", "interop.e3nn", "testing",
)  # fmt: skip


def public_names(room: Path) -> list[str]:
    """Names that a room exports: what its `__init__.py` imports as itself, or defines."""
    tree = ast.parse((room / "__init__.py").read_text(encoding="utf-8"))
    names = []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            names += [name.asname for name in node.names if name.asname == name.name]
        elif isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            names.append(node.name)
    return names


def pages(package: Path) -> dict[str, str]:
    """Give Markdown by file name."""
    found = {}
    for room in ROOMS:
        folder = package.joinpath(*room.split("."))
        doc = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
        parts = [f"# tensornet.{room}", doc or ""]
        parts += [f"::: tensornet.{room}.{name}" for name in public_names(folder)]
        found[f"api/{room}.md"] = "\n\n".join(parts) + "\n"
    return found
