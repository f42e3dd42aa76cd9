"""What is published installs and runs outside of the checkout."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TRIAL = """
import tensornet
from pathlib import Path
from tensornet.datasets import read, sample
from tensornet.products import CPProduct

assert str(Path(tensornet.__file__).parent).startswith(HERE), tensornet.__file__
assert (Path(tensornet.__file__).parent / "py.typed").exists()
print(len(read([sample("ethanol") / "test.extxyz.gz"]).structures), CPProduct(2).rank)
"""


def python(*words: str, cwd: Path, path: Path | None = None) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [sys.executable, *words],
        cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def build(kind: str, source: Path, out: Path) -> Path:
    """Build a wheel or an sdist as a front end would, with the setuptools that is installed."""
    code = f"import setuptools.build_meta as b; print('made', b.build_{kind}({str(out)!r}))"
    said = python("-c", code, cwd=source)
    return out / said.rpartition("made ")[2].strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built from the sdist."""
    folder = tmp_path_factory.mktemp("distribution")
    source = folder / "source"
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True,
    ).stdout.decode().split("\0")  # fmt: skip
    for name in files:
        if name and (ROOT / name).is_file() and not name.startswith(("models/", "docs/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    archive = build("sdist", source, folder)
    with tarfile.open(archive) as file:
        file.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return build("wheel", unpacked, folder)


def test_the_wheel_runs_elsewhere(wheel: Path, tmp_path: Path) -> None:
    target, away = tmp_path / "site", tmp_path / "away"
    away.mkdir()
    words = ("--no-deps", "--no-index", "--quiet", "--target", str(target))
    python("-m", "pip", "install", *words, str(wheel), cwd=away)
    said = python("-c", f"HERE = {str(target)!r}\n{TRIAL}", cwd=away, path=target)
    structures, rank = map(int, said.split())
    assert structures > 100
    assert rank > 1
    assert "train" in python("-m", "tensornet", "--help", cwd=away, path=target)


def test_the_wheel_holds_no_tests_and_no_weights(wheel: Path) -> None:
    import zipfile

    names = zipfile.ZipFile(wheel).namelist()
    assert not [n for n in names if n.startswith(("tests", "examples", "docs", "models/"))]
    assert wheel.stat().st_size < 20e6
