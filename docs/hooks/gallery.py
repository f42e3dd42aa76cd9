"""The pictures of the gallery: every numbered example is run, and its picture is kept.

`python docs/hooks/gallery.py` does all of them, `python docs/hooks/gallery.py 01 04` these two.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "figures" / "gallery"
LARGEST = 150_000  # bytes; above it 256 colours have to do


def draw(numbers: Sequence[str] = ()) -> list[Path]:
    """Run examples, all or those of some numbers, and copy what they draw to the gallery."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    drawn = []
    for script in sorted((ROOT / "examples").glob("[0-9]*.py")):
        if numbers and script.stem[:2] not in numbers:
            continue
        name = f"{script.stem[3:]}.png"
        with tempfile.TemporaryDirectory() as folder:
            words = [sys.executable, str(script)]
            subprocess.run(words, cwd=folder, env={**os.environ, "PYTHONPATH": path}, check=True)
            image = Image.open(Path(folder) / name).convert("RGB")
            if (Path(folder) / name).stat().st_size > LARGEST:
                image = image.quantize(256)
            image.save(PICTURES / f"{script.stem}.png", optimize=True)
        drawn.append(PICTURES / f"{script.stem}.png")
    return drawn


if __name__ == "__main__":
    for picture in draw(sys.argv[1:]):
        sys.stdout.write(f"{picture.relative_to(ROOT)}: {picture.stat().st_size // 1000} kB\n")
