"""How fast are our products, beside e3nn's, on the very same operation?

The operation is the one of an equivariant message: features of 2000 edges in 64 channels, times
the harmonics of the edges, with a weight per path and channel (e3nn's `uvu`). Only `EdgeProduct`
and `ClebschGordanProduct` do all of that; `CPProduct` mixes the paths and takes a weight per
channel, so all are timed on that lighter operation too, in rows of their own.

All candidates of one operation agree before they are timed, take turns, and are compared by the
medians of wall time; a row's `ratio` is e3nn's (or, without weights per path,
`ClebschGordanProduct`'s) median over its own.

    OMP_NUM_THREADS=1 python examples/benchmarks/products.py [--smoke] [--threads 1] [--out FILE]
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

from tensornet.products import ClebschGordanProduct, CPProduct, EdgeProduct
from tensornet.so3 import spherical_harmonics

Candidate = Callable[[Tensor, Tensor, Tensor], Tensor]


def peer(l_max: int, channels: int) -> Candidate:
    """Make e3nn's product for the same paths, in its own layout: no conversion is timed."""
    irreps = e3nn.o3.Irreps([(channels, (l, 1)) for l in range(l_max + 1)])
    edge = e3nn.o3.Irreps([(1, (l, 1)) for l in range(l_max + 1)])
    paths = EdgeProduct(l_max, "path").paths()
    return e3nn.o3.TensorProduct(
        irreps, edge, irreps, [(a, b, c, "uvu", True, 1.0) for a, b, c in paths],
        irrep_normalization="none", path_normalization="none", shared_weights=False,
    )  # fmt: skip


def to_peer(x: Tensor) -> Tensor:
    """Convert (n, m, c) to e3nn's (n, c of degree 0, c x 3 of degree 1, ...)."""
    n_degrees = round(x.shape[1] ** 0.5)
    blocks = [x[:, l * l : (l + 1) ** 2].mT.flatten(1) for l in range(n_degrees)]
    return torch.cat(blocks, 1).contiguous()


def operations(
    l_max: int, edges: int, channels: int
) -> dict[str, dict[str, tuple[Candidate, tuple[Tensor, ...], Callable[[Tensor], Tensor]]]]:
    """Give the candidates of each operation: function, arguments, and result in e3nn's layout."""
    x = torch.randn(edges, (l_max + 1) ** 2, channels)
    y = spherical_harmonics(torch.randn(edges, 3), l_max)[..., None]
    per_path = torch.randn(edges, len(EdgeProduct(l_max, "path").paths()), channels)
    shared = torch.randn(edges, channels)
    theirs = (to_peer(x), y[..., 0].contiguous(), per_path.flatten(1).contiguous())
    return {
        "a weight per path and channel": {
            "e3nn TensorProduct": (peer(l_max, channels), theirs, lambda out: out),
            "EdgeProduct": (EdgeProduct(l_max, "path"), (x, y, per_path), to_peer),
            "ClebschGordanProduct": (
                ClebschGordanProduct(l_max, "path"),
                (x, y, per_path),
                to_peer,
            ),
        },
        "a weight per channel": {
            "ClebschGordanProduct": (
                ClebschGordanProduct(l_max, "shared"),
                (x, y, shared),
                to_peer,
            ),
            "EdgeProduct": (EdgeProduct(l_max, "shared"), (x, y, shared), to_peer),
            "CPProduct": (CPProduct(l_max, path_weights="shared"), (x, y, shared), to_peer),
        },
    }


def timed(candidate: Candidate, args: tuple[Tensor, ...], *, backward: bool) -> float:
    """Time one call; with `backward` to the features, the harmonics and the weights."""
    args = tuple(x.detach().requires_grad_(backward) for x in args)
    with torch.set_grad_enabled(backward):
        begin = time.perf_counter()
        out = candidate(*args)
        if backward:
            torch.autograd.grad(out, args, torch.ones_like(out))
        return time.perf_counter() - begin


def rows(l_max: int, edges: int, channels: int, repeats: int) -> list[dict[str, Any]]:
    """Check that the candidates of each operation agree, then let them take turns."""
    found = []
    for operation, candidates in operations(l_max, edges, channels).items():
        results = {k: back(f(*args)).detach() for k, (f, args, back) in candidates.items()}
        first = next(iter(results))
        scale = float(results[first].abs().max())
        errors = {k: float((r - results[first]).abs().max()) / scale for k, r in results.items()}
        assert max(errors.values()) < 1e-4, errors
        for backward in (False, True):
            times: dict[str, list[float]] = {name: [] for name in candidates}
            warm = max(3, repeats // 3)  # e3nn's TorchScript is compiled in its first calls
            for repeat in range(repeats + warm):
                for name, (candidate, args, _) in candidates.items():
                    seconds = timed(candidate, args, backward=backward)
                    if repeat >= warm:
                        times[name].append(seconds)
            reference = statistics.median(times[first])
            for name, values in times.items():
                low, median, high = statistics.quantiles(values, n=4)
                found.append({
                    "l_max": l_max, "operation": operation, "product": name,
                    "pass": "both" if backward else "forward", "seconds": median,
                    "quartiles": [low, high], "ratio": reference / median, "against": first,
                    "largest_difference": errors[name],
                })  # fmt: skip
    return found


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few seconds: tells nothing")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(65537)
    edges, channels, repeats = (50, 8, 3) if arguments.smoke else (2000, 64, 30)
    degrees = (1,) if arguments.smoke else (1, 2, 3)
    table = [row for l_max in degrees for row in rows(l_max, edges, channels, repeats)]
    print(f"{edges} edges, {channels} channels, float32, {arguments.threads} thread(s)")
    print(f"{'l_max':>5} {'operation':30} {'product':18} {'pass':8} {'ms':>9} {'ratio':>7}")
    for row in table:
        words = f"{row['l_max']:5d} {row['operation']:30} {row['product']:18} {row['pass']:8}"
        print(f"{words} {1000 * row['seconds']:9.3f} {row['ratio']:7.2f}")
    settings = {"edges": edges, "channels": channels, "dtype": "float32", "repeats": repeats}
    write(
        arguments.out,
        {**origin(("torch", "e3nn")), "smoke": arguments.smoke, **settings, "rows": table},
    )


if __name__ == "__main__":
    main()
