"""Output of VASP, in the true format, is training data as it is."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.units import GPa
from numpy.typing import NDArray

from tensornet.datasets import read

Array = NDArray[np.float64]
KBAR = 0.1 * GPa
CELL = np.array([[0.0, 2.7, 2.7], [2.7, 0.0, 2.7], [2.7, 2.7, 0.1]])
SYMBOLS = ["Si", "Si", "C"]


class Step:
    """An ionic step, in the units of VASP."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.scaled = np.array([[0, 0, 0], [0.25] * 3, [0.6, 0.5, 0.4]]) + 0.01 * rng.random((3, 3))
        self.forces = rng.normal(size=(3, 3)).round(6)
        self.free = round(-15 + float(rng.random()), 8)
        self.zero = round(self.free + 0.002, 8)
        pressure = 50 * rng.normal(size=(3, 3))
        self.kbar = (pressure + pressure.T).round(5)  # positive under compression


def rows(values: Array, form: str = "{:13.5f}") -> list[str]:
    return ["".join(form.format(x) for x in row) for row in values]


def outcar(steps: list[Step]) -> str:
    lines = [
        " vasp.6.4.2 20Jul23 complex",
        " executed on             LinuxGNU date 2024.01.31  12:00:00",
        *(f" POTCAR:    PAW_PBE {name}" for name in ("Si 05Jan2001", "C 08Apr2002") * 2),
        "   ISPIN  =      1    spin polarized calculation?",
        "   number of dos      NEDOS =    301   number of ions     NIONS =      3",
        "   ions per type =               2   1",
    ]
    for k, step in enumerate(steps):
        s = step.kbar
        voigt = (s[0, 0], s[1, 1], s[2, 2], s[0, 1], s[1, 2], s[2, 0])
        positions = step.scaled @ CELL
        lines += [
            f"--------------------------------------- Iteration {k + 1:6d}(   1)  ----------------",
            "  in kB  " + "".join(f"{x:12.5f}" for x in voigt),
            "  external pressure =      -42.45 kB  Pullay stress =        0.00 kB",
            "      direct lattice vectors                 reciprocal lattice vectors",
            *rows(np.hstack((CELL, np.linalg.inv(CELL).T)), "{:13.9f}"),
            "",
            " POSITION                                       TOTAL-FORCE (eV/Angst)",
            " " + "-" * 83,
            *rows(np.hstack((positions, step.forces)), "{:15.6f}"),
            " " + "-" * 83,
            "    total drift:                                0.000000      0.000000     -0.000001",
            "",
            "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)",
            "  ---------------------------------------------------",
            f"  free  energy   TOTEN  = {step.free:20.8f} eV",
            "",
            f"  energy  without entropy={step.free:20.8f}  energy(sigma->0) ={step.zero:20.8f}",
            "",
        ]
    return "\n".join([*lines, "                   (cpu time, memory)", ""])


def varray(name: str, values: Array) -> str:
    inner = "\n".join(f"   <v>{text} </v>" for text in rows(values, "{:16.8f}"))
    return f'  <varray name="{name}" >\n{inner}\n  </varray>'


def structure(scaled: Array, name: str = "") -> str:
    head = f'<structure name="{name}" >' if name else "<structure>"
    cell = varray("basis", CELL)
    return f"{head}\n<crystal>\n{cell}\n</crystal>\n{varray('positions', scaled)}\n</structure>"


def vasprun(steps: list[Step]) -> str:
    atoms = "\n".join(f"<rc><c>{symbol} </c><c>   1</c></rc>" for symbol in SYMBOLS)
    text = [
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n<modeling>',
        f"<kpoints>\n{varray('kpointlist', np.zeros((1, 3)))}",
        f"{varray('weights', np.ones((1, 1)))}\n</kpoints>",
        f'<atominfo>\n<atoms> 3 </atoms>\n<array name="atoms" >\n<set>\n{atoms}\n</set>\n</array>',
        f"</atominfo>\n{structure(steps[0].scaled, 'initialpos')}",
    ]
    for step in steps:
        energies = "\n".join(
            f'   <i name="{name}">{value:16.8f} </i>'
            for name, value in (
                ("e_fr_energy", step.free),
                ("e_wo_entrp", step.free),
                ("e_0_energy", step.zero),
            )
        )
        text += [
            f"<calculation>\n<scstep>\n<energy>\n{energies}\n</energy>\n</scstep>",
            structure(step.scaled),
            varray("forces", step.forces),
            varray("stress", step.kbar),
            f"<energy>\n{energies}\n</energy>\n</calculation>",
        ]
    return "\n".join([*text, "</modeling>\n"])


@pytest.mark.parametrize(
    ("name", "write"),
    [("OUTCAR", outcar), ("vasprun.xml", vasprun), ("OUTCAR.gz", outcar), ("run.OUTCAR", outcar)],
)
def test_labels_of_vasp(
    tmp_path: Path, name: str, write: Callable[[list[Step]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    steps = [Step(1), Step(2)]
    content = write(steps).encode()
    Path(name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    frames = read(name)
    assert len(frames) == 2
    for step, atoms, labels in zip(steps, frames.structures, frames.labels, strict=True):
        assert isinstance(atoms, Atoms)
        assert list(atoms.symbols) == SYMBOLS
        assert atoms.pbc.all()
        assert atoms.positions == pytest.approx(step.scaled @ CELL, abs=1e-5)
        assert labels.energy == pytest.approx(step.zero, abs=1e-8)
        assert labels.forces == pytest.approx(step.forces, abs=1e-6)
        assert labels.stress == pytest.approx(-KBAR * step.kbar, abs=1e-8)
        assert np.abs(-KBAR * step.kbar).max() > 1e-3
    assert "`free_energy` differs from the energy and is not used (data: {keys:" in frames.summary
