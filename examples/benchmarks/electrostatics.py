"""Electrostatics of many charges: error, time, memory and ranks against their number.

`free`: random charges of plus and minus one in a cube, all pairs in a compiled loop (vectorised,
one thread) against `ChargeSum`; and a plain grid Tucker, where the long range is sampled on a
uniform grid, decomposed and interpolated by cubic splines. `periodic`: the same charges, neutral,
in a periodic cube: `ChargeSum`, and Ewald's sum and particle-mesh Ewald of torch-pme if it is
installed. Forces are compared: with the direct sum (of some charges, if there are many), and in the
periodic cube with `ChargeSum` at a tolerance of 1e-9 (1e-8 for 100,000; the peers, whose memory
runs over ten GB there, are left out). `kernel`: the long range
of 1 / r itself by classes of accuracy, beside known errors and ranks of the method on a grid.
`lattice`: 24 x 24 x 4 charges.

Times are CPU time of this process on one thread, medians of rounds in which candidates take turns;
set-up is counted once. `bytes` are those of tables that are kept between evaluations.

    OMP_NUM_THREADS=1 python examples/benchmarks/electrostatics.py [--smoke] [--out FILE]
"""

import argparse
import importlib.util
import math
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numba import njit
from origin import origin, write
from scipy.interpolate import CubicSpline
from torch import Tensor

from tensornet.formats import exponential_sum, gaussian_sum, tucker
from tensornet.functional import ChargeSum, LatticeSum, certified_error
from tensornet.kernels import tune_allocator

CUBE = [(-1.0, 1.0)] * 3
TOLERANCE = 1e-6
CHECKED = 1000  # charges whose forces are compared
LOAD = "other work ran on the machine at the same time; times are CPU time of this process"
# n, terms, those of the long range, degree: error and largest rank at a tolerance of 1e-7, of the
# method on a grid of n points
KNOWN = [
    (256, 26, 10, 8.4e-8, 9),
    (512, 29, 12, 5.2e-8, 11),
    (1024, 31, 13, 9.4e-9, 12),
    (2048, 34, 14, 3.6e-9, 13),
    (4096, 37, 16, 7.5e-10, 15),
]
Candidate = tuple[Callable[[], Tensor], dict[str, Any]]


@njit(fastmath=True)
def all_pairs(x, y, z, q, out, first, last):  # type: ignore[no-untyped-def]
    """Forces on the charges from first to last."""
    for i in range(first, last):
        a, b, c = 0.0, 0.0, 0.0
        for j in range(len(q)):
            dx, dy, dz = x[i] - x[j], y[i] - y[j], z[i] - z[j]
            square = dx * dx + dy * dy + dz * dz
            square = square if square > 0 else np.inf
            w = q[j] / (square * np.sqrt(square))
            a += w * dx
            b += w * dy
            c += w * dz
        out[i, 0], out[i, 1], out[i, 2] = q[i] * a, q[i] * b, q[i] * c


def direct(x: Tensor, q: Tensor, last: int | None = None) -> Tensor:
    """Forces by the compiled loop over all pairs."""
    out = np.empty((len(q), 3))
    columns = [np.ascontiguousarray(c) for c in x.numpy().T]
    all_pairs(*columns, q.numpy(), out, 0, last or len(q))
    return torch.from_numpy(out)


def charges(n: int) -> tuple[Tensor, Tensor]:
    """Random charges in the cube, neutral for even n."""
    rng = torch.Generator().manual_seed(0)
    x = 2 * torch.rand(n, 3, generator=rng) - 1
    return x, 1.0 - 2 * (torch.arange(n) % 2)


def off(found: Tensor, want: Tensor) -> float:
    """Relative error, root mean square."""
    return float((found[: len(want)] - want).norm() / want.norm())


def held(plan: ChargeSum) -> int:
    """Bytes of the tables of a sum."""
    parts = {id(x): x for m in plan.kernel.modes for x in (m.coefficients, m.local, *m.terms)}
    return sum(8 * x.numel() for x in parts.values()) + 8 * math.prod(plan.ranks)


def ours(x: Tensor, q: Tensor, **options: Any) -> Candidate:
    """Prepare `ChargeSum`."""
    begin = time.process_time()
    plan = ChargeSum(CUBE, n_charges=len(q), **{"tolerance": TOLERANCE, **options})
    seconds = time.process_time() - begin
    about = {
        "method": "ChargeSum", "setup_seconds": seconds, "ranks": plan.ranks,
        "cutoff": plan.parts.cutoff, "sigma": plan.parts.sigma, "terms": len(plan.kernel.weights),
        "certified_error_of_kernel": plan.parts.error, "bytes": held(plan),
    }  # fmt: skip
    return lambda: plan.evaluate(x, q).forces, about


