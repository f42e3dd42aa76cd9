"""How fast are our tensor trains, beside other libraries', at the same tolerance?

Four works: the train of a dense tensor, 20^5 values of 1/(1 + sum x); rounding of trains of order
ten whose ranks are five and sixteen times too large; and a sum of ten trains. Every candidate gets
the same tolerance (TensorLy, which has none, gets the ranks), and its error is measured before it
is timed. All take turns on one thread; times are medians of process time, since others may load the
machine, and a row's `ratio` is torchTT's median over its own. Peers that are not installed are
named and left out.

    OMP_NUM_THREADS=1 python examples/benchmarks/tensor_train.py [--smoke] [--rounds 7] [--out FILE]
"""

import argparse
import contextlib
import importlib
import io
import itertools
import math
import statistics
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from origin import origin, write
from torch import Tensor

from tensornet.formats import TensorTrain, round_sum, round_train, tensor_train

Cores = list[Tensor]
Candidate = Callable[[], Any]
REFERENCE = "torchTT"


def peers() -> tuple[dict[str, Any], list[str]]:
    """Import what is there; give the modules, and the names of what is missing."""
    found, missing = {}, []
    for name in ("torchtt", "tntorch", "teneva", "quimb.tensor", "tensorly"):
        try:
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                found[name] = importlib.import_module(name)
        except ImportError:
            missing.append(name)
    if "tensorly" in found:
        found["tensorly"].set_backend("pytorch")
    return found, missing


def random_train(n: int, order: int, rank: int) -> TensorTrain:
    """Give a train with normal entries and a norm near one."""
    ranks = [1, *(min(rank, n**k, n ** (order - k)) for k in range(1, order)), 1]
    pairs = itertools.pairwise(ranks)
    return TensorTrain(tuple(torch.randn(a, n, b) / (a * n) ** 0.5 for a, b in pairs))


def inflated(x: TensorTrain, times: int) -> TensorTrain:
    """Give a multiple of a train with `times` the ranks, in a random gauge."""
    total = x
    for _ in range(times - 1):
        total = total + x * float(torch.rand(()) + 0.1)
    cores = list(total.cores)
    for k in range(len(cores) - 1):
        r = cores[k].shape[2]
        turn = torch.linalg.qr(torch.randn(r, r)).Q
        cores[k] = cores[k] @ turn
        cores[k + 1] = torch.einsum("ba,bdc->adc", turn, cores[k + 1])
    return TensorTrain(tuple(cores), total.log_scale)


