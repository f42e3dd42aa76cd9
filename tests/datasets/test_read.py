"""Reading real formats and their traps; what was read is said, what is wrong is an error."""

import io
import os
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import ArrayLike

from tensornet.datasets import Frames, LabelError, LabelKeys, Labels, read, reference_energies

BOTNET = """2
Lattice="50.0 0.0 0.0 0.0 50.0 0.0 0.0 0.0 50.0" Properties=species:S:1:pos:R:3:forces:R:3 \
dihedral_angle=8.0 config_type=300K_MD energy=-2051.5 pbc="F F F"
O      0.00000000     0.00000000     0.00000000     0.10000000     0.20000000     0.30000000
H      0.00000000     0.00000000     0.97000000    -0.10000000    -0.20000000    -0.30000000
"""

RMD17 = """2
Lattice="50.0 0.0 0.0 0.0 50.0 0.0 0.0 0.0 50.0" \
Properties=species:S:1:pos:R:3:forces:R:3 Energy=-31.5
H 0.0 0.0 0.0 0.1 0.2 0.3
H 0.0 0.0 0.74 -0.1 -0.2 -0.3
"""

ACEDATA = """2
Lattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3:force:R:3 energy=-8.5 pbc="T T T"
Cu 0.0 0.0 0.0 0.1 0.2 0.3
Cu 1.5 1.5 1.4 -0.1 -0.2 -0.3
"""

GAP = """2
Lattice="3 0 0 0 4 0 0 0 5" Properties=species:S:1:pos:R:3:dft_force:R:3 dft_energy=-8.5 \
dft_virial="6 1 2 1 -12 3 2 3 18" config_type=bulk
Cu 0.0 0.0 0.0 0.1 0.2 0.3
Cu 1.5 1.5 1.4 -0.1 -0.2 -0.3
"""

MACE = """2
Lattice="3 0 0 0 4 0 0 0 5" Properties=species:S:1:pos:R:3:REF_forces:R:3 REF_energy=-8.5 \
REF_stress="0.1 0.01 0.02 0.01 -0.2 0.03 0.02 0.03 0.3" pbc="T T T"
Cu 0.0 0.0 0.0 0.1 0.2 0.3
Cu 1.5 1.5 1.4 -0.1 -0.2 -0.3
"""

ISOLATED = """1
Properties=species:S:1:pos:R:3 config_type=isolated_atom energy=-13.5 pbc="F F F"
H 0.0 0.0 0.0
1
Properties=species:S:1:pos:R:3 energy=-2037.25 pbc="F F F"
O 0.0 0.0 0.0
1
Lattice="20 0 0 0 20 0 0 0 20" Properties=species:S:1:pos:R:3 config_type=IsolatedAtom energy=-7.5
C 0.0 0.0 0.0
"""


def close(
    actual: ArrayLike | None, expected: ArrayLike, *, rtol: float = 0.0, atol: float = 0.0
) -> None:
    assert actual is not None
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=rtol, atol=atol)


def exact(actual: ArrayLike | None, expected: ArrayLike) -> None:
    close(actual, expected)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def text(content: str, name: str = "data.extxyz", **keys: str) -> Frames:
    Path(name).write_text(content)
    return read(name, keys=LabelKeys(**keys))


def copper(n: int = 3) -> list[Atoms]:
    frames = []
    for k in range(n):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.05, seed=911 + k)
        atoms.calc = EMT()
        results = {
            "energy": atoms.get_potential_energy(),
            "forces": atoms.get_forces(),
            "stress": atoms.get_stress(),
        }
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    return frames


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "name",
    ["a.extxyz", "a.xyz", "a.extxyz.gz", "a.xyz.bz2", "a.xyz.xz", "a.traj", "a.db", "a.json"],
)
def test_what_ase_writes_is_read_with_all_labels(name: str) -> None:
    written = copper()
    write(name, written)
    frames = read(name)
    assert len(frames) == 3
    for atoms, labels, original in zip(frames.structures, frames.labels, written, strict=True):
        results = original.calc.results
        assert atoms.calc is None
        close(atoms.positions, original.positions, atol=1e-7)
        assert labels.energy == pytest.approx(results["energy"], abs=1e-9)
        close(labels.forces, results["forces"], atol=1e-7)
        stress = voigt_6_to_full_3x3_stress(results["stress"])
        close(labels.stress, stress, atol=1e-9)
    assert "3 structures of 4 atoms, elements Cu, periodic" in frames.summary
    assert frames.summary.count("3 of 3") == 3


