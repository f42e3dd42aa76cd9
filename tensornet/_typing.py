"""Names of types that several rooms use."""

from os import PathLike

Path = str | PathLike[str]
