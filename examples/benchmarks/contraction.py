"""What does a small contraction cost beside its arithmetic?

The pattern `abc,za,zb,zc->z` (a trilinear form with a value for each of z points), forward and with
its derivatives, for few and for many points: `tensornet.linalg` (a plan, and `contract`, which
looks the plan up), opt_einsum (an expression made once, and `contract`, which searches),
`torch.einsum`, and the products written by hand.

All candidates agree before they are timed, take turns, and are compared by medians of CPU time of
one thread (`time.process_time`), since other programs may run beside. A row's `ratio` is its median
over that of the plan: how many times the plan is faster.

    OMP_NUM_THREADS=1 python examples/benchmarks/contraction.py [--smoke] [--rounds 9] [--out FILE]
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import opt_einsum
import torch
from origin import origin, write
from torch import Tensor
from turns import compared, timed

from tensornet.linalg import contract, plan

PATTERN = "abc,za,zb,zc->z"


def by_hand(core: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Contract with two products of matrices and a sum."""
    r = len(core)
    left = (a @ core.reshape(r, r * r)).view(len(a), r, r)
    return ((left @ c[:, :, None])[:, :, 0] * b).sum(-1)


def candidates(tensors: Sequence[Tensor]) -> dict[str, Callable[..., Tensor]]:
    """Give the candidates; what can be prepared is."""
    shapes = [x.shape for x in tensors]
    return {
        "tensornet plan": plan(PATTERN, *shapes),
        "tensornet contract": lambda *xs: contract(PATTERN, *xs),
        "by hand": by_hand,
        "opt_einsum expression": opt_einsum.contract_expression(PATTERN, *shapes),
        "opt_einsum contract": lambda *xs: opt_einsum.contract(PATTERN, *xs),
        "torch einsum": lambda *xs: torch.einsum(PATTERN, *xs),
    }


def called(candidate: Callable[..., Tensor], tensors: Sequence[Tensor], backward: bool) -> None:
    """What is timed."""
    out = candidate(*tensors)
    if backward:
        torch.autograd.grad(out.sum(), tensors)


def rows(n_points: int, rank: int, rounds: int, calls: int) -> list[dict[str, Any]]:
    """Check that the candidates agree, then let them take turns."""
    tensors = [torch.randn(rank, rank, rank), *(torch.randn(n_points, rank) for _ in range(3))]
    found, offered = [], candidates(tensors)
    expected = by_hand(*tensors)
    largest = float(expected.abs().max())
    errors = {k: float((f(*tensors) - expected).abs().max()) / largest for k, f in offered.items()}
    assert max(errors.values()) < 1e-12, errors
    for backward in (False, True):
        times: dict[str, list[float]] = {name: [] for name in offered}
        given = [x.detach().requires_grad_(backward) for x in tensors]
        for repeat in range(rounds + 1):
            for name, candidate in offered.items():
                seconds = timed(partial(called, candidate, given, backward), calls)
                if repeat:
                    times[name].append(seconds)
        for name, row in compared(times, "tensornet plan").items():
            found.append({
                "n_points": n_points, "rank": rank, "pass": "both" if backward else "forward",
                **row, "largest_difference": errors[name],
            })  # fmt: skip
    return found


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few seconds: tells nothing")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(65537)
    small, rounds = arguments.smoke, 2 if arguments.smoke else arguments.rounds
    sizes = ((1, 2, 2),) if small else ((1, 4, 100), (64, 8, 100), (1024, 16, 20))
    table = [row for n, r, calls in sizes for row in rows(n, r, rounds, calls)]
    print(f"{PATTERN}: {'points':>6} {'rank':>5} {'pass':8} {'candidate':22} {'CPU us':>9} ratio")
    for row in table:
        words = (
            f"{'':17}{row['n_points']:6d} {row['rank']:5d} {row['pass']:8} {row['candidate']:22}"
        )
        print(f"{words} {1e6 * row['cpu_seconds']:9.1f} {row['ratio']:5.2f}")
    settings = {
        "pattern": PATTERN, "dtype": "float64", "rounds": rounds, "clock": "CPU time of one thread"
    }  # fmt: skip
    content = {**origin(("torch", "opt_einsum")), "smoke": small, **settings, "rows": table}
    write(arguments.out, content)


if __name__ == "__main__":
    main()
