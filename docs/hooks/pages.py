"""Pages of the site that are made from the code: the API, the benchmarks, the gallery, the models.

MkDocs calls `on_files` before it builds. Nothing of this is typed by hand.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))
import api
import benchmarks
import gallery_pages
import links

ROOT = Path(__file__).parents[2]


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made."""
    made = {**api.pages(ROOT / "tensornet"), **benchmarks.pages(), **gallery_pages.pages(ROOT)}
    for name, content in made.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Lead links to files of the repository to the pages that show them."""
    return links.rewritten(markdown, page.file.src_uri)
