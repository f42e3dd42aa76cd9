"""A training run from the recipe to the folder with its results."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tensornet._files import write_atomically
from tensornet._typing import AnyPath
from tensornet.models import Potential
from tensornet.train import processes
from tensornet.train.batches import Batches, Steps
from tensornet.train.checkpoint import read_checkpoint
from tensornet.train.limits import enough_memory, must_be_writable, writing
from tensornet.train.loss import Loss
from tensornet.train.prepare import Prepared, input_errors, make_model, prepare
from tensornet.train.recipe import Recipe, RecipeError, TrainingError
from tensornet.train.report import example_of, provenance_of, report
from tensornet.train.resume import fingerprint, must_match
from tensornet.train.values import shown

if TYPE_CHECKING:
    from tensornet.train.keeper import Keeper
    from tensornet.train.module import TrainingModule

log = logging.getLogger(__name__)

OUTPUTS = (
    *("model.safetensors", "last.ckpt", "metrics.csv", "metrics.json", "recipe.yaml"),
    *("parity.png", "learning_curve.png", "logs"),
)
LESS = (  # memory
    "lower `training.max_edges`, which divides batches and changes no result, or "
    "`training.batch_size`, or the size of the model"
)
MARK = "# The recipe of this run, with every default.\n"


class Interrupted(KeyboardInterrupt):
    """The user stopped the run. The message says where it can go on."""


def fit(
    recipe: Recipe, out: AnyPath, *, resume: bool = False, overwrite: bool = False
) -> dict[str, Any]:
    """Train a model.

    The folder gets ``model.safetensors`` (averaged weights of the epoch with the lowest validation
    loss), ``last.ckpt``, ``metrics.csv``, ``metrics.json``, ``recipe.yaml`` with all defaults,
    ``parity.png`` and ``learning_curve.png``. On one CPU, a run that was killed and resumed ends
    with the same bits as one that was not. Processes that torchrun started train together: each
    takes its share of every batch, and the run is that of one process, to rounding.

    Args:
        recipe: From `load_recipe`.
        out: Folder of the results, made if it is missing.
        resume: Go on from the end of the last complete epoch in `out`.
        overwrite: Remove the results of another run in `out` first.

    Returns:
        The content of ``metrics.json``.

    Raises:
        TypeError: If the recipe is none.
        RecipeError: If recipe, data or folder do not allow training. Nothing was written then.
        TrainingError: If the loss is no longer a number, memory does not suffice, or a file cannot
            be written. Best model and last good checkpoint are kept; if there is none yet, the
            folder is left as it was.
        Interrupted: On Ctrl-C.
    """
    if not isinstance(recipe, Recipe):
        raise TypeError(
            f"`fit(recipe=...)` must be a Recipe. Got {shown(recipe)}. (Make one by `load_recipe` "
            "or `recipe_from`.)"
        )
    with processes.joined(recipe.training.device), enough_memory(LESS):
        return _fit(recipe, Path(out), resume=resume, overwrite=overwrite)


def _fit(recipe: Recipe, out: Path, *, resume: bool, overwrite: bool) -> dict[str, Any]:
    if processes.is_main():
        with input_errors(f"The output folder {out} cannot be used: "):
            _check_folder(out, resume=resume, overwrite=overwrite)
    state = read_checkpoint(out / "last.ckpt") if resume and (out / "last.ckpt").exists() else None
    prepared = prepare(recipe)
    mark = fingerprint(recipe, prepared.files)
    if state is not None:
        must_match(recipe, mark, state)
    model = make_model(recipe, prepared)
    for text in _introduction(recipe, prepared, model):
        log.info("%s", text)
    processes.wait()
    if not processes.is_main():
        with _threads(recipe.training.n_threads):
            _train(recipe, out, prepared, model, mark, state)
        processes.wait()
        content: dict[str, Any] = json.loads((out / "metrics.json").read_text())
        return content
    with (
        _folder(out, clear=overwrite, keep=resume),
        _threads(recipe.training.n_threads),
        enough_memory(LESS),
    ):
        with writing(out / "recipe.yaml", advice="make room") as path:
            write_atomically(path, (MARK + recipe.to_yaml()).encode())
        keeper = _train(recipe, out, prepared, model, mark, state)
        content = report(recipe, out, prepared, keeper.history)
    processes.wait()
    return content


def _train(
    recipe: Recipe,
    out: Path,
    prepared: Prepared,
    model: Potential,
    mark: dict[str, str],
    state: dict[str, Any] | None,
) -> Keeper:
    from tensornet.train.keeper import Keeper
    from tensornet.train.module import TrainingModule

    settings = recipe.training
    torch.manual_seed(settings.seed + 1_000_003 * processes.rank())
    batches = Steps(
        prepared.graphs["train"],
        batch_size=settings.batch_size,
        seed=settings.seed,
        accumulate=settings.accumulate,
        max_edges=settings.max_edges,
        length=settings.steps_per_epoch,
        shared=True,
        workers=settings.workers,
    )
    loss = Loss(recipe.loss, prepared.statistics.scale)
    module = TrainingModule(model, recipe, loss=loss, batches=batches)
    keeper = Keeper(
        out,
        patience=settings.early_stopping,
        fingerprint=mark,
        provenance={
            **provenance_of(recipe, prepared),
            "example": example_of(prepared.frames["valid"]),
        },
    )
    if state is not None:
        module.restore(state)
        keeper.restore(state)
        log.info("resumed after epoch %d", module.epoch)
    if keeper.stopped or module.epoch >= settings.epochs:
        log.info("nothing left to train")
    else:
        _run(recipe, out, prepared, module, keeper)
    if keeper.stopped:
        log.info(
            "stopped early: epoch %d was the best, %d epochs without progress followed",
            keeper.best_epoch,
            keeper.waited,
        )
    return keeper


def _run(
    recipe: Recipe, out: Path, prepared: Prepared, module: TrainingModule, keeper: Keeper
) -> None:
    import lightning.pytorch as pl
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment

    from tensornet.train.progress import ProgressReport

    settings = recipe.training
    callbacks: list[pl.Callback] = [keeper]
    if settings.progress and processes.is_main():
        steps = len(module.batches)
        callbacks.append(ProgressReport(keeper, epochs=settings.epochs, steps_per_epoch=steps))
    valid = Batches(
        prepared.graphs["valid"],
        batch_size=max(settings.batch_size, 16),
        max_edges=settings.max_edges,
        keep=recipe.data.cache is None,
        shared=True,
    )
    with _quiet(), _interruptible(keeper):
        trainer = pl.Trainer(
            max_epochs=settings.epochs - module.epoch,
            accelerator="gpu" if prepared.device.type == "cuda" else "cpu",
            devices=[prepared.device.index or 0] if prepared.device.type == "cuda" else 1,
            callbacks=callbacks,
            logger=_loggers(recipe, out) if processes.is_main() else False,
            plugins=[LightningEnvironment()],  # processes are ours, as in `processes`
            gradient_clip_val=recipe.optimizer.clip or None,
            log_every_n_steps=min(50, len(module.batches)),
            num_sanity_val_steps=0,
            inference_mode=False,  # forces are derivatives, in validation too
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=out,
        )
        trainer.fit(module, module.batches, valid)


@contextmanager
def _interruptible(keeper: Keeper) -> Iterator[None]:
    """Turn Ctrl-C into `Interrupted`, whatever Lightning makes of it, and free the signal again."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT) if main else None
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        done = len(keeper.history)
        where = f"after epoch {done}" if done else "before the first epoch ended"
        raise Interrupted(
            f"Stopped {where}. Results so far are in {keeper.folder}; with `resume` the run goes "
            f"on from the {'end of that epoch' if done else 'beginning'}."
        ) from None
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


