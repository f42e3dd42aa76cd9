"""The picture of the field: what every product computes, costs and takes, by degree.

Two tables. `products`: for every product and degree the paths it couples, its expressivity, its
multiplications and the bytes it keeps for the gradient per pair and channel, its equivariance error
(of float64, in closed form; of float32, measured), and the time of a value and of a value with all
gradients, for 64 channels times one and times 64. `gaunt`: the Gaunt product beside the torch forms
of it: the dense coupling, e3nn's grids, one matrix to Gauss-Legendre points, Fourier series.

Candidates of a row agree before they are timed and take turns; times are medians of process CPU
time on one thread, float32, the C library's allocator told to keep memory. A candidate that takes
over five times the fastest at first is timed no further.

The second input of one channel is harmonics of directions, as of edges.

    OMP_NUM_THREADS=1 python examples/benchmarks/field.py [--smoke] [--out FILE] [--repeats 3]
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import e3nn.o3
import torch
from origin import origin, write
from torch import Tensor

from tensornet.kernels import tune_allocator
from tensornet.products import (
    AlignedProduct,
    ClebschGordanProduct,
    CPProduct,
    EdgeProduct,
    GauntProduct,
    MatrixProduct,
    PathRankProduct,
    Product,
    coupling,
)
from tensornet.so3 import gauss_legendre_grid, spherical_harmonics, wigner_d

Function = Callable[[Tensor, Tensor], Tensor]
CHANNELS = 64
PACKAGES = ("torch", "e3nn", "numba")
LOAD = "other work ran on the machine at the same time; times are CPU time of this process"
MOST = 3e8  # bytes of an intermediate result
ALONE = ("Edge", "Aligned")  # which take one channel only
SLOW = 4  # highest degree at which what is far behind by then is timed


def products(l_max: int) -> Iterator[tuple[str, Product]]:
    """Make the products of the picture."""
    yield "Clebsch-Gordan", ClebschGordanProduct(l_max)
    yield "Edge", EdgeProduct(l_max)
    yield "Aligned", AlignedProduct(l_max)
    if l_max <= 3:
        yield "CP, exact", CPProduct(l_max)
    if l_max <= 2:
        yield "CP, 7 l_max²", CPProduct(l_max, 7 * l_max**2)
    yield "Gaunt", GauntProduct(l_max)
    yield "Gaunt and bracket", GauntProduct(l_max, odd_paths=True)
    if l_max <= 4:
        yield "path rank, exact", PathRankProduct(l_max)
    yield "Matrix", MatrixProduct(l_max)


def step(function: Function, x: Tensor, y: Tensor, *, gradient: bool) -> tuple[Tensor, ...]:
    """Give a value, or the gradients of half its square."""
    x, y = (t.detach().requires_grad_(gradient) for t in (x, y))
    out = function(x, y)
    return torch.autograd.grad(out, (x, y), out.detach()) if gradient else (out,)


def timed(
    functions: dict[str, tuple[Function, Tensor, Tensor]], *, gradient: bool, repeats: int
) -> dict[str, float | None]:
    """Let functions take turns; none for the slow ones."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    going = dict(functions)
    for repeat in range(repeats + 2):
        turn = repeat % len(going)  # nobody always comes after the same
        order = [*going][turn:] + [*going][:turn]
        for name in order:
            function, x, y = going[name]
            begin = time.process_time()
            step(function, x, y, gradient=gradient)
            times[name].append(time.process_time() - begin)
        if repeat == 1:  # the first call compiles
            least = min(found[1] for found in times.values())
            going = {n: f for n, f in functions.items() if times[n][1] <= 5 * least}
    return {n: statistics.median(times[n][2:]) if n in going else times[n][1] for n in functions}


def kept(function: Function, x: Tensor, y: Tensor) -> int:
    """Bytes that autograd keeps for the gradient, inputs and constants not counted."""
    given = {t.untyped_storage().data_ptr() for t in (x, y)}
    if isinstance(function, torch.nn.Module):
        given |= {b.untyped_storage().data_ptr() for b in function.buffers()}
    found: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        if storage.data_ptr() not in given:
            found[storage.data_ptr()] = storage.nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        function(x.requires_grad_(), y.requires_grad_())
    return sum(found.values())


