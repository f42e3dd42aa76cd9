"""The one idea as a picture: a tensor, four ways to store it, and what each costs.

`python docs/hooks/idea.py` writes `docs/figures/idea.png`. The function is 1 / |x - y|, the
interaction of two charges, tabulated on 64 points per axis; ranks are those found for 1e-6.
"""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch

from tensornet.formats import cp, tensor_train, tucker

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import Polygon, Rectangle

N, TOLERANCE = 64, 1e-6
BLUE, ORANGE, GREEN, RED = "#4c72b0", "#dd8452", "#55a868", "#c44e52"


def box(axis: Any, x: float, y: float, w: float, h: float, d: float, colour: str) -> None:
    """Draw a cuboid, or a rectangle where the depth is zero."""
    axis.add_patch(Rectangle((x, y), w, h, facecolor=colour, edgecolor="w", alpha=0.95))
    if d:
        top = [(x, y + h), (x + d, y + h + d), (x + w + d, y + h + d), (x + w, y + h)]
        side = [(x + w, y), (x + w + d, y + d), (x + w + d, y + h + d), (x + w, y + h)]
        axis.add_patch(Polygon(top, facecolor=colour, edgecolor="w", alpha=0.7))
        axis.add_patch(Polygon(side, facecolor=colour, edgecolor="w", alpha=0.5))


def main() -> None:
    """Compute the ranks and draw."""
    t = torch.linspace(0.5, 1.5, N, dtype=torch.float64)
    x = 1 / (t[:, None, None] ** 2 + t[:, None] ** 2 + t**2).sqrt()
    rank = next(
        r for r in range(2, 30) if cp(x, r, tolerance=TOLERANCE).relative_error <= TOLERANCE
    )
    core = tucker(x, tolerance=TOLERANCE).value
    train = tensor_train(x, tolerance=TOLERANCE).value
    counts = {
        "CP": 3 * N * rank,
        "Tucker": sum(p.numel() for p in core.parts().values()),
        "train": sum(c.numel() for c in train.cores),
    }
    figure, axes = plt.subplots(1, 4, figsize=(11, 3.1), layout="constrained")
    dense, sums, small, chain = axes
    box(dense, 0, 0, 3, 3, 1.2, BLUE)
    for k, left in enumerate((0, 1.55, 3.1)):
        box(sums, left, 0, 0.9, 3, 0, ORANGE)
        sums.text(left + 0.45, 3.25, f"n x {rank}", ha="center", fontsize=9)
        if k:
            sums.text(left - 0.33, 1.4, "∘", ha="center", fontsize=14)
    r = core.ranks
    box(small, 1.4, 1.2, 0.9, 0.9, 0.4, GREEN)
    box(small, 0.1, 0.2, 0.9, 3, 0, GREEN)
    box(small, 1.3, 0, 3, 0.7, 0, GREEN)
    box(small, 3.1, 1.2, 0.9, 2.3, 0, GREEN)
    small.text(1.85, 2.7, "x".join(map(str, r)), ha="center", fontsize=9)
    places = ((0, 1.0), (1.6, 1.3), (3.7, 1.0))
    for (left, width), size in zip(places, train.cores, strict=True):
        box(chain, left, 0.8, width, 1.6, 0.5 if 1 not in size.shape else 0.0, RED)
        chain.text(left + width / 2, 3.25, "x".join(map(str, size.shape)), ha="center", fontsize=9)
    for axis, name, formula, cost in (
        (dense, "dense", "x[i, j, k]", f"{N**3:,} numbers"),
        (sums, "CP", "Σ A[i, r] B[j, r] C[k, r]", f"{counts['CP']:,} numbers"),
        (small, "Tucker", "Σ G[a, b, c] U[i, a] V[j, b] W[k, c]", f"{counts['Tucker']:,} numbers"),
        (chain, "tensor train", "G[i] G[j] G[k]", f"{counts['train']:,} numbers"),
    ):
        axis.set(xlim=(-0.4, 4.9), ylim=(-1.5, 4.6), aspect="equal")
        axis.axis("off")
        axis.set_title(name, fontsize=12, fontweight="bold")
        axis.text(2.1, -0.65, formula, ha="center", fontsize=9, family="monospace")
        axis.text(2.1, -1.3, cost, ha="center", fontsize=10)
    figure.suptitle(
        f"One tensor, 1/r on {N}³ points to a millionth: the format decides what it costs",
        fontsize=12,
    )
    figure.savefig(Path(__file__).parents[1] / "figures" / "idea.png", dpi=120)


if __name__ == "__main__":
    main()
