"""Hot functions compile to packed multiply-adds; nothing else tells when they stop doing so."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FUNCTIONS = ("cpu:_convolve", "cpu:_weigh", "cpu:_pair", "cpu_gradients:_slopes",
             "cpu_gradients:_curvatures")  # fmt: skip
PACKED = re.compile(r"\bvfmadd\d*p([sd])\s.*%[yz]mm")
LONE = re.compile(r"\bvfmadd\d*s([sd])\s")
COMPILE = """
import importlib, json, sys, torch
from tensornet import kernels

torch.manual_seed(0)
found = {}
for k in (kernels.edge_convolution, kernels.edge_weights, kernels.edge_harmonics,
          kernels.edge_slopes, kernels.edge_curvatures):
    k(*k.inputs("isolated nodes", getattr(torch, sys.argv[1]), 0))
for place in sys.argv[2:]:
    module, name = place.split(":")
    function = getattr(importlib.import_module("tensornet.kernels.convolution." + module), name)
    found[place] = "\\n".join(function.inspect_asm().values())
print(json.dumps(found))
"""


def machine() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""


def packed(assembly: str, letter: str) -> int:
    return sum(m[1] == letter for m in PACKED.finditer(assembly))


def test_what_is_counted() -> None:
    """A scalar loop has none, whichever way it is written."""
    scalar = "\tvfmadd231ss\t(%rdi), %xmm1, %xmm0\n\tvmulps\t%zmm1, %zmm2, %zmm3\n"
    assert packed(scalar, "s") == 0
    assert len(LONE.findall(scalar)) == 1
    assert packed("\tvfmadd231ps\t(%rdi){1to16}, %zmm1, %zmm0\n" + scalar, "s") == 1
    assert packed("\tvfmadd231pd\t(%rdi), %ymm1, %ymm0\n" + scalar, "s") == 0


@pytest.mark.parametrize(
    ("dtype", "letter"), [("float32", "s"), pytest.param("float64", "d", marks=pytest.mark.slow)]
)
def test_hot_functions_multiply_and_add_vectors(dtype: str, letter: str, tmp_path: Path) -> None:
    if not re.search(r"^flags.*\bfma\b", machine(), re.MULTILINE):
        pytest.skip("no multiply-add of vectors on this machine")
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}  # what is cached has no assembly
    run = subprocess.run(
        [sys.executable, "-c", COMPILE, dtype, *FUNCTIONS],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    found = json.loads(run.stdout)
    least = {"cpu_gradients:_slopes": 50, "cpu_gradients:_curvatures": 100}
    for name in FUNCTIONS:
        count = packed(found[name], letter)
        assert count >= least.get(name, 40), f"{name}: {count} packed multiply-adds"
        lone = len(LONE.findall(found[name]))
        assert lone * 10 <= count, f"{name}: {lone} multiply-adds of single numbers"