def harmonics(n: int, l_max: int) -> Tensor:  # (n, m, 1)
    """Make second inputs of one channel: harmonics of random directions."""
    return spherical_harmonics(torch.randn(n, 3, dtype=torch.float64), l_max)[..., None]


def defect(product: Product) -> float:
    """Largest error after a rotation, of float32, over the root mean square of the result."""
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
    turn = turn * torch.linalg.det(turn).sign()
    D = wigner_d(product.l_max, turn)
    x, y = torch.randn(50, product.dim, 8, dtype=torch.float64), harmonics(50, product.l_max)
    one, two = ((D @ t).float() for t in (x, y))
    after, before = product(one, two).double(), D @ product(x.float(), y.float()).double()
    return float((after - before).norm() / before.norm())


def row_of_products(l_max: int, n: int, repeats: int) -> list[dict[str, Any]]:
    """Measure every product of one degree."""
    rows, d = [], (l_max + 1) ** 2
    ready = {name: product.float() for name, product in products(l_max)}
    x, y = torch.randn(n, d, CHANNELS), torch.randn(n, d, CHANNELS)
    one = harmonics(n, l_max).float()
    times: dict[str, dict[str, float | None]] = {}
    for gradient in (False, True):
        words = "both" if gradient else "forward"
        single = {name: (p, x, one) for name, p in ready.items()}
        times[f"{words}, one"] = timed(single, gradient=gradient, repeats=repeats)
        many = {name: (p, x, y) for name, p in ready.items() if name not in ALONE}
        times[f"{words}, many"] = timed(many, gradient=gradient, repeats=repeats)
    for name, product in ready.items():
        error, memory = defect(product), kept(product, x[:50].clone(), one[:50].clone())
        multiplies = product.cost(1, CHANNELS).multiplies / CHANNELS
        exact = product.double()
        certificate = exact.certificate()
        rows.append({
            "l_max": l_max, "product": name, "paths": len(exact.paths()),
            "interactable": len(exact.interactability()), "expressivity": exact.expressivity(),
            "multiplies": multiplies, "bytes_kept": memory / 50 / CHANNELS,
            "approximation": certificate.approximation, "equivariance": certificate.equivariance,
            "equivariance_float32": error,
            "seconds": {words: found.get(name) for words, found in times.items()},
        })  # fmt: skip
    return rows


def peers(l_max: int, n: int, channels: int, channels2: int) -> dict[str, Function]:
    """Make the torch forms of the Gaunt product; each in the layout it likes best."""
    d, degree = (l_max + 1) ** 2, 3 * l_max
    G = coupling("gaunt", l_max).float()
    points, weights = gauss_legendre_grid(degree)
    Y64 = spherical_harmonics(points, l_max, normalization="integral")
    Y, back = Y64.float(), (Y64 * weights[:, None]).float().mT.contiguous()
    found: dict[str, Function] = {}
    if l_max <= SLOW:
        beta, alpha = degree + 2 - degree % 2, degree + 1 + degree % 2
        kind: dict[str, Any] = {"normalization": "integral", "dtype": torch.float32}
        to = e3nn.o3.ToS2Grid(l_max, (beta, alpha), **kind)
        come = e3nn.o3.FromS2Grid((beta, alpha), l_max, **kind)
        found["e3nn grid"] = lambda x, y: come(to(x) * to(y))
    if channels == 1:
        flat, sheet = G.flatten(0, 1), back.mT
        found["grid"] = lambda x, y: ((x @ Y.mT) * (y @ Y.mT)) @ sheet
        found["dense"] = lambda x, y: (x[:, :, None] * y[:, None, :]).flatten(1) @ flat
    elif channels2 == 1:
        unfolded = G.permute(1, 2, 0).flatten(1).contiguous()
        found["grid"] = lambda x, y: back @ ((Y @ x) * (y @ Y.mT)[..., None])
        found["dense"] = lambda x, y: (y @ unfolded).view(-1, d, d) @ x
    else:
        unfolded = G.permute(2, 0, 1).flatten(0, 1).contiguous()
        found["grid"] = lambda x, y: back @ ((Y @ x) * (Y @ y))
        found["dense"] = lambda x, y: (
            (unfolded @ y).unflatten(1, (d, d)) * x[:, None, :, :]
        ).sum(2)  # fmt: skip
    if 4.0 * n * d * d * channels2 > MOST:
        del found["dense"]
    return found


