"""How fast are products of two features, channel by channel, beside e3nn's?

First table: the Clebsch-Gordan product of two features of natural parity, all paths, with a weight
per path and channel that all samples share: e3nn's compiled `TensorProduct` (`uuu`) against ours.
Second table: the product of matrices (`MatrixProduct`) against `ClebschGordanProduct` with paths of
both parities: not the same numbers, but the same paths up to degree four. Timed are the value, and
the value with its gradient in all arguments.

Where two are to agree they do before anything is timed. They take turns; times are medians of
process CPU time on one thread, with the allocator of the C library told to keep memory. Both have
the layout they like best.

    OMP_NUM_THREADS=1 python examples/benchmarks/channelwise.py [--smoke] [--out FILE]
        [--samples 1000] [--channels 64] [--l-max 1 2 3 4] [--repeats 9]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import e3nn.o3
import torch
from origin import origin, write
from torch import Tensor

from tensornet.kernels import tune_allocator
from tensornet.products import ClebschGordanProduct, MatrixProduct, coupling

Side = tuple[Callable[..., Tensor], list[Tensor], Tensor]  # function, arguments, cotangent
PASSES = ("forward", "forward and gradient")


def to_peer(x: Tensor) -> Tensor:
    """Convert (n, m, c) to e3nn's (n, c of degree 0, c x 3 of degree 1, ...)."""
    n_degrees = round(x.shape[1] ** 0.5)
    return torch.cat([x[:, l * l : (l + 1) ** 2].mT.flatten(1) for l in range(n_degrees)], 1)


def from_peer(x: Tensor, l_max: int, channels: int) -> Tensor:
    """Convert back."""
    sizes = [channels * (2 * l + 1) for l in range(l_max + 1)]
    return torch.cat([b.unflatten(1, (channels, -1)).mT for b in x.split(sizes, 1)], 1)


def step(side: Side, what: str) -> list[Tensor]:
    """Do one of `PASSES`, and give all that it computes."""
    function, arguments, g = side
    if what == "forward":
        with torch.no_grad():
            return [function(*arguments)]
    leaves = [t.detach().requires_grad_() for t in arguments]
    out = function(*leaves)
    return [out.detach(), *torch.autograd.grad(out, leaves, g)]


def turns(sides: dict[str, Side], what: str, repeats: int) -> dict[str, float]:
    """Median times of sides that take turns."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    warm = min(2, repeats)
    for repeat in range(repeats + warm):
        for name, side in sides.items():
            begin = time.process_time()
            step(side, what)
            if repeat >= warm:
                times[name].append(time.process_time() - begin)
    return {name: statistics.median(values) for name, values in times.items()}


def beside_e3nn(l_max: int, samples: int, channels: int, repeats: int) -> list[dict[str, Any]]:
    """Check that values and gradients agree, then measure."""
    product = ClebschGordanProduct(l_max, "path", odd_paths=False)
    irreps = e3nn.o3.Irreps([(channels, (l, (-1) ** l)) for l in range(l_max + 1)])
    peer = e3nn.o3.TensorProduct(
        irreps, irreps, irreps, [(a, b, c, "uuu", True, 1.0) for a, b, c in product.paths()],
        irrep_normalization="none", path_normalization="none",
        shared_weights=True, internal_weights=False,
    )  # fmt: skip
    x, y, g = (torch.randn(samples, product.dim, channels) for _ in range(3))
    w = torch.randn(len(product.paths()), channels)
    sides: dict[str, Side] = {
        "e3nn": (peer, [to_peer(x), to_peer(y), w.flatten()], to_peer(g)),
        "ours": (product, [x, y, w], g),
    }
    found = []
    for what in PASSES:
        theirs, own = (step(side, what) for side in sides.values())
        theirs = [from_peer(t, l_max, channels) if t.ndim > 1 else t for t in theirs]
        pairs = [(a.reshape(b.shape), b) for a, b in zip(theirs, own, strict=True)]
        error = max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)
        assert error < 1e-5, (l_max, what, error)
        medians = turns(sides, what, repeats)
        found.append({
            "l_max": l_max, "samples": samples, "channels": channels, "pass": what,
            "seconds": medians["ours"], "e3nn_seconds": medians["e3nn"],
            "ratio": medians["e3nn"] / medians["ours"], "largest_difference": error,
        })  # fmt: skip
    return found


def beside_clebsch_gordan(
    l_max: int, samples: int, channels: int, repeats: int
) -> list[dict[str, Any]]:
    """Check the matrix product against its definition, then measure."""
    matrix, sparse = MatrixProduct(l_max), ClebschGordanProduct(l_max)
    x, y, g = (torch.randn(samples, matrix.dim, channels) for _ in range(3))
    few = slice(0, 3)
    target = coupling("matrix", l_max).float()
    expected = torch.einsum("ijk,nic,njc->nkc", target, x[few], y[few])
    error = float((matrix(x[few], y[few]) - expected).abs().max() / expected.abs().max())
    assert error < 1e-5, (l_max, error)
    sides: dict[str, Side] = {"matrix": (matrix, [x, y], g), "sparse": (sparse, [x, y], g)}
    found = []
    for what in PASSES:
        medians = turns(sides, what, repeats)
        found.append({
            "l_max": l_max, "samples": samples, "channels": channels, "pass": what,
            "seconds": medians["matrix"], "clebsch_gordan_seconds": medians["sparse"],
            "ratio": medians["sparse"] / medians["matrix"], "largest_difference": error,
        })  # fmt: skip
    return found


def show(title: str, table: list[dict[str, Any]], other: str) -> None:
    """Print rows."""
    print(title)
    print(f"{'l_max':>5} {'pass':22} {'other ms':>9} {'ms':>9} {'ratio':>7}")
    for row in table:
        milliseconds = f"{1000 * row[other]:9.3f} {1000 * row['seconds']:9.3f}"
        print(f"{row['l_max']:5d} {row['pass']:22} {milliseconds} {row['ratio']:7.2f}")


def main() -> None:
    """Measure, print tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few seconds: tells nothing")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--l-max", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--l-max-matrix", type=int, nargs="+", default=[1, 2, 3, 4, 5, 6])
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.samples, arguments.channels, arguments.repeats = 7, 8, 2
        arguments.l_max = arguments.l_max_matrix = [1]
    torch.set_num_threads(1)
    torch.manual_seed(8191)
    tuned = tune_allocator()
    sizes = arguments.samples, arguments.channels, arguments.repeats
    rows = [row for l_max in arguments.l_max for row in beside_e3nn(l_max, *sizes)]
    print(f"{arguments.samples} samples, {arguments.channels} channels, float32, one thread")
    show("e3nn against ClebschGordanProduct, weights of a layer", rows, "e3nn_seconds")
    matrix_rows = [
        row for l_max in arguments.l_max_matrix for row in beside_clebsch_gordan(l_max, *sizes)
    ]
    show("ClebschGordanProduct against MatrixProduct", matrix_rows, "clebsch_gordan_seconds")
    content = {
        **origin(("torch", "e3nn", "numba")),
        "time": "process CPU time, one thread, medians of interleaved rounds",
        "allocator": "keeps freed memory, on both sides" if tuned else "default",
        "dtype": "float32", "repeats": arguments.repeats, "smoke": arguments.smoke,
        "rows": rows, "matrix_rows": matrix_rows,
    }  # fmt: skip
    write(arguments.out, content)


if __name__ == "__main__":
    main()
