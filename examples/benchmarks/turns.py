"""Candidates that take turns: what is called, how long that takes, and their medians compared."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def call(layer: nn.Module, x: Tensor, g: Tensor, passes: str) -> Callable[[], Any]:
    """Give a call of a layer: ``"inference"``, or ``"both"``, with all derivatives along g."""
    if passes == "inference":

        def inference() -> Tensor:
            with torch.no_grad():
                return layer(x)

        return inference
    parameters = [x, *layer.parameters()]
    return lambda: torch.autograd.grad(layer(x), parameters, g, allow_unused=True)


def timed(run: Callable[[], Any], calls: int) -> float:
    """CPU time of a call, as the mean over some."""
    begin = time.process_time()
    for _ in range(calls):
        run()
    return (time.process_time() - begin) / calls


def compared(times: Mapping[str, Sequence[float]], against: str) -> dict[str, dict[str, Any]]:
    """Medians, quartiles, and ratios to one candidate: above one is slower than it."""
    reference, fastest = statistics.median(times[against]), min(times[against])
    found = {}
    for name, values in times.items():
        low, median, high = statistics.quantiles(values, n=4)
        found[name] = {
            "candidate": name, "cpu_seconds": median, "quartiles": [low, high],
            "ratio": median / reference, "against": against,
            "fastest_ratio": min(values) / fastest,
        }  # fmt: skip
    return found
