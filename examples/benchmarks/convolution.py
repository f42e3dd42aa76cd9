"""How fast is the fused edge convolution, beside e3nn's product and a sum at receivers?

The operation is the message pass of an equivariant network: features of senders times harmonics of
edges, a weight per path and channel, summed at receivers. Paths are those of natural parity. e3nn
gathers, multiplies by its compiled `TensorProduct` (`uvu`) and adds by `index_add`; cuEquivariance
does the same with its `ChannelWiseTensorProduct` (on a CPU its method `naive`), if it is installed.
Each has the layout it likes best, so that no conversion is timed. Timed are:
the value; the value and its gradients in features, harmonics and weights; and a step of training on
forces, in which those three gradients, contracted with random numbers, are differentiated again in
features, harmonics, weights and the cotangent of the value.

Results and all gradients agree before anything is timed. The sides take turns; times are medians of
process CPU time on one thread, with the allocator of the C library told to keep memory (which
helps the others most; `--default-allocator` leaves it alone). Ratios are medians of theirs over
ours. Memory is what a pass adds at its worst to the resident set, in a process of its own. The
roofline compares multiply-adds of the kernels alone with those that registers allow on this core.

    OMP_NUM_THREADS=1 python examples/benchmarks/convolution.py [--smoke] [--out FILE] [--append]
        [--edges 2000] [--nodes 100] [--channels 32] [--l-max 1 2] [--repeats 11]
        [--sides ours e3nn cuequivariance] [--parts times memory roofline]
        [--passes forward "forward and gradient" "force training"]
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from convolution_roofline import bandwidth, peak
from convolution_roofline import rows as roofline
from convolution_sides import NAMES, Scene, Side, side
from origin import origin, write
from torch import Tensor

from tensornet.kernels import receiver_order, tune_allocator
from tensornet.so3 import spherical_harmonics

PASSES = ("forward", "forward and gradient", "force training")
PARTS = ("times", "memory", "roofline")


def scene(l_max: int, channels: int, edges: int, nodes: int) -> Scene:
    """Draw a graph."""
    receiver = torch.randint(nodes, (edges,))
    receiver, sender = receiver[receiver_order(receiver)], torch.randint(nodes, (edges,))
    return Scene(l_max, channels, nodes, sender, receiver)


def inputs(s: Scene) -> list[Tensor]:
    """Draw features, harmonics, weights, a cotangent of the value, and those of three gradients."""
    e, d = len(s.sender), (s.l_max + 1) ** 2
    x, g, hx = (torch.randn(s.nodes, d, s.channels) for _ in range(3))
    y, hy = spherical_harmonics(torch.randn(e, 3), s.l_max), torch.randn(e, d)
    w, hw = (torch.randn(e, len(s.paths), s.channels) for _ in range(2))
    return [x, y, w, g, hx, hy, hw]


def there(a: Side, tensors: list[Tensor]) -> list[Tensor]:
    """Bring those to the layout of a side."""
    x, y, w, g, hx, hy, hw = tensors
    return [a.to(x), y, a.weights(w), a.to(g), a.to(hx), hy, a.weights(hw)]


def step(a: Side, tensors: list[Tensor], what: str) -> list[Tensor]:
    """Do one of `PASSES`, and give all that it computes."""
    x, y, w, g = (t.detach().requires_grad_(what != "forward") for t in tensors[:4])
    if what == "forward":
        with torch.no_grad():
            return [a.run(x, y, w)]
    out = a.run(x, y, w)
    if what == "forward and gradient":
        return [out, *torch.autograd.grad(out, (x, y, w), g.detach())]
    slopes = torch.autograd.grad(out, (x, y, w), g, create_graph=True)
    return [out, *slopes, *torch.autograd.grad(slopes, (x, y, w, g), tensors[4:])]


def agree(s: Scene, sides: dict[str, Side], tensors: list[Tensor], what: str) -> dict[str, float]:
    """Check that all sides give the same, and tell the largest difference from ours."""
    found: dict[str, list[Tensor]] = {}
    for name, a in sides.items():
        results = [t.detach() for t in step(a, there(a, tensors), what)]
        edges = [t.shape[0] == len(s.sender) for t in results]
        found[name] = [
            a.back(t) if not edge else t if t.shape[1] == tensors[1].shape[1] and t.ndim == 2
            else a.weights_back(t, s.channels)
            for t, edge in zip(results, edges, strict=True)
        ]  # fmt: skip
    errors = {}
    for name in sides:
        pairs = list(zip(found["ours"], found[name], strict=True))
        errors[name] = max(float((t - u).abs().max() / t.abs().max()) for t, u in pairs)
        assert errors[name] < 1e-5, (what, name, errors[name])
    return errors


def times(s: Scene, names: list[str], passes: list[str], repeats: int) -> list[dict[str, Any]]:
    """Check agreement, then let the sides take turns."""
    sides = {name: a for name in names if (a := side(name, s)) is not None}
    tensors, found = inputs(s), []
    own = {name: there(a, tensors) for name, a in sides.items()}
    for what in passes:
        errors = agree(s, sides, tensors, what)
        spent: dict[str, list[float]] = {name: [] for name in sides}
        warm = int(repeats > 3)  # what follows the check is warm already, but for its layout
        for repeat in range(repeats + warm):
            for name, a in sides.items():
                begin = time.process_time()
                step(a, own[name], what)
                if repeat >= warm:
                    spent[name].append(time.process_time() - begin)
        for name in sides:
            found.append({
                "l_max": s.l_max, "edges": len(s.sender), "nodes": s.nodes, "channels": s.channels,
                "pass": what, "side": name, "seconds": statistics.median(spent[name]),
                "ratio": statistics.median(spent[name]) / statistics.median(spent["ours"]),
                "repeats": repeats, "largest_difference": errors[name],
            })  # fmt: skip
    return found


def resident(word: str) -> int:
    """Read a line of what the system knows about this process, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(word))


