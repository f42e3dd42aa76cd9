"""How many entries does a cross approximation ask for, beside those of teneva, tntorch and torchTT?

Every candidate gets the same functions of indices, and a wrapper counts how many different indices
it asks for, those of its own validation included. Errors are measured afterwards on the same
points, which no candidate knows: even draws and, for functions with peaks, draws near the peaks.
All run at tolerance 1e-8, from several seeds; a row's numbers are medians over the seeds, and
`lost` counts the seeds whose largest error is above 1e-3 of the largest value.

Our train comes rounded; those of the peers are taken as they come, since rounding would cost some
of them their error. A row's `ratio` is its evaluations over ours. Times are of the processor, one
thread, and include the function itself; candidates take turns seed by seed.

    PYTHONPATH=FOLDER_OF_PEERS OMP_NUM_THREADS=1 python examples/benchmarks/cross.py [--smoke]
"""

import argparse
import contextlib
import importlib.util
import io
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from origin import origin, write
from torch import Tensor

from tensornet.formats import cross

Function = Callable[[Tensor], Tensor]
TOLERANCE = 1e-8
MAXVOL = "tntorch runs with its own maxvol in Python, as it does where maxvolpy is not installed."


class Counted:
    """A function that counts the different indices it was asked for."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.seen: set[bytes] = set()

    def __call__(self, indices: Tensor) -> Tensor:
        """Evaluate, and count."""
        self.seen.update(row.tobytes() for row in indices.numpy())
        return self.function(indices)


def problems() -> dict[str, tuple[Function, tuple[int, ...], list[float]]]:
    """Give each function with its shape and the places of its peaks, as parts of each mode."""
    unit = torch.linspace(0, 1, 20, dtype=torch.float64)
    wide = torch.linspace(-1, 1, 32, dtype=torch.float64)
    digits = 2.0 ** -torch.arange(1, 21, dtype=torch.float64)

    def two_gaussians(i: Tensor) -> Tensor:
        up, down = ((wide[i] - c).square().sum(1) for c in (0.6, -0.6))
        return (-40 * up).exp() + 0.7 * (-40 * down).exp()

    def quantized(i: Tensor) -> Tensor:
        x = i.double() @ digits
        return torch.exp(-x) * torch.sin(200 * x) + 1 / (1 + 1e4 * (x - 0.3) ** 2)

    return {
        "1/(1+sum x), d=6 n=20": (lambda i: 1 / (1 + unit[i].sum(1)), (20,) * 6, []),
        "1/(1+|v|²), v in 1..10, d=8": (
            lambda i: 1 / (1 + (i + 1).double().square().sum(1)), (10,) * 8, []),
        "two Gaussians, d=6 n=32": (two_gaussians, (32,) * 6, [0.2, 0.8]),
        "QTT d=20, e^-x sin 200x + Lorentz": (quantized, (2,) * 20, []),
        "Hilbert 1/(1+i1+..+i6), n=20": (
            lambda i: 1 / (1 + (i + 1).double().sum(1)), (20,) * 6, []),
    }  # fmt: skip


def ours(function: Function, shape: tuple[int, ...], seed: int) -> tuple[list[Any], str]:
    """Run ours; what comes out is rounded already."""
    result = cross(function, shape, tolerance=TOLERANCE, seed=seed)
    value = result.value
    cores = [core.numpy() for core in value.cores]
    cores[0] = cores[0] * float(value.log_scale.exp())
    return cores, "converged" if result.converged else result.message


def teneva(function: Function, shape: tuple[int, ...], seed: int) -> tuple[list[Any], str]:
    """Run teneva from a random train of rank one, as its documentation does.

    With two new pivots at a time instead of one, its default, it asks for less than half as many
    entries on the second problem (39 407, not 89 086) and 3 % more on the first.
    """
    import teneva

    info: dict[str, Any] = {}
    cores = teneva.cross(
        lambda i: function(torch.from_numpy(np.ascontiguousarray(i).astype(np.int64))).numpy(),
        teneva.rand(list(shape), 1, seed=seed), e=TOLERANCE, nswp=50, dr_max=2, info=info, cache={},
    )  # fmt: skip
    return list(cores), f"stopped by {info['stop']}"


def tntorch(function: Function, shape: tuple[int, ...], seed: int) -> tuple[list[Any], str]:
    """Run tntorch, with its defaults but the tolerance."""
    import tntorch

    np.random.seed(seed)  # noqa: NPY002 - that is where it draws from
    torch.manual_seed(seed)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        value = tntorch.cross(
            lambda x: function(x.round().long()), [torch.arange(n).double() for n in shape],
            function_arg="matrix", eps=TOLERANCE, verbose=False, suppress_warnings=True,
        )  # fmt: skip
    finally:
        torch.set_default_dtype(before)
    return [core.numpy() for core in value.cores], "returned"


def torchtt(function: Function, shape: tuple[int, ...], seed: int) -> tuple[list[Any], str]:
    """Run torchTT's DMRG cross, with its defaults but the tolerance."""
    import torchtt

    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - that is where it draws from
    value = torchtt.interpolate.dmrg_cross(function, list(shape), eps=TOLERANCE)
    return [core.numpy() for core in value.cores], "returned"


