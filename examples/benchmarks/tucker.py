"""How fast, and how good, is the Tucker decomposition beside TensorLy's?

Dense tensors at given ranks: TensorLy (PyTorch backend, tolerance 1e-4 on the change of the error,
as its users call it) and `tensornet.formats.tucker`. Sums of outer products to a tolerance: the
route over the factors, beside the same truncation of the dense tensor.

The errors are those of the dense difference, computed for every candidate in the same way before
anything is timed. The candidates take turns; medians are of CPU time of one thread
(`time.process_time`), since other programs may run beside. A row's `ratio` is the first candidate's
median over its own.

    OMP_NUM_THREADS=1 python examples/benchmarks/tucker.py [--smoke] [--rounds 7] [--out FILE]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorly
import torch
from origin import origin, write
from tensorly.decomposition import tucker as tensorly_tucker
from torch import Tensor

from tensornet.formats import CP, Decomposition, Tucker, tucker

Candidate = Callable[[], Any]


def noisy(d: int, rank: int, order: int) -> Tensor:
    """Make a tensor of low rank with noise of 1e-3 of its norm."""
    factors = tuple(torch.linalg.qr(torch.randn(d, rank)).Q for _ in range(order))
    x = Tucker(torch.randn((rank,) * order), factors).to_dense()
    noise = torch.randn_like(x)
    return x + 1e-3 * noise * (x.norm() / noise.norm())


def inverse_sum(d: int) -> Tensor:
    """Make 1 / (1 + x + y + z) on a grid in the unit cube."""
    x = torch.linspace(0, 1, d)
    return 1 / (1 + x[:, None, None] + x[:, None] + x)


def charges(n: int, m: int) -> CP:
    """Make charges of both signs, each a sum of 15 Gaussians, on a Chebyshev grid."""
    x = torch.cos(torch.pi * (torch.arange(m) + 0.5) / m)
    centres = 1.4 * torch.rand(n, 3) - 0.7
    t = torch.logspace(-1, 0.85, 15)
    factors = [
        torch.exp(-((t * (x[:, None, None] - centres[None, :, k, None])) ** 2)).flatten(1)
        for k in range(3)
    ]
    signs = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    return CP(tuple(factors), signs.repeat_interleave(len(t)))


def at_ranks(x: Tensor, rank: int) -> dict[str, Candidate]:
    """Give the candidates for a dense tensor."""
    return {
        "tensorly (torch)": lambda: tensorly_tucker(x, rank=[rank] * x.ndim, tol=1e-4),
        "tensornet": lambda: tucker(x, ranks=rank),
        "tensornet, one sweep": lambda: tucker(x, ranks=rank, sweeps=1),
        "tensornet, svd": lambda: tucker(x, ranks=rank, method="svd"),
    }


def to_tolerance(x: CP, tolerance: float) -> dict[str, Candidate]:
    """Give the candidates for a sum of outer products."""
    return {
        "tensornet, over the dense tensor": lambda: tucker(x.to_dense(), tolerance=tolerance),
        "tensornet, over the factors": lambda: tucker(x, tolerance=tolerance),
    }


def measured(
    case: str,
    x: Tensor,
    candidates: dict[str, Candidate],
    rounds: int,
    tolerance: float | None = None,
) -> list[Any]:
    """Compare the errors, then let the candidates take turns."""
    rows = {}
    for name, candidate in candidates.items():
        found = candidate()
        row: dict[str, Any] = {"case": case, "candidate": name}
        if isinstance(found, Decomposition):
            row["ranks"] = list(found.value.ranks)
            dense = found.value.to_dense()
            row["certified_error"] = found.relative_error
        else:
            dense = tensorly.tucker_to_tensor(found)
        row["error"] = float((dense - x).norm() / x.norm())
        if "certified_error" in row:
            row["true_over_certified"] = (row["error"] + 1e-14) / (row["certified_error"] + 1e-14)
            assert 0.5 <= row["true_over_certified"] <= 1.0001, row
        rows[name] = row
    first = next(iter(candidates))
    for row in rows.values():
        row["error_ratio"] = row["error"] / rows[first]["error"]
        assert row["error_ratio"] <= 1.001 or tolerance is not None, row
        assert tolerance is None or row["error"] <= tolerance, row
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for repeat in range(rounds + 1):
        for name, candidate in candidates.items():
            begin = time.process_time()
            candidate()
            if repeat:
                times[name].append(time.process_time() - begin)
    for name, row in rows.items():
        low, median, high = statistics.quantiles(times[name], n=4)
        row |= {"cpu_seconds": median, "quartiles": [low, high], "against": first}
        row["ratio"] = statistics.median(times[first]) / median
    return list(rows.values())


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few seconds: tells nothing")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(65537)
    tensorly.set_backend("pytorch")
    small, rounds = arguments.smoke, 2 if arguments.smoke else arguments.rounds
    dense = (
        ("12^3 r3", noisy(12, 3, 3), 3), ("10^4 r2", noisy(10, 2, 4), 2), ("1/(1+x+y+z) 12^3 r3",
         inverse_sum(12), 3),
    ) if small else (
        ("100^3 r10, noise 1e-3", noisy(100, 10, 3), 10), ("40^4 r8, noise 1e-3", noisy(40, 8, 4),
         8), ("1/(1+x+y+z) 100^3 r5", inverse_sum(100), 5),
    )  # fmt: skip
    rows = [row for case, x, r in dense for row in measured(case, x, at_ranks(x, r), rounds)]
    for n, m in ((4, 9),) if small else ((50, 129), (200, 65)):
        x, word = charges(n, m), f"{n} charges, {15 * n} terms, {m}^3"
        for tolerance in (1e-3, 1e-7):
            case = f"{word}, {tolerance:.0e}"
            rows += measured(case, x.to_dense(), to_tolerance(x, tolerance), rounds, tolerance)
    print(f"{'case':38} {'candidate':34} {'error':>9} {'CPU ms':>9} {'ratio':>7}")
    for row in rows:
        words = f"{row['case']:38} {row['candidate']:34} {row['error']:9.3e}"
        print(f"{words} {1000 * row['cpu_seconds']:9.2f} {row['ratio']:7.2f}")
    settings = {"dtype": "float64", "rounds": rounds, "clock": "CPU time of one thread"}
    content = {**origin(("torch", "tensorly")), "smoke": small, **settings, "rows": rows}
    write(arguments.out, content)


if __name__ == "__main__":
    main()
