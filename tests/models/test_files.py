from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from tensornet import models
from tensornet.models import ModelFileError, Potential, build, files, load, save


def make() -> Potential:
    config = {"name": "tdn", "cutoff": 4.0, "channels": 4, "heads": 2, "radial_hidden": 4}
    return build(
        config, elements=[1, 8], reference_energies={1: -13.123456789012, 8: -2000.0},
        scale=2.0, shift={1: -1.0, 8: -3.0}, n_neighbours=7.0, seed=3,
    )  # fmt: skip


def test_round_trip_keeps_every_bit(tmp_path: Path) -> None:
    model = make()
    save(model, tmp_path / "m.safetensors", provenance={"data": "none"})
    back = load(tmp_path / "m.safetensors")
    assert back.config == model.config
    assert back.elements == model.elements
    assert back.provenance == {"data": "none"}
    assert back.reference_energies == model.reference_energies
    for (name, a), b in zip(model.state_dict().items(), back.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_everything_that_shapes_the_output_is_in_the_file(tmp_path: Path) -> None:
    from ase.build import molecule

    from tensornet.atoms import graph

    model = make().eval()
    save(model, tmp_path / "m.safetensors")
    g = graph(molecule("H2O"), 4.0)
    assert torch.equal(load(tmp_path / "m.safetensors")(g)["energy"], model(g)["energy"])


def test_dtype(tmp_path: Path) -> None:
    save(make().float(), tmp_path / "m.safetensors")
    assert load(tmp_path / "m.safetensors").dtype == torch.float32
    wide = load(tmp_path / "m.safetensors", dtype="float64")
    assert wide.dtype == torch.float64
    assert wide.reference_energies[1] == -13.123456789012


def test_foreign_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no file"):
        load(tmp_path / "none.safetensors")
    foreign = tmp_path / "foreign.safetensors"
    save_file({"x": torch.ones(2)}, foreign)
    with pytest.raises(ModelFileError, match="another program"):
        load(foreign)
    (tmp_path / "text").write_text("not a model")
    with pytest.raises(ModelFileError, match="Truncated"):
        load(tmp_path / "text")
    whole = tmp_path / "m.safetensors"
    save(make(), whole)
    for size in (0, 5, 300, whole.stat().st_size - 8):
        (tmp_path / "cut").write_bytes(whole.read_bytes()[:size])
        with pytest.raises(ModelFileError):
            load(tmp_path / "cut")


def test_newer_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newer = replace(files.CONTAINER, version=2)
    monkeypatch.setattr(files, "CONTAINER", newer)
    save(make(), tmp_path / "m.safetensors")
    monkeypatch.undo()
    with pytest.raises(ModelFileError, match="Update tensornet"):
        load(tmp_path / "m.safetensors")


def test_a_failed_write_leaves_the_previous_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.safetensors"
    save(make(), path)
    before = path.read_bytes()

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        save(make(), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_config_errors() -> None:
    with pytest.raises(ValueError, match="Did you mean `tdn`"):
        models.config({"name": "tnd"})
    with pytest.raises(ValidationError, match="chanels"):
        models.config({"name": "tdn", "chanels": 4})
    with pytest.raises(ValidationError, match="multiple of heads"):
        models.config({"name": "tdn", "channels": 6, "heads": 4})
    with pytest.raises(ValidationError, match="needs product: cp"):
        models.config({"name": "tdn", "rank": 8})
    with pytest.raises(ValidationError, match="needs path_weights: shared"):
        models.config({"name": "tdn", "product": "cp"})
    with pytest.raises(ValidationError, match="l_max of at least 1"):
        models.config({"name": "tdn", "l_max": 0, "forces": "direct"})
    with pytest.raises(ValueError, match="Missing: O"):
        build({"name": "tdn"}, elements=[1, 8], reference_energies={1: 0.0})


def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    model = make()
    with torch.no_grad():
        model.get_parameter("embedding")[0, 1] = torch.nan
    save(model, tmp_path / "m.safetensors")
    with pytest.raises(ModelFileError, match=r"finite weights\. Got NaN .*`embedding`"):
        load(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        {"format_version": "one"},
        {"dtype": "float31"},
        {"elements": "null"},
        {"elements": "[1"},
        {"config": "[]"},
        {"provenance": "{"},
    ],
)
def test_headers_that_make_no_sense(tmp_path: Path, change: dict[str, str]) -> None:
    from safetensors import safe_open

    path = tmp_path / "m.safetensors"
    save(make(), path)
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = file.metadata()
    save_file(tensors, path, header | change)
    with pytest.raises(ModelFileError, match=r"header promises|say its version") as error:
        load(path)
    assert "\n" not in str(error.value)


def test_folders_and_dtypes(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"Got the folder .*model.safetensors"):
        load(tmp_path)
    save(make(), tmp_path / "m.safetensors")
    for dtype in ("float31", "int64", "nn"):
        with pytest.raises(ValueError, match="must be a dtype such as"):
            load(tmp_path / "m.safetensors", dtype=dtype)


def test_float32_weights_are_equivariant_in_float64(tmp_path: Path) -> None:
    """Constants of the products must not stay rounded: the error would be 1e-8."""
    from ase.build import molecule

    from tensornet.atoms import graph

    save(make().float(), tmp_path / "m.safetensors")
    loaded, cast = load(tmp_path / "m.safetensors", dtype="float64"), make().float().double().eval()
    for model in (loaded, cast):
        atoms = molecule("H2O")
        before = float(model(graph(atoms, 4.0))["interaction_energy"])
        atoms.rotate(35, (1, 2, 3))
        after = float(model(graph(atoms, 4.0))["interaction_energy"])
        assert after == pytest.approx(before, rel=1e-12)
