"""Committees: the same recipe with several seeds, and how well their spread tells their errors."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tensornet import _check
from tensornet._typing import AnyPath
from tensornet.models import MEMBER, load
from tensornet.train.fit import clear_run, fit, is_run
from tensornet.train.limits import writing
from tensornet.train.metrics import Predictions, predict_graphs
from tensornet.train.prepare import input_errors, prepare
from tensornet.train.processes import is_first
from tensornet.train.recipe import Recipe, RecipeError
from tensornet.train.report import metrics_content, provenance_of, write_json

log = logging.getLogger(__name__)

N_BINS = 10


@dataclass(frozen=True)
class Bin:
    """Errors where the committee spread about the same.

    Args:
        spread: Root mean square spread of the members.
        error: Root mean square error of their mean.
        n: How many predictions these are.
    """

    spread: float
    error: float
    n: int


@dataclass(frozen=True)
class Calibration:
    """How well the spread of a committee tells its errors.

    Args:
        unit: Of spreads and errors.
        factor: What the spread must be multiplied by to have the size of the errors.
        correlation: Spearman's, between spreads and absolute errors; zero if it tells nothing.
        within: Share of errors below one and below two multiplied spreads; 0.68 and 0.95 where
            errors are normal.
        bins: From the smallest spreads to the largest, as many predictions in each.
    """

    unit: str
    factor: float
    correlation: float
    within: tuple[float, float]
    bins: tuple[Bin, ...]

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for ``metrics.json``.

        Returns:
            The attributes by name; each bin as a dictionary.
        """
        return {**asdict(self), "within": list(self.within), "bins": [asdict(b) for b in self.bins]}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Calibration:
        """Read it back from ``metrics.json``.

        Args:
            content: What `to_dict` gave.

        Returns:
            The same calibration.
        """
        bins = tuple(Bin(**row) for row in content["bins"])
        first, second = content["within"]
        return cls(**{**content, "within": (first, second), "bins": bins})

    def __str__(self) -> str:
        """Show the table."""
        one, two = self.within
        head = (
            f"errors are {self.factor:.2f} times the spread, rank correlation "
            f"{self.correlation:.2f}, within one and two: {one:.0%}, {two:.0%}"
        )
        lines = [f"{b.spread:10.3g} {b.error:10.3g} {b.n:8d}" for b in self.bins]
        return "\n".join([head, f"{'spread':>10} {'error':>10} {'n':>8}   ({self.unit})", *lines])


def calibration(
    spread: Tensor,  # (n,)
    error: Tensor,  # (n,)
    *,
    unit: str = "",
    n_bins: int = N_BINS,
) -> Calibration | None:
    """Hold the spread of a committee against the errors of its mean.

    Args:
        spread: Standard deviation over the members, of each prediction.
        error: Prediction less label; NaN where there is no label.
        unit: For the table.
        n_bins: Number of rows of the table.

    Returns:
        What it tells, or none where there are fewer than two errors or the members agree.

    Raises:
        TypeError: If the number of rows is no whole number.
        ValueError: If it is below one, or the shapes differ.

    References:
        Kahle & Zipoli, Quality of uncertainty estimates from neural network potential ensembles
        (2022); Levi et al., Evaluating and calibrating uncertainty prediction in regression (2022).
    """
    _check.shapes("calibration", spread=(spread, "n"), error=(error, "n"))
    _check.at_least("calibration", 1, n_bins=n_bins)
    known = error.isfinite() & spread.isfinite()
    spread, error = spread[known].to(torch.float64), error[known].to(torch.float64).abs()
    if len(error) < 2 or float(spread.max()) == 0:
        return None
    factor = float(error.square().mean().sqrt() / spread.square().mean().sqrt())
    order = torch.argsort(spread, stable=True)
    bins = tuple(
        Bin(
            float(spread[part].square().mean().sqrt()),
            float(error[part].square().mean().sqrt()),
            len(part),
        )
        for part in order.tensor_split(min(n_bins, len(error)))
    )
    within = tuple(float((error <= k * factor * spread).double().mean()) for k in (1, 2))
    return Calibration(unit, factor, _spearman(spread, error), (within[0], within[1]), bins)


def _spearman(x: Tensor, y: Tensor) -> float:
    from scipy.stats import spearmanr

    if bool((x == x[0]).all()) or bool((y == y[0]).all()):
        return 0.0  # no order to compare
    return float(spearmanr(x.numpy(), y.numpy()).statistic)