def of_one_rank(n: int, order: int, rank: int, count: int) -> list[TensorTrain]:
    """Give trains that differ in one core: their sum has the rank of one of them."""
    base = random_train(n, order, rank)
    trains = []
    for _ in range(count):
        cores = list(base.cores)
        cores[order // 2] = torch.randn_like(cores[order // 2])
        trains.append(TensorTrain(tuple(cores)))
    return trains


def plain(x: TensorTrain) -> Cores:
    """Give cores with the scale in them."""
    factor = float(torch.exp(x.log_scale / x.order))
    return [core * factor for core in x.cores]


def dense_candidates(x: Tensor, tolerance: float, modules: dict[str, Any]) -> dict[str, Candidate]:
    """Give the ways to a train of a dense tensor; each returns cores."""
    ranks = list(tensor_train(x, tolerance=tolerance).value.ranks)
    ours = {m: f"tensornet {m}" for m in ("auto", "svd", "gram")}
    candidates: dict[str, Candidate] = {
        name: lambda m=m: plain(tensor_train(x, tolerance=tolerance, method=m).value)
        for m, name in ours.items()
    }
    if "torchtt" in modules:
        candidates[REFERENCE] = lambda: modules["torchtt"].TT(x, eps=tolerance).cores
    if "tntorch" in modules:
        tn = modules["tntorch"]
        candidates["tntorch"] = lambda: tn.Tensor(x, ranks_tt=ranks[1:-1]).cores
    if "teneva" in modules:
        absolute = tolerance * float(x.norm()) / math.sqrt(x.ndim - 1)
        array = x.numpy()
        candidates["teneva svd"] = lambda: modules["teneva"].svd(array, e=absolute)
    if "tensorly" in modules:
        tl = modules["tensorly"].decomposition
        candidates["tensorly, ranks given"] = lambda: list(tl.tensor_train(x, rank=ranks))
    return candidates


def round_candidates(
    x: TensorTrain, tolerance: float, rank: int, modules: dict[str, Any]
) -> dict[str, Candidate]:
    """Give the ways to round a train; each returns cores."""
    cores = plain(x)
    arrays = [core.numpy() for core in cores]
    candidates: dict[str, Candidate] = {
        f"tensornet {m}": lambda m=m: plain(round_train(x, tolerance=tolerance, method=m).value)
        for m in ("auto", "svd")
    }
    if "torchtt" in modules:
        theirs = modules["torchtt"].TT(cores)
        candidates[REFERENCE] = lambda: theirs.round(tolerance).cores
    if "tntorch" in modules:
        tn = modules["tntorch"]

        def with_tntorch() -> Cores:
            value = tn.Tensor([core.clone() for core in cores])
            value.round_tt(eps=tolerance, algorithm="svd")
            return list(value.cores)

        candidates["tntorch svd"] = with_tntorch
    if "teneva" in modules:
        candidates["teneva truncate"] = lambda: modules["teneva"].truncate(arrays, e=tolerance)
    if "quimb.tensor" in modules:
        candidates |= quimb_candidates(modules["quimb.tensor"], arrays, tolerance, rank)
    return candidates


def quimb_candidates(qtn: Any, arrays: list[Any], tolerance: float, rank: int) -> dict[str, Any]:
    """Give quimb's compression by singular values, and by a sketch, which needs the rank."""
    state = qtn.MatrixProductState([arrays[0][0], *arrays[1:-1], arrays[-1][..., 0]], shape="lpr")

    def cores_of(value: Any) -> Cores:
        value.permute_arrays("lpr")
        found = [torch.as_tensor(a) for a in value.arrays]
        return [found[0][None], *found[1:-1], found[-1][..., None]]

    def by_svd() -> Cores:
        copy = state.copy()
        copy.compress(cutoff=tolerance**2, cutoff_mode="rsum2")
        return cores_of(copy)

    def by_sketch() -> Cores:
        compress = qtn.tensor_network_1d_compress
        return cores_of(compress(state, max_bond=rank, cutoff=0.0, method="src"))

    return {"quimb compress": by_svd, "quimb src, rank given": by_sketch}


def sum_candidates(
    trains: list[TensorTrain], tolerance: float, modules: dict[str, Any]
) -> dict[str, Candidate]:
    """Give the ways to round a sum; forming it is part of the work."""
    candidates: dict[str, Candidate] = {
        "tensornet auto": lambda: plain(round_sum(trains, tolerance=tolerance).value)
    }
    if "torchtt" in modules:
        theirs = [modules["torchtt"].TT(plain(x)) for x in trains]

        def with_torchtt() -> Cores:
            total = theirs[0]
            for x in theirs[1:]:
                total = total + x
            return list(total.round(tolerance).cores)

        candidates[REFERENCE] = with_torchtt
    return candidates


def measured(
    work: str, candidates: dict[str, Candidate], error: Callable[[TensorTrain], float], rounds: int
) -> list[dict[str, Any]]:
    """Check the candidates, then let them take turns."""
    rows: dict[str, dict[str, Any]] = {}
    for name, candidate in candidates.items():
        cores = tuple(torch.as_tensor(core) for core in candidate())
        value = TensorTrain(cores)
        rows[name] = {"work": work, "candidate": name, "error": error(value)}
        rows[name]["ranks"] = list(value.ranks)
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for repeat in range(rounds + 1):
        for name, candidate in candidates.items():
            begin = time.process_time()
            candidate()
            if repeat:
                times[name].append(time.process_time() - begin)
    for name, values in times.items():
        rows[name]["seconds"] = statistics.median(values)
        rows[name]["fastest"] = min(values)
        if REFERENCE in times:
            rows[name]["ratio"] = statistics.median(times[REFERENCE]) / rows[name]["seconds"]
    for row in rows.values():
        words = f"{work:32} {row['candidate']:24} {1000 * row['seconds']:9.1f} ms"
        print(f"{words}  {row.get('ratio', math.nan):6.2f}x  error {row['error']:.1e}", end="")
        print(f"  rank {max(row['ranks'])}", flush=True)
    return list(rows.values())


def works(smoke: bool, rounds: int, modules: dict[str, Any]) -> list[dict[str, Any]]:
    """Do all works."""
    n, order = (6, 4) if smoke else (20, 5)
    grid = torch.linspace(0, 1, n)
    axes = [grid.reshape([-1 if i == k else 1 for i in range(order)]) for k in range(order)]
    x = 1 / (1 + sum(axes[1:], axes[0]))
    rows = measured(
        f"train of {n}^{order}, 1e-6", dense_candidates(x, 1e-6, modules),
        lambda value: float((value.to_dense() - x).norm() / x.norm()), rounds,
    )  # fmt: skip
    cases = [(4, 5, 12, 3)] if smoke else [(20, 10, 100, 20), (10, 10, 160, 10)]
    for n, order, high, low in cases:
        train = inflated(random_train(n, order, low), high // low)
        rows += measured(
            f"rounding {n}^{order}, {high} -> {low}, 1e-8",
            round_candidates(train, 1e-8, low, modules),
            lambda value, train=train: float((value - train).norm() / train.norm()), rounds,
        )  # fmt: skip
    n, order, low, count = (4, 5, 3, 4) if smoke else (20, 10, 20, 10)
    trains = of_one_rank(n, order, low, count)
    total = trains[0]
    for train in trains[1:]:
        total = total + train
    return rows + measured(
        f"sum of {count} trains {n}^{order}, rank {low}", sum_candidates(trains, 1e-8, modules),
        lambda value: float((value - total).norm() / total.norm()), rounds,
    )  # fmt: skip


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few seconds: tells nothing")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(65537)
    modules, missing = peers()
    if missing:
        print(f"not installed, left out: {', '.join(missing)}")
    rows = works(arguments.smoke, 1 if arguments.smoke else arguments.rounds, modules)
    names = {"torchtt": "torchTT", "quimb.tensor": "quimb"}
    packages = ["torch", *(names.get(name, name) for name in modules)]
    found = {**origin(("torch",)), "smoke": arguments.smoke, "missing": missing}
    found["versions"] |= {name: version(name) for name in packages}
    about = {"clock": "process time, medians of interleaved rounds", "rounds": arguments.rounds}
    write(arguments.out, {**found, **about, "against": REFERENCE, "rows": rows})


if __name__ == "__main__":
    main()