@pytest.mark.usefixtures("folder")
def test_botnet_format() -> None:
    frames = text(BOTNET)
    assert frames.labels[0].energy == -2051.5
    exact(frames.labels[0].forces, [[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]])
    assert frames.labels[0].stress is None
    assert frames.structures[0].info["config_type"] == "300K_MD"
    assert not frames.structures[0].pbc.any()


@pytest.mark.usefixtures("folder")
def test_rmd17_capital_energy_and_a_box_without_pbc() -> None:
    frames = text(RMD17)
    assert frames.labels[0].energy == -31.5
    assert frames.labels[0].source == {"energy": "info Energy", "forces": "calculator forces"}
    assert frames.structures[0].pbc.all()


@pytest.mark.usefixtures("folder")
def test_force_in_the_singular() -> None:
    frames = text(ACEDATA)
    assert frames.labels[0].energy == -8.5
    exact(frames.labels[0].forces, [[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]])


@pytest.mark.usefixtures("folder")
def test_gap_virials() -> None:
    frames = text(GAP)
    expected = -np.array([[6, 1, 2], [1, -12, 3], [2, 3, 18]]) / 60
    close(frames.labels[0].stress, expected, rtol=1e-14)
    assert "info dft_virial (-virial/volume)" in frames.summary
    assert "note: stress = -virial / volume (1 frame)" in frames.summary


@pytest.mark.usefixtures("folder")
def test_mace_prefixes() -> None:
    frames = text(MACE)
    expected = [[0.1, 0.01, 0.02], [0.01, -0.2, 0.03], [0.02, 0.03, 0.3]]
    close(frames.labels[0].stress, expected, rtol=1e-14)
    assert frames.labels[0].source == {
        "energy": "info REF_energy",
        "forces": "arrays REF_forces",
        "stress": "info REF_stress",
    }


@pytest.mark.usefixtures("folder")
def test_isolated_atoms_become_references() -> None:
    frames = text(ISOLATED + BOTNET)
    assert frames.isolated == {1: -13.5, 6: -7.5, 8: -2037.25}
    assert len(frames) == 1
    assert frames.elements == (1, 8)
    assert frames.names == ("frame 3 (counted from 0) of data.extxyz",)
    assert "isolated atoms: H -13.500000 eV, O -2037.250000 eV, C -7.500000 eV" in frames.summary


@pytest.mark.usefixtures("folder")
def test_a_crystal_of_one_atom_is_no_isolated_atom() -> None:
    frames = text(
        '1\nLattice="2 2 0 2 0 2 0 2 2" Properties=species:S:1:pos:R:3 energy=-3\nCu 0 0 0\n'
    )
    assert len(frames) == 1
    assert frames.isolated == {}


@pytest.mark.usefixtures("folder")
def test_isolated_atoms_that_disagree_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"isolated atoms of H must have one energy. Got -13.5 eV"):
        text(ISOLATED + '1\nProperties=species:S:1:pos:R:3 energy=-13.4 pbc="F F F"\nH 0 0 0\n')


@pytest.mark.usefixtures("folder")
def test_partial_labels_are_counted() -> None:
    second = BOTNET.replace("energy=-2051.5", "")
    frames = text(BOTNET + second)
    assert [one.energy for one in frames.labels] == [-2051.5, None]
    assert "energy      1 of 2      from calculator energy" in frames.summary
    assert "forces      2 of 2      from calculator forces" in frames.summary
    assert "stress      0 of 2      none" in frames.summary
    frames.require("energy", "forces")


@pytest.mark.usefixtures("folder")
def test_a_label_that_is_not_there_lists_what_is() -> None:
    frames = text(ACEDATA.replace("energy", "E_pbe").replace("force:", "grad:"))
    with pytest.raises(LabelError) as caught:
        frames.require("forces")
    message = str(caught.value)
    assert "must have forces labels. Got none in 1 structures" in message
    assert "info: E_pbe; arrays: grad." in message
    assert "data: {keys: {forces: my_key}}" in message
    assert 'LabelKeys(forces="my_key")' in message
    assert read("data.extxyz", keys=LabelKeys(energy="E_pbe")).labels[0].energy == -8.5


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("key", ["nothing", "calculator/nothing", "info/force", "arrays/energy"])
def test_an_explicit_key_that_is_nowhere_is_an_error(key: str) -> None:
    with pytest.raises(LabelError, match=rf"Got energy: '{key}', which is in none of 1 frames"):
        text(ACEDATA, energy=key)


