"""Command: ``python -m tensornet.datasets.generate NAME --out DIR``."""

from pathlib import Path
from typing import Annotated

import typer

from tensornet.datasets.generate.files import generate, write
from tensornet.datasets.generate.source import load_source
from tensornet.datasets.samples import sample


def command(
    name: Annotated[
        str, typer.Argument(help="An embedded data set, or the path of a source.yaml.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the files.")],
    processes: Annotated[int, typer.Option(help="Trajectories at the same time.", min=1)] = 1,
) -> None:
    """Compute a data set with GFN2-xTB, from its source.yaml.

    Set OMP_NUM_THREADS=1: sums over threads are not reproducible to the last digit.
    """
    try:
        given = Path(name)
        source = load_source(given if given.is_file() else sample(name) / "source.yaml")
        generated = generate(source, processes=processes)
        paths = write(generated, out)
    except (ValueError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    except (ImportError, RuntimeError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    made = generated.source.made or {}
    dropped = sum(run["dropped"] for run in made["runs"])
    typer.echo(f"{made['frames']['train']} train and {made['frames']['test']} test frames")
    typer.echo(f"{dropped} dropped because their self-consistent cycle did not converge")
    for path in paths:
        typer.echo(str(path))


if __name__ == "__main__":
    typer.run(command)
