"""Pictures of a training run: predictions against labels, and errors against epochs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tensornet._typing import AnyPath
from tensornet.train.metrics import Predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"train": "#9aa5b1", "valid": "#e08e2b", "test": "#1f6fb2"}
MOST_POINTS = 20_000  # a picture shows no more; the errors count all


def parity(predictions: Mapping[str, Predictions], path: AnyPath) -> None:
    """Draw predictions against labels: energy, forces and, where labelled, stress.

    Energies are drawn per atom and from the mean of the first split, so that the spread between
    structures shows and not the large total.

    Args:
        predictions: By the name of the split.
        path: The picture, its ending says the format.

    Raises:
        ValueError: If no structure has a label.
    """
    energies = [(p.energy_label / p.n_atoms).nanmean() for p in predictions.values()]
    mean = next((float(e) for e in energies if not e.isnan()), 0.0)
    columns: list[Callable[[Predictions], _Column]] = [
        partial(_energies, mean=mean),
        _forces,
        _stresses,
    ]
    shown = [column for column in columns if any(len(column(p)[1]) for p in predictions.values())]
    if not shown:
        raise ValueError("`parity(predictions=...)` must hold labels to compare with. Got none.")
    figure, axes = _figure(len(shown))
    for axis, column in zip(axes, shown, strict=True):
        _panel(axis, {name: column(p) for name, p in predictions.items()})
    _save(figure, path)


def learning_curve(
    history: Sequence[Mapping[str, float]], path: AnyPath, *, best_epoch: int | None = None
) -> None:
    """Draw loss and errors against the epoch, on logarithmic axes.

    Args:
        history: The records of the epochs.
        path: The picture, its ending says the format.
        best_epoch: The epoch of the model that was kept, counted from one. By default that of the
            lowest validation loss.

    Raises:
        ValueError: If there is no record.
    """
    if not history:
        raise ValueError("`learning_curve(history=...)` must hold an epoch. Got none.")
    from matplotlib.ticker import MaxNLocator

    titles = {
        "loss": "loss (relative to scale)",
        "energy_rmse": "energy RMSE (meV/atom)",
        "forces_rmse": "forces RMSE (meV/Å)",
        "virial_rmse": "virial RMSE (meV/atom)",
    }
    shown = [name for name in titles if f"valid_{name}" in history[0]]
    epochs = [record["epoch"] for record in history]
    best = min(history, key=lambda record: record["valid_loss"])
    if best_epoch is not None:
        best = history[best_epoch - 1]
    figure, axes = _figure(len(shown))
    for axis, name in zip(axes, shown, strict=True):
        for split, label in (("train", "training"), ("valid", "validation")):
            values = [record[f"{split}_{name}"] for record in history]
            marker = "o" if len(epochs) < 3 else None
            axis.plot(epochs, values, color=COLOURS[split], label=label, lw=1.6, marker=marker)
        axis.plot(best["epoch"], best[f"valid_{name}"], "*", color="#b3261e", ms=11, label="best")
        axis.set(xlabel="epoch", ylabel=titles[name])
        if all(record[f"{split}_{name}"] > 0 for record in history for split in ("train", "valid")):
            _logarithmic(axis)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(which="both", alpha=0.25, lw=0.6)
    axes[0].legend(frameon=False)
    _save(figure, path)


def _logarithmic(axis: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_yscale("log")
    low, high = axis.get_ylim()
    subs = (1.0, 2.0, 5.0) if high / low > 4 else (1.0, 1.5, *range(2, 10))
    axis.yaxis.set_major_locator(LogLocator(subs=subs))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())


_Column = tuple[str, NDArray[np.float64], NDArray[np.float64], float, str]


def _energies(p: Predictions, *, mean: float) -> _Column:
    label, predicted = p.energy_label / p.n_atoms - mean, p.energy / p.n_atoms - mean
    return _column("energy - mean (eV/atom)", label, predicted)


def _forces(p: Predictions) -> _Column:
    return _column("force component (eV/Å)", p.forces_label, p.forces)


def _stresses(p: Predictions) -> _Column:
    return _column("stress component (eV/Å³)", p.stress_label, p.stress)


def _column(title: str, label: Tensor, predicted: Tensor) -> _Column:
    known = ~(label.isnan() | predicted.isnan())
    x, y = label[known].numpy(), predicted[known].numpy()
    rmse = 1000 * float(np.sqrt(np.mean((y - x) ** 2))) if len(x) else 0.0
    unit = title[title.index("(") + 1 : -1]
    step = max(1, len(x) // MOST_POINTS)
    return title, x[::step], y[::step], rmse, f"m{unit}"


def _panel(axis: Axes, columns: Mapping[str, _Column]) -> None:
    for name, (title, x, y, rmse, unit) in columns.items():
        if len(x):
            label = f"{name}: RMSE {rmse:.3g} {unit}"
            size = 14 if len(x) < 500 else 5
            colour = COLOURS.get(name, "#1f6fb2")
            axis.scatter(x, y, s=size, alpha=0.6, lw=0, color=colour, label=label, rasterized=True)
        axis.set(xlabel=f"reference {title}", ylabel=f"predicted {title}")
    low = min(float(min(x.min(), y.min())) for _, x, y, *_ in columns.values() if len(x))
    high = max(float(max(x.max(), y.max())) for _, x, y, *_ in columns.values() if len(x))
    margin = 0.04 * (high - low) or 1e-3
    ends = (low - margin, high + margin)
    axis.plot(ends, ends, color="black", lw=0.8, zorder=0)
    axis.set(xlim=ends, ylim=ends, aspect="equal")
    axis.grid(alpha=0.25, lw=0.6)
    axis.legend(frameon=False, fontsize=8, loc="upper left")


def _figure(n: int) -> tuple[Figure, list[Axes]]:
    # Without pyplot there is no window, no global state and nothing to close.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4 * n, 4.1), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, n, squeeze=False)
    return figure, list(axes[0])


def _save(figure: Figure, path: AnyPath) -> None:
    figure.savefig(Path(path), dpi=150)
