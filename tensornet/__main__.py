"""The command line: one thin function per command.

Exit codes: 0 all is well, 1 a check or the training failed, 2 the input cannot be used, 130 the
user pressed Ctrl-C.
"""

import logging
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from tensornet.train import Metrics

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130
_alone = False  # whether nobody but this command line runs in the process

app = typer.Typer(
    help="Train interatomic potentials, test them, and see them run.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe in YAML.", show_default=False)],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Settings that win, as optimizer.lr=1e-3."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("run"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a run stopped.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results of another run.")
    ] = False,
    committee: Annotated[
        int | None,
        typer.Option(min=2, help="Train so many models, to tell how sure they are."),
    ] = None,
) -> None:
    """Train a potential, or a committee of them, by a recipe."""
    _begin()
    with _errors():
        import tensornet.train as room

        checked = room.load_recipe(recipe, settings or ())
        again = {"resume": resume, "overwrite": overwrite}
        try:
            if committee is None:
                results = room.fit(checked, out, **again)
            else:
                results = room.fit_committee(checked, out, committee, **again)
        except room.Interrupted as stopped:
            words = [str(recipe), *(settings or ()), "--out", str(out), "--resume"]
            words += [] if committee is None else ["--committee", str(committee)]
            _say(f"{stopped}\nGo on with: tensornet train {shlex.join(words)}")
            raise typer.Exit(INTERRUPTED) from None
    from tensornet.train.processes import is_first

    if not is_first():
        return  # torchrun started several of us, and one speaks
    metrics = {name: results[name] for name in ("train", "valid", "test") if results[name]}
    what = out / "model.safetensors" if committee is None else f"the committee in {out}"
    Console().print(_table(metrics, title=f"Errors of {what}"))
    if committee is not None:
        data = "test" if "test" in results["calibration"] else "valid"
        for label, content in results["calibration"][data].items():
            _say(f"{label} ({data}): {room.Calibration.from_dict(content)}")


@app.command()
def prepare(
    recipe: Annotated[Path, typer.Argument(help="Recipe in YAML.", show_default=False)],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Settings that win, as data.cache=folder."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a cache.")] = False,
) -> None:
    """Read the data of a recipe once and keep them, in data.cache, for reading from disk."""
    _begin()
    with _errors():
        import tensornet.train as room

        cache = room.prepare_cache(room.load_recipe(recipe, settings or ()), overwrite=overwrite)
    for name, data in cache.splits.items():
        _say(f"{name}: {len(data)} structures, {data.n_atoms} atoms, {data.total_edges} edges")
    _say(cache.references.message)


@app.command()
def evaluate(
    model: Annotated[
        Path, typer.Argument(help="Model file, or folder of a committee.", show_default=False)
    ],
    data: Annotated[list[Path], typer.Argument(help="Labelled structures.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="Folder for metrics.json and parity.png.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Structures evaluated at once.")] = 16,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; by default the best.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace results that are in the folder.")
    ] = False,
    free_atoms: Annotated[
        bool, typer.Option("--free-atoms", help="Leave out forces on atoms that were held fixed.")
    ] = False,
) -> None:
    """Measure the errors of a model, or a committee, on labelled structures."""
    _begin()
    with _errors():
        from tensornet.train.evaluation import evaluate_files

        metrics, told = evaluate_files(
            model,
            data,
            out=out,
            batch_size=batch_size,
            device=device,
            overwrite=overwrite,
            free_atoms=free_atoms,
        )
    Console().print(_table(metrics, title=f"Errors of {model}"))
    for label, calibration in told.items():
        _say(f"{label}: {calibration}")
    if out is not None:
        _say(f"Written: {out / 'metrics.json'}, {out / 'parity.png'}")


@app.command()
def validate(
    model: Annotated[Path, typer.Argument(help="Model file.", show_default=False)],
    structure: Annotated[
        Path | None, typer.Argument(help="Structure to try it on; by default one of its data.")
    ] = None,
    steps: Annotated[
        int, typer.Option(min=0, help="Steps of 0.5 fs; some hundred are needed to tell a drift.")
    ] = 1000,
    device: Annotated[str | None, typer.Option(help="cpu, the default, or cuda.")] = None,
) -> None:
    """Hold a model to the laws of physics. Exit code 1 if a check fails."""
    console = Console(stderr=True)
    with _errors():
        from tensornet.calculators import validate as check
        from tensornet.train.evaluation import load_model, read_structure
        from tensornet.train.prepare import input_errors

        potential = load_model(model, device=device)
        atoms = None if structure is None else read_structure(structure, potential)
        with console.status("validating") as status, input_errors():
            report = check(
                potential,
                atoms,
                md_steps=steps,
                progress=lambda name: status.update(f"validating: {name}"),
            )
    screen = Console()
    screen.print(report.table())
    screen.print(report.summary())
    if not report.passed:
        raise typer.Exit(FAILED)