def grid_tucker(x: Tensor, q: Tensor, n: int) -> Candidate:
    """Prepare the long range on a grid of n³ points; the short range is that of `ChargeSum`."""
    plan = ChargeSum(CUBE, n_charges=len(q), tolerance=TOLERANCE)
    at = torch.linspace(-1, 1, n)

    def forces() -> Tensor:
        grid = torch.zeros(n, n * n)
        for w, e in zip(plan.parts.long.weights, plan.parts.long.exponents, strict=True):
            u, v, z = (torch.exp(-e * (at[:, None] - c).square()) for c in x.unbind(1))
            for some in torch.arange(len(q)).split(256):
                pairs = (v[:, None, some] * z[None, :, some]).flatten(0, 1)
                grid += (w * q[some] * u[:, some]) @ pairs.mT
        low = tucker(grid.reshape(n, n, n), tolerance=0.1 * TOLERANCE).value
        splines = [CubicSpline(at.numpy(), f.numpy()) for f in low.factors]
        rows = [torch.from_numpy(s(c.numpy())) for s, c in zip(splines, x.unbind(1), strict=True)]
        slopes = [
            torch.from_numpy(s(c.numpy(), 1)) for s, c in zip(splines, x.unbind(1), strict=True)
        ]
        total = []
        for k in range(3):
            u, v, z = (slopes[j] if j == k else rows[j] for j in range(3))
            total.append(torch.einsum("abc,na,nb,nc->n", low.core, u, v, z))
        everyone = torch.arange(len(q))
        _, push, _ = plan._short(x, everyone, x, q)
        return -q[:, None] * (torch.stack(total, 1) + push)

    return forces, {"method": f"grid Tucker, {n}³ points", "setup_seconds": 0.0, "bytes": 8 * n**3}


def mesh(x: Tensor, q: Tensor, kind: str) -> Candidate:
    """Prepare Ewald's sum or particle-mesh Ewald of torch-pme, with its list of pairs."""
    import torchpme
    import vesin

    n = len(q)
    cutoff = min(0.95, 2 * (60 / (4.19 * n)) ** (1 / 3))
    width = cutoff / 5.2
    potential = torchpme.CoulombPotential(smearing=width).double()
    if kind == "Ewald":
        width = min(0.95, 2.6 * n ** (-1 / 6)) / 5.2
        cutoff = 5.2 * width
        potential = torchpme.CoulombPotential(smearing=width).double()
        calculator = torchpme.EwaldCalculator(potential, lr_wavelength=width * 0.5)
    else:
        calculator = torchpme.PMECalculator(
            potential, mesh_spacing=width / 2, interpolation_nodes=7
        )
    calculator = calculator.double()
    cell = 2 * torch.eye(3)

    def forces() -> Tensor:
        at = x.clone().requires_grad_()
        i, j, shift = vesin.NeighborList(cutoff=cutoff, full_list=False).compute(
            x.numpy(), cell.numpy(), True, quantities="ijS"
        )
        i, j = torch.from_numpy(i.astype(np.int64)), torch.from_numpy(j.astype(np.int64))
        shift = torch.from_numpy(shift.astype(np.float64)) @ cell
        r = (at[j] - at[i] + shift).norm(dim=1)
        found = calculator(q[:, None], cell, at, torch.stack([i, j], 1), r)
        (g,) = torch.autograd.grad((q[:, None] * found).sum(), at)
        return -g

    spacing = {"cutoff": cutoff, "smearing": width}
    return forces, {"method": f"torch-pme, {kind}", "setup_seconds": 0.0, "bytes": 0, **spacing}


def measured(rows: list[Candidate], want: Tensor, n: int, repeats: int) -> Iterator[dict[str, Any]]:
    """Let candidates take turns; the first call counts only where no other follows."""
    errors: list[float] = []
    times: list[list[float]] = [[] for _ in rows]
    for turn in range(repeats + 1):
        for (run, _), seconds in zip(rows, times, strict=True):
            if turn > 1 and seconds[0] > 2:
                continue
            begin = time.process_time()
            found = run()
            seconds.append(time.process_time() - begin)
            if not turn:
                errors.append(off(found, want))
    for seconds in times:
        del seconds[: len(seconds) > 1]
    for (_, about), error, seconds in zip(rows, errors, times, strict=True):
        yield {"n": n, **about, "cpu_seconds": statistics.median(seconds), "force_error": error}


