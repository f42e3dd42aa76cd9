"""The one thing pyproject.toml cannot say: the embedded data sets travel inside the package.

They stand in `datasets/` of the checkout, with their cards; a wheel gets them as
`tensornet/datasets/samples/`, where `tensornet.datasets.sample` finds them.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithSamples(build_py):
    """Copy `datasets/<name>/` into the package that is built."""

    def run(self) -> None:
        """Build as usual, then copy."""
        super().run()
        if self.editable_mode:
            return  # the checkout itself is there
        for card in Path("datasets").glob("*/source.yaml"):
            target = Path(self.build_lib, "tensornet", "datasets", "samples", card.parent.name)
            shutil.copytree(card.parent, target, dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithSamples})
