"""CP: how fast and how exact, beside TensorLy?

Four questions. Noise: a random tensor of known rank with noise, both to the noise floor. Collinear
terms: cosines of 0.9, where alternating least squares stalls. Exact ranks: the 2x2 matrix
multiplication tensor at rank seven, and the Clebsch-Gordan coupling tensors, from several seeds.

Candidates take turns and are compared by the medians of CPU time on one thread; errors are
computed from the dense difference by the same code for both. `ratio` is TensorLy's median over
ours. TensorLy runs `parafac` on torch tensors, from its SVD start, with tolerance 1e-8.

    OMP_NUM_THREADS=1 python examples/benchmarks/cp.py [--smoke] [--slow] [--out FILE]

`--slow` adds the coupling tensor of degree three.
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
from tensorly.decomposition import parafac
from torch import Tensor

from tensornet.formats import CP, cp
from tensornet.products.coupling import coupling, even_part

PARTS = ("100", "200", "collinear", "ranks")


def sample(size: int, rank: int, noise: float, cosine: float | None, seed: int) -> Tensor:
    """Make a tensor of `rank` terms with noise; with equal cosines between vectors, if given."""
    generator = torch.Generator().manual_seed(seed)
    factors = [torch.randn(size, rank, generator=generator) for _ in range(3)]
    if cosine is not None:
        root = torch.linalg.cholesky((1 - cosine) * torch.eye(rank) + cosine)
        factors = [torch.linalg.qr(f).Q @ root.mT for f in factors]
    x = CP(tuple(factors)).to_dense()
    extra = torch.randn(x.shape, generator=generator)
    return x + extra * (noise * float(x.norm() / extra.norm()))


def ours(x: Tensor, rank: int) -> CP:
    """Fit by this library."""
    return cp(x, rank).value


def theirs(x: Tensor, rank: int) -> CP:
    """Fit by TensorLy."""
    return CP.from_tensorly(parafac(x, rank, init="svd", tol=1e-8, n_iter_max=200))


def seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    """Measure the CPU time of a call."""
    begin = time.process_time()
    result = function()
    return time.process_time() - begin, result


def against(work: str, tensors: list[Tensor], rank: int, repeats: int) -> dict[str, Any]:
    """Let both fit the same tensors in turns."""
    times: dict[str, list[float]] = {"tensornet": [], "tensorly": []}
    errors: dict[str, list[float]] = {"tensornet": [], "tensorly": []}
    for repeat in range(repeats + 1):
        for x in tensors:
            for name, fit in (("tensornet", ours), ("tensorly", theirs)):
                used, found = seconds(lambda fit=fit, x=x: fit(x, rank))
                if repeat == 0:
                    errors[name].append(float((found.to_dense() - x).norm() / x.norm()))
                else:
                    times[name].append(used)
    median = {name: statistics.median(values) for name, values in times.items()}
    row = {
        "work": work,
        "seconds": median,
        "ratio": median["tensorly"] / median["tensornet"],
        "errors": errors,
    }
    worst = {name: max(values) for name, values in errors.items()}
    print(f"{work:34} {row['ratio']:7.1f}x  errors {worst['tensornet']:.4e} "
          f"(tensorly {worst['tensorly']:.4e})")  # fmt: skip
    return row


def matrix_multiplication() -> Tensor:
    """Give the tensor of 2x2 matrix products."""
    x = torch.zeros(2, 2, 2, 2, 2, 2)
    for i, j, k in torch.cartesian_prod(*[torch.arange(2)] * 3).tolist():
        x[i, j, j, k, k, i] = 1
    return x.reshape(4, 4, 4)


def exact(work: str, x: Tensor, rank: int, seeds: int, max_iterations: int) -> dict[str, Any]:
    """Fit from some seeds, and count the exact ends."""
    errors, times, terms = [], [], []
    for seed in range(seeds):
        used, found = seconds(
            lambda seed=seed: cp(x, rank, tolerance=1e-13, max_iterations=max_iterations, seed=seed)
        )
        norms = torch.stack([f.norm(dim=0) for f in found.value.factors]).prod(0)
        errors.append(found.relative_error)
        times.append(used)
        terms.append(float(norms.max() / x.norm()))
    n_exact = sum(error <= 1e-12 for error in errors)
    print(f"{work:34} rank {rank:3d}: {n_exact} of {seeds} exact, best {min(errors):.1e}, "
          f"median {statistics.median(times):.2f} s")  # fmt: skip
    return {
        "work": work, "rank": rank, "exact": n_exact, "seeds": seeds, "errors": errors,
        "seconds": times, "largest_term": terms,
    }  # fmt: skip


def couplings(smoke: bool, slow: bool) -> list[dict[str, Any]]:
    """Try ranks of the Clebsch-Gordan coupling tensors, at and below the exact ones."""
    plan = [(1, True, 8, 5), (1, True, 7, 3), (1, False, 6, 5), (1, False, 5, 3)]
    if not smoke:
        plan += [(2, True, 30, 5), (2, True, 29, 2), (2, False, 18, 5), (2, False, 17, 2)]
    if slow:
        plan += [(3, True, 96, 2), (3, True, 90, 1), (3, True, 88, 1), (3, False, 52, 1)]
    rows = []
    for l_max, odd, rank, seeds in plan:
        x = coupling("clebsch_gordan", l_max)
        name = f"coupling, l_max {l_max}, {'all' if odd else 'even'} paths"
        steps = 3000 if l_max == 3 else 300
        rows.append(exact(name, x if odd else even_part(x), rank, seeds, steps))
    return rows


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few seconds: tells nothing")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--slow", action="store_true", help="with degree three, ten minutes")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    tensorly.set_backend("pytorch")
    repeats, parts = 1 if arguments.smoke else 5, arguments.parts
    sizes = ((20, 3),) if arguments.smoke else ((100, 10), (200, 20))
    sizes = tuple(pair for pair, part in zip(sizes, PARTS, strict=False) if part in parts)
    rows = [
        against(f"{n}^3, rank {r}, noise 1e-3", [sample(n, r, 1e-3, None, 0)], r, repeats)
        for n, r in sizes
    ]
    size, rank, seeds = (20, 4, 2) if arguments.smoke else (50, 10, 5)
    hard = [sample(size, rank, 1e-4, 0.9, seed) for seed in range(seeds)]
    if "collinear" in parts:
        rows.append(against(f"{size}^3, rank {rank}, collinear 0.9", hard, rank, repeats))
    starts, ranks = 3 if arguments.smoke else 20, []
    if "ranks" in parts:
        ranks = [exact("2x2 matrix multiplication", matrix_multiplication(), 7, starts, 1000)]
        ranks += couplings(arguments.smoke, arguments.slow)
    settings = {"dtype": "float64", "repeats": repeats, "clock": "CPU time, one thread"}
    write(
        arguments.out,
        {
            **origin(("torch", "tensorly")), "smoke": arguments.smoke, **settings,
            "rows": rows, "ranks": ranks,
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
