"""How fast is the fused edge convolution, beside e3nn's product and a sum at receivers?

The operation is the message pass of an equivariant network: features of senders times harmonics of
edges, a weight per path and channel, summed at receivers. Paths are those of natural parity. e3nn
gathers, multiplies by its compiled `TensorProduct` (`uvu`) and adds by `index_add`; both have the
layout they like best, so that no conversion is timed. Timed are: the value; the value and its
gradient in features, harmonics and weights; and a step of force training, where the gradient of an
energy, quadratic in the value, in the harmonics is squared and differentiated again in all three.

Results and all gradients agree before anything is timed. The two take turns; times are medians of
process CPU time on one thread, with the allocator of the C library told to keep memory (which
helps e3nn most; `--default-allocator` leaves it alone). A row's `ratio` is e3nn's median over ours.

    OMP_NUM_THREADS=1 python examples/benchmarks/convolution.py [--smoke] [--out FILE]
        [--edges 2000] [--nodes 100] [--channels 32] [--l-max 1 2] [--repeats 11]
"""

import argparse
import ctypes
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import e3nn.o3
import torch
from origin import origin, write
from torch import Tensor

from tensornet.kernels import edge_convolution, receiver_order, sparse_coupling
from tensornet.products.coupling import block, coupling, paths
from tensornet.so3 import spherical_harmonics

Function = Callable[[Tensor, Tensor, Tensor], Tensor]
PASSES = ("forward", "forward and gradient", "force training")


def to_peer(x: Tensor) -> Tensor:
    """Convert (n, m, c) to e3nn's (n, c of degree 0, c x 3 of degree 1, ...)."""
    n_degrees = round(x.shape[1] ** 0.5)
    return torch.cat([x[:, l * l : (l + 1) ** 2].mT.flatten(1) for l in range(n_degrees)], 1)


def from_peer(x: Tensor, l_max: int, channels: int) -> Tensor:
    """Convert back."""
    sizes = [channels * (2 * l + 1) for l in range(l_max + 1)]
    return torch.cat([b.unflatten(1, (channels, -1)).mT for b in x.split(sizes, 1)], 1)


