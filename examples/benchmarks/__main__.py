"""Run the benchmarks on this machine, print how many times faster than whom, and draw it.

    python -m examples.benchmarks                  # the quick ones, some minutes
    python -m examples.benchmarks --full           # all, as the committed numbers were made: hours
    python -m examples.benchmarks --only cp stencil --out folder

Each runs in a process of its own, on one thread. Peers that are not installed are left out.
Nothing committed is touched: results go to a folder, one JSON each, and `headlines.png`.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from headlines import draw, measured  # noqa: E402

QUICK: dict[str, tuple[str, ...]] = {
    "cp": ("--parts", "100"),
    "tucker": ("--rounds", "3"),
    "tensor_train": ("--rounds", "3"),
    "dmrg": (),
    "harmonics": ("--l-max", "4", "--repeats", "5"),
    "channelwise": ("--l-max", "2", "--l-max-matrix", "2", "--repeats", "3"),
    "convolution": (
        *("--edges", "2000", "--nodes", "100", "--channels", "64", "--l-max", "2"),
        *("--repeats", "3", "--parts", "times"),
    ),
    "symmetric_contraction": ("--l-max", "2", "--outputs", "0e + 1o", "--repeats", "3"),
    "md_speed": ("--systems", "molecule", "--repeats", "2"),
    "training_speed": ("--systems", "molecule", "--repeats", "2"),
    "stencil": ("--repeats", "5"),
    "poisson_sphere": ("--sizes", "64", "--repeats", "1"),
    "direction": ("--sizes", "64", "--repeats", "1"),
}


def settings(name: str, full: bool) -> list[list[str]]:
    """Give the words of a benchmark's commands: quick ones, or those of the committed JSON."""
    if not full:
        return [list(QUICK.get(name, ()))]
    content = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
    lines = [shlex.split(line)[2:] for line in content.get("commands", [content["command"]])]
    return [
        [w for before, w in zip(["", *words], words, strict=False) if "--out" not in (before, w)]
        for words in lines
    ]


def run(name: str, full: bool, out: Path, environment: dict[str, str]) -> bool:
    """Run a benchmark, its words in a log; tell whether it went well."""
    target, log = str(out.resolve() / f"{name}.json"), []
    for words in settings(name, full):
        done = subprocess.run(
            [sys.executable, f"{name}.py", *words, "--out", target],
            cwd=HERE, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        log += [done.stdout, done.stderr]
        (out / f"{name}.log").write_text("".join(log), encoding="utf-8")
        if done.returncode:
            return False
    return True


def main() -> None:
    """Run, print, draw."""
    names = sorted(path.stem for path in HERE.glob("*.json"))
    parser = argparse.ArgumentParser(prog="python -m examples.benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--full", action="store_true", help="all, with their own settings")
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--out", type=Path, default=Path("out") / "benchmarks")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join(filter(None, [str(HERE.parents[1]), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    failed = []
    for name in options.only or (names if options.full else QUICK):
        begin = time.perf_counter()
        good = run(name, options.full, options.out, environment)
        failed += [] if good else [name]
        said = "" if good else f"  failed: see {options.out / name}.log"
        print(f"{name:24s} {time.perf_counter() - begin:6.0f} s{said}", flush=True)
    values = list(measured(options.out))
    print(f"\n{'times faster':>12s}")
    for headline, value in values:
        of = "" if headline.quantity == "time" else f" ({headline.quantity})"
        print(f"{value:12.2f}  {headline.work}, than {headline.peer}{of}")
    if values:
        draw(values, options.out / "headlines.png")
        print(f"\nwritten: {options.out / 'headlines.png'}")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
