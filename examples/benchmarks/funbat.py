"""Gaussian processes in linear time, and functional Tucker and CP models beside simple baselines.

Two tables. The smoother: how far it is from the dense equations, and how time grows when the number
of observations doubles, beside the dense equations and scikit-learn. The models: three generated
problems with irregular coordinates and noise, each from several seeds, where no held-out
point was observed. Rows are medians over the seeds.

- `stations`: 40 places in the plane, 90 irregular times, 30 % of their pairs observed; what is held
  out are other pairs of the same places and times.
- `low rank`: a function of three coordinates of rank two, at 600 scattered points, and new points.
- `rough`: a draw from a Gaussian process in the plane, which has no low rank: exact regression is
  the right model here and should win.

Baselines: the mean; for each mode the mean over the observations at the same, or the nearest,
coordinate, of which the best mode is told; an additive model of one Gaussian process per mode;
exact Gaussian-process regression with a Matern kernel and a length scale per mode (scikit-learn,
scales by evidence); and the CP completion of TensorLy on the indices of places and times, or on 8
bins per mode, with the best of ranks 1 to 3 by the error that is reported, which favours it.
Errors are against the values without noise, over the noise. `cover` is the share of new noisy
observations inside the interval of 90 %.

    PYTHONPATH=FOLDER_OF_PEERS OMP_NUM_THREADS=1 python examples/benchmarks/funbat.py [--smoke]
"""

import argparse
import importlib.util
import math
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from origin import origin, write
from torch import Tensor

from tensornet.functional import FunctionalCP, FunctionalTucker, Matern, StateSpaceGP

SKLEARN = importlib.util.find_spec("sklearn") is not None
Fitted = tuple[Tensor, Tensor | None]


def signal(n: int) -> tuple[Tensor, Tensor]:
    """Give irregular times, as dense whatever their number, and noisy values."""
    g = torch.Generator().manual_seed(n)
    t = torch.rand(n, generator=g).double().sort().values * n / 50
    return t, torch.sin(t) + 0.1 * torch.randn(n, generator=g).double()


def dense(kernel: Matern, noise: float, t: Tensor, y: Tensor, x: Tensor) -> list[Tensor]:
    """Mean, variance and evidence by a Cholesky factor."""
    gram = kernel.covariance(t, t)
    gram.diagonal().add_(noise)
    factor = torch.linalg.cholesky(gram)
    cross = kernel.covariance(x, t)
    weights = torch.cholesky_solve(y[:, None], factor)[:, 0]
    half = torch.linalg.solve_triangular(factor, cross.mT, upper=False)
    log_two_pi = len(t) / 2 * math.log(2 * math.pi)
    evidence = -0.5 * y @ weights - factor.diagonal().log().sum() - log_two_pi
    return [cross @ weights, kernel.variance - half.square().sum(0), evidence]


def differences(n: int) -> list[dict[str, Any]]:
    """Compare with the dense equations at data and between them."""
    rows = []
    t, y = signal(n)
    x = torch.linspace(-2, float(t[-1]) + 2, 300, dtype=torch.float64)
    for nu in (0.5, 1.5, 2.5):
        kernel = Matern(nu, 1.3, 1.7)
        model = StateSpaceGP(kernel, 0.01).fit(t, y)
        mean, variance, evidence = dense(kernel, 0.01, t, y, x)
        got = model.predict(x)
        rows.append({
            "nu": nu, "n": n,
            "mean": float((got[0] - mean).abs().max()),
            "variance": float((got[1] - variance).abs().max()),
            "evidence": abs(model.log_evidence / float(evidence) - 1),
        })  # fmt: skip
        print("  ".join(f"{key} {value:.2g}" for key, value in rows[-1].items()))
    return rows


def sklearn_line(kernel: Matern, noise: float, t: Tensor, y: Tensor, x: Tensor) -> None:
    """Regression by scikit-learn, with given scales."""
    from sklearn.gaussian_process import GaussianProcessRegressor, kernels

    covariance = kernels.Matern(float(kernel.length_scale), nu=kernel.nu)
    model = GaussianProcessRegressor(covariance, alpha=noise, optimizer=None)
    model.fit(t[:, None].numpy(), y.numpy()).predict(x[:, None].numpy(), return_std=True)


