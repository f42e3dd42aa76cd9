"""Is there an exact product that costs less than the approximate one of TDN, at each degree?

Tensor decomposition networks multiply features of edges by harmonics, one weight per edge and
channel for all paths, with the coupling in CP format of rank 7 l_max². Beside it stand exact
products with the same paths and the same weights: the matrix of each edge (`EdgeProduct`), the
fused convolution with the whole coupling as one path, the product where the edge is the polar axis
(`AlignedProduct`), and CP of exact rank where that is known.

TDN's three matrix products are done in two ways in torch, features as (edge, component, channel),
batched, and as (edge, channel, component), as one large product each; the faster one counts. Its
factors are fitted, as `CPProduct(l_max, "tdn")` gives them; above `--fitted` they are random, which
takes the same time, and its error is left out.

Timed are the value alone, and the value with its gradient in features, weights and positions, from
which all take the same harmonics. Exact ones agree before anything is timed. All take turns; times
are medians of process CPU time on one thread, with the allocator of the C library told to keep
memory. `error` is how far a turned input is from giving the turned output, relative, in float32.

    OMP_NUM_THREADS=1 python examples/benchmarks/tdn_products.py [--smoke] [--out FILE]
        [--edges 2000 10000] [--channels 64] [--l-max 1 2 3 4 5 6] [--repeats 7] [--fitted 6]
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

from tensornet.kernels import edge_convolution, sparse_coupling, tune_allocator
from tensornet.products import AlignedProduct, CPProduct, EdgeProduct, Product, coupling
from tensornet.products.cp_factors import EXACT_RANKS
from tensornet.so3 import spherical_harmonics, wigner_d

Function = Callable[[Tensor, Tensor, Tensor], Tensor]
PASSES = ("forward", "forward and gradient")
PEERS = ("tdn", "tdn, channels first")


def peers(l_max: int, factors: tuple[Tensor, ...]) -> dict[str, Function]:
    """Make TDN's product, with factors (r, i), (r, j) and (r, k), in two layouts."""
    A, B, C = factors

    def batched(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        return (C.mT @ ((A @ x) * (y @ B.mT)[..., None])) * w[:, None]

    def large(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        terms = (x.flatten(0, 1) @ A.mT).unflatten(0, x.shape[:2]) * (y @ B.mT)[:, None]
        return (terms.flatten(0, 1) @ C).unflatten(0, x.shape[:2]) * w[..., None]

    return dict(zip(PEERS, (batched, large), strict=True))


def exact(l_max: int, edges: int) -> dict[str, Function]:
    """Make the exact products."""
    index = torch.arange(edges)
    i, j, k, p, values = sparse_coupling(coupling("clebsch_gordan", l_max)[None].float())

    def convolution(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        sizes = edges, (l_max + 1) ** 2
        return edge_convolution(x, y, w[:, None], index, index, i, j, k, p, values, *sizes)

    def of(product: Product) -> Function:
        return lambda x, y, w: product(x, y[..., None], w)

    found = {
        "EdgeProduct": of(EdgeProduct(l_max, "shared")),
        "edge_convolution": convolution,
        "AlignedProduct": of(AlignedProduct(l_max, "shared")),
    }
    if l_max in EXACT_RANKS[True]:
        found["CPProduct of exact rank"] = of(CPProduct(l_max, path_weights="shared"))
    return found


def step(function: Function, l_max: int, inputs: tuple[Tensor, ...], what: str) -> list[Tensor]:
    """Do one of `PASSES`, and give all that it computes."""
    x, r, w, g = inputs
    if what == "forward":
        with torch.no_grad():
            return [function(x, spherical_harmonics(r, l_max), w)]
    x, r, w = (t.detach().requires_grad_() for t in (x, r, w))
    out = function(x, spherical_harmonics(r, l_max), w)
    return [out.detach(), *torch.autograd.grad(out, (x, r, w), g)]


def defect(function: Function, l_max: int, inputs: tuple[Tensor, ...], first: bool) -> float:
    """Turn the input and look at the output; channels may stand first."""
    x, r, w, _ = inputs
    rotation = e3nn.o3.rand_matrix(dtype=torch.float64)
    D = wigner_d(l_max, rotation)

    def turn(t: Tensor) -> Tensor:
        return ((t.double() @ D.mT) if first else D @ t.double()).float()

    out = function(x, spherical_harmonics(r, l_max), w)
    turned = function(turn(x), spherical_harmonics((r.double() @ rotation.mT).float(), l_max), w)
    return float((turned - turn(out)).norm() / out.norm())


def rows(l_max: int, edges: int, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Check agreement, then let all take turns."""
    d, c, rank = (l_max + 1) ** 2, arguments.channels, 7 * l_max**2
    known = l_max <= arguments.fitted
    if known:
        product = CPProduct(l_max, "tdn")
        factors = product.A, product.B, product.C
    else:
        factors = tuple(torch.randn(rank, d) / d for _ in range(3))  # type: ignore[assignment]
    plain = torch.randn(edges, d, c), torch.randn(edges, 3), torch.randn(edges, c)
    inputs = (*plain, torch.randn(edges, d, c))
    first = tuple(t.mT.contiguous() if t.ndim == 3 else t for t in inputs)
    functions = {**peers(l_max, factors), **exact(l_max, edges)}
    given = {name: first if name == PEERS[1] else inputs for name in functions}
    errors = {n: defect(f, l_max, given[n], n == PEERS[1]) for n, f in functions.items()}
    found = []
    for what in PASSES:
        wanted = step(functions["EdgeProduct"], l_max, inputs, what)
        for name in functions.keys() - PEERS:
            for t, want in zip(step(functions[name], l_max, inputs, what), wanted, strict=True):
                difference = float((t - want).abs().max() / want.abs().max())
                assert difference < 1e-4, (name, what, difference)
        times: dict[str, list[float]] = {name: [] for name in functions}
        warm = min(2, arguments.repeats)
        for repeat in range(arguments.repeats + warm):
            for name, function in functions.items():
                begin = time.process_time()
                step(function, l_max, given[name], what)
                if repeat >= warm:
                    times[name].append(time.process_time() - begin)
        medians = {name: statistics.median(values) for name, values in times.items()}
        best = min(medians[name] for name in PEERS)
        found += [
            {
                "l_max": l_max, "edges": edges, "channels": c, "pass": what, "product": name,
                "exact": name not in PEERS, "rank": rank if name in PEERS else None,
                "seconds": seconds, "ratio": best / seconds,
                "error": errors[name] if known or name not in PEERS else None,
            }
            for name, seconds in medians.items()
        ]  # fmt: skip
    return found


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few seconds: tells nothing")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--edges", type=int, nargs="+", default=[2000, 10000])
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--l-max", type=int, nargs="+", default=[1, 2, 3, 4, 5, 6])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--fitted", type=int, default=6)
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.edges, arguments.channels = [50], 8
        arguments.l_max, arguments.repeats = [1, 2], 2
    torch.set_num_threads(1)
    torch.manual_seed(271828)
    tuned = tune_allocator()
    table = []
    print("times in ms, float32, one thread; ratio: the faster TDN over this")
    for edges in arguments.edges:
        for l_max in arguments.l_max:
            new = rows(l_max, edges, arguments)
            for row in new:
                error = "" if row["error"] is None else f"{row['error']:.1e}"
                print(
                    f"{l_max} {edges:6d} {row['pass']:21} {row['product']:24} "
                    f"{1000 * row['seconds']:9.2f} {row['ratio']:6.2f} {error}",
                    flush=True,
                )
            table += new
    content = {
        **origin(("torch", "e3nn", "numba")),
        "time": "process CPU time, one thread, medians of interleaved rounds",
        "allocator": "keeps freed memory, on all sides" if tuned else "default",
        "dtype": "float32", "repeats": arguments.repeats, "smoke": arguments.smoke, "rows": table,
    }  # fmt: skip
    write(arguments.out, content)


if __name__ == "__main__":
    main()
