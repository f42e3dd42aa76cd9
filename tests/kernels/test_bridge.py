"""What stands between torch and Numba: the allocator, memory, and what is said of compilation."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from tensornet.kernels import _bridge

CODE = """
import resource, torch
from tensornet.kernels import tune_allocator

torch.set_num_threads(1)

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(4_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

loose = faults()
assert tune_allocator()
faults()
print(loose, faults())
"""


def test_memory_that_is_kept_needs_no_new_pages() -> None:
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    loose, kept = map(int, run.stdout.split())
    assert kept < loose / 10


COMPILE = """
import logging, sys, torch

logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
from tensornet.kernels import chebyshev_rows

points = torch.zeros(3, dtype=torch.float64)
chebyshev_rows(points, torch.ones(4, 2, dtype=points.dtype))
chebyshev_rows(points.float(), torch.ones(4, 2))
"""


def test_compilation_is_said_once_and_only_if_it_happens(tmp_path: Path) -> None:
    def said() -> str:
        run = subprocess.run(
            [sys.executable, "-c", COMPILE],
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        return run.stdout

    assert said().count("compiling kernels for this machine") == 1
    assert "compiling" not in said()


def test_memory_begins_with_a_line_of_the_cache() -> None:
    for shape in ((3, 5), (0, 4), (1,)):
        x = _bridge.empty(shape, np.float32)
        assert x.shape == shape
        assert x.dtype == np.float32
        assert x.flags.c_contiguous
        assert x.ctypes.data % 64 == 0 or not x.size