def peer(l_max: int, channels: int, sender: Tensor, receiver: Tensor, nodes: int) -> Function:
    """Make e3nn's convolution."""
    irreps = e3nn.o3.Irreps([(channels, (l, (-1) ** l)) for l in range(l_max + 1)])
    edge = e3nn.o3.Irreps([(1, (l, (-1) ** l)) for l in range(l_max + 1)])
    product = e3nn.o3.TensorProduct(
        irreps, edge, irreps,
        [(a, b, c, "uvu", True, 1.0) for a, b, c in paths(l_max, odd_paths=False)],
        irrep_normalization="none", path_normalization="none", shared_weights=False,
    )  # fmt: skip

    def run(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        messages = product(x.index_select(0, sender), y, w)
        return messages.new_zeros(nodes, messages.shape[1]).index_add(0, receiver, messages)

    return run


def ours(l_max: int, sender: Tensor, receiver: Tensor, nodes: int) -> Function:
    """Make our convolution."""
    listed, full = paths(l_max, odd_paths=False), coupling("clebsch_gordan", l_max)
    blocks = torch.zeros(len(listed), *full.shape)
    for place, path in enumerate(listed):
        blocks[place][block(path)] = full[block(path)].float()
    i, j, k, p, values = sparse_coupling(blocks)
    d = full.shape[2]
    return lambda x, y, w: edge_convolution(x, y, w, sender, receiver, i, j, k, p, values, nodes, d)


def step(function: Function, inputs: tuple[Tensor, ...], g: Tensor, what: str) -> list[Tensor]:
    """Do one of `PASSES`, and give all that it computes."""
    x, y, w = (t.detach().requires_grad_(what != "forward") for t in inputs)
    if what == "forward":
        with torch.no_grad():
            return [function(x, y, w)]
    out = function(x, y, w)
    if what == "forward and gradient":
        return [out, *torch.autograd.grad(out, (x, y, w), g)]
    (slope,) = torch.autograd.grad((out.square() * g).sum(), y, create_graph=True)
    return [slope, *torch.autograd.grad(slope.square().sum(), (x, y, w))]


def rows(l_max: int, edges: int, nodes: int, channels: int, repeats: int) -> list[dict[str, Any]]:
    """Check agreement, then let the two take turns."""
    receiver = torch.randint(nodes, (edges,))
    receiver, sender = receiver[receiver_order(receiver)], torch.randint(nodes, (edges,))
    d, n_paths = (l_max + 1) ** 2, len(paths(l_max, odd_paths=False))
    x, g = torch.randn(nodes, d, channels), torch.randn(nodes, d, channels)
    y = spherical_harmonics(torch.randn(edges, 3), l_max)
    w = torch.randn(edges, n_paths, channels)
    theirs = peer(l_max, channels, sender, receiver, nodes)
    sides: dict[str, tuple[Function, tuple[Tensor, ...], Tensor]] = {
        "e3nn": (theirs, (to_peer(x), y, w.flatten(1)), to_peer(g)),
        "ours": (ours(l_max, sender, receiver, nodes), (x, y, w), g),
    }
    found = []
    for what in PASSES:
        a, b = (step(f, inputs, g, what) for f, inputs, g in sides.values())
        a = [from_peer(t, l_max, channels) if t.shape[0] == nodes else t for t in a]
        pairs = [(t.detach(), u.detach().reshape(t.shape)) for t, u in zip(a, b, strict=True)]
        error = max(float((t - u).abs().max() / t.abs().max()) for t, u in pairs)
        assert error < 1e-5, (what, error)
        times: dict[str, list[float]] = {name: [] for name in sides}
        warm = min(3, repeats)
        for repeat in range(repeats + warm):
            for name, (function, inputs, cotangent) in sides.items():
                begin = time.process_time()
                step(function, inputs, cotangent, what)
                if repeat >= warm:
                    times[name].append(time.process_time() - begin)
        medians = {name: statistics.median(values) for name, values in times.items()}
        found.append({
            "l_max": l_max, "edges": edges, "nodes": nodes, "channels": channels, "pass": what,
            "seconds": medians["ours"], "e3nn_seconds": medians["e3nn"],
            "ratio": medians["e3nn"] / medians["ours"], "largest_difference": error,
        })  # fmt: skip
    return found


def keep_memory() -> bool:
    """Tell glibc to keep freed memory instead of giving it back page by page."""
    try:
        library = ctypes.CDLL("libc.so.6")
        return bool(library.mallopt(-3, 1 << 30) and library.mallopt(-1, -1))
    except (OSError, AttributeError):
        return False


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few seconds: tells nothing")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--edges", type=int, default=2000)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--l-max", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--default-allocator", action="store_true")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.edges, arguments.nodes, arguments.channels = 60, 7, 8
        arguments.l_max, arguments.repeats = [1], 2
    torch.set_num_threads(1)
    torch.manual_seed(65537)
    tuned = not arguments.default_allocator and keep_memory()
    sizes = arguments.edges, arguments.nodes, arguments.channels
    table = [row for l_max in arguments.l_max for row in rows(l_max, *sizes, arguments.repeats)]
    print("{} edges, {} nodes, {} channels, float32, one thread".format(*sizes))
    print(f"{'l_max':>5} {'pass':22} {'e3nn ms':>9} {'ms':>9} {'ratio':>7}")
    for row in table:
        milliseconds = f"{1000 * row['e3nn_seconds']:9.3f} {1000 * row['seconds']:9.3f}"
        print(f"{row['l_max']:5d} {row['pass']:22} {milliseconds} {row['ratio']:7.2f}")
    content = {
        **origin(("torch", "e3nn", "numba")),
        "time": "process CPU time, one thread, medians of interleaved rounds",
        "allocator": "keeps freed memory, on both sides" if tuned else "default",
        "dtype": "float32", "repeats": arguments.repeats, "smoke": arguments.smoke, "rows": table,
    }  # fmt: skip
    write(arguments.out, content)


if __name__ == "__main__":
    main()
