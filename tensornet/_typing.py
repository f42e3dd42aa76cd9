"""Names of types that several rooms use."""

from os import PathLike

AnyPath = str | PathLike[str]
