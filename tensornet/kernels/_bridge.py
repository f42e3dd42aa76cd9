"""Between torch and Numba: views without copies, compilation, threads, streams, the simulator.

Only this file knows of both; Numba is imported where it is needed, not before.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

LINE = 64  # bytes of a line of the cache, and of a vector of numbers
log = logging.getLogger(__name__)
_pools: dict[int, ThreadPoolExecutor] = {}
os.register_at_fork(after_in_child=_pools.clear)  # threads do not survive a fork


def simulated() -> bool:
    """Whether Numba runs CUDA kernels in its simulator, on CPU tensors."""
    return os.environ.get("NUMBA_ENABLE_CUDASIM", "0") == "1"


@cache
def devices() -> frozenset[str]:
    """Device types of tensors that CUDA kernels can take here."""
    if simulated():
        return frozenset({"cpu"})
    if not torch.cuda.is_available():
        return frozenset()
    from numba import cuda

    return frozenset({"cuda"}) if cuda.is_available() else frozenset()


def arrays(*tensors: Tensor) -> list[np.ndarray[Any, Any]]:
    """The same memory, as NumPy arrays."""
    return [t.detach().numpy() if t.requires_grad else t.numpy() for t in tensors]


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    """An array that begins with a line of the cache."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    made: np.ndarray[Any, Any] = memory[start : start + size].view(dtype).reshape(shape)
    return made


def padded(*tensors: Tensor) -> list[Tensor]:
    """Tensors of one width, their last axis filled with zeros to whole vectors."""
    more = -tensors[0].shape[-1] % (LINE // tensors[0].itemsize)
    return [torch.nn.functional.pad(t, (0, more)) if more else t for t in tensors]


def jit(function: Callable[..., Any]) -> Any:
    """Compile for the CPU at the first call, without the interpreter's lock, kept on disk.

    Sums may be contracted to fused multiply-adds, nothing else is reordered.
    """
    from numba import njit

    _announce()
    options = {"nogil": True, "fastmath": {"contract", "nsz"}, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # no place on disk can be written
        return njit(**options)(function)


@cache
def _announce() -> None:
    """Say it, once in a process, when something has to be compiled: that takes seconds."""
    from numba.core import event

    class Compilation(event.Listener):  # type: ignore[misc]  # Numba has no types
        said = False

        def on_start(self, event: Any) -> None:
            function = event.data["dispatcher"].py_func
            if not self.said and function.__module__.startswith(__package__):
                self.said = True
                log.info("compiling kernels for this machine (some seconds; kept on disk)")

        def on_end(self, event: Any) -> None:
            pass

    event.register("numba:compile", Compilation())


def spread(run: Callable[[int, int], Any], n: int, grain: int) -> list[Any]:
    """Call ``run(start, stop)`` on parts of ``range(n)``, in as many threads as torch uses.

    Args:
        run: Releases the interpreter's lock.
        n: Number of items.
        grain: Smallest number of items worth a thread; parts start at its multiples.

    Returns:
        What the calls returned, in order.
    """
    threads = min(torch.get_num_threads(), n // grain)
    if threads <= 1:
        return [run(0, n)]
    if threads not in _pools:
        _pools[threads] = ThreadPoolExecutor(threads, "tensornet-kernel")
    step = -(-n // (threads * grain)) * grain
    parts = [
        _pools[threads].submit(run, start, min(start + step, n)) for start in range(0, n, step)
    ]
    return [part.result() for part in parts]


@cache
def _compiled(make: Callable[[Any], Any], dtype: torch.dtype) -> Any:
    import numba
    from numba import cuda

    return cuda.jit(make(numba.float32 if dtype == torch.float32 else numba.float64))


def launch(make: Callable[[Any], Any], size: int, *args: Tensor | int) -> None:
    """Start a CUDA kernel over `size` items on torch's current stream.

    Args:
        make: Gives the kernel for a type of numbers, that of the first tensor. The kernel loops
            over its items in strides of the grid, so that any grid is right. It calls no function
            of its own: Numba compiles those only beside a driver, and tests make PTX without one.
        size: Number of items, at least one.
        args: Of the kernel; tensors become flat arrays.
    """
    tensors = [a for a in args if isinstance(a, Tensor)]
    kernel = _compiled(make, tensors[0].dtype)
    if simulated():
        flat = [a.detach().view(-1).numpy() if isinstance(a, Tensor) else a for a in args]
        kernel[1, 4](*flat)
        return
    from numba import cuda

    with torch.cuda.device(tensors[0].device):
        stream = cuda.external_stream(torch.cuda.current_stream().cuda_stream)
        flat = [
            cuda.as_cuda_array(a.detach().view(-1), sync=False) if isinstance(a, Tensor) else a
            for a in args
        ]
        kernel[min(-(-size // 256), 65535), 256, stream](*flat)