def one_memory(s: Scene, name: str, what: str) -> int:
    """Tell what a pass adds to the resident set at its worst."""
    a = side(name, s)
    assert a is not None
    small = Scene(s.l_max, s.channels, s.nodes, s.sender[:20], s.receiver[:20])
    warm = side(name, small)
    assert warm is not None
    for _ in range(3):
        step(warm, there(warm, inputs(small)), what)
    tensors = there(a, inputs(s))
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # forget the peak so far
    step(a, tensors, what)
    return resident("VmHWM") - before


def memory(s: Scene, names: list[str], passes: list[str]) -> list[dict[str, Any]]:
    """Measure every side in processes of their own."""
    found = []
    for what in passes:
        spent = {}
        for name in names:
            sizes = (s.l_max, s.channels, len(s.sender), s.nodes)
            words = ["--one", name, what, *(str(size) for size in sizes)]
            done = subprocess.run(
                [sys.executable, *(f"-W{w}" for w in sys.warnoptions), __file__, *words],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            spent[name] = int(done.stdout.split()[-1])
        for name in names:
            found.append({
                "l_max": s.l_max, "edges": len(s.sender), "nodes": s.nodes, "channels": s.channels,
                "pass": what, "side": name, "bytes": spent[name],
                "ratio": spent[name] / max(1, spent["ours"]),
            })  # fmt: skip
    return found


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few seconds: tells nothing")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--append", action="store_true", help="keep other rows of the file")
    parser.add_argument("--edges", type=int, default=2000)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--channels", type=int, nargs="+", default=[32])
    parser.add_argument("--l-max", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--sides", nargs="+", default=list(NAMES), choices=NAMES)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--passes", nargs="+", default=list(PASSES), choices=PASSES)
    parser.add_argument("--default-allocator", action="store_true")
    parser.add_argument("--one", nargs=6, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.smoke:
        given.edges, given.nodes, given.channels, given.l_max, given.repeats = 60, 7, [8], [1], 2
    return given


def show(content: dict[str, Any]) -> None:
    """Print what was measured."""
    print(f"{'l_max':>5} {'channels':>8} {'pass':22} {'side':>15} {'ms':>10} {'ratio':>8}")
    for r in content["rows"]:
        sizes = f"{r['l_max']:5d} {r['channels']:8d} {r['pass']:22} {r['side']:>15}"
        print(f"{sizes} {1000 * r['seconds']:10.3f} {r['ratio']:8.2f}")
    for r in content["memory"]:
        sizes = f"{r['l_max']:5d} {r['channels']:8d} {r['pass']:22} {r['side']:>15}"
        print(f"{sizes} {r['bytes'] / 2**20:7.1f}MiB {r['ratio']:8.2f}")
    for r in content["roofline"]:
        sizes = f"{r['l_max']:5d} {r['channels']:8d} {r['kernel']:22}"
        print(
            f"{sizes} {r['gflops']:7.1f} GFLOPS, {100 * r['of_peak']:.1f} % of the peak, "
            f"{100 * r['of_roof']:.1f} % of the roof"
        )


def merged(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Replace the rows that were measured again."""

    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        return row["l_max"], row["channels"], row.get("pass"), row.get("side"), row.get("kernel")

    fresh = {key(row) for row in new}
    rows = [row for row in old if key(row) not in fresh] + new
    return sorted(rows, key=lambda row: key(row)[:2])


def main() -> None:
    """Measure, print tables, write the JSON."""
    given = arguments()
    torch.set_num_threads(1)
    torch.manual_seed(65537)
    tuned = not given.default_allocator and tune_allocator()
    if given.one:
        name, what, *sizes = given.one
        print(one_memory(scene(*(int(size) for size in sizes)), name, what))
        return
    names = [n for n in given.sides if n != NAMES[2] or find_spec("cuequivariance_torch")]
    top, stream = (
        peak(20_000 if given.smoke else 2_000_000),
        bandwidth(1 << (18 if given.smoke else 28)),
    )
    source = origin(("torch", "e3nn", "numba"))
    content: dict[str, Any] = {
        **source, "commands": [source["command"]],
        "time": "process CPU time, one thread, medians of interleaved rounds",
        "allocator": "keeps freed memory, on all sides" if tuned else "default",
        "dtype": "float32", "smoke": given.smoke, "skipped": sorted({*given.sides} - {*names}),
        "peak_gflops": top / 1e9, "read_gigabytes_per_second": stream / 1e9,
         "rows": [], "memory": [], "roofline": [],
    }  # fmt: skip
    for l_max in given.l_max:
        for channels in given.channels:
            s = scene(l_max, channels, given.edges, given.nodes)
            if "roofline" in given.parts:
                content["roofline"] += roofline(s, given.repeats, top, stream)
            if "times" in given.parts:
                content["rows"] += times(s, names, given.passes, given.repeats)
            if "memory" in given.parts:
                content["memory"] += memory(
                    s, names, given.passes[-1:] if given.smoke else given.passes
                )
    show(content)
    if given.append and given.out.exists():
        old = json.loads(given.out.read_text(encoding="utf-8"))
        content["commands"] = [*old.get("commands", []), content["command"]]
        for table in ("rows", "memory", "roofline"):
            content[table] = merged(old.get(table, []), content[table])
    write(given.out, content)


if __name__ == "__main__":
    main()
