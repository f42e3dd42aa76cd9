"""Laws of the stencils beside the contract of all kernels."""

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate

from tensornet import kernels
from tensornet.kernels import embed_runs, restrict_runs, stencil_lines


@pytest.mark.parametrize("name", ["reference", "numba_cpu"])
def test_runs_stop_at_the_ends(name: str) -> None:
    first = torch.tensor([0, 4, -1, 9, 2, 3])
    start = torch.tensor([1, 3, 0, 0, -2, 0])
    length = torch.tensor([2, 5, 3, 2, 3, -1])
    x, g = torch.arange(1.0, 9.0)[None], torch.arange(1.0, 7.0)[None]
    with kernels.use(name):
        there = embed_runs(x, first, start, length, 6)
        back = restrict_runs(g, first, start, length, 8)
    assert there.tolist() == [[2, 3, 0, 0, 4, 5]]
    assert back.tolist() == [[0, 1, 2, 5, 6, 0, 0, 0]]


@pytest.mark.parametrize("name", ["reference", "numba_cpu"])
@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 3, 40), (4, 1, 17), (1, 1, 2)])
def test_rings_are_scipys(name: str, shape: tuple[int, int, int]) -> None:
    x, h = torch.randn(2, *shape), (2.0, 3.0, 5.0)
    lines = [torch.full((n,), w) for n, w in zip(shape, h, strict=True)]
    weights = np.zeros((3, 3, 3))
    weights[0, 1, 1] = weights[2, 1, 1] = -h[0]
    weights[1, 0, 1] = weights[1, 2, 1] = -h[1]
    weights[1, 1, 0] = weights[1, 1, 2] = -h[2]
    weights[1, 1, 1] = 7
    with kernels.use(name):
        found = stencil_lines(x, torch.full(shape, 7.0), *lines)
    for field, want in zip(x, found, strict=True):
        assert np.allclose(correlate(field.numpy(), weights, mode="wrap"), want, rtol=1e-13)
