"""How fast are our drop-ins for e3nn's products, in e3nn's own layout, beside e3nn?

Both sides take and give rows in e3nn's order, so that the conversion to channels last is timed as
part of ours. e3nn is at its best: compiled by TorchScript, its default. Cases: the convolution of
a NequIP-like model (`uvu`, a weight per edge, path and channel, then a sum at receivers: e3nn
gathers, multiplies and adds by `index_add`), the same product without the sum, channelwise
products (`uuu`), and fully connected ones (`uvw`) with shared weights, and with weights per row as
in DiffDock.

Results and all gradients agree before anything is timed. The two take turns; times are medians of
process CPU time on one thread, with the allocator of the C library told to keep memory
(`--default-allocator` leaves it alone). A row's `ratio` is e3nn's median over ours.

    OMP_NUM_THREADS=1 python examples/benchmarks/interop.py [--smoke] [--out FILE]
        [--rows 1000] [--edges 4000] [--nodes 200] [--repeats 5] [--only uvu ...]
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from e3nn import o3
from origin import origin, write
from torch import Tensor

from tensornet.interop.e3nn import TensorProduct, TensorProductConv
from tensornet.kernels import receiver_order, tune_allocator

Function = Callable[..., Tensor]


@dataclass(frozen=True)
class Case:
    """One operation: both sides and what goes in."""

    name: str
    theirs: Function
    ours: Function
    inputs: tuple[Tensor, ...]


def irreps(channels: int, l_max: int) -> str:
    """All degrees in natural parity."""
    return "+".join(f"{channels}x{l}{'eo'[l % 2]}" for l in range(l_max + 1))


def all_paths(one: str, two: str, out: str, mode: str) -> list[tuple[int, int, int, str, bool]]:
    """Every path that parity and the triangle rule allow."""
    sides = [o3.Irreps(side) for side in (one, two, out)]
    return [
        (i, j, k, mode, True)
        for i, a in enumerate(sides[0])
        for j, b in enumerate(sides[1])
        for k, c in enumerate(sides[2])
        if c.ir in a.ir * b.ir
    ]


def convolution(channels: int, l_max: int, edges: int, nodes: int) -> Case:
    """Gather, multiply, weigh, sum."""
    sides = irreps(channels, l_max), irreps(1, l_max), irreps(channels, l_max)
    args = *sides, all_paths(*sides, "uvu")
    product = o3.TensorProduct(*args, shared_weights=False, internal_weights=False)
    conv = TensorProductConv(*args)
    receiver = torch.randint(nodes, (edges,))
    receiver, sender = receiver[receiver_order(receiver)], torch.randint(nodes, (edges,))
    pairs = torch.stack([sender, receiver])

    def theirs(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        messages = product(x.index_select(0, sender), y, w)
        return messages.new_zeros(nodes, messages.shape[1]).index_add(0, receiver, messages)

    x = torch.randn(nodes, product.irreps_in1.dim)
    y = torch.randn(edges, product.irreps_in2.dim)
    w = torch.randn(edges, product.weight_numel)
    name = f"convolution, {channels} channels, l_max {l_max}"
    return Case(name, theirs, lambda *t: conv(*t, pairs), (x, y, w))


def product(name: str, sides: tuple[str, str, str], mode: str, rows: int, shared: bool) -> Case:
    """A product of rows."""
    args = *sides, all_paths(*sides, mode)
    words = {"shared_weights": shared, "internal_weights": False}
    theirs, ours = o3.TensorProduct(*args, **words), TensorProduct(*args, **words)
    x, y = torch.randn(rows, theirs.irreps_in1.dim), torch.randn(rows, theirs.irreps_in2.dim)
    w = torch.randn(*(() if shared else (rows,)), theirs.weight_numel)
    weights = "shared" if shared else "per row"
    return Case(f"{mode}, {name}, weights {weights}", theirs, ours, (x, y, w))


def cases(rows: int, edges: int, nodes: int, smoke: bool) -> Iterator[Case]:
    """Everything that is compared."""
    for l_max in (1,) if smoke else (1, 2, 3):
        yield convolution(16 if smoke else 64, l_max, edges, nodes)
    c = 8 if smoke else 64
    for shared in (False, True):
        sides = irreps(c, 2), irreps(1, 2), irreps(c, 2)
        yield product(f"{c} channels, l_max 2", sides, "uvu", rows, shared)
    yield product(f"{c} channels, l_max 2", (irreps(c, 2),) * 3, "uuu", rows, True)
    sides = irreps(c, 1), "4x0e", irreps(c, 1)
    yield product(f"{c} channels, l_max 1, four species", sides, "uvw", rows, True)
    half = c // 2
    sides = irreps(half, 2), irreps(1, 2), irreps(half, 2)
    yield product(f"{half} channels, harmonics, l_max 2", sides, "uvw", rows, True)
    sides = irreps(half, 1), irreps(1, 1), irreps(half, 1)
    yield product(f"{half} channels, harmonics, l_max 1", sides, "uvw", rows, False)
    few = c // 4
    yield product(f"{few} x {few} channels, l_max 1", (irreps(few, 1),) * 3, "uvw", rows, True)


def step(function: Function, inputs: tuple[Tensor, ...], g: Tensor, both: bool) -> list[Tensor]:
    """The value, or the value and its gradient in every input."""
    if not both:
        with torch.no_grad():
            return [function(*inputs)]
    leaves = [t.detach().requires_grad_() for t in inputs]
    out = function(*leaves)
    return [out.detach(), *torch.autograd.grad(out, leaves, g)]


def measure(case: Case, repeats: int) -> list[dict[str, Any]]:
    """Check agreement, then let the two take turns."""
    g = torch.randn_like(case.ours(*case.inputs))
    sides = {"e3nn": case.theirs, "ours": case.ours}
    found = []
    for both in (False, True):
        for _ in range(2):  # TorchScript compiles at the second call too
            values = {name: step(f, case.inputs, g, both) for name, f in sides.items()}
        error = max(
            float((a - b).abs().max() / a.abs().max())
            for a, b in zip(values["e3nn"], values["ours"], strict=True)
        )
        assert error < 2e-5, (case.name, error)
        del values
        times: dict[str, list[float]] = {name: [] for name in sides}
        for repeat in range(repeats + 2):
            for name, function in sides.items():
                begin = time.process_time()
                step(function, case.inputs, g, both)
                if repeat >= 2:
                    times[name].append(time.process_time() - begin)
        medians = {name: statistics.median(values) for name, values in times.items()}
        found.append({
            "case": case.name, "pass": "forward and gradient" if both else "forward",
            "seconds": medians["ours"], "e3nn_seconds": medians["e3nn"],
            "ratio": medians["e3nn"] / medians["ours"], "largest_difference": error,
        })  # fmt: skip
    return found


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few seconds: tells nothing")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--edges", type=int, default=4000)
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=[""], help="words of the cases to run")
    parser.add_argument("--default-allocator", action="store_true")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.rows, arguments.edges, arguments.nodes, arguments.repeats = 20, 60, 7, 2
    torch.set_num_threads(1)
    torch.manual_seed(65537)
    tuned = not arguments.default_allocator and tune_allocator()
    table: list[dict[str, Any]] = []
    print(f"{'case':64} {'pass':22} {'e3nn ms':>9} {'ms':>9} {'ratio':>7}")
    for case in cases(arguments.rows, arguments.edges, arguments.nodes, arguments.smoke):
        if not any(word in case.name for word in arguments.only):
            continue
        for row in measure(case, arguments.repeats):
            table.append(row)
            milliseconds = f"{1000 * row['e3nn_seconds']:9.3f} {1000 * row['seconds']:9.3f}"
            print(f"{row['case']:64} {row['pass']:22} {milliseconds} {row['ratio']:7.2f}")
    content = {
        **origin(("torch", "e3nn", "numba")),
        "time": "process CPU time, one thread, medians of interleaved rounds",
        "allocator": "keeps freed memory, on both sides" if tuned else "default",
        "dtype": "float32", "rows_of_products": arguments.rows, "edges": arguments.edges,
        "nodes": arguments.nodes, "repeats": arguments.repeats, "smoke": arguments.smoke,
        "rows": table,
    }  # fmt: skip
    write(arguments.out, content)


if __name__ == "__main__":
    main()
