"""Is a factorised linear layer ever slower than the dense one, and where is it faster?

`tensornet.layers.FactorizedLinear` with `implementation="auto"`, beside `torch.nn.Linear` with the
same matrix and `tltorch.FactorizedLinear` (tensorly-torch) with the same factors, in both of its
implementations: inference, and forward and backward as in training.

All candidates agree before they are timed, take turns, and are compared by medians of CPU time of
one thread (`time.process_time`), since other programs may run beside. A row's `ratio` is its median
over that of the dense layer. `multiplications` are those of one call without derivatives, of ours
with what is formed of the factors where that is formed anew.

    OMP_NUM_THREADS=1 python examples/benchmarks/factorized_linear.py [--smoke] [--rounds 9]
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

from tensornet.layers import FactorizedLinear
from tensornet.linalg import plan

# features in and out, format, rank, dtype
LAYERS = [
    (256, 256, "low_rank", 0.1, torch.float32),
    (256, 256, "cp", 0.02, torch.float32),
    (256, 256, "tensor_train", 0.05, torch.float32),
    (1024, 1024, "low_rank", 0.1, torch.float32),
    (1024, 1024, "cp", 0.005, torch.float32),
    (1024, 1024, "tucker", 0.01, torch.float32),
    (1024, 1024, "tensor_train", 0.01, torch.float32),
    (1024, 1024, "cp", 0.005, torch.float64),
]
ROWS = (1, 16, 256, 4096)
PEER_NAMES = {"cp": "CP", "tucker": "Tucker", "tensor_train": "BlockTT"}
PEER_ROWS = 16  # the peer's layers take too long, or too much memory, with more


def peer(layer: FactorizedLinear, implementation: str) -> nn.Module:
    """Give tensorly-torch's layer with the same factors."""
    from tltorch import FactorizedLinear as Theirs

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = Theirs(
            layer.in_shape, layer.out_shape, factorization=PEER_NAMES[layer.factorization],
            rank=layer.ranks[0] if layer.factorization == "cp" else 1,
            implementation=implementation, dtype=layer.bias.dtype,
        )  # fmt: skip
    parts = [nn.Parameter(part.detach().clone()) for part in layer.parts()]
    weight = theirs.weight
    if layer.factorization == "tucker":
        weight.core, parts = parts[0], parts[1:]
    elif layer.factorization == "cp":
        weight.weights = nn.Parameter(torch.ones(layer.ranks, dtype=layer.bias.dtype))
    for k, part in enumerate(parts):
        weight.factors[k] = part
    weight.rank = (1, *layer.ranks, 1) if layer.factorization == "tensor_train" else layer.ranks
    theirs.bias = nn.Parameter(layer.bias.detach().clone())
    return theirs


def candidates(layer: FactorizedLinear, n: int) -> dict[str, nn.Module]:
    """Give the layers that do the same."""
    found: dict[str, nn.Module] = {"torch Linear": layer.to_linear(), "tensornet": layer}
    known = importlib.util.find_spec("tltorch") is not None
    if known and n <= PEER_ROWS and layer.factorization in PEER_NAMES:
        for implementation in ("factorized", "reconstructed"):
            found[f"tltorch {implementation}"] = peer(layer, implementation)
    return found


def multiplications(layer: FactorizedLinear, n: int, passes: str) -> int:
    """Count those of the way that is taken, without derivatives."""
    route = layer.route(n, training=passes != "inference")
    formed = sum(plan(step.pattern, *step.shapes).n_flops // 2 for step in route.steps)
    return route.n_multiplications(n) + (0 if passes == "inference" else formed)


def measured(layer: FactorizedLinear, n: int, rounds: int, budget: float) -> list[dict[str, Any]]:
    """Check that the candidates agree, then let them take turns."""
    dtype = layer.bias.dtype
    x = torch.randn(n, layer.in_features, dtype=dtype, requires_grad=True)
    g = torch.randn(n, layer.out_features, dtype=dtype)
    layers, rows = candidates(layer, n), []
    expected = layers["torch Linear"](x).detach()
    errors = {
        name: float((one(x) - expected).detach().abs().max() / expected.abs().max())
        for name, one in layers.items()
    }
    assert max(errors.values()) < (1e-4 if dtype == torch.float32 else 1e-11), errors
    for passes in ("inference", "both"):
        runs = {name: call(one, x, g, passes) for name, one in layers.items()}
        counts, times = {}, {name: [] for name in runs}
        for name, run in runs.items():
            run()
            run()
            counts[name] = max(1, min(300, int(budget / max(1e-6, timed(run, 2)))))
        for _ in range(rounds):
            for name, run in runs.items():
                times[name].append(timed(run, counts[name]))
        for name, row in compared(times, "torch Linear").items():
            rows.append({
                "in": layer.in_features, "out": layer.out_features, "format": layer.factorization,
                "ranks": list(layer.ranks), "share": 1 / layer.compression, "dtype": str(dtype),
                "n": n, "pass": passes, **row,
                "multiplications": multiplications(layer, n, passes) if name == "tensornet"
                else n * layer.in_features * layer.out_features if name == "torch Linear" else None,
                "largest_difference": errors[name],
            })  # fmt: skip
    return rows


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few seconds: tells nothing")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(65537)
    rounds = 2 if arguments.smoke else arguments.rounds
    layers = [(24, 30, "tensor_train", 0.5, torch.float64)] if arguments.smoke else LAYERS
    known = importlib.util.find_spec("tltorch") is not None
    content = {
        **origin(("torch", "tensorly-torch") if known else ("torch",)),
        "smoke": arguments.smoke, "rounds": rounds, "clock": "CPU time of one thread",
        "missing": [] if known else ["tensorly-torch"],
    }  # fmt: skip
    table: list[dict[str, Any]] = []
    head = f"{'pass':9} {'candidate':22} {'CPU us':>10} {'ratio':>7} {'fastest':>7} multiplications"
    for n_in, n_out, kind, rank, dtype in layers:
        layer = FactorizedLinear(n_in, n_out, kind, rank, dtype=dtype)
        print(f"{layer}\n{'n':>5} {head}")
        for n in (1, 5) if arguments.smoke else ROWS:
            rows = measured(layer, n, rounds, 1e-4 if arguments.smoke else 3e-3)
            table += rows
            for row in rows:
                print(
                    f"{n:5d} {row['pass']:9} {row['candidate']:22} {1e6 * row['cpu_seconds']:10.1f}"
                    f" {row['ratio']:7.3f} {row['fastest_ratio']:7.3f} {row['multiplications']}"
                )
        write(arguments.out, {**content, "rows": table})  # after every layer


if __name__ == "__main__":
    main()
