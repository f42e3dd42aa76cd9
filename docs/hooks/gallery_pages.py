"""Pages that are made of files of the repository: examples with their pictures, cards."""

from __future__ import annotations

import ast
import re
from pathlib import Path

CARD = re.compile(r"\]\((?:\.\./)?([\w-]+)/README\.md\)")
GALLERY = """# Examples

Each runs in under a minute on a CPU, writes its picture, and asserts what it claims
in its last lines.

<div class="grid cards" markdown>

"""


def example(script: Path, pictures: Path) -> tuple[str, str]:
    """Give the page of an example and its card in the gallery."""
    code = script.read_text(encoding="utf-8")
    doc = ast.get_docstring(ast.parse(code)) or ""
    title = doc.splitlines()[0].rstrip(".")
    shown = (pictures / f"{script.stem}.png").exists()
    image = f"![{title}](../figures/gallery/{script.stem}.png)" if shown else ""
    rest = doc.partition("\n")[2].strip()
    body = code.partition('"""\n\n')[2] if '"""\n\n' in code else code
    page = f"# {title}\n\n{rest}\n\n{image}\n\n`examples/{script.name}`\n\n```python\n{body}```\n"
    card = f"-   [{image}]({script.stem}.md)\n\n    [{title}]({script.stem}.md)\n\n"
    return page, card if shown else f"-   [{title}]({script.stem}.md)\n\n"


def pages(root: Path) -> dict[str, str]:
    """Give the gallery and the cards of models and data sets by file name."""
    found, cards = {}, []
    for script in sorted((root / "examples").glob("[0-9]*.py")):
        page, card = example(script, root / "docs" / "figures" / "gallery")
        found[f"gallery/{script.stem}.md"] = page
        cards.append(card)
    found["gallery/index.md"] = GALLERY + "".join(cards) + "</div>\n"
    for room in ("models", "datasets"):
        text = (root / room / "README.md").read_text(encoding="utf-8")
        found[f"{room}/index.md"] = CARD.sub(r"](\1.md)", text)
        for card_file in sorted((root / room).glob("*/README.md")):
            name = card_file.parent.name
            found[f"{room}/{name}.md"] = CARD.sub(
                r"](\1.md)", card_file.read_text(encoding="utf-8")
            )
    return found