@app.command(context_settings={"ignore_unknown_options": True})
def lammps(
    script: Annotated[Path, typer.Argument(help="LAMMPS input file.", show_default=False)],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(help="Arguments of LAMMPS, as -var T 300.", show_default=False),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, the default, or cuda.")] = None,
    dtype: Annotated[str, typer.Option(help="float64 or float32.")] = "float64",
) -> None:
    """Run a LAMMPS input file with `pair_style tensornet`, `pair_coeff * * MODEL ELEMENT ...`.

    On several processes: mpirun -n 4 tensornet lammps SCRIPT.
    """
    with _errors():
        from tensornet.calculators import run_lammps
        from tensornet.train.prepare import find_device, input_errors

        where = str(find_device(device)) if device else None
        try:
            with input_errors(f"{script}: "):
                run_lammps(script, arguments or (), device=where, dtype=dtype).close()
        except RuntimeError as error:  # of LAMMPS, which says where
            if type(error) is not RuntimeError:
                raise
            _say(str(error))
            raise typer.Exit(FAILED) from None


@app.command()
def mliap(
    model: Annotated[Path, typer.Argument(help="Model file.", show_default=False)],
    out: Annotated[Path, typer.Option(help="File for pair_style mliap.")] = Path("model.pickle"),
    device: Annotated[str | None, typer.Option(help="cpu, the default, or cuda.")] = None,
) -> None:
    """Write what a LAMMPS that was built with ML-IAP and Python reads."""
    with _errors():
        from tensornet.calculators import LammpsMLIAP
        from tensornet.train.limits import writing
        from tensornet.train.prepare import find_device, input_errors

        where = str(find_device(device)) if device else None
        with input_errors():
            unified = LammpsMLIAP(model, device=where)
            with writing(out, advice="choose another file, or make room"):
                unified.write(out)
    elements = " ".join(unified.element_types)
    typer.echo(
        f"Written: {out}. In the input file, with one of {elements} per atom type:\n"
        f"pair_style mliap unified {out} 1\n"
        f"pair_coeff * * {elements}\n"
        f"comm_modify cutoff {unified.communication():g}"
    )


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("demo"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results of another run.")
    ] = False,
) -> None:
    """Train a small potential on embedded data and run molecular dynamics with it."""
    _begin()
    with _errors():
        from tensornet.demo import run
        from tensornet.train import Interrupted

        try:
            run(out, overwrite=overwrite)
        except Interrupted as stopped:
            _say(str(stopped))
            raise typer.Exit(INTERRUPTED) from None


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        from tensornet import __version__

        typer.echo(__version__)
        raise typer.Exit


@contextmanager
def _errors() -> Iterator[None]:
    """Say what is wrong with the input in one line; anything unexpected stays a traceback."""
    try:
        yield
    except KeyboardInterrupt:
        _say("Stopped.")
        raise typer.Exit(INTERRUPTED) from None
    except (ValueError, RuntimeError) as error:
        from tensornet.train import RecipeError, TrainingError

        if not isinstance(error, RecipeError | TrainingError):
            raise
        _say(f"Error: {error}")
        raise typer.Exit(FAILED if isinstance(error, TrainingError) else BAD_INPUT) from None


def _say(text: str) -> None:
    typer.echo(text, err=True)


class _ToStderr(logging.Handler):
    """Write to what is the error stream now, not to what it was at the first message."""

    def emit(self, record: logging.LogRecord) -> None:
        _say(record.getMessage())


def _begin() -> None:
    """Let the library's log lines reach the terminal, without those of other packages.

    A process that is ours alone keeps its memory, which makes training some per cent faster.
    """
    if _alone:
        from tensornet.kernels import tune_allocator

        tune_allocator()
    log = logging.getLogger("tensornet")
    log.setLevel(logging.INFO)
    if not log.handlers:
        log.addHandler(_ToStderr())
        log.propagate = False


def _table(metrics: "dict[str, Metrics] | dict[str, dict[str, Any]]", *, title: str) -> Table:
    """Lay the errors of several sets out, one row per set and per group in it."""
    columns = {
        "E MAE\nmeV/atom": "energy_mae",
        "E RMSE\nmeV/atom": "energy_rmse",
        "total E\nRMSE meV": "energy_total_rmse",
        "F MAE\nmeV/Å": "forces_mae",
        "F RMSE\nmeV/Å": "forces_rmse",
        "stress\nmeV/Å³": "stress_rmse",
    }
    table = Table(title=_name(title), title_justify="left", padding=(0, 1, 0, 0))
    table.add_column("data", overflow="fold")
    for heading in ("n", *columns):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, found in metrics.items():
        content = found if isinstance(found, dict) else found.to_dict()
        for label, row in {name: content, **_groups(content)}.items():
            values = [row[key] for key in columns.values()]
            cells = [_number(value) for value in values]
            table.add_row(_name(label), str(row["n_structures"]), *cells)
    return table


def _name(text: str) -> str:
    """Names of files and groups may look like markup of rich, or hold bytes that are no text."""
    return escape(text.encode(errors="backslashreplace").decode())


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:#.4g}"


def _groups(content: dict[str, Any]) -> dict[str, Any]:
    return {f"  {name}": row for name, row in content.get("groups", {}).items()}


def main() -> None:
    """Run the command line."""
    global _alone
    _alone = True
    app(prog_name="tensornet")


if __name__ == "__main__":
    main()
