"""Make the tables and figures of `docs/products.md` from `field.json`.

    python examples/benchmarks/field_page.py [--check]

With `--check` nothing is written, and a table that is not that of the JSON is an error.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

from tensornet.products import PathRankProduct, paths

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "products.md"
Rows = list[dict[str, Any]]
STYLES = ("o-", "s--", "^:", "D-.", "v-", "P--", "X:", "*-.", "h--", "<:", ">-.")


def markdown(head: list[str], lines: list[list[str]]) -> str:
    """Write a table."""
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *lines])


def names(rows: Rows) -> list[str]:
    """List the products in the order of the file."""
    return list(dict.fromkeys(row["product"] for row in rows))


def freedom(rows: Rows) -> str:
    """Tell interactable paths and expressivity, by degree."""
    degrees = sorted({row["l_max"] for row in rows})
    lines = [
        ["all paths: a weight for each", *(f"{len(paths(L))}, {len(paths(L))}" for L in degrees)]
    ]
    for name in names(rows):
        found = {row["l_max"]: row for row in rows if row["product"] == name}
        lines.append([
            name,
            *(f"{found[L]['interactable']}, {found[L]['expressivity']}" if L in found else ""
              for L in degrees),
        ])  # fmt: skip
    return markdown(["paths, expressivity", *(f"L = {L}" for L in degrees)], lines)


def knob() -> str:
    """Tell the expressivity of copies."""
    lines = []
    for L in (1, 2, 3, 4):
        counted = [PathRankProduct(L, s).expressivity() for s in (1, 2, 3, 4)]
        lines.append([str(L), *map(str, counted), str(len(paths(L)))])
    return markdown(["L", *(f"S = {s}" for s in (1, 2, 3, 4)), "all paths"], lines)


def cost(rows: Rows) -> str:
    """Tell multiplications, bytes and errors."""
    head = ["product", "L", "multiplications", "bytes kept", "error, stored", "error, float32"]
    lines = []
    for name in names(rows):
        for row in rows:
            if row["product"] == name and row["l_max"] in (1, 2, 3, 4, 6):
                lines.append([
                    name, str(row["l_max"]), f"{row['multiplies']:.0f}",
                    f"{row['bytes_kept']:.0f}", f"{row['equivariance']:.0e}",
                    f"{row['equivariance_float32']:.0e}",
                ])  # fmt: skip
    return markdown(head, lines)


def seconds(rows: Rows) -> str:
    """Tell the times."""
    degrees = sorted({row["l_max"] for row in rows})
    lines = []
    for name in names(rows):
        found = {row["l_max"]: row["seconds"] for row in rows if row["product"] == name}
        cells = []
        for L in degrees:
            both = [found.get(L, {}).get(f"both, {word}") for word in ("one", "many")]
            cells.append(", ".join("-" if t is None else f"{1000 * t:.3g}" for t in both))
        lines.append([name, *("" if cell == "-, -" else cell for cell in cells)])
    return markdown(["one channel, 64", *(f"L = {L}" for L in degrees)], lines)


def gaunt(rows: Rows) -> str:
    """Tell how much faster our Gaunt product is than the best other."""
    sizes = list(dict.fromkeys((row["n"], row["channels"], row["channels2"]) for row in rows))
    head = ["L"]
    for n, c, c2 in sizes:
        head += [f"{n} pairs, {c} x {c2}: value", "with gradients"]
    lines = []
    for L in sorted({row["l_max"] for row in rows}):
        line = [str(L)]
        for size in sizes:
            for word in ("forward", "both"):
                (row,) = (
                    r for r in rows
                    if r["l_max"] == L and r["pass"] == word
                    and (r["n"], r["channels"], r["channels2"]) == size
                )  # fmt: skip
                line.append(f"{row['ratio']:.2f} ({row['best_other']})")
        lines.append(line)
    return markdown(head, lines)


def tables(content: dict[str, Any]) -> dict[str, str]:
    """Make all tables."""
    rows = content["products"]
    return {
        "freedom": freedom(rows),
        "knob": knob(),
        "cost": cost(rows),
        "time": seconds(rows),
        "gaunt": gaunt(content["gaunt"]),
    }


def filled(page: str, found: dict[str, str]) -> str:
    """Put tables where they belong."""
    for name, table in found.items():
        pattern = rf"(<!-- table: {name} -->\n).*?(<!-- end -->)"
        page = re.sub(pattern, lambda m, t=table: f"{m[1]}{t}\n{m[2]}", page, flags=re.DOTALL)
    return page


def draw(content: dict[str, Any], folder: Path) -> None:
    """Draw both figures."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rows = content["products"]
    panels = {
        "expressivity": lambda r: r["expressivity"],
        "multiplications\nper pair and channel": lambda r: r["multiplies"],
        "bytes kept for the gradient\nper pair and channel": lambda r: max(r["bytes_kept"], 1),
        "ms, value and gradients,\ny of one channel": lambda r: ms(r["seconds"]["both, one"]),
        "ms, value and gradients,\ny of 64 channels": lambda r: ms(r["seconds"]["both, many"]),
        "loss of equivariance": lambda r: max(r["equivariance"], 1e-17),
    }
    figure, axes = plt.subplots(2, 3, figsize=(11, 7), layout="constrained")
    for axis, (title, value) in zip(axes.flat, panels.items(), strict=True):
        for k, name in enumerate(names(rows)):
            mine = [r for r in rows if r["product"] == name]
            axis.plot(
                [r["l_max"] + 0.04 * (k - 3.5) for r in mine], [value(r) for r in mine],
                STYLES[k], label=name, markersize=5, linewidth=1.2,
            )  # fmt: skip
        axis.set(title=title, xlabel="l_max", yscale="log", xticks=range(1, 7))
        axis.title.set_fontsize(10)
        axis.grid(alpha=0.3)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.savefig(folder / "products.png", dpi=90)
    rows = content["gaunt"]
    sizes = list(dict.fromkeys((row["n"], row["channels"], row["channels2"]) for row in rows))
    figure, axes = plt.subplots(1, 3, figsize=(11, 4), layout="constrained")
    others = ("GauntProduct", "grid", "dense", "e3nn grid", "Fourier")
    for axis, size in zip(axes, sizes, strict=True):
        mine = [r for r in rows if (r["n"], r["channels"], r["channels2"]) == size]
        mine = [r for r in mine if r["pass"] == "both"]
        for k, name in enumerate(others):
            at = [(r["l_max"], ms(r["seconds"].get(name))) for r in mine if name in r["seconds"]]
            axis.plot(*zip(*at, strict=True), STYLES[k], label=name, markersize=5, linewidth=1.2)
        n, c, c2 = size
        axis.set(title=f"{n} pairs, {c} x {c2} channels", xlabel="l_max", yscale="log")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("ms, value and gradients")
    axes[2].legend(loc="lower right", fontsize=8)
    figure.savefig(folder / "gaunt.png", dpi=90)


def ms(time: float | None) -> float:
    """Milliseconds, or a gap in a line."""
    return float("nan") if time is None else 1000 * time


def main() -> None:
    """Write the page and the figures, or check the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    arguments = parser.parse_args()
    content = json.loads((HERE / "field.json").read_text(encoding="utf-8"))
    old = PAGE.read_text(encoding="utf-8")
    new = filled(old, tables(content))
    if arguments.check:
        if new != old:
            raise SystemExit("docs/products.md is not what `field.json` says: run field_page.py")
        print("docs/products.md is what field.json says")
        return
    PAGE.write_text(new, encoding="utf-8")
    draw(content, PAGE.parent / "figures")
    print(f"written to {PAGE} and its figures")


if __name__ == "__main__":
    main()
