"""Files of fields, read back by XML parsing, NumPy, and VTK where it is installed."""

import base64
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tensornet.pde import Grid, write_fields, write_series

GRID = Grid((3, 4, 5), spacing=(0.5, 0.25, 1.0), origin=(1.0, 0.0, -2.0))


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


FIELDS = {
    "pressure": noise(3, 4, 5),
    "velocity <m/s>": noise(3, 3, 4, 5).float(),
    "mask": noise(3, 4, 5) > 0,
    "potential": noise(4, 5, 6),
}
KINDS = {"Float64": "<f8", "Float32": "<f4", "UInt8": "u1"}


def decoded(data: ET.Element) -> np.ndarray:
    """The numbers of an array, ``(tuples, components)``."""
    assert data.text is not None
    raw = base64.b64decode(data.text)
    assert int.from_bytes(raw[:8], "little") == len(raw) - 8
    numbers = np.frombuffer(raw[8:], KINDS[data.attrib["type"]])
    return numbers.reshape(-1, int(data.attrib["NumberOfComponents"]))


def test_image_by_its_xml(tmp_path: Path) -> None:
    root = ET.parse(write_fields(tmp_path / "a.vti", GRID, FIELDS, time=0.25)).getroot()
    assert root.attrib["type"] == "ImageData"
    assert root.attrib["byte_order"] == "LittleEndian"
    image = root.find("ImageData")
    assert image is not None
    assert image.attrib["WholeExtent"] == "0 3 0 4 0 5"
    assert [float(x) for x in image.attrib["Origin"].split()] == [1, 0, -2]
    assert [float(x) for x in image.attrib["Spacing"].split()] == [0.5, 0.25, 1]
    cells = {
        d.attrib["Name"]: decoded(d) for d in root.iter("DataArray") if d.text and len(d.text) > 9
    }
    for name, field in FIELDS.items():
        x = field.numpy()
        want = np.stack([c.ravel("F") for c in (x if x.ndim == 4 else x[None])], 1)
        assert np.array_equal(cells[name], want), name
    places = {d.attrib["Name"]: kind for kind in ("PointData", "CellData")
              for part in root.iter(kind) for d in part}  # fmt: skip
    assert places["potential"] == "PointData"
    assert places["pressure"] == "CellData"


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_image_by_vtk(dim: int, tmp_path: Path) -> None:
    io = pytest.importorskip("vtkmodules.vtkIOXML")
    numpy_support = pytest.importorskip("vtkmodules.util.numpy_support")
    grid = Grid((3, 4, 5)[:dim], spacing=0.5, origin=1.0)
    fields = {"p": noise(*grid.shape), "v": noise(dim, *grid.shape)}
    reader = io.vtkXMLImageDataReader()
    reader.SetFileName(str(write_fields(tmp_path / "a.vti", grid, fields)))
    reader.Update()
    image = reader.GetOutput()
    assert image.GetNumberOfCells() == grid.n_cells
    data = image.GetCellData()
    p, v = (numpy_support.vtk_to_numpy(data.GetArray(name)) for name in ("p", "v"))
    assert np.array_equal(p, fields["p"].numpy().ravel("F"))
    for k in range(3):
        want = fields["v"][k].numpy().ravel("F") if k < dim else np.zeros(grid.n_cells)
        assert np.array_equal(v[:, k], want)
    bounds = np.zeros(6)
    image.GetCell(1).GetBounds(bounds)  # the next along the first axis
    assert bounds[0] == 1.5


def test_archive(tmp_path: Path) -> None:
    with np.load(write_fields(tmp_path / "a.npz", GRID, FIELDS, time=0.5)) as found:
        assert set(found) == {*FIELDS, "spacing", "origin", "time"}
        for name, field in FIELDS.items():
            assert np.array_equal(found[name], field.numpy())
        assert found["time"] == 0.5
        assert found["spacing"].tolist() == [0.5, 0.25, 1.0]
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]


def test_series(tmp_path: Path) -> None:
    grid = Grid((3, 4), spacing=0.5)
    field = noise(3, 3, 4)
    path = write_series(tmp_path / "flow.pvd", grid, {"p": field}, (0.0, 0.1, 0.30000000000000004))
    sets = list(ET.parse(path).getroot().iter("DataSet"))
    assert [float(d.attrib["timestep"]) for d in sets] == [0.0, 0.1, 0.30000000000000004]
    for one, want in zip(sets, field, strict=True):
        data = list(ET.parse(tmp_path / one.attrib["file"]).getroot().iter("DataArray"))
        assert np.array_equal(decoded(data[-1])[:, 0], want.numpy().ravel("F"))


def test_refuses(tmp_path: Path) -> None:
    grid, p = Grid((3, 4), spacing=0.5), torch.ones(3, 4)
    with pytest.raises(ValueError, match=r"end with .vti or .npz. Got 'a.vtk'"):
        write_fields(tmp_path / "a.vtk", grid, {"p": p})
    with pytest.raises(ValueError, match="at least one field"):
        write_fields(tmp_path / "a.vti", grid, {})
    with pytest.raises(ValueError, match=r"\(3, 4\) of the grid, .* Got \(4, 3\) for 'p'"):
        write_fields(tmp_path / "a.vti", grid, {"p": p.mT})
    with pytest.raises(TypeError, match="must be real"):
        write_fields(tmp_path / "a.vti", grid, {"p": p + 1j})
    with pytest.raises(TypeError, match="Got list for 'p'"):
        write_fields(tmp_path / "a.vti", grid, {"p": [1.0]})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match=r"names spacing, .* Got time"):
        write_fields(tmp_path / "a.npz", grid, {"time": p})
    with pytest.raises(ValueError, match="rising"):
        write_series(tmp_path / "a.pvd", grid, {"p": p.expand(2, 3, 4)}, (0.1, 0.1))
    with pytest.raises(ValueError, match="3 times in front"):
        write_series(tmp_path / "a.pvd", grid, {"p": p.expand(2, 3, 4)}, (0.1, 0.2, 0.3))
    with pytest.raises(FileNotFoundError):
        write_fields(tmp_path / "nowhere" / "a.vti", grid, {"p": p})
    assert list(tmp_path.iterdir()) == []


def test_times_of_any_kind_of_number(tmp_path: Path) -> None:
    p = {"p": noise(3, 4, 5)}
    expected = write_fields(tmp_path / "a.vti", GRID, p, time=0.5).read_text()
    for time in (np.float64(0.5), torch.tensor(0.5)):
        assert write_fields(tmp_path / "b.vti", GRID, p, time=time).read_text() == expected  # type: ignore[arg-type]
    assert {path.name for path in tmp_path.iterdir()} == {"a.vti", "b.vti"}
    with pytest.raises(FileNotFoundError):
        write_fields(tmp_path / "nowhere" / "a.npz", GRID, p)