def scaling(smoke: bool) -> list[dict[str, Any]]:
    """Time a fit with 300 predictions; contenders and sizes take turns."""
    kernel, noise = Matern(1.5, 1.3), 0.01
    solvers: dict[str, Callable[[Tensor, Tensor, Tensor], Any]] = {
        "StateSpaceGP": lambda t, y, x: StateSpaceGP(kernel, noise).fit(t, y).predict(x),
        "dense": lambda t, y, x: dense(kernel, noise, t, y, x),
    }
    if SKLEARN:
        solvers["scikit-learn"] = lambda t, y, x: sklearn_line(kernel, noise, t, y, x)
    sizes = [200, 400] if smoke else [500, 1000, 2000, 4000, 8000, 16000, 32000, 64000]
    most = 400 if smoke else 2000
    jobs = [(name, n) for n in sizes for name in solvers if name == "StateSpaceGP" or n <= most]
    times: dict[tuple[str, int], list[float]] = {job: [] for job in jobs}
    for turn in range(2 if smoke else 6):
        for name, n in jobs:
            t, y = signal(n)
            x = torch.linspace(0, float(t[-1]), 300, dtype=torch.float64)
            begin = time.process_time()
            solvers[name](t, y, x)
            if turn:  # the first compiles
                times[name, n].append(time.process_time() - begin)
    rows: list[dict[str, Any]] = []
    for name in solvers:
        previous = None
        for n in [n for other, n in jobs if other == name]:
            seconds = statistics.median(times[name, n])
            rows.append({"solver": name, "n": n, "cpu_seconds": seconds})
            rows[-1]["over_half_as_many"] = None if previous is None else seconds / previous
            print(f"{name:14} n {n:6d} {1e3 * seconds:9.2f} ms, doubling", end=" ")
            print("-" if previous is None else f"{seconds / previous:.2f}")
            previous = seconds
    return rows


def stations(g: torch.Generator, n: int) -> dict[str, Any]:
    """Places and times, some pairs observed: a gradient, a season that moves, weather."""
    place, t = torch.rand(40, 2, generator=g).double(), torch.rand(90, generator=g).double() * 30
    pairs = torch.cartesian_prod(torch.arange(40), torch.arange(90))
    pairs = pairs[torch.randperm(len(pairs), generator=g)]
    x = torch.cat([place[pairs[:, 0]], t[pairs[:, 1], None]], 1)
    a, b, c = x.mT
    season = torch.sin(0.4 * c) * (0.5 + a) + 0.5 * torch.cos(0.4 * c) * b
    f = 3 * a - 2 * b**2 + 2 * season + torch.sin(2.1 * c) * torch.sin(3 * a) * torch.cos(2 * b)
    return {"x": x, "f": f, "index": pairs, "noise": 0.2, "n": n, "ranks": (3, 3, 4), "terms": 6}


def low_rank(g: torch.Generator, n: int) -> dict[str, Any]:
    """A function of rank two."""
    x = torch.rand(n + 1500, 3, generator=g).double()
    a, b, c = x.mT
    f = torch.sin(6 * a) * torch.cos(4 * b) * c + 0.7 * torch.cos(8 * a) * b**2 * torch.exp(-c)
    index = (8 * x).long()
    return {"x": x, "f": f, "index": index, "noise": 0.03, "n": n, "ranks": (2, 2, 2), "terms": 2}


def rough(g: torch.Generator, n: int) -> dict[str, Any]:
    """A draw from an isotropic Gaussian process in the plane."""
    x = torch.rand(n + 1500, 2, generator=g).double()
    r = math.sqrt(3) * torch.cdist(x, x) / 0.3
    gram = (1 + r) * torch.exp(-r)
    gram.diagonal().add_(1e-10)
    f = torch.linalg.cholesky(gram) @ torch.randn(len(x), generator=g).double()
    index = (8 * x).long()
    return {"x": x, "f": f, "index": index, "noise": 0.1, "n": n, "ranks": (5, 5), "terms": 5}


def mode_mean(x: Tensor, y: Tensor, test: Tensor, mode: int) -> Fitted:
    """Mean over the observations at the nearest coordinate of one mode."""
    t, place = torch.unique(x[:, mode], return_inverse=True)
    total = torch.zeros(len(t), dtype=torch.float64).index_add_(0, place, y)
    nearest = (test[:, mode, None] - t).abs().argmin(1)
    return (total / torch.bincount(place))[nearest], None


def additive(x: Tensor, y: Tensor, test: Tensor) -> Fitted:
    """One Gaussian process per mode, by turns on what the others leave."""
    order = x.shape[1]
    parts = [torch.zeros_like(y) for _ in range(order)]
    models = [StateSpaceGP(Matern(1.5, float(x[:, k].std())), float(y.var()) / 2) for k in
              range(order)]  # fmt: skip
    for turn in range(6):
        for k, model in enumerate(models):
            rest = y - y.mean() - sum(parts) + parts[k]
            model.fit(x[:, k], rest, learn=turn < 2)
            parts[k] = model.predict(x[:, k])[0]
    found = [model.predict(test[:, k]) for k, model in enumerate(models)]
    variance = sum(v for _, v in found) + models[-1].noise
    return y.mean() + sum(m for m, _ in found), torch.as_tensor(variance)


