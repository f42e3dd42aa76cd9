"""How fast are spherical harmonics and their first and second derivatives, beside sphericart?

The directions are those of edges. Timed are: the value; the value and its gradient in the vectors
for a given cotangent (forces); and the value, that gradient, and the gradient of its square in the
vectors and in the cotangent (a step of training on forces). Each side gets the axes it likes best;
sphericart's harmonics are ours over sqrt(4 pi).

Results and all gradients agree before anything is timed. We and a peer take turns, each for ten
milliseconds of calls or one call; times are medians of process CPU time on one thread, with the
allocator of the C library told to keep memory (`--default-allocator` leaves it alone). A row's
ratios are the peers' medians over ours beside them. A peer that is not installed is named under
`missing`.

    OMP_NUM_THREADS=1 python examples/benchmarks/harmonics.py [--smoke] [--out FILE]
        [--edges 20000] [--l-max 1 2 3 4 5 6 7 8] [--repeats 9]
"""

import argparse
import importlib
import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from origin import origin, write
from torch import Tensor

from tensornet.kernels import tune_allocator
from tensornet.so3 import spherical_harmonics

Function = Callable[[Tensor], Tensor]
PASSES = ("value", "value and gradient", "value, gradient and second derivative")
PEERS = ("sphericart", "e3nn")


def peer(name: str, l_max: int) -> Function | None:
    """Make a peer's function, or none where it is not installed."""
    try:
        if name == "e3nn":
            o3 = importlib.import_module("e3nn.o3")
            made = o3.SphericalHarmonics(list(range(l_max + 1)), True, "component")
        else:
            made = importlib.import_module("sphericart.torch").SphericalHarmonics(l_max)
    except ImportError:
        return None
    function: Function = made
    return function


def step(function: Function, v: Tensor, g: Tensor, what: str) -> list[Tensor]:
    """Do one of `PASSES`, and give all that it computes."""
    if what == PASSES[0]:
        with torch.no_grad():
            return [function(v)]
    v, g = v.detach().requires_grad_(), g.detach().requires_grad_(what == PASSES[2])
    y = function(v)
    if what == PASSES[1]:
        return [y, *torch.autograd.grad(y, v, g)]
    (slope,) = torch.autograd.grad(y, v, g, create_graph=True)
    return [y, slope, *torch.autograd.grad(slope.square().sum(), (v, g))]


def difference(ours: list[Tensor], theirs: list[Tensor], name: str) -> float:
    """Largest difference of results, over the largest number."""
    worst = 0.0
    factor = math.sqrt(4 * math.pi) if name == "sphericart" else 1.0
    for place, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        want = b.detach() * (factor if place < 2 else factor**2)
        if name == "sphericart" and want.shape[1] == 3:
            want = want[:, [1, 2, 0]]
        worst = max(worst, float((a.detach() - want).abs().max() / want.abs().max()))
    return worst


def duel(sides: list[Callable[[], Any]], repeats: int) -> list[float]:
    """Let two take turns, some calls each time, and give the median seconds of a call."""
    times: list[list[float]] = [[] for _ in sides]
    calls = [1] * len(sides)
    for repeat in range(repeats + 1):
        for k, side in enumerate(sides):
            begin = time.process_time()
            for _ in range(calls[k]):
                side()
            spent = time.process_time() - begin
            if repeat == 0:  # as many calls as ten milliseconds hold
                calls[k] = max(1, min(50, round(0.01 / max(spent, 1e-9))))
            else:
                times[k].append(spent / calls[k])
    return [statistics.median(values) for values in times]


def rows(l_max: int, edges: int, dtype: torch.dtype, repeats: int) -> list[dict[str, Any]]:
    """Check agreement, then let all take turns."""
    v, g = torch.randn(edges, 3, dtype=dtype), torch.randn(edges, (l_max + 1) ** 2, dtype=dtype)
    turned = v[:, [2, 0, 1]].contiguous()
    sides: dict[str, tuple[Function, Tensor]] = {
        "ours": (lambda x: spherical_harmonics(x, l_max), v)
    }
    for name in PEERS:
        function = peer(name, l_max)
        if function is not None:
            sides[name] = function, turned if name == "sphericart" else v
    found = []
    for what in PASSES:
        done = {name: step(f, x, g, what) for name, (f, x) in sides.items()}
        apart = {name: difference(done["ours"], done[name], name) for name in sides}
        assert max(apart.values()) < (2e-4 if dtype == torch.float32 else 1e-11), apart
        row: dict[str, Any] = {
            "l_max": l_max, "edges": edges, "dtype": str(dtype).removeprefix("torch."),
            "pass": what,
        }  # fmt: skip
        calls = {name: partial(step, f, x, g, what) for name, (f, x) in sides.items()}
        for name in [name for name in PEERS if name in sides]:
            mine, theirs = duel([calls["ours"], calls[name]], repeats)
            row |= {f"{name}_seconds": theirs, f"{name}_largest_difference": apart[name]}
            row |= {f"seconds_beside_{name}": mine, f"{name}_ratio": theirs / mine}
        beside = [value for key, value in row.items() if key.startswith("seconds_beside_")]
        row["seconds"] = min(beside or duel([calls["ours"]], repeats))
        found.append(row)
    return found


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few seconds: tells nothing")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--edges", type=int, default=20_000)
    parser.add_argument("--l-max", type=int, nargs="+", default=list(range(1, 9)))
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--default-allocator", action="store_true")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.edges, arguments.l_max, arguments.repeats = 60, [2], 2
    torch.set_num_threads(1)
    torch.manual_seed(65537)
    tuned = not arguments.default_allocator and tune_allocator()
    missing = [name for name in PEERS if peer(name, 1) is None]
    table = [
        row
        for dtype in (torch.float32, torch.float64)
        for l_max in arguments.l_max
        for row in rows(l_max, arguments.edges, dtype, arguments.repeats)
    ]
    print(f"{arguments.edges} edges, one thread; ms, and how many times longer peers take")
    for name in missing:
        print(f"{name} is not installed")
    print(f"{'dtype':8} {'l_max':>5} {'pass':38} {'ms':>8}" + "".join(f"{p:>12}" for p in PEERS))
    for row in table:
        ratios = "".join(f"{row.get(f'{name}_ratio', math.nan):12.2f}" for name in PEERS)
        head = f"{row['dtype']:8} {row['l_max']:5d} {row['pass']:38}"
        print(f"{head} {1000 * row['seconds']:8.3f}{ratios}")
    packages = {"sphericart": "sphericart-torch", "e3nn": "e3nn"}
    here = [packages[name] for name in PEERS if name not in missing]
    content = {
        **origin(("torch", "numba", *here)),
        "time": "process CPU time of a call, one thread, medians of interleaved rounds",
        "allocator": "keeps freed memory, on all sides" if tuned else "default",
        "repeats": arguments.repeats, "smoke": arguments.smoke, "missing": missing, "rows": table,
    }  # fmt: skip
    write(arguments.out, content)


if __name__ == "__main__":
    main()
