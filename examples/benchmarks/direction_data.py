"""What training data, the loss and the kind of network are worth, in 2D.

Networks of directions are trained on boxes, random discs and random free surfaces of 24 to 40 cells
along an axis, and solve problems not trained on (other discs, a pool) to 1e-4:

- on 20,000 right-hand sides as in the paper on deep conjugate directions, and on a tenth of them,
  with the same number of steps of the optimizer;
- with the paper's loss (one step of the solver) and with three steps;
- and the paper's ReLU network, on an empty box of 32 x 32 with its loss and with Ritz vectors by
  Lanczos' method, in a given CPU time.

Rows that the JSON has already are kept.

    OMP_NUM_THREADS=1 python examples/benchmarks/direction_data.py [--smoke] [--out FILE]
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from direction_problems import domain, problem
from origin import origin, write

from tensornet.linalg import cg, deep_conjugate_direction
from tensornet.models import DirectionNet
from tensornet.pde import StencilOperator, poisson
from tensornet.train import fit_direction

TRAINED_ON = (
    ("dirichlet", 32, 0), ("waves", 32, 1), ("balls", 24, 2), ("open top", 24, 0),
    ("waves", 40, 3), ("balls", 32, 4),
)  # fmt: skip
UNSEEN = ("dirichlet", "sphere", "balls", "pool")
FULL, BATCH = 20_000, 20


def operator(case: str, n: int, seed: int) -> StencilOperator:
    """Make one operator."""
    return poisson(domain(case, n, 2, seed)).operator


def iterations(net: DirectionNet | None, sizes: list[int]) -> dict[str, dict[str, int]]:
    """Count iterations to 1e-4 on problems not trained on, without a network those of CG.

    More than 200 are written as -1.
    """
    found: dict[str, dict[str, int]] = {}
    for n in sizes:
        found[str(n)] = {}
        for case in UNSEEN:
            p = problem(case, n, dim=2, seed=77)
            if net is None:
                count = cg(p.operator, p.rhs, rtol=1e-4).n_iterations
            else:
                M = net.bind(p.operator, unseen=True)
                done = deep_conjugate_direction(p.operator, p.rhs, M, max_iterations=200)
                count = done.n_iterations if done.converged else -1
            found[str(n)][case] = count
    return found


def main() -> None:
    """Train, count, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--relu-seconds", type=float, default=45.0)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    full, sizes = (100, [16]) if options.smoke else (FULL, [32, 64, 128])
    many = [operator(*task) for task in TRAINED_ON]
    box = [operator("dirichlet", 16 if options.smoke else 32, 0)]
    tenth = {"samples": full // 10, "passes": 10}
    paper: dict[str, Any] = {"data": "ritz", "unroll": 1, "learning_rate": 1e-3}
    jobs: dict[str, tuple[dict[str, Any], list[StencilOperator], dict[str, Any]]] = {
        "linear": ({}, many, {"samples": full}),
        "linear, 1/10 of the data": ({}, many, tenth),
        "ReLU, the paper's loss and data": (
            {"mode": "relu"},
            box,
            {**paper, "samples": full, "passes": 100, "seconds": options.relu_seconds},
        ),
        "linear, 1/10 of the data, the paper's loss": ({}, many, {**tenth, "unroll": 1}),
    }
    for _, _, training in jobs.values() if options.smoke else ():
        training["passes"] = 1
    rows: list[dict[str, Any]] = [
        {"name": "conjugate gradients", "iterations": iterations(None, sizes)}
    ]
    content = {
        "what": "iterations to 1e-4 by training data, loss and network, in 2D",
        "smoke": options.smoke,
        "rows": rows,
        **origin(),
    }
    for name, (model, operators, training) in jobs.items():
        net = DirectionNet(dim=2, **model)
        found = fit_direction(net, operators, batch_size=4 if options.smoke else BATCH, **training)
        rows.append({
            "name": name, "parameters": sum(p.numel() for p in net.parameters()),
            "right_hand_sides": found.samples, "steps": found.steps,
            "training_seconds": found.seconds, "left": found.history[-1]["left"],
            "iterations": iterations(net, sizes[:2] if "mode" in model else sizes),
        })  # fmt: skip
        print(rows[-1], flush=True)
        write(options.out, content)


if __name__ == "__main__":
    main()
