"""Find the data sets that come with the library."""

from pathlib import Path

PLACES = (
    Path(__file__).parent / "samples",  # inside an installed wheel
    Path(__file__).parents[2] / "datasets",  # in a checkout
)


def samples() -> tuple[str, ...]:
    """List the data sets that come with the library.

    Returns:
        Their names, sorted; empty when an installation carries none.
    """
    return tuple(
        sorted({card.parent.name for place in PLACES for card in place.glob("*/source.yaml")})
    )


def sample(name: str) -> Path:
    """Give the folder of a data set that comes with the library.

    The folder holds ``train.extxyz.gz`` and ``test.extxyz.gz``, which `ase.io.read` and
    `tensornet.datasets.read` read as they are; ``README.md``, the card; and ``source.yaml``, the
    settings it was computed with.

    Args:
        name: One of `samples()`.

    Returns:
        The folder.

    Raises:
        ValueError: If there is no such data set.

    Examples:
        >>> sorted(file.name for file in sample("ethanol").glob("*.gz"))
        ['test.extxyz.gz', 'train.extxyz.gz']
    """
    if name in samples():
        for place in PLACES:
            if (place / name / "source.yaml").is_file():
                return place / name
    found = ", ".join(samples()) or "none; this installation carries no data sets"
    raise ValueError(
        f"`sample(name=...)` must be a data set that comes with the library. Got {name!r}. "
        f"(There are: {found}.)"
    )
