"""Links of pages to files of the repository: on the site they lead to the pages made of them."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(((?:\.\./)*)((?:examples|models|datasets|docs)[^)#]*)(#[^)]*)?\)")


def target(path: str) -> str:
    """Give the page of the site that shows a file of the repository."""
    if path.startswith("examples/benchmarks"):
        name = posixpath.basename(path).partition(".")[0]
        known = (ROOT / "examples" / "benchmarks" / f"{name}.json").exists()
        return "benchmarks.md" + (f"#{name.replace('_', '-')}" if known else "")
    if path.startswith("examples"):
        name = posixpath.basename(path)
        return f"gallery/{name[:-3]}.md" if name.endswith(".py") else "gallery/index.md"
    if path.startswith(("models", "datasets")):
        room, _, rest = path.partition("/")
        name = rest.partition("/")[0]
        return f"{room}/{name}.md" if name and not name.endswith(".md") else f"{room}/index.md"
    return path.removeprefix("docs/")


def rewritten(markdown: str, page: str) -> str:
    """Replace the links of a page."""
    here = posixpath.dirname(page) or "."

    def replaced(found: re.Match[str]) -> str:
        _, path, anchor = found.groups()
        to = target(path)
        if "#" not in to and anchor:
            to += anchor
        return f"]({posixpath.relpath(to, here)})"

    return LINK.sub(replaced, markdown)