def free(sizes: list[int], repeats: int) -> Iterator[dict[str, Any]]:
    """Charges in free space."""
    direct(*charges(10))
    for n in sizes:
        x, q = charges(n)
        want = direct(x, q, min(n, CHECKED))[: min(n, CHECKED)].clone()
        rows = [ours(x, q)]
        if n <= 20_000:
            rows.insert(0, (lambda x=x, q=q: direct(x, q), {"method": "direct sum", "bytes": 0}))
        if n <= 1000:
            rows.append(grid_tucker(x, q, 64 if n < 1000 else 128))
        found = list(measured(rows, want, n, repeats if n < 50_000 else 1))
        if n > 20_000:
            begin = time.process_time()
            direct(x, q, n // 10)
            seconds = 10 * (time.process_time() - begin)
            note = "ten times that of a tenth of the charges"
            found.insert(
                0, {"n": n, "method": "direct sum", "cpu_seconds": seconds, "force_error": 0.0,
                    "bytes": 0, "note": note},
            )  # fmt: skip
        by_direct = found[0]["cpu_seconds"]
        for row in found:
            row["faster_than_direct"] = by_direct / row["cpu_seconds"]
            yield row


def periodic(sizes: list[int], repeats: int) -> Iterator[dict[str, Any]]:
    """Charges in a periodic cube."""
    peer = importlib.util.find_spec("torchpme") is not None
    for n in sizes:
        x, q = charges(n)
        want = ours(x, q, periodic=True, tolerance=1e-9 if n < 50_000 else 1e-8)[0]()
        rows = [ours(x, q, periodic=True)]
        if peer and n <= 1000:
            rows.append(mesh(x, q, "Ewald"))
        if peer and n <= 20_000:  # beyond, it takes more than ten GB with derivatives
            rows.append(mesh(x, q, "PME"))
        yield from measured(rows, want, n, repeats if n < 50_000 else 0)


def kernel() -> Iterator[dict[str, Any]]:
    """The long range of 1 / r on the cube, on a plane through its middle."""
    line = torch.linspace(-1, 1, 201)
    plane = torch.cartesian_prod(line, line, torch.tensor([0.0]))
    for n, terms, smooth, error, rank in KNOWN:
        s = exponential_sum("coulomb", 1 / n, math.sqrt(3), tolerance=1e-7)
        certified = certified_error(s, 1 / n, math.sqrt(3))
        w, e = s.weights[:smooth], s.exponents[:smooth]
        found = gaussian_sum(w, e, torch.zeros(smooth, 3), CUBE, tolerance=1e-10)
        ranks = found.value.round(tolerance=1e-7).ranks
        exact = torch.exp(-e * plane.square().sum(1)[:, None]) @ w
        for name, f in (("full", found.value), ("rounded", found.value.round(tolerance=1e-9))):
            yield {
                "n": n, "terms": len(s.weights), "known_terms": terms, "certified_error": certified,
                "long_range_terms": smooth, "form": name, "ranks": f.ranks,
                "ranks_at_1e-7": ranks, "known_rank": rank, "degrees": [m - 1 for m in f.shape],
                "error": float((f.value(plane) - exact).abs().max() / exact.abs().max()),
                "known_error_at_degree_128": error,
            }  # fmt: skip


def lattice() -> dict[str, Any]:
    """24 x 24 x 4 charges of one."""
    begin = time.process_time()
    one = torch.full((1, 3), 0.5), torch.ones(1)
    found = LatticeSum(*one, (1, 1, 1), (24, 24, 4), sigma=0.3, tolerance=2e-8)
    seconds = time.process_time() - begin
    rng = torch.Generator().manual_seed(0)
    points = torch.rand(500, 3, generator=rng) * torch.tensor([24.0, 24.0, 4.0])
    exact = (1 / (points[:, None] - found.positions).norm(dim=2)).sum(1)
    error = float((found.potential(points) - exact).abs().max())
    return {
        "charges": len(found.positions), "ranks": found.long_range.ranks, "error": error,
        "relative_error": error / float(exact.abs().max()), "setup_seconds": seconds,
        "known_ranks": [18, 18, 12], "known_error": 1.6e-6, "known_relative_error": 2.07e-7,
        "note": "one charge of plus one per cell of side one; the known lattice is another",
    }  # fmt: skip


def main() -> None:
    """Measure and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    tune_allocator()
    sizes = [60] if options.smoke else [100, 1000, 3000, 5000, 10_000, 100_000]
    repeats = 1 if options.smoke else options.repeats
    packages = ["torch", "numpy", "numba", "scipy"]
    if importlib.util.find_spec("torchpme") is not None:
        packages.append("torch-pme")
    rows: dict[str, Any] = {"free": [], "periodic": []}
    for name, run in (("free", free), ("periodic", periodic)):
        chosen = [n for n in sizes if name == "free" or n not in (3000, 5000)]
        for row in run(chosen, repeats):
            rows[name].append(row)
            print(
                f"{name:<9} {row['n']:>7} {row['method']:<24} {row['cpu_seconds']:10.4f} s"
                f"  error {row['force_error']:.1e}  ranks {row.get('ranks', '')}",
                flush=True,
            )
    rows["kernel"] = [] if options.smoke else list(kernel())
    rows["lattice"] = lattice()
    about = {"load": LOAD, "tolerance": TOLERANCE}
    write(options.out, {**origin(packages), **about, **rows})


if __name__ == "__main__":
    main()