def exact(x: Tensor, y: Tensor, test: Tensor) -> Fitted:
    """Exact regression, all scales by evidence."""
    from sklearn.gaussian_process import GaussianProcessRegressor, kernels

    low, size = x.min(0).values, x.max(0).values - x.min(0).values
    kernel = kernels.ConstantKernel(1.0) * kernels.Matern([0.3] * x.shape[1], nu=1.5)
    kernel += kernels.WhiteKernel(0.1, (1e-6, 10.0))
    model = GaussianProcessRegressor(kernel, normalize_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(((x - low) / size).numpy(), y.numpy())
        mean, std = model.predict(((test - low) / size).numpy(), return_std=True)
    return torch.from_numpy(mean), torch.from_numpy(std) ** 2


def completed(index: Tensor, y: Tensor, test: Tensor, rank: int) -> Fitted:
    """CP completion by TensorLy on indices, entries with several observations averaged."""
    import numpy as np
    import tensorly
    from tensorly.decomposition import parafac

    shape = tuple(torch.cat([index, test]).max(0).values.add(1).tolist())
    place = tuple(index.mT)
    total, count = torch.zeros(shape).double(), torch.zeros(shape).double()
    total.index_put_(place, y - y.mean(), accumulate=True)
    count.index_put_(place, torch.ones_like(y), accumulate=True)
    data, mask = (total / count.clamp(min=1)).numpy(), (count > 0).double().numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = parafac(
            data, rank, n_iter_max=200, mask=mask, init="random", random_state=0, l2_reg=1e-3
        )
        filled = np.asarray(tensorly.cp_to_tensor(value))
    return torch.from_numpy(filled)[tuple(test.mT)] + y.mean(), None


def fitted(model: FunctionalTucker, x: Tensor, y: Tensor, test: Tensor) -> Fitted:
    """One of ours, from its defaults."""
    return model.fit(x, y).predict(test, noise=True)


def measured(problem: dict[str, Any], g: torch.Generator) -> dict[str, dict[str, Any]]:
    """Run all contenders on one draw of a problem."""
    n, noise = problem["n"], problem["noise"]
    x, f, index = problem["x"], problem["f"], problem["index"]
    observed = f + noise * torch.randn(len(f), generator=g).double()
    y, test = observed[:n], x[n:]
    ranks, terms = problem["ranks"], problem["terms"]
    runs: dict[str, list[Callable[[], Fitted]]] = {
        "mean": [lambda: (y.mean().expand(len(test)), y.var().expand(len(test)))],
        "mean of one mode": [lambda k=k: mode_mean(x[:n], y, test, k) for k in range(x.shape[1])],
        "additive": [lambda: additive(x[:n], y, test)],
        "TensorLy CP": [lambda r=r: completed(index[:n], y, index[n:], r) for r in (1, 2, 3)],
        "FunctionalTucker": [lambda: fitted(FunctionalTucker(ranks), x[:n], y, test)],
        "FunctionalCP": [lambda: fitted(FunctionalCP(terms), x[:n], y, test)],
    }
    if SKLEARN:
        runs["exact (scikit-learn)"] = [lambda: exact(x[:n], y, test)]
    rows = {}
    for name, candidates in runs.items():
        begin, results = time.process_time(), [run() for run in candidates]
        seconds = time.process_time() - begin
        error, variance = min(
            ((float((m - f[n:]).square().mean().sqrt()) / noise, v, m) for m, v in results),
            key=lambda one: one[0],
        )[:2]  # fmt: skip
        rows[name] = {"error_over_noise": error, "cover": None, "cpu_seconds": seconds}
        if variance is not None:
            inside = (results[0][0] - observed[n:]).abs() < 1.6449 * variance.sqrt()
            rows[name]["cover"] = float(inside.double().mean())
    return rows


def models(smoke: bool) -> list[dict[str, Any]]:
    """Run all problems from all seeds."""
    table = []
    for make, n in ((stations, 1080), (low_rank, 600), (rough, 600)):
        draws = []
        for seed in range(1 if smoke else 3):
            g = torch.Generator().manual_seed(seed)
            draws.append(measured(make(g, 120 if smoke else n), g))
        for name in draws[0]:
            row = {"problem": make.__name__, "n": 120 if smoke else n, "model": name}
            for key in draws[0][name]:
                values = [draw[name][key] for draw in draws]
                row[key] = None if values[0] is None else statistics.median(values)
            table.append(row)
            cover = "   -" if row["cover"] is None else f"{row['cover']:.2f}"
            print(
                f"{make.__name__:9} {name:21} error / noise {row['error_over_noise']:7.3f}  "
                f"cover {cover}  {row['cpu_seconds']:6.2f} s", flush=True,
            )  # fmt: skip
    return table


def main() -> None:
    """Run all, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="one seed, few points")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    content = {
        **origin(("torch", "numpy", "tensorly", *(["scikit-learn"] if SKLEARN else []))),
        "smoke": arguments.smoke, "missing": [] if SKLEARN else ["scikit-learn"],
        "clock": "process time, one thread, contenders in turn",
        "differences": differences(100 if arguments.smoke else 1500),
        "scaling": scaling(arguments.smoke), "models": models(arguments.smoke),
    }  # fmt: skip
    write(arguments.out, content)


if __name__ == "__main__":
    main()
