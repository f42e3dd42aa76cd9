"""Fields on grids as files: NumPy archives, and VTK images that ParaView reads."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tensornet._files import write_atomically
from tensornet.pde.grid import Grid

_TYPES = {"f": "Float", "i": "Int", "u": "UInt"}
Array = NDArray[np.generic]


def write_fields(
    path: str | Path, grid: Grid, fields: Mapping[str, Tensor], *, time: float | None = None
) -> Path:
    """Write fields to a file.

    ``.vti`` is a VTK image for ParaView, VisIt or PyVista: fields at centres become data of cells,
    fields at corners data of points, vectors have three components. ``.npz`` is NumPy's archive:
    the fields by name, with ``spacing``, ``origin`` and ``time``. A file appears whole or not at
    all.

    Args:
        path: Where to, ``.vti`` or ``.npz``.
        grid: The grid.
        fields: By name: scalars ``(*shape)`` at centres, or with one more along each axis at the
            corners of cells; vectors with an axis of components in front, ``(dim, *shape)``. Also
            masks. Complex numbers are refused, NaN is kept.
        time: When this is.

    Returns:
        The path.

    Raises:
        TypeError: If a field is no tensor, or of numbers that files do not hold.
        ValueError: If the ending is another, there are no fields, the time is not finite, or a
            shape fits neither centres nor corners.
        OSError: If the folder does not exist or cannot be written to.

    References:
        VTK file formats, https://docs.vtk.org/en/latest/design_documents/VTKFileFormats.html

    Examples:
        >>> import tempfile
        >>> grid = Grid((4, 3), spacing=0.5)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_fields(Path(folder) / "a.vti", grid, {"p": torch.ones(4, 3)}).name
        'a.vti'
    """
    path = Path(path)
    arrays = {name: _array("write_fields", grid, name, field) for name, field in fields.items()}
    if path.suffix not in (".vti", ".npz"):
        raise ValueError(f"`write_fields(path=...)` must end with .vti or .npz. Got {path.name!r}.")
    if not arrays:
        raise ValueError("`write_fields(fields=...)` must hold at least one field. Got none.")
    if time is not None and not math.isfinite(time):
        raise ValueError(f"`write_fields(time=...)` must be finite. Got {time}.")
    time = None if time is None else float(time)
    write_atomically(path, (_archive if path.suffix == ".npz" else _image)(grid, arrays, time))
    return path


def write_series(
    path: str | Path,
    grid: Grid,
    fields: Mapping[str, Tensor],
    times: Sequence[float],
) -> Path:
    """Write fields that change in time: one image per time, and a list of them for ParaView.

    Args:
        path: Where to, ``.pvd``; the images come beside it as ``name_0000.vti`` and so on.
        grid: The grid.
        fields: As in `write_fields`, with an axis of time in front.
        times: The times, rising.

    Returns:
        The path, to be opened in ParaView.

    Raises:
        TypeError: As `write_fields`.
        ValueError: As `write_fields`, or if the times are not rising or of another number.
        OSError: As `write_fields`.

    Examples:
        >>> import tempfile
        >>> grid = Grid((4, 3), spacing=0.5)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     made = write_series(f"{folder}/a.pvd", grid, {"p": torch.ones(2, 4, 3)}, (0.0, 0.1))
        ...     sorted(file.name for file in Path(folder).iterdir())
        ['a.pvd', 'a_0000.vti', 'a_0001.vti']
    """
    path = Path(path)
    if path.suffix != ".pvd":
        raise ValueError(f"`write_series(path=...)` must end with .pvd. Got {path.name!r}.")
    times = [float(t) for t in times]
    if not all(math.isfinite(t) for t in times) or sorted(set(times)) != times:
        raise ValueError(f"`write_series(times=...)` must be finite and rising. Got {times}.")
    for name, field in fields.items():
        if not isinstance(field, Tensor) or field.ndim == 0 or len(field) != len(times):
            got = tuple(field.shape) if isinstance(field, Tensor) else type(field).__name__
            raise ValueError(
                f"`write_series(fields=...)` must have {len(times)} times in front. Got {got} for "
                f"{name!r}."
            )
    lines = []
    for k, t in enumerate(times):
        file = path.with_name(f"{path.stem}_{k:04d}.vti")
        write_fields(file, grid, {name: field[k] for name, field in fields.items()}, time=t)
        lines.append(f'    <DataSet timestep="{t!r}" part="0" file={quoteattr(file.name)}/>\n')
    text = (
        '<?xml version="1.0"?>\n<VTKFile type="Collection" version="0.1">\n  <Collection>\n'
        f"{''.join(lines)}  </Collection>\n</VTKFile>\n"
    )
    write_atomically(path, text.encode())
    return path


def _array(where: str, grid: Grid, name: str, field: object) -> tuple[Array, bool, bool]:
    """The numbers, whether they stand at corners, and whether they are vectors."""
    if not isinstance(field, Tensor):
        raise TypeError(
            f"`{where}(fields=...)` must be tensors. Got {type(field).__name__} for {name!r}."
        )
    if field.is_complex() or field.dtype == torch.bfloat16:
        raise TypeError(f"`{where}(fields=...)` must be real. Got {field.dtype} for {name!r}.")
    x = field.detach().cpu()
    x = x.to(torch.uint8) if x.dtype == torch.bool else x
    x = x.float() if x.dtype == torch.float16 else x
    corners = tuple(n + 1 for n in grid.shape)
    for shape, at_corners in ((grid.shape, False), (corners, True)):
        if x.shape == shape:
            return x.numpy(), at_corners, False
        if x.shape[1:] == shape and 1 <= len(x) <= 3:
            return x.numpy(), at_corners, True
    raise ValueError(
        f"`{where}(fields=...)` must have the shape {grid.shape} of the grid, or {corners} at "
        f"corners, with at most three components in front. Got {tuple(x.shape)} for {name!r}."
    )


def _archive(
    grid: Grid, arrays: Mapping[str, tuple[Array, bool, bool]], time: float | None
) -> bytes:
    """An archive of NumPy, not compressed."""
    taken = {"spacing", "origin", "time", "file"} & set(arrays)
    if taken:
        raise ValueError(
            f"`write_fields(fields=...)` must not use the names spacing, origin, time and file in "
            f".npz. Got {', '.join(sorted(taken))}."
        )
    extra = {} if time is None else {"time": np.float64(time)}
    place = {"spacing": np.array(grid.spacing), "origin": np.array(grid.origin)}
    memory = io.BytesIO()
    np.savez(memory, **{k: v[0] for k, v in arrays.items()}, **place, **extra)  # type: ignore[arg-type]
    return memory.getvalue()


def _image(grid: Grid, arrays: Mapping[str, tuple[Array, bool, bool]], time: float | None) -> bytes:
    """An XML file of VTK, binary numbers in base 64."""
    flat = 3 - grid.dim
    extent = " ".join(f"0 {n}" for n in grid.shape) + " 0 0" * flat
    origin = " ".join(repr(x) for x in (*grid.origin, *(0.0,) * flat))
    spacing = " ".join(repr(h) for h in (*grid.spacing, *(1.0,) * flat))
    parts = {False: "", True: ""}
    for name, (x, at_corners, vector) in arrays.items():
        parts[at_corners] += _data(grid, name, x, vector)
    when = "" if time is None else (
        '    <FieldData>\n      <DataArray type="Float64" Name="TimeValue" NumberOfTuples="1" '
        f'format="ascii">{time!r}</DataArray>\n    </FieldData>\n'
    )  # fmt: skip
    text = (
        '<?xml version="1.0"?>\n'
        '<VTKFile type="ImageData" version="1.0" byte_order="LittleEndian" header_type="UInt64">\n'
        f'  <ImageData WholeExtent="{extent}" Origin="{origin}" Spacing="{spacing}">\n{when}'
        f'    <Piece Extent="{extent}">\n'
        f"      <PointData>\n{parts[True]}      </PointData>\n"
        f"      <CellData>\n{parts[False]}      </CellData>\n"
        "    </Piece>\n  </ImageData>\n</VTKFile>\n"
    )
    return text.encode()


def _data(grid: Grid, name: str, x: Array, vector: bool) -> str:
    """One field: first axis fastest, components of a vector together."""
    components = 3 if vector else 1
    if vector:
        x = np.concatenate([x, np.zeros((3 - len(x), *x.shape[1:]), x.dtype)])
    x = np.ascontiguousarray(x.T)
    x = x.astype(x.dtype.newbyteorder("<"))
    kind = f"{_TYPES[x.dtype.kind]}{8 * x.dtype.itemsize}"
    raw = base64.b64encode(np.array([x.nbytes], "<u8").tobytes() + x.tobytes()).decode()
    return (
        f'        <DataArray type="{kind}" Name={quoteattr(name)} '
        f'NumberOfComponents="{components}" format="binary">{raw}</DataArray>\n'
    )