@contextmanager
def _threads(n: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's remarks on hardware and its advertisements out; warnings still pass.

    All but one: that Lightning itself calls something of torch that will go.
    """
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", module="lightning.*")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _loggers(recipe: Recipe, out: Path) -> Any:
    from lightning.pytorch import loggers

    made: list[loggers.Logger] = []
    for name in recipe.training.loggers:
        if name == "csv":
            made.append(loggers.CSVLogger(out, name="logs", version="csv"))
        elif name == "tensorboard":
            made.append(loggers.TensorBoardLogger(out, name="logs", version="tensorboard"))
        else:
            made.append(loggers.WandbLogger(name=out.name, save_dir=out, project="tensornet"))
    return made or False


def _check_folder(out: Path, *, resume: bool, overwrite: bool) -> None:
    if resume and overwrite:
        raise RecipeError("A run can resume or overwrite, not both.")
    must_be_writable(out, "output folder")
    filled = out.is_dir() and any(out.iterdir())
    if resume and not is_run(out):
        raise RecipeError(
            f"Cannot resume: there is no run in {out}. (Leave --resume out to begin one.)"
        )
    if filled and not resume and not overwrite:
        raise RecipeError(
            f"The output folder {out} is not empty. (Choose another, or continue with --resume, or "
            "replace its results with --overwrite.)"
        )
    if filled and overwrite and not is_run(out):
        raise RecipeError(
            f"The output folder {out} holds other files and no run to overwrite. (Choose another.)"
        )


def is_run(out: Path) -> bool:
    """Tell whether a folder is that of a run.

    Args:
        out: The folder, or where none is.

    Returns:
        Whether a run began there; a recipe that a user put there does not make it one.
    """
    recipe = out / "recipe.yaml"
    if (out / "last.ckpt").exists() or not recipe.is_file():
        return (out / "last.ckpt").exists()
    return recipe.read_bytes().startswith(MARK.encode())


def _temporary(path: Path) -> bool:
    """Whether a file is what a kill left of a file that was being written."""
    return any(path.name.startswith(f".{name}.") for name in OUTPUTS)


@contextmanager
def _folder(out: Path, *, clear: bool, keep: bool) -> Iterator[None]:
    """Make the output folder, and leave none behind by a run that fails before its first epoch.

    Args:
        out: The folder.
        clear: Whether to remove the results of another run first.
        keep: Whether what is there belongs to this run and stays whatever happens.
    """
    made = [path for path in (out, *out.parents) if not path.exists()]
    with input_errors(f"The output folder {out} cannot be used: "):
        if clear:
            clear_run(out)
        out.mkdir(parents=True, exist_ok=True)
        for path in filter(_temporary, list(out.iterdir())):
            path.unlink()
    try:
        yield
    except (RecipeError, TrainingError):
        if not keep and not (out / "last.ckpt").exists():
            clear_run(out)
            for path in made:
                if not any(path.iterdir()):
                    path.rmdir()
        raise


def clear_run(out: Path) -> None:
    """Remove what a run writes, and nothing else.

    Args:
        out: The folder, which stays.
    """
    for name in OUTPUTS:
        path = out / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _introduction(recipe: Recipe, prepared: Prepared, model: Potential) -> Iterator[str]:
    """Say what is trained on what, so that missing or odd labels are seen at once."""
    told = set()
    for name, frames in prepared.frames.items():
        if frames.summary and frames.summary not in told:
            told.add(frames.summary)
            yield frames.summary
        yield f"{name}: {len(frames)} structures, {frames.n_atoms} atoms"
    yield prepared.references.message
    for name, n in prepared.copies.items():
        yield f"note: {n} of the {name} structures are also in the training data"
    most = prepared.graphs["train"].most_edges
    if recipe.training.max_edges is not None and most > recipe.training.max_edges:
        yield (
            f"note: a training structure has {most} edges, more than `training.max_edges`; such "
            "structures are computed alone"
        )
    known = prepared.statistics
    yield (
        f"scale {known.scale:.4g} eV (what errors in the loss are divided by), "
        f"{known.n_neighbours:.1f} neighbours per atom"
    )
    yield (
        f"model {model.config['name']}: {model.n_parameters} parameters, cutoff {model.cutoff:g} Å,"
        f" {recipe.training.dtype} on {prepared.device}"
    )
    if recipe.start.model is not None or recipe.start.freeze:
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        begun = "" if recipe.start.model is None else f"begins from {recipe.start.model}, "
        yield f"start: {begun}{trained} parameters are trained"
