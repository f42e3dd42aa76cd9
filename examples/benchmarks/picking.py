"""How many entries does a differentiable tensor train need, and what does its derivative cost?

Every row is one function on a grid: ranks and entries picked, entries asked for in the choice,
the largest error at random entries that were never asked for, over the largest value there, and
the error of the derivative of the sum of all entries in a parameter of the function. Where the
grid is small enough, that derivative is compared with the one through all entries, and both are
timed in turns; otherwise with a closed form, or with none.

    OMP_NUM_THREADS=1 python examples/benchmarks/picking.py [--smoke]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from origin import origin, write
from torch import Tensor

from tensornet.functional import pick

Family = Callable[[Tensor, Tensor], Tensor]


def problems(smoke: bool) -> dict[str, tuple[Family, tuple[int, ...], float]]:
    """Give each function of a parameter and of indices, its shape and the tolerance."""

    def rational(a: Tensor, i: Tensor) -> Tensor:
        return 1 / (a + i.double().sum(1))

    def unit(a: Tensor, i: Tensor) -> Tensor:
        return 1 / (a + i.double().sum(1) / 63)

    def gaussian(a: Tensor, i: Tensor) -> Tensor:
        x = i.double() / 10 - 1.55
        return torch.exp(-a * x.square().sum(1) - (x[:, 1:] * x[:, :-1]).sum(1) / 2)

    size = 12 if smoke else 64
    return {
        "1/(1 + sum of indices)": (rational, (size,) * 4, 1e-9),
        "1/(1 + sum of coordinates)": (unit, (size,) * 4, 1e-9),
        "1/(1 + sum of indices), small": (rational, (12 if smoke else 24,) * 4, 1e-9),
        "Gaussian chain of 8": (gaussian, (8 if smoke else 32,) * (4 if smoke else 8), 1e-6),
        "1/(1 + sum of coordinates) of 10": (unit, (6 if smoke else 64,) * 10, 1e-8),
    }


def every(shape: tuple[int, ...]) -> Tensor:
    """All indices."""
    return torch.cartesian_prod(*(torch.arange(n) for n in shape))


def largest_error(train: Any, function: Callable[[Tensor], Tensor]) -> float:
    """At ten thousand entries drawn evenly."""
    points = torch.stack([torch.randint(0, n, (10_000,)) for n in train.shape], 1)
    exact = function(points)
    return float((train.evaluate(points) - exact).abs().max() / exact.abs().max())


def measured(name: str, family: Family, shape: tuple[int, ...], tolerance: float) -> dict[str, Any]:
    """One row."""
    a = torch.ones((), dtype=torch.float64, requires_grad=True)
    n_entries = float(torch.tensor(shape, dtype=torch.float64).prod())
    begin = time.process_time()
    picking = pick(lambda i: family(a, i), shape, tolerance=tolerance, seed=0)
    row: dict[str, Any] = {
        "function": name, "shape": list(shape), "tolerance": tolerance,
        "largest_rank": max(picking.ranks), "picked": len(picking.indices),
        "asked_in_choice": picking.n_evaluations,
        "share": (len(picking.indices) + picking.n_evaluations) / n_entries,
        "choice_cpu_seconds": time.process_time() - begin,
    }  # fmt: skip
    with torch.no_grad():
        row["largest_error"] = largest_error(
            picking(lambda i: family(a, i)), lambda i: family(a, i)
        )

    def through_picked() -> float:
        total = picking(lambda i: family(a, i)).sum() / n_entries
        return float(torch.autograd.grad(total, a)[0])

    def through_all() -> float:
        return float(torch.autograd.grad(family(a, indices).mean(), a)[0])

    contenders = {"derivative": through_picked}
    if n_entries < 1e6:
        indices = every(shape)
        contenders["dense_derivative"] = through_all
    times: dict[str, list[float]] = {key: [] for key in contenders}
    for _ in range(5):
        for key, call in contenders.items():
            begin = time.process_time()
            row[key] = call()
            times[key].append(time.process_time() - begin)
    for key, values in times.items():
        row[f"{key}_cpu_seconds"] = statistics.median(values)
    if "dense_derivative" in row:
        row["derivative_error"] = abs(row["derivative"] / row["dense_derivative"] - 1)
        assert row["derivative_error"] < 1e-3, row
    return row


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="small grids")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = []
    for name, (family, shape, tolerance) in problems(arguments.smoke).items():
        rows.append(measured(name, family, shape, tolerance))
        row = rows[-1]
        print(
            f"{name:34} {max(shape)}^{len(shape)} rank {row['largest_rank']:3d}, share of entries "
            f"{row['share']:.1e}, largest error {row['largest_error']:.1e}, derivative "
            f"{row['derivative']:.6e} off {row.get('derivative_error', float('nan')):.1e}"
        )
    write(arguments.out, {**origin(), "smoke": arguments.smoke, "rows": rows})


if __name__ == "__main__":
    main()
