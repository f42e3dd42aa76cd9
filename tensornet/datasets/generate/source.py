"""What has to be said to generate a data set: the content of a ``source.yaml``."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

NonNegative = Annotated[float, Field(ge=0.0)]


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Method(_Block):
    """How energies and forces are computed.

    Attributes:
        hamiltonian: A method of `tblite`.
        accuracy: `tblite`'s numerical accuracy; smaller is tighter, 1 is its default.
        electronic_temperature: Fermi smearing, K.
        max_iterations: Iterations after which a self-consistent cycle has failed.
    """

    hamiltonian: Literal["GFN1-xTB", "GFN2-xTB"] = "GFN2-xTB"
    accuracy: PositiveFloat = 0.01
    electronic_temperature: PositiveFloat = 300.0
    max_iterations: PositiveInt = 250


class Molecule(_Block):
    """A molecule without periodicity, from `ase.build.molecule`.

    Attributes:
        name: Its name there.
    """

    kind: Literal["molecule"] = "molecule"
    name: str


class Crystal(_Block):
    """A conventional cubic cell from `ase.build.bulk`, strained at random.

    A cell is ``cubic @ (1 + e)`` with a symmetric strain ``e``: a number within ± `volumetric` on
    the whole diagonal, and six more within ± `deviatoric`, one for each component.

    Attributes:
        name: Elements of the crystal, in the notation of `ase.build.bulk`.
        lattice: Structure type there, such as ``diamond``.
        constant: Lattice constant of the cubic cell, Å.
        volumetric: Bound of the isotropic strain.
        deviatoric: Bound of the other strain components.
    """

    kind: Literal["crystal"] = "crystal"
    name: str
    lattice: str
    constant: PositiveFloat
    volumetric: NonNegative = 0.0
    deviatoric: NonNegative = 0.0


class File(_Block):
    """Structures of a file, from which trajectories start; one that is drawn for each cell.

    Attributes:
        path: A file that ASE reads, from the folder of the ``source.yaml``. Its labels are not
            used. Frames of one atom are left out.
        index: Which of its frames, as in `ase.io.read`.
    """

    kind: Literal["file"] = "file"
    path: Path
    index: str = ":"


class Dynamics(_Block):
    """Langevin dynamics.

    Attributes:
        time_step: fs.
        friction: 1/fs.
        warm_up: Time before the first frame of a trajectory, fs.
        settle: Time before the first frame in every further cell, fs. With a `File` every cell
            is a structure at which the trajectory begins anew.
        stride: Time between frames, fs.
    """

    time_step: PositiveFloat
    friction: PositiveFloat
    warm_up: NonNegative
    settle: NonNegative = 0.0
    stride: PositiveFloat


class Run(_Block):
    """Trajectories at one temperature, one for each seed.

    Attributes:
        split: Which file its frames go to.
        temperature: K.
        seeds: One trajectory for each.
        cells: Randomly strained cells, or structures of a file, that a trajectory visits, one
            after the other.
        frames: Frames in each cell.
    """

    split: Literal["train", "test"]
    temperature: PositiveFloat
    seeds: tuple[int, ...] = Field(min_length=1)
    cells: PositiveInt = 1
    frames: PositiveInt


class Source(_Block):
    """Everything that decides what a generated data set holds.

    Attributes:
        name: Name of the data set.
        structure: What moves.
        method: How it is labelled.
        dynamics: How it moves.
        isolated_atoms: Spin multiplicity of the free atom of every element.
        runs: The trajectories.
        made: What a generation gave: versions, counts, statistics. Not read.
    """

    name: str
    structure: Annotated[Molecule | Crystal | File, Field(discriminator="kind")]
    method: Method
    dynamics: Dynamics
    isolated_atoms: dict[str, PositiveInt]
    runs: tuple[Run, ...] = Field(min_length=1)
    made: dict[str, Any] | None = None


def load_source(path: str | Path) -> Source:
    """Read the settings of a generated data set.

    Args:
        path: A ``source.yaml``.

    Returns:
        The settings, with the path of a structure file made absolute.

    Raises:
        ValueError: If the file is no valid YAML, a key is unknown or missing, or a value does not
            fit.
    """
    try:
        source = Source.model_validate(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise ValueError(f"`load_source(path=...)` must be YAML. Got {path}: {error}") from error
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ValueError(
            f"`load_source(path=...)` must hold the keys of `Source`. Got {path}: {said}."
        ) from error
    if not isinstance(source.structure, File):
        return source
    file = (Path(path).parent / source.structure.path).resolve()
    structure = source.structure.model_copy(update={"path": file})
    return source.model_copy(update={"structure": structure})
