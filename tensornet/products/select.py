"""Which product is fastest here: all that compute the same map are timed once, on this machine."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from tensornet import __version__, _check
from tensornet._files import write_atomically
from tensornet.products.aligned import AlignedProduct
from tensornet.products.base import PATH_WEIGHTS, Product
from tensornet.products.clebsch_gordan import ClebschGordanProduct
from tensornet.products.cp import CPProduct
from tensornet.products.edge import EdgeProduct
from tensornet.products.gaunt import METHODS, GauntProduct
from tensornet.products.matrix import MatrixProduct
from tensornet.so3 import dim, spherical_harmonics

Measure = Callable[[Mapping[str, Callable[[], object]]], Mapping[str, float]]
KINDS = ("clebsch_gordan", "gaunt", "matrix")
_CP_L_MAX = 3  # above, exact ranks are too high for the CP format to be the fastest
_TOO_DEAR = 40  # times the fewest multiplications: not worth a measurement
_NUMBERS = 2**24  # most numbers of an input that is timed
_FORMAT = 2  # of the files with the answers


@dataclass(frozen=True)
class Selection:
    """The fastest product, and why.

    Args:
        product: What to use.
        name: What it is called in `seconds`.
        seconds: Seconds of a call of each candidate.
        reason: One sentence.
        cached: Whether the times come from an earlier measurement.
    """

    product: Product
    name: str
    seconds: Mapping[str, float]
    reason: str
    cached: bool

    def __str__(self) -> str:
        """Tell the reason and all times, fastest first."""
        width = max(len(name) for name in self.seconds)
        ranked = sorted(self.seconds.items(), key=lambda item: (item[1], item[0]))
        lines = [f"  {name:{width}} {1000 * seconds:10.3f} ms" for name, seconds in ranked]
        return "\n".join([self.reason, *lines])


def select(
    kind: str,
    l_max: int,
    n: int,
    channels: int,
    device: str | torch.device = "cpu",
    *,
    channels2: int = 1,
    dtype: torch.dtype | None = None,
    path_weights: str = "none",
    odd_paths: bool | None = None,
    harmonics: bool = False,
    backward: bool = True,
    refresh: bool = False,
    cache: str | os.PathLike[str] | None = None,
    measure: Measure | None = None,
) -> Selection:
    """Give the product that is fastest for a size, among all that compute the same map exactly.

    The first call times them, a few seconds; the answer is kept on disk, by machine, versions,
    threads, dtype and size, and the same call gives the same answer from then on. An input
    of more than 2^24 numbers is timed with fewer pairs, as the reason then says.

    Args:
        kind: ``"clebsch_gordan"``, ``"gaunt"`` or ``"matrix"``, as in `coupling`.
        l_max: Highest degree.
        n: Number of pairs in a call.
        channels: Channels of the first input.
        device: Where it is to run.
        channels2: Channels of the second input, one or `channels`.
        dtype: Of the features. By default torch's default.
        path_weights: As in `Product`; only products that take them are candidates.
        odd_paths: As in `Product`. By default not for ``"gaunt"``, and else yes.
        harmonics: Whether the second input is always the harmonics of a direction, in one channel:
            then `AlignedProduct` is a candidate too.
        backward: Whether a call is timed with the gradients to all inputs.
        refresh: Whether to measure again what is in the cache.
        cache: Folder of the answers. By default that of the variable ``TENSORNET_CACHE``, or the
            user's cache folder.
        measure: Gives the seconds of each of several calls, instead of the clock.

    Returns:
        The product, on the device and in the dtype, with the times and the reason; `str` of it
        shows both.

    Raises:
        TypeError: If a size is no whole number.
        ValueError: If an argument is out of range, or no product has such weights.

    Examples:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> clock = lambda calls: {name: len(name) / 1000 for name in calls}
        >>> found = select("gaunt", 2, 100, 8, cache=folder, measure=clock)
        >>> found.name
        'GauntProduct, grid'
        >>> select("gaunt", 2, 100, 8, cache=folder, measure=clock).cached
        True
    """
    _check.one_of("select", KINDS, kind=kind)
    _check.at_least("select", 0, l_max=l_max)
    _check.at_least("select", 1, n=n, channels=channels, channels2=channels2)
    _check.one_of("select", PATH_WEIGHTS, path_weights=path_weights)
    if channels2 not in (1, channels):
        raise ValueError(f"`select(channels2=...)` must be 1 or {channels}. Got {channels2}.")
    if harmonics and channels2 != 1:
        raise ValueError(
            f"`select(harmonics=...)` must be false for a second input of many channels. "
            f"Got {harmonics!r} and {channels2} channels."
        )
    odd = kind != "gaunt" if odd_paths is None else odd_paths
    dtype = torch.get_default_dtype() if dtype is None else dtype
    device = torch.device(device)
    makers = _candidates(kind, l_max, channels2, path_weights, odd, harmonics)
    task = [
        *(kind, l_max, n, channels, channels2),
        *(path_weights, odd, harmonics, backward, str(dtype)),
    ]
    machine = _machine(device)
    key = {"format": _FORMAT, **machine, "task": task, "candidates": sorted(makers)}
    path = _folder(cache) / f"select-{hashlib.sha256(_text(key).encode()).hexdigest()[:24]}.json"
    seconds = None if refresh else _read(path, key)
    cached = seconds is not None
    timed = min(n, max(1, _NUMBERS // (dim(l_max) * channels)))
    if seconds is None:
        products = {name: make().to(device, dtype) for name, make in makers.items()}
        calls = _calls(products, timed, channels, channels2, backward)
        seconds = dict((measure or _clock(device))(calls))
        _write(path, {"key": key, "seconds": seconds})
    best = min(seconds, key=lambda name: (seconds[name], name))
    what = "value and gradients" if backward else "the value"
    reason = _reason(best, seconds, f"{what} of {timed} pairs, {channels} and {channels2} channels")
    return Selection(makers[best]().to(device, dtype), best, seconds, reason, cached)


# --- candidates -----------------------------------------------------------------------------


def _candidates(
    kind: str, l_max: int, channels2: int, path_weights: str, odd_paths: bool, harmonics: bool
) -> dict[str, Callable[[], Product]]:
    """All exact products that may be fastest, not made yet."""
    if path_weights == "path" and kind != "clebsch_gordan":
        raise ValueError(
            f"`select(path_weights=...)` must be none, shared or separable for {kind!r}. "
            "Got 'path'. (Take `PathRankProduct`, or kind \"clebsch_gordan\".)"
        )
    weights: dict[str, Any] = {"path_weights": path_weights, "odd_paths": odd_paths}
    found: dict[str, Callable[[], Product]] = {}
    if kind == "matrix":
        found["MatrixProduct"] = lambda: MatrixProduct(l_max, **weights)
    elif kind == "clebsch_gordan":
        found["ClebschGordanProduct"] = lambda: ClebschGordanProduct(l_max, **weights)
        if channels2 == 1:
            found["EdgeProduct"] = lambda: EdgeProduct(l_max, **weights)
        if l_max <= _CP_L_MAX and path_weights != "path":
            found["CPProduct"] = lambda: CPProduct(l_max, **weights)
        if harmonics and path_weights != "path":  # it takes no path weights that differ by sample
            found["AlignedProduct"] = lambda: AlignedProduct(l_max, **weights)
    else:
        for method in METHODS[1:]:
            if (l_max <= 10 or method not in ("dense", "sparse")) and method != "fourier":
                found[f"GauntProduct, {method}"] = _gaunt(l_max, method, weights)
    return found


def _gaunt(l_max: int, method: str, weights: dict[str, Any]) -> Callable[[], Product]:
    return lambda: GauntProduct(l_max, method, **weights)


def _calls(
    products: Mapping[str, Product], n: int, channels: int, channels2: int, backward: bool
) -> dict[str, Callable[[], object]]:
    """A call of each product, less those that multiply far too often."""
    counts = {name: product.cost(n, channels).multiplies for name, product in products.items()}
    fewest = min(counts.values())
    found = {}
    for name, product in products.items():
        if counts[name] <= _TOO_DEAR * fewest:
            found[name] = _call(product, n, channels, channels2, backward)
    return found


def _call(
    product: Product, n: int, channels: int, channels2: int, backward: bool
) -> Callable[[], object]:
    buffers = [b for b in product.buffers() if b.is_floating_point()]
    like = buffers[0] if buffers else torch.empty(0, device=product.degrees.device)
    rng = torch.Generator().manual_seed(0)
    shapes: list[tuple[int, ...]] = [(n, product.dim, channels), (n, product.dim, channels2)]
    if product.path_weights != "none":
        shapes.append((n, *product.weight_shape(channels)))
    inputs = [torch.randn(shape, generator=rng, dtype=torch.float64) for shape in shapes]
    if channels2 == 1:  # some products take nothing but harmonics
        directions = torch.randn(n, 3, generator=rng, dtype=torch.float64)
        inputs[1] = spherical_harmonics(directions, product.l_max)[..., None]
    inputs = [x.to(like) for x in inputs]

    def run() -> object:
        given = [x.detach().requires_grad_(backward) for x in inputs]
        out = product(*given)
        return torch.autograd.grad(out, given, out.detach()) if backward else out

    return run


def _clock(device: torch.device) -> Measure:
    """Medians of five rounds, in which the candidates take turns."""

    def measure(calls: Mapping[str, Callable[[], object]]) -> dict[str, float]:
        for call in calls.values():  # the first call compiles
            call()
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(5):
            for name, call in calls.items():
                begin = time.perf_counter()
                call()
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                times[name].append(time.perf_counter() - begin)
        return {name: statistics.median(values) for name, values in times.items()}

    return measure


def _reason(best: str, seconds: Mapping[str, float], what: str) -> str:
    others = {name: value for name, value in seconds.items() if name != best}
    took = f"{best} takes {1000 * seconds[best]:.3g} ms for {what}"
    if not others:
        return f"{took}: there is no other."
    second = min(others, key=lambda name: (others[name], name))
    ratio = others[second] / max(seconds[best], 1e-12)
    return f"{took}: {ratio:.3g} times as fast as the next, {second}."


# --- what is kept ---------------------------------------------------------------------------


def _machine(device: torch.device) -> dict[str, object]:
    """What a time depends on, beside the task."""
    name = _processor()
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    versions = {"tensornet": __version__, "torch": torch.__version__}
    with contextlib.suppress(PackageNotFoundError):
        versions["numba"] = version("numba")
    return {
        "machine": [name, device.type, os.cpu_count(), torch.get_num_threads()],
        "versions": versions,
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def _folder(given: str | os.PathLike[str] | None) -> Path:
    """The folder of answers: given, of the environment, or the user's."""
    if given is not None:
        return Path(given)
    if os.environ.get("TENSORNET_CACHE"):
        return Path(os.environ["TENSORNET_CACHE"])
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "tensornet"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "tensornet" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tensornet"


def _text(key: Mapping[str, object]) -> str:
    return json.dumps(key, sort_keys=True)


def _read(path: Path, key: Mapping[str, object]) -> dict[str, float] | None:
    """The times of this key, none if there are none or the file is broken."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        seconds = {str(k): float(v) for k, v in found["seconds"].items()}
        sound = _text(found["key"]) == _text(key)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    known = set(seconds) <= set(key["candidates"])  # type: ignore[call-overload]
    positive = all(math.isfinite(v) and v >= 0 for v in seconds.values())
    return seconds if sound and seconds and known and positive else None


def _write(path: Path, content: Mapping[str, object]) -> None:
    """Write whole or not at all; a folder that cannot be written is no error."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(content, indent=2, sort_keys=True).encode())
