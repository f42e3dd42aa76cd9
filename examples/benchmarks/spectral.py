"""Spectral convolutions, dense and factorised, beside those of neuraloperator.

`tensornet.layers.SpectralConvolution` with `implementation="auto"`, beside neuraloperator's
`SpectralConv` with the same weights in both of its implementations: inference, and forward and
backward as in training, with gradients of the fields and of all parameters.

All candidates agree before they are timed, take turns, and are compared by medians of CPU time of
one thread (`time.process_time`), since other programs may run beside. A row's `ratio` is its median
over that of ours: how many times ours is faster.

    OMP_NUM_THREADS=1 python examples/benchmarks/spectral.py [--smoke] [--rounds 9] [--out FILE]
"""

import argparse
import importlib.util
import warnings
from pathlib import Path
from typing import Any

import torch
from origin import origin, write
from torch import nn
from turns import call, compared, timed

from tensornet.layers import SpectralConvolution

# number of fields, channels, grid, modes
CASES = [
    (16, 32, (256,), (32,)),
    (4, 32, (64, 64), (16, 16)),
    (1, 48, (64, 64), (16, 16)),
    (2, 12, (24, 24, 24), (8, 8, 8)),
]
SMALL = [(1, 3, (8, 8), (4, 4))]
FORMATS = {None: 1.0, "Tucker": 0.1, "CP": 0.1, "TT": 0.1}


def peer(layer: SpectralConvolution, factorization: str | None, implementation: str) -> nn.Module:
    """Give neuraloperator's layer with the same weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from neuralop.layers.spectral_convolution import SpectralConv

        theirs = SpectralConv(
            layer.in_channels, layer.out_channels, layer.n_modes, factorization=factorization,
            rank=0.1 if factorization else 1.0, implementation=implementation,
        )  # fmt: skip
    parts = [torch.view_as_complex(part.detach().clone()) for part in layer.parts()]
    weight = theirs.weight
    if factorization is None:
        weight.tensor = nn.Parameter(layer.weight.detach().clone())
        return theirs
    if factorization == "Tucker":
        weight.core = nn.Parameter(parts.pop(0))
    elif factorization == "CP":
        weight.weights = nn.Parameter(torch.ones(layer.ranks[0], dtype=parts[0].dtype))
    for k, part in enumerate(parts):
        weight.factors[k] = nn.Parameter(part)
    return theirs


def rows(
    case: tuple[int, int, Any, Any], factorization: str | None, rounds: int, known: bool
) -> list[dict[str, Any]]:
    """Check that the candidates agree, then let them take turns."""
    n, channels, grid, modes = case
    words = {"factorization": factorization, "rank": FORMATS[factorization]}
    ours = SpectralConvolution(channels, channels, modes, **words)
    layers: dict[str, nn.Module] = {"tensornet": ours}
    for kind in ("factorized", "reconstructed") if known else ():
        if factorization or kind == "reconstructed":
            layers[f"neuraloperator {kind}"] = peer(ours, factorization, kind)
    for layer in layers.values():
        layer.bias.data.zero_()
    x = torch.randn(n, channels, *grid, requires_grad=True)
    g, found = torch.randn(n, channels, *grid), []
    expected = ours(x).detach()
    errors = {
        name: float((layer(x) - expected).detach().abs().max() / expected.abs().max())
        for name, layer in layers.items()
    }
    assert max(errors.values()) < 1e-4, errors
    for passes in ("inference", "both"):
        runs = {name: call(layer, x, g, passes) for name, layer in layers.items()}
        times: dict[str, list[float]] = {name: [] for name in runs}
        for run in runs.values():
            run()
        for _ in range(rounds):
            for name, run in runs.items():
                times[name].append(timed(run, 2))
        for name, row in compared(times, "tensornet").items():
            found.append({
                "n": n, "channels": channels, "grid": list(grid), "n_modes": list(modes),
                "factorization": factorization, "ranks": list(ours.ranks), "pass": passes, **row,
                "largest_difference": errors[name],
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
    torch.manual_seed(65537)
    known = importlib.util.find_spec("neuralop") is not None
    rounds = 2 if arguments.smoke else arguments.rounds
    table = []
    for case in SMALL if arguments.smoke else CASES:
        n, channels, grid, _ = case
        for factorization in FORMATS:
            part = rows(case, factorization, rounds, known)
            table += part
            for row in part:
                what = f"n={n:<3d} c={channels:<3d} {grid!s:13} {factorization!s:7}"
                print(
                    f"{what} {row['pass']:9} {row['candidate']:28}"
                    f" {1e3 * row['cpu_seconds']:9.2f} ms {row['ratio']:6.2f}"
                    f" {row['fastest_ratio']:6.2f}"
                )
    packages = ("torch", "neuraloperator", "tensorly-torch") if known else ("torch",)
    content = {
        **origin(packages), "smoke": arguments.smoke, "rounds": rounds, "dtype": "float32",
        "clock": "CPU time of one thread", "missing": [] if known else ["neuraloperator"],
        "rows": table,
    }  # fmt: skip
    write(arguments.out, content)


if __name__ == "__main__":
    main()
