"""How fast is the symmetric contraction as sparse polynomials, beside MACE's?

The operation is MACE's product basis: of each atom and channel, all equivariant polynomials of the
features up to order 3, with weights by element. Timed are: the value; the value and its gradient in
the features, weights fixed, as in molecular dynamics; and a step of force training, where that
gradient, of an energy quadratic in the value, is squared and differentiated in features and
weights. Three implementations: mace-torch's `SymmetricContraction`; the same module replaced by
`fast_symmetric_contraction` (same call, layout and weights, so that turning the layout is timed);
and the kernel alone, in its own layout, with coefficients made beforehand.

Results and all gradients agree before anything is timed. The candidates take turns; times are
medians of process CPU time on one thread, with the allocator of the C library told to keep memory
on all sides (`--default-allocator` leaves it alone). A `ratio` is MACE's median over another's.
Where mace-torch is not installed, ours are timed alone.

    OMP_NUM_THREADS=1 python examples/benchmarks/symmetric_contraction.py [--smoke] [--out FILE]
        [--atoms 512] [--channels 64] [--l-max 2 3] [--repeats 5]
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from origin import origin, write
from torch import Tensor, nn

from tensornet.interop.e3nn.contraction import FastSymmetricContraction, fast_symmetric_contraction
from tensornet.kernels import symmetric_polynomial, tune_allocator
from tensornet.layers import SymmetricContraction

OUTPUTS = {"0e": 0, "0e + 1o": 1, "0e + 1o + 2e": 2}
PASSES = ("forward", "forward and gradient", "force training")
Function = Callable[[Tensor], Tensor]


class Native(nn.Module):
    """The kernel in its own layout."""

    def __init__(self, module: FastSymmetricContraction, y: Tensor) -> None:
        super().__init__()
        self.species, table = y.argmax(1), module._coefficients(module._weights())
        self.coefficients = nn.Parameter(table.detach())
        self.at = module.monomials, module.at_k, module.n_out

    def forward(self, x: Tensor) -> Tensor:
        """Contract (n, i, c) to (n, k, c)."""
        return symmetric_polynomial(x, self.coefficients, self.species, *self.at)


class Layer(nn.Module):
    """Our layer, where there is no MACE to take weights from."""

    def __init__(self, l_max: int, channels: int, l_max_out: int, y: Tensor) -> None:
        super().__init__()
        self.layer = SymmetricContraction(l_max, 3, channels, y.shape[1], l_max_out)
        self.species = y.argmax(1)

    def forward(self, x: Tensor) -> Tensor:
        """Contract (n, i, c) to (n, k, c)."""
        out: Tensor = self.layer(x, self.species)
        return out


class Bound(nn.Module):
    """A module of MACE's kind with its elements."""

    def __init__(self, module: nn.Module, y: Tensor) -> None:
        super().__init__()
        self.module, self.y = module, y

    def forward(self, x: Tensor) -> Tensor:
        """Contract (n, c, i) to (n, c k of each irrep)."""
        out: Tensor = self.module(x, self.y)
        return out


