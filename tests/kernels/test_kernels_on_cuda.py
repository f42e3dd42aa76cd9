"""The CUDA kernels without a GPU: run in Numba's simulator, and compile to PTX."""

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tensornet import kernels

COMPILER = "nvidia-cuda-nvcc-cu12"  # a wheel that holds libnvvm and libdevice
COMPILE = """
import importlib, json
from numba import cuda, types
from tensornet import kernels

offers = [o for k in kernels.kernels() for o in k.offers.values() if o.device == "cuda"]
found = []
for module in sorted({o.at.split(":")[0] for o in offers}):
    for make, letters in importlib.import_module(module).KERNELS.items():
        for real in (types.float32, types.float64):
            kinds = {
                "p": types.CPointer(real),
                "P": real[::1],
                "q": types.CPointer(types.int64),
                "i": types.int64,
            }
            signature = types.void(*(kinds[letter] for letter in letters))
            for cc in ((8, 0), (9, 0)):
                ptx, _ = cuda.compile_ptx(make(real), signature, cc=cc)
                found.append((f"{module}.{make.__name__}", str(real), cc, ptx))
print(json.dumps(found))
"""
ROOT = Path(__file__).parents[2]


def test_the_simulator_agrees_with_every_definition() -> None:
    contract = Path(__file__).with_name("test_kernel_contract.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "numba_cuda"]
    run = subprocess.run(
        [*command, str(contract)],
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "PYTEST_ADDOPTS": ""},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:]
    assert "no GPU" not in run.stdout
    offered = sum("numba_cuda" in k.offers for k in kernels.kernels())
    passed = int(run.stdout.rsplit(" passed", 1)[0].split()[-1])
    assert passed >= 8 * offered, run.stdout[-3000:]


def test_compiles_for_the_a100_and_the_h100() -> None:
    try:
        home = importlib.metadata.distribution(COMPILER).locate_file("nvidia/cuda_nvcc")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"PTX: {COMPILER} is not installed")
    environment = {**os.environ, "CUDA_HOME": str(home), "NUMBA_ENABLE_CUDASIM": "0"}
    run = subprocess.run(
        [sys.executable, "-c", COMPILE],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    found = json.loads(run.stdout)
    offered = [k.offers["numba_cuda"] for k in kernels.kernels() if "numba_cuda" in k.offers]
    modules = {offer.at.partition(":")[0] for offer in offered}
    made = {name: name.rpartition(".")[0] for name, *_ in found}
    assert set(made.values()) == modules
    assert len(found) == 4 * len(made)  # two dtypes, two architectures
    # Of the stencils faces and sides share a kernel, and so do embed and restrict.
    assert len(made) >= len(offered) - 2
    assert sum(module.endswith("stencil.cuda") for module in made.values()) == 3
    for name, real, (major, minor), ptx in found:
        where = f"{name} for {real}"
        assert f".target sm_{major}{minor}" in ptx, where
        assert ".visible .entry" in ptx, where
        assert ".local" not in ptx, f"{where} keeps an array in slow memory"
        assert (".f64" in ptx) == (real == "float64"), f"{where} computes in another precision"