def test_requiring_something_else_is_an_error() -> None:
    with pytest.raises(ValueError, match="must be among"):
        Frames((), (), {}).require("dipole")


@pytest.mark.usefixtures("folder")
def test_labels_that_are_not_finite_name_file_frame_and_atom() -> None:
    bad = BOTNET.replace("-0.30000000", "       nan")
    message = r"forces on atom 1 \(H\) in frame 1 \(counted from 0\) of bad.xyz must be finite"
    with pytest.raises(LabelError, match=message):
        text(BOTNET + bad, "bad.xyz")


@pytest.mark.usefixtures("folder")
def test_forces_of_a_wrong_shape() -> None:
    content = "2\nProperties=species:S:1:pos:R:3:forces:R:2 energy=1\nH 0 0 0 1 2\nH 0 0 1 1 2\n"
    with pytest.raises(LabelError, match=r"must have shape \(2, 3\). Got \(2, 2\)"):
        text(content)


@pytest.mark.usefixtures("folder")
def test_positions_that_are_not_finite() -> None:
    with pytest.raises(ValueError, match=r"immense values in frame 1 \(counted from 0\) of"):
        text(BOTNET + BOTNET.replace("0.97000000", "nan"))


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.xyz", "", "Got 'empty.xyz': it is empty"),
        ("blank.xyz", "\n", "Got 'blank.xyz': it holds none"),
        ("words.xyz", "hello\n", "Got 'words.xyz'.*invalid literal"),
        ("cut.xyz", BOTNET.replace("2\n", "3\n", 1), "Got 'cut.xyz'.*expected 3"),
        ("strange.foo", "hello there", "Got 'strange.foo', whose format was not recognised"),
        ("broken.cif", "hello", "Got 'broken.cif'.* cannot read"),
        ("latin.xyz", BOTNET.replace("300K", "\udce9"), "Got 'latin.xyz'.*codec can't decode"),
        ("negative.xyz", "-3\n\nH 0 0 0\n", "Got 'negative.xyz'"),
        (
            "twice.xyz",
            BOTNET.replace("pbc=", "energy=5 pbc="),
            "Got 'twice.xyz'.* `energy` is given twice",
        ),
        ("empty.npz", "", "Got 'empty.npz': it is empty"),
        ("noatoms.xyz", '0\nenergy=1 pbc="F F F"\n', "noatoms.xyz"),
    ],
)
def test_damaged_files_give_one_clear_line(name: str, content: str, message: str) -> None:
    Path(name).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=message) as caught:
        read(name)
    assert str(caught.value).startswith("`read(paths=...)` must name")
    assert caught.value.__context__ is None or caught.value.__suppress_context__  # ASE is silent


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", ["absent.xyz", "*.absent", "absent/*.xyz", "absent.xyz@0:3"])
def test_a_missing_file_is_named(name: str) -> None:
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        read(name)


def test_a_folder_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"Got the folder .*\*.xyz"):
        read(folder)


def test_no_paths_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one file"):
        read([])


def test_patterns_and_several_files(folder: Path) -> None:
    for name, count in (("b.xyz", 2), ("a.xyz", 1), ("c.extxyz", 3)):
        Path(name).write_text(BOTNET * count)
    frames = read(["*.xyz", folder / "c.extxyz", "a.xyz"])
    assert len(frames) == 6
    assert [line.split(":")[0] for line in frames.summary.splitlines() if "structure" in line] == [
        "a.xyz",
        "b.xyz",
        str(folder / "c.extxyz"),
    ]
    assert len(read("*.xyz")) == 3


@pytest.mark.usefixtures("folder")
def test_ase_slices() -> None:
    Path("a.xyz").write_text("".join(BOTNET.replace("-2051.5", f"-{k}.5") for k in range(5)))
    assert [one.energy for one in read("a.xyz@1:3").labels] == [-1.5, -2.5]
    assert [one.energy for one in read("a.xyz@-1").labels] == [-4.5]
    with pytest.raises(ValueError, match=r"must name frames that exist. Got '9' of 'a.xyz'"):
        read("a.xyz@9")


@pytest.mark.usefixtures("folder")
def test_subsets_keep_names_and_isolated_atoms() -> None:
    frames = text(ISOLATED + BOTNET + RMD17 + BOTNET)
    part = frames.subset([2, 1])
    assert [one.energy for one in part.labels] == [-2051.5, -31.5]
    assert part.names[0].startswith("frame 5 ")
    assert part.isolated == frames.isolated


def test_frames_check_their_lengths() -> None:
    with pytest.raises(ValueError, match=r"one entry for each structure. Got 1 for 0"):
        Frames((), (Labels(),), {})


@pytest.mark.usefixtures("folder")
def test_the_summary_says_ranges_and_kinds() -> None:
    slab = Atoms("Cu", cell=[3, 3, 0], pbc=(True, True, False))
    write("mixed.extxyz", [*copper(2), slab, molecule("H2O")])
    summary = read("mixed.extxyz").summary
    assert (
        "4 structures of 1 to 4 atoms, elements Cu H O, 2 periodic, 1 partly periodic, " in summary
    )
    assert "1 not periodic" in summary
    assert "tension positive" in summary
    assert "eV/atom" in summary


DATA = os.environ.get("TENSORNET_DATA", "")


@pytest.mark.slow
@pytest.mark.skipif(not DATA, reason="TENSORNET_DATA is not set")
@pytest.mark.parametrize(
    ("name", "count", "stress", "rms"),
    [("acac/train_300K", 500, False, 1.05), ("si/train", 214, True, 0.874)],
)
def test_published_data(name: str, count: int, stress: bool, rms: float) -> None:
    frames = read(Path(DATA, f"{name}.extxyz"))
    assert len(frames) == count
    assert all((one.stress is not None) == stress for one in frames.labels)
    forces = np.concatenate([one.forces for one in frames.labels if one.forces is not None])
    assert np.sqrt((forces**2).mean()) == pytest.approx(rms, abs=5e-3)


@pytest.mark.slow
@pytest.mark.skipif(not DATA, reason="TENSORNET_DATA is not set")
def test_published_isolated_atoms() -> None:
    frames = read(Path(DATA, "acac", "*.extxyz"))
    references = reference_energies(frames)
    assert references.method == "isolated"
    assert references.values[6] == pytest.approx(-1026.853900, abs=1e-6)


@pytest.mark.usefixtures("folder")
def test_compressed_files_are_unpacked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # ASE's reader goes back in the file, and gzip unpacks it from the start each time.
    write("a.extxyz.gz", copper())
    given = []
    original = ase.io.read

    def spy(file: Any, *words: Any, **names: Any) -> Any:
        given.append(file)
        return original(file, *words, **names)

    monkeypatch.setattr("ase.io.read", spy)
    assert len(read("a.extxyz.gz@0:2")) == 2
    assert [type(file) for file in given] == [io.StringIO]
    assert len(read("a.extxyz.gz")) == 3  # one pass, frame by frame
    assert len(given) == 1
    assert len(read("a.extxyz.gz@1:")) == 2


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("ending", ["gz", "bz2", "xz"])
def test_compressed_files_that_are_damaged(ending: str) -> None:
    write(f"a.extxyz.{ending}", copper(20))
    whole = Path(f"a.extxyz.{ending}").read_bytes()
    for content in (whole[: len(whole) // 2], b"something else " * 9):
        Path(f"a.extxyz.{ending}").write_bytes(content)
        with pytest.raises(ValueError, match=rf"must name .* Got 'a.extxyz.{ending}'"):
            read(f"a.extxyz.{ending}")


@pytest.mark.usefixtures("folder")
def test_dummy_atoms_are_no_elements() -> None:
    write("a.extxyz", [molecule("H2"), Atoms("HX", [[0, 0, 0], [0, 0, 1]])])
    with pytest.raises(ValueError, match=r"Got 'X' for atom 1 in frame 1 .*of a\.extxyz"):
        read("a.extxyz")