def rows_of_gaunt(l_max: int, n: int, channels: int, channels2: int, repeats: int) -> list[Any]:
    """Let our Gaunt product and the torch forms take turns, after they agree."""
    d = (l_max + 1) ** 2
    x, y = torch.randn(n, d, channels), torch.randn(n, d, channels2)
    ours = GauntProduct(l_max).float()
    functions: dict[str, tuple[Function, Tensor, Tensor]] = {"GauntProduct": (ours, x, y)}
    if l_max <= SLOW:
        functions["Fourier"] = (GauntProduct(l_max, "fourier").float(), x, y)
    for name, function in peers(l_max, n, channels, channels2).items():
        if name == "e3nn grid":  # harmonics last
            one, two = (t.mT.contiguous() for t in (x, y))
        else:
            one = x[..., 0].contiguous() if channels == 1 else x
            two = y[..., 0].contiguous() if channels2 == 1 else y
        functions[name] = (function, one, two)
    want = ours(x[:20], y[:20])
    for name, (function, one, two) in functions.items():
        result = function(one[:20], two[:20])
        result = result.mT if name == "e3nn grid" else result
        error = float((result.reshape(want.shape) - want).abs().max() / want.abs().max())
        assert error < 1e-4, (name, error)
    rows = []
    for gradient in (False, True):
        times = timed(functions, gradient=gradient, repeats=repeats)
        best = min((n for n in times if n != "GauntProduct"), key=lambda n: times[n] or 0.0)
        rows.append({
            "l_max": l_max, "n": n, "channels": channels, "channels2": channels2,
            "pass": "both" if gradient else "forward", "seconds": times, "best_other": best,
            "ratio": (times[best] or 0.0) / (times["GauntProduct"] or 1.0),
        })  # fmt: skip
    return rows


def main() -> None:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few seconds: tells nothing")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(4104)
    keeps, smoke = tune_allocator(), arguments.smoke
    repeats, n = (1, 20) if smoke else (arguments.repeats, 1000)
    sizes = [(20, 1, 1), (4, 16, 1)] if smoke else [(10_000, 1, 1), (1000, 64, 1), (1000, 64, 64)]
    content: dict[str, Any] = {
        **origin(PACKAGES), "load": LOAD,
        "dtype": "float32", "n": n, "channels": CHANNELS, "repeats": repeats,
        "allocator_keeps_memory": keeps, "smoke": smoke, "products": [], "gaunt": [],
    }  # fmt: skip
    for l_max in (1, 2) if smoke else range(1, 7):
        content["products"] += products_table(l_max, n, repeats)
        write(arguments.out, content)
    for l_max in (1, 5) if smoke else range(1, 11):
        content["gaunt"] += gaunt_table(sizes, (l_max,), repeats)
        write(arguments.out, content)  # whoever stops it keeps the degrees that are done


def products_table(l_max: int, n: int, repeats: int) -> list[dict[str, Any]]:
    """Measure and print the table of products."""
    table: list[dict[str, Any]] = []
    print(f"{'l_max':>5} {'product':18} {'paths':>5} {'express.':>8} {'multiplies':>11} {'ms':>8}")
    for row in row_of_products(l_max, n, repeats):
        table.append(row)
        milliseconds = 1000 * (row["seconds"]["both, one"] or 0.0)
        words = f"{l_max:5d} {row['product']:18} {row['interactable']:5d}"
        numbers = f"{row['expressivity']:8d} {row['multiplies']:11.0f} {milliseconds:8.2f}"
        print(words, numbers, flush=True)
    return table


def gaunt_table(
    sizes: Sequence[tuple[int, int, int]], degrees: Sequence[int], repeats: int
) -> list[dict[str, Any]]:
    """Measure and print the table of Gaunt products."""
    table: list[dict[str, Any]] = []
    for size in sizes:
        for l_max in degrees:
            for row in rows_of_gaunt(l_max, *size, repeats):
                table.append(row)
                words = f"{size!s:16} l_max {l_max:2d} {row['pass']:8} {row['best_other']:10}"
                print(words, f"{row['ratio']:6.2f}", flush=True)
    return table


if __name__ == "__main__":
    main()