def candidates() -> tuple[dict[str, Callable[..., tuple[list[Any], str]]], list[str]]:
    """Give the candidates that are installed, and the names of the others."""
    peers = {"teneva.cross": teneva, "tntorch.cross": tntorch, "torchtt dmrg_cross": torchtt}
    found = {name: peer for name, peer in peers.items() if importlib.util.find_spec(peer.__name__)}
    return {"tensornet cross": ours, **found}, [name for name in peers if name not in found]


def held_out(shape: tuple[int, ...], peaks: list[float], n: int) -> Tensor:
    """Draw the points at which all are compared."""
    g = torch.Generator().manual_seed(20260)
    points = [torch.stack([torch.randint(0, s, (n,), generator=g) for s in shape], 1)]
    for place in peaks:
        near = [torch.randint(-4, 5, (n,), generator=g) + round(place * (s - 1)) for s in shape]
        points.append(torch.stack(near, 1).clamp(min=0))
    return torch.cat(points)


def evaluate(cores: list[Any], points: Tensor) -> Tensor:
    """Evaluate a train at indices."""
    row = torch.ones(len(points), 1, 1, dtype=torch.float64)
    for k, core in enumerate(cores):
        row = row @ torch.as_tensor(core, dtype=torch.float64)[:, points[:, k]].permute(1, 0, 2)
    return row[:, 0, 0]


def measured(
    candidate: Callable[..., tuple[list[Any], str]],
    function: Function,
    shape: tuple[int, ...],
    points: Tensor,
    seed: int,
) -> dict[str, Any]:
    """Run a candidate once, and compare what it gives with the function."""
    counted, expected = Counted(function), function(points)
    begin = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            cores, told = candidate(counted, shape, seed)
        except Exception as error:  # a peer that breaks loses the seed
            cores, told = [np.zeros((1, n, 1)) for n in shape], f"{type(error).__name__}: {error}"
    seconds = time.process_time() - begin
    away = evaluate(cores, points) - expected
    return {
        "evaluations": len(counted.seen),
        "largest_error": float(away.abs().max() / expected.abs().max()),
        "rms_error": float(away.norm() / expected.norm()),
        "largest_rank": max(core.shape[2] for core in cores),
        "seconds": seconds,
        "told": told,
    }


def main() -> None:
    """Run all on all, and write the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="one problem, one seed, few points")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    chosen, missing = candidates()
    n_points = 500 if arguments.smoke else 20_000
    table = []
    for name, (function, shape, peaks) in list(problems().items())[
        : 1 if arguments.smoke else None
    ]:
        points = held_out(shape, peaks, n_points)
        seeds = range(1 if arguments.smoke else 10 if peaks else 5)
        runs: dict[str, list[dict[str, Any]]] = {key: [] for key in chosen}
        for seed in seeds:
            for key, candidate in chosen.items():
                runs[key].append(measured(candidate, function, shape, points, seed))
        base = statistics.median(run["evaluations"] for run in runs["tensornet cross"])
        for key, found in runs.items():
            keys = ("evaluations", "largest_error", "rms_error", "largest_rank", "seconds")
            row = {"problem": name, "candidate": key, "seeds": len(found)}
            row |= {k: statistics.median(run[k] for run in found) for k in keys}
            row["ratio"] = row["evaluations"] / base
            row["most_evaluations"] = max(run["evaluations"] for run in found)
            row["worst_error"] = max(run["largest_error"] for run in found)
            row["lost"] = sum(run["largest_error"] > 1e-3 for run in found)
            row["told"] = sorted({run["told"] for run in found})
            table.append(row)
            print(
                f"{name:36} {key:20} {row['evaluations']:9.0f} x{row['ratio']:6.2f} "
                f"{row['largest_error']:8.1e} rank {row['largest_rank']:3.0f} lost {row['lost']}"
                f"/{row['seeds']} {row['seconds']:7.2f} s", flush=True,
            )  # fmt: skip
    for name in missing:
        print(f"{name} is not installed: left out")
    packages = (
        "torch",
        "numpy",
        *sorted({x.split()[0].split(".")[0] for x in chosen} - {"tensornet"}),
    )
    content = {
        **origin(packages), "smoke": arguments.smoke, "tolerance": TOLERANCE,
        "points": n_points, "clock": "process time, one thread, candidates in turn",
        "maxvol": MAXVOL, "missing": missing, "rows": table,
    }  # fmt: skip
    write(arguments.out, content)


if __name__ == "__main__":
    main()
