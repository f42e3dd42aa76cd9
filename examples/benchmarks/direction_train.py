"""Train a network of directions by a recipe, and count its iterations on problems not seen.

Writes the weights and ``results.json`` into a folder. The recipe names the arguments of
`DirectionNet`, the operators (`direction_problems.domain`) and the arguments of `fit_direction`.

    OMP_NUM_THREADS=1 python examples/benchmarks/direction_train.py \
        models/direction-poisson-3d/recipe.yaml --out DIR [--smoke]
"""

import argparse
from pathlib import Path
from typing import Any

import torch
import yaml
from direction_problems import domain, problem
from origin import origin, write

from tensornet.linalg import cg, deep_conjugate_direction
from tensornet.models import DirectionNet
from tensornet.pde import poisson
from tensornet.train import DirectionFit, fit_direction

UNSEEN = ("sphere", "balls", "pool")
SEED = 77  # of what is random in problems that are not trained on


def trained(recipe: dict[str, Any], **changes: Any) -> tuple[DirectionNet, DirectionFit]:
    """Train by a recipe.

    Args:
        recipe: Its content.
        changes: Other arguments of `fit_direction`.
    """
    net = DirectionNet(**recipe["model"])
    dim = recipe["model"].get("dim", 3)
    operators = [
        poisson(domain(task["case"], task["size"], dim, task.get("seed", 0))).operator
        for task in recipe["operators"]
    ]
    return net, fit_direction(net, operators, **{**recipe["training"], **changes})


def counted(
    net: DirectionNet, size: int, side: str, tolerance: float = 1e-4
) -> dict[str, dict[str, int]]:
    """Count iterations on problems that are not trained on.

    Args:
        net: The network.
        size: Cells along an axis.
        side: ``"noise"`` or ``"plume"``.
        tolerance: Of the relative residual.
    """
    found = {}
    for case in UNSEEN:
        p = problem(case, size, side, net.config["dim"], SEED)
        A, options = p.operator, {"tolerance": tolerance, "max_iterations": 500}
        ours = deep_conjugate_direction(A, p.rhs, net.bind(A), **options)
        assert ours.converged, (case, size, side)
        found[case] = {"unknowns": len(p.rhs), "iterations": ours.n_iterations}
        if size <= 32:
            found[case]["conjugate gradients"] = cg(A, p.rhs, rtol=tolerance).n_iterations
    return found


def main() -> None:
    """Train, count, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipe = yaml.safe_load(options.recipe.read_text(encoding="utf-8"))
    changes, sizes = ({"samples": 16}, (8,)) if options.smoke else ({}, (16, 32, 64))
    net, found = trained(recipe, **changes)
    net.provenance = {"recipe": recipe, "message": found.message}
    print(found.message)
    options.out.mkdir(parents=True, exist_ok=True)
    net.save(options.out / "model.safetensors")
    iterations = {}
    for size in sizes:
        iterations[str(size)] = {side: counted(net, size, side) for side in ("noise", "plume")}
        print(size, iterations[str(size)])
    content = {
        "what": "iterations to 1e-4 on problems not trained on",
        "parameters": sum(p.numel() for p in net.parameters()),
        "training": {
            "seconds": found.seconds,
            "steps": found.steps,
            "right_hand_sides": found.samples,
            "history": list(found.history),
        },
        "iterations": iterations,
        **origin(),
    }
    write(options.out / "results.json", content)


if __name__ == "__main__":
    main()