def average(parts: Sequence[Predictions]) -> tuple[Predictions, dict[str, Calibration]]:
    """Average the predictions of the members of a committee on the same structures.

    Args:
        parts: Of each member. One alone tells how sure it is of energies, by its last layer.

    Returns:
        The mean, and how well the spread tells its errors: per ``energy`` (meV/atom, one per
        structure) and ``forces`` (meV/Å, one per atom: the root mean square over x, y, z).
    """
    energy = torch.stack([part.energy for part in parts])
    forces = torch.stack([part.forces for part in parts])
    stress = torch.stack([part.stress for part in parts])
    mean = replace(parts[0], energy=energy.mean(0), forces=forces.mean(0), stress=stress.mean(0))
    per_atom = 1000 / mean.n_atoms
    found = {
        "energy": calibration(
            per_atom * (energy.std(0, correction=0) if len(parts) > 1 else parts[0].energy_std),
            per_atom * (mean.energy - mean.energy_label),
            unit="meV/atom",
        ),
        "forces": calibration(
            1000 * forces.var(0, correction=0).mean(-1).sqrt(),
            1000 * (mean.forces - mean.forces_label).square().mean(-1).sqrt(),
            unit="meV/Å",
        ),
    }
    return mean, {name: said for name, said in found.items() if said is not None}


def fit_committee(
    recipe: Recipe, out: AnyPath, n: int, *, resume: bool = False, overwrite: bool = False
) -> dict[str, Any]:
    """Train a committee: the recipe with `n` seeds, one after the other.

    The folder gets a run per member, ``member-1`` and so on, and ``metrics.json`` of their mean,
    with its calibration. Seeds count up from that of the recipe; the split into training and
    validation frames is that of the first, so that the committee can be validated.

    Args:
        recipe: From `load_recipe`.
        out: Folder of the results, made if it is missing.
        n: Number of members, two or more.
        resume: Go on where the committee stopped: members that are complete stay.
        overwrite: Remove the results of other runs in the members' folders first, and those that
            would be taken for more members, or for the model, when the first member is trained.

    Returns:
        The content of ``metrics.json``: as of one model, and ``calibration`` by split.

    Raises:
        RecipeError: If recipe, data or folder do not allow training, or `n` is below two; and with
            `resume`, if the folder holds more than the first `n` members.
        TrainingError: If a member's training fails.
        Interrupted: On Ctrl-C; with `resume` the committee goes on.
    """
    out = Path(out)
    if n < 2:
        raise RecipeError(f"A committee must have at least 2 members. Got {n}.")
    filled = out.is_dir() and any(out.iterdir())
    if filled and not (resume or overwrite):
        raise RecipeError(
            f"The output folder {out} is not empty. (Choose another, or continue with --resume, or "
            "replace its results with --overwrite.)"
        )
    others = _others(out, n)
    if others and not overwrite:
        raise RecipeError(
            f"Cannot resume: {out} holds {', '.join(str(other) for other in others)} besides the "
            f"first {n} members. (Choose --committee with their number, or another folder.)"
        )
    for k in range(n):
        folder = out / f"{MEMBER}{k + 1}"
        begun = (folder / "last.ckpt").exists()
        log.info("member %d of %d: seed %d", k + 1, n, recipe.training.seed + k)
        again = {"resume": resume and begun, "overwrite": overwrite and begun}
        fit(_with_seed(recipe, recipe.training.seed + k), folder, **again)
        for other in others if k == 0 and is_first() else ():
            clear_run(other)
            if not any(other.iterdir()):
                other.rmdir()
    return _report(recipe, out, n)


def _others(out: Path, n: int) -> list[Path]:
    """Runs that would be read as the model of a folder, or as members beyond the first few."""
    ours = {f"{MEMBER}{k + 1}" for k in range(n)}
    folders = [out, *sorted(out.glob(f"{MEMBER}*"))]
    return [folder for folder in folders if folder.name not in ours and is_run(folder)]


def _with_seed(recipe: Recipe, seed: int) -> Recipe:
    """The recipe of a member: another seed, the same split."""
    kept = recipe.training.seed if recipe.data.split_seed is None else recipe.data.split_seed
    data = recipe.data.model_copy(update={"split_seed": kept})
    training = recipe.training.model_copy(update={"seed": seed})
    return recipe.model_copy(update={"data": data, "training": training})


def _report(recipe: Recipe, out: Path, n: int) -> dict[str, Any]:
    prepared = prepare(recipe)
    with input_errors("Cannot report: "):
        models = [
            load(out / f"{MEMBER}{k + 1}" / "model.safetensors", device=prepared.device)
            for k in range(n)
        ]
    metrics, told = {}, {}
    for name, graphs in prepared.to_measure().items():
        mean, said = average([predict_graphs(model, graphs) for model in models])
        metrics[name] = mean.metrics()
        told[name] = {label: c.to_dict() for label, c in said.items()}
    speed = {"members": n, "device": str(prepared.device)}
    content = metrics_content(metrics, models[0], speed, provenance_of(recipe, prepared))
    content["calibration"] = told
    with writing(out / "metrics.json") as path:
        write_json(path, content)
    return content