def peer(l_max: int, channels: int, l_max_out: int, n_elements: int) -> nn.Module | None:
    """Make MACE's module, or nothing where it is missing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.serialization.add_safe_globals([slice])
            import e3nn.o3
            import mace.modules.symmetric_contraction as theirs
    except ImportError:
        return None
    irreps = [
        e3nn.o3.Irreps([(channels, (l, (-1) ** l)) for l in range(size + 1)])
        for size in (l_max, l_max_out)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: nn.Module = theirs.SymmetricContraction(*irreps, 3, num_elements=n_elements)
    return made


def step(module: nn.Module, x: Tensor, g: Tensor, what: str) -> list[Tensor]:
    """Do one of `PASSES`, and give all that it computes."""
    weights = [p for p in module.parameters() if p.ndim == 3]
    for p in weights:
        p.requires_grad_(what == "force training")
    if what == "forward":
        with torch.no_grad():
            return [module(x)]
    x = x.detach().requires_grad_()
    out = module(x)
    if what == "forward and gradient":
        return [out.detach(), *torch.autograd.grad(out, x, g)]
    (slope,) = torch.autograd.grad((out.square() * g).sum(), x, create_graph=True)
    return [slope.detach(), *torch.autograd.grad(slope.square().sum(), [x, *weights])]


def rows(
    l_max: int, outputs: str, sizes: tuple[int, int, int], repeats: int
) -> list[dict[str, Any]]:
    """Check agreement, then let the candidates take turns."""
    (atoms, channels, n_elements), l_max_out = sizes, OUTPUTS[outputs]
    y = nn.functional.one_hot(torch.arange(atoms) % n_elements, n_elements).float()
    x, k = torch.randn(atoms, channels, (l_max + 1) ** 2), (l_max_out + 1) ** 2
    turned, g = x.mT.contiguous(), torch.randn(atoms, k, channels)
    flat = torch.cat([g[:, l * l : (l + 1) ** 2].mT.flatten(1) for l in range(l_max_out + 1)], 1)
    theirs = peer(l_max, channels, l_max_out, n_elements)
    candidates: dict[str, tuple[nn.Module, Tensor, Tensor]] = {}
    if theirs is None:
        candidates["layer"] = Layer(l_max, channels, l_max_out, y), turned, g
    else:
        fast = fast_symmetric_contraction(theirs)
        candidates["mace"] = Bound(theirs, y), x, flat
        candidates["drop-in"] = Bound(fast, y), x, flat
        candidates["kernel"] = Native(fast, y), turned, g
    found = []
    for what in PASSES:
        done = {name: step(*candidate, what) for name, candidate in candidates.items()}
        error = 0.0 if theirs is None else difference(done, what)
        assert error < 1e-5, (what, error)
        times: dict[str, list[float]] = {name: [] for name in candidates}
        for repeat in range(repeats + 1):
            for name, candidate in candidates.items():
                turns = 1 if name == "mace" else 3
                begin = time.process_time()
                for _ in range(turns):
                    step(*candidate, what)
                if repeat:
                    times[name].append((time.process_time() - begin) / turns)
        seconds = {name: statistics.median(values) for name, values in times.items()}
        ratios = {n: seconds["mace"] / s for n, s in seconds.items() if "mace" in seconds}
        found.append({
            "l_max": l_max, "outputs": outputs, "atoms": atoms, "channels": channels,
            "elements": n_elements, "correlation": 3, "pass": what, "seconds": seconds,
            "ratio": {n: r for n, r in ratios.items() if n != "mace"},
            "largest_difference": error,
        })  # fmt: skip
    return found


def difference(done: dict[str, list[Tensor]], what: str) -> float:
    """How far results are from MACE's; the kernel has another layout, and no weights."""
    pairs = list(zip(done["drop-in"], done["mace"], strict=True))
    slope = 0 if what == "force training" else 1
    if what != "forward":
        pairs.append((done["kernel"][slope].mT, done["mace"][slope]))
    scale = max(float(b.abs().max()) for _, b in pairs[2:]) if what == "force training" else 0.0
    errors = [
        float((a - b).abs().max()) / max(float(b.abs().max()), 1e-3 * scale) for a, b in pairs
    ]
    return max(errors)


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few seconds: tells nothing")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--atoms", type=int, default=512)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--elements", type=int, default=1)
    parser.add_argument("--l-max", type=int, nargs="+", default=[2, 3])
    parser.add_argument("--outputs", nargs="+", default=list(OUTPUTS), choices=list(OUTPUTS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--default-allocator", action="store_true")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.atoms, arguments.channels, arguments.elements = 12, 4, 2
        arguments.l_max, arguments.outputs, arguments.repeats = [1], ["0e + 1o"], 2
    torch.set_num_threads(1)
    torch.manual_seed(65537)
    tuned = not arguments.default_allocator and tune_allocator()
    sizes = arguments.atoms, arguments.channels, arguments.elements
    content = {
        **origin(("torch", "e3nn", "numba")),
        "time": "process CPU time, one thread, medians of interleaved rounds",
        "allocator": "keeps freed memory, on all sides" if tuned else "default",
        "dtype": "float32", "repeats": arguments.repeats, "smoke": arguments.smoke,
    }  # fmt: skip
    table: list[dict[str, Any]] = []
    print("{} atoms, {} channels, {} elements, float32, one thread".format(*sizes))
    for l_max in arguments.l_max:
        for outputs in arguments.outputs:
            for row in rows(l_max, outputs, sizes, arguments.repeats):
                table.append(row)
                times = ", ".join(f"{n} {1000 * s:.2f} ms" for n, s in row["seconds"].items())
                ratios = ", ".join(f"{n} {r:.0f}x" for n, r in row["ratio"].items())
                print(
                    f"l_max {l_max} -> {outputs:12} {row['pass']:20} {times}; {ratios}", flush=True
                )
            write(arguments.out, {**content, "rows": table})  # what is done is kept
    if any("mace" not in row["seconds"] for row in table):
        print("mace-torch is not installed: our layer alone")


if __name__ == "__main__":
    main()
