"""The one number of each benchmark: how many times faster than whom, at what.

A value above one is in our favour, below one against us. Those against us stay in the list.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Content = dict[str, Any]


@dataclass(frozen=True)
class Headline:
    """A ratio to a named peer.

    Args:
        group: What part of the library.
        work: What was done.
        peer: By whom else.
        benchmark: Name of the script and of its JSON.
        ratio: Reads it from the JSON. Where the peer was not installed, none, or KeyError or
            StopIteration.
        quantity: What is divided: theirs by ours.
    """

    group: str
    work: str
    peer: str
    benchmark: str
    ratio: Callable[[Content], float | None]
    quantity: str = "time"


def row(content: Content, *table: str, **wanted: Any) -> Content:
    """Give the first row of a table that has these values."""
    rows: Any = content
    for key in table or ("rows",):
        rows = rows[key]
    return next(r for r in rows if all(r.get(k) == v for k, v in wanted.items()))


def versus(key: str, ours: Content, theirs: Content) -> float:
    """Divide theirs by ours."""
    return float(theirs[key] / ours[key])


def _pair(key: str, ours: str, theirs: str, name: str = "candidate", **same: Any) -> Any:
    """Compare two rows that differ in one word."""
    return lambda c: versus(key, row(c, **{name: ours}, **same), row(c, **{name: theirs}, **same))


def _ratio(**wanted: Any) -> Any:
    return lambda c: row(c, **wanted)["ratio"]


def _best_solver(content: Content) -> float:
    by = {name: found["seconds"] for name, found in row(content, case="sphere")["by"].items()}
    amg = min(seconds for name, seconds in by.items() if "pyamg" in name)
    return amg / min(by[name] for name in by if name.startswith(("box", "multigrid")))


def _learned(content: Content, peer: str) -> float:
    by = [r for r in content["rows"] if r["case"] == "pool"][-1]["by"]
    return by[peer]["seconds"] / by["learned directions"]["seconds"]


def _lord_step(content: Content) -> float:
    rows = content["flows"]["cavity, Re 100"]["rows"]
    mine = next(r for r in rows if r["step"] == "LordStepper, trained")
    as_good = [
        r["milliseconds"] for r in rows
        if r["step"] == "Anderson" and r["largest_error"] <= mine["largest_error"]
    ]  # fmt: skip
    return min(as_good) / mine["milliseconds"]


def _linear(content: Content, n: int) -> float:
    wanted = {"in": 1024, "format": "tensor_train", "n": n, "pass": "both"}
    same = {**wanted, "dtype": "torch.float32"}
    mine = row(content, candidate="tensornet", **same)
    return versus("cpu_seconds", mine, row(content, candidate="torch Linear", **same))


def _spectral(content: Content) -> float:
    mine = next(
        r for r in content["rows"]
        if r["candidate"] == "tensornet" and r["factorization"] == "Tucker" and r["pass"] == "both"
    )  # fmt: skip
    same = {k: mine[k] for k in ("n", "channels", "factorization", "pass")}
    theirs = [
        versus("cpu_seconds", mine, r) for r in content["rows"]
        if "neuraloperator" in r["candidate"] and all(r[k] == v for k, v in same.items())
    ]  # fmt: skip
    return min(theirs)


_DEFAULT = {"dtype": "float32", "allocator": "default"}
_TRAINING = {"l_max": 2, "pass": "force training"}
_GAUNT = {"model": "gaunt", **_DEFAULT}
HEADLINES = (
    Headline("formats", "CP, 100³, rank 10", "tensorly", "cp",
             _ratio(work="100^3, rank 10, noise 1e-3")),
    Headline("formats", "Tucker, 100³, rank 10", "tensorly", "tucker",
             _ratio(case="100^3 r10, noise 1e-3", candidate="tensornet")),
    Headline("formats", "train of 20⁵", "torchTT", "tensor_train",
             _ratio(work="train of 20^5, 1e-6", candidate="tensornet auto")),
    Headline("formats", "rounding a train, rank 100 to 20", "torchTT", "tensor_train",
             _ratio(work="rounding 20^10, 100 -> 20, 1e-8", candidate="tensornet auto")),
    Headline("formats", "cross approximation, 20⁶", "tntorch", "cross",
             _pair("evaluations", "tensornet cross", "tntorch.cross",
                   problem="1/(1+sum x), d=6 n=20"), "evaluations"),
    Headline("formats", "cross approximation, 20⁶", "tntorch", "cross",
             _pair("seconds", "tensornet cross", "tntorch.cross",
                   problem="1/(1+sum x), d=6 n=20")),
    Headline("formats", "ground state, 16 spins", "quimb", "dmrg",
             _ratio(sites=16, candidate="tensornet ground_state")),
    Headline("functions", "forces on 10⁴ charges to 1e-6", "direct sum", "electrostatics",
             lambda c: row(c, "free", n=10_000, method="ChargeSum")["faster_than_direct"]),
    Headline("functions", "Gaussian process on a line, 2,000 points", "scikit-learn", "funbat",
             lambda c: versus("cpu_seconds", row(c, "scaling", solver="StateSpaceGP", n=2000),
                              row(c, "scaling", solver="scikit-learn", n=2000))),
    Headline("products", "harmonics and gradient, degree 4, float32", "sphericart", "harmonics",
             lambda c: row(c, l_max=4, dtype="float32", **{"pass": "value and gradient"})[
                 "sphericart_ratio"]),
    Headline("products", "channelwise product and gradient, degree 2", "e3nn", "channelwise",
             _ratio(l_max=2, **{"pass": "forward and gradient"})),
    Headline("layers", "edge convolution, training on forces, degree 2", "e3nn", "convolution",
             _pair("seconds", "ours", "e3nn", "side", channels=64, **_TRAINING)),
    Headline("layers", "symmetric contraction, training on forces, degree 2", "MACE",
             "symmetric_contraction", lambda c: row(c, **_TRAINING)["ratio"]["kernel"]),
    Headline("layers", "linear layer as a train, 1024 features, 256 rows, training",
             "torch, dense", "factorized_linear", lambda c: _linear(c, 256)),
    Headline("layers", "spectral convolution, Tucker, training", "neuraloperator", "spectral",
             _spectral),
    Headline("potentials", "dynamics of MACE, 512 atoms, our kernels inside, allocator tuned",
             "mace-torch", "accelerate",
             _ratio(model="mace", work="dynamics", atoms=512, allocator="keeps freed memory")),
    Headline("potentials", "dynamics with gaunt, silicon, 64 atoms", "mace-torch", "md_speed",
             _ratio(system="si64", **_GAUNT)),
    Headline("potentials", "dynamics with gaunt, molecule of 27", "mace-torch", "md_speed",
             _ratio(system="molecule", **_GAUNT)),
    Headline("potentials", "training gaunt, molecules of 27", "mace-torch", "training_speed",
             _ratio(system="molecule", **_GAUNT)),
    Headline("equations", "product with an operator on a masked grid, 64³", "SciPy, CSR", "stencil",
             lambda c: row(c, case="sphere")["seconds"]["sparse matrix"]
             / row(c, case="sphere")["seconds"]["ours"]),
    Headline("equations", "Poisson around a sphere, 64³, with set-up", "pyamg, the better",
             "poisson_sphere", _best_solver),
    Headline("equations", "learned directions in a pool, with set-up", "conjugate gradients",
             "direction", lambda c: _learned(c, "conjugate gradients")),
    Headline("equations", "learned directions in a pool, with set-up", "our multigrid",
             "direction", lambda c: _learned(c, "multigrid")),
    Headline("equations", "learned step of a cavity flow, at its error", "our Flow.step",
             "lordnet", _lord_step),
)  # fmt: skip


def measured(folder: Path) -> Iterator[tuple[Headline, float]]:
    """Read the headlines whose JSON lies in a folder and holds the peer."""
    contents: dict[str, Content] = {}
    for headline in HEADLINES:
        path = folder / f"{headline.benchmark}.json"
        if not path.exists():
            continue
        if headline.benchmark not in contents:
            contents[headline.benchmark] = json.loads(path.read_text(encoding="utf-8"))
        try:
            ratio = headline.ratio(contents[headline.benchmark])
        except (KeyError, StopIteration, IndexError):  # the peer is not in this file
            continue
        if ratio is not None:
            yield headline, float(ratio)


def draw(values: list[tuple[Headline, float]], path: Path) -> None:
    """Draw the ratios as bars on a logarithmic axis."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    groups = list(dict.fromkeys(headline.group for headline, _ in values))
    colours = dict(zip(groups, plt.get_cmap("tab10").colors, strict=False))  # type: ignore[attr-defined]
    figure, axis = plt.subplots(figsize=(9, 0.6 + 0.33 * len(values)), layout="constrained")
    for place, (headline, value) in enumerate(reversed(values)):
        axis.barh(place, value - 1, left=1, color=colours[headline.group], height=0.7)
        far = value * 1.06 if value > 1 else 1.06
        axis.text(far, place, f"{value:.3g}x", va="center", fontsize=8)
    labels = [f"{h.work}  |  {h.peer}" + (f" ({h.quantity})" * (h.quantity != "time"))
              for h, _ in reversed(values)]  # fmt: skip
    axis.set_yticks(range(len(values)), labels, fontsize=8)
    axis.set_xscale("log")
    axis.set_xlim(0.15, max(value for _, value in values) * 2)
    axis.axvline(1, color="k", linewidth=0.8)
    told = "their time over ours, same machine, same run; left of one: we lose"
    axis.set_xlabel(told, loc="right")
    for group in groups:
        axis.barh(0, 0, color=colours[group], label=group)
    axis.legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=110)
    plt.close(figure)
