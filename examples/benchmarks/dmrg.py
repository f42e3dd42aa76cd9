"""How fast is our density-matrix renormalisation group, beside quimb's?

The ground state of the open Heisenberg chain of spins 1/2, by sweeps over pairs of sites, from
random starts. Each library gets one setting per accuracy, and its energy is held against the
exact one before anything is timed; a row's `error` is what was reached in the timed runs. quimb is
warmed up, for it compiles in its first calls. The candidates take turns. Times are of the
processor (`time.process_time`) and of one thread, for the machine has other work; `ratio` is
quimb's median over ours, at the accuracy of the row.

    OMP_NUM_THREADS=1 PYTHONPATH=. python examples/benchmarks/dmrg.py [--smoke] [--out FILE]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from origin import origin, write

from tensornet.formats import TTMatrix, spin_chain
from tensornet.linalg import ground_state

# Energies by exact diagonalisation; 40 sites by DMRG at rank 75.
EXACT = {8: -3.3749325987, 16: -6.9117371456, 40: -17.5414732989}


def ours(H: TTMatrix, tolerance: float) -> Callable[[], tuple[float, int, float]]:
    """Make our run: energy, rank, seconds."""

    def call() -> tuple[float, int, float]:
        begin = time.process_time()
        found = ground_state(H, tolerance=tolerance)
        seconds = time.process_time() - begin
        return found.energy, max(found.value.ranks), seconds

    return call


def quimbs(length: int, cutoff: float, tolerance: float) -> Callable[[], tuple[float, int, float]]:
    """Make quimb's run: energy, rank, seconds."""
    import quimb.tensor as qtn

    H = qtn.MPO_ham_heis(length)

    def call() -> tuple[float, int, float]:
        begin = time.process_time()
        solver = qtn.DMRG2(H, bond_dims=[8, 16, 32, 64, 128], cutoffs=cutoff)
        solver.solve(tol=tolerance, max_sweeps=20, verbosity=0)
        seconds = time.process_time() - begin
        return float(solver.energy), int(solver.state.max_bond()), seconds

    return call


def rows(length: int, repeats: int, *, accurate: float) -> list[dict[str, Any]]:
    """Let the candidates take turns on one chain."""
    H = spin_chain(length, xx=1.0, yy=1.0, zz=1.0, dtype=torch.float64)
    candidates = {"tensornet ground_state": ours(H, 1e-10)}
    if find_spec("quimb") is not None:
        candidates["quimb DMRG2"] = quimbs(length, 1e-10, 1e-9)
    results = {}
    for name, call in candidates.items():
        results[name] = call()
        error = abs(results[name][0] - EXACT[length])
        assert error < accurate, f"{name} is off by {error:.1e} at length {length}"
    times: dict[str, list[float]] = {name: [] for name in candidates}
    errors: dict[str, float] = dict.fromkeys(candidates, 0.0)
    for _ in range(repeats):
        for name, call in candidates.items():
            energy, _, seconds = call()
            times[name].append(seconds)
            errors[name] = max(errors[name], abs(energy - EXACT[length]))
    reference = statistics.median(times.get("quimb DMRG2", [float("nan")]))
    found = []
    for name, values in times.items():
        median = statistics.median(values)
        row = {
            "sites": length, "candidate": name, "seconds": median,
            "range": [min(values), max(values)], "rank": results[name][1], "error": errors[name],
        }  # fmt: skip
        if "quimb DMRG2" in times:
            row["ratio"] = reference / median
        found.append(row)
    return found


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few seconds: tells nothing")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lengths, repeats = ((8,), 2) if arguments.smoke else ((8, 16, 40), 5)
    found = [
        row
        for length in lengths
        for row in rows(length, repeats, accurate=1e-8 if length < 40 else 1e-6)
    ]
    for row in found:
        print(
            f"{row['sites']:4d} {row['candidate']:24s} {row['seconds']:8.3f} s  "
            f"rank {row['rank']:3d}  error {row['error']:.1e}  "
            f"ratio {row.get('ratio', float('nan')):.2f}"
        )
    skipped = [] if find_spec("quimb") is not None else ["quimb: not installed"]
    packages = ["torch", "numpy"] + ([] if skipped else ["quimb", "cotengra", "numba"])
    content = {
        "what": "ground state of the open Heisenberg chain, spins 1/2; medians of processor time",
        "clock": "time.process_time, one thread, candidates interleaved",
        "rounds": repeats,
        "skipped": skipped,
        "rows": found,
        **origin(packages),
    }
    if not arguments.smoke or arguments.out != Path(__file__).with_suffix(".json"):
        write(arguments.out, content)


if __name__ == "__main__":
    main()
