"""Products in CP format and aligned ones as models use them: threads, widths, wide factors."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tensornet import kernels


@pytest.mark.parametrize("channels", [1, 3, 16, 33, 64, 130])
@pytest.mark.parametrize("rank", [1, 59, 61, 200])
def test_any_number_of_channels_and_terms(channels: int, rank: int) -> None:
    a, b = torch.randn(6, 5, channels), torch.randn(6, 7, channels)
    u, v, w = torch.randn(rank, 5), torch.randn(rank, 7), torch.randn(rank, 3)
    h = torch.randn(6, rank)
    calls: list[tuple[Tensor, Tensor]] = [
        (kernels.cp_product(a, b, u, v, w), w.mT @ ((u @ a) * (v @ b))),
        (kernels.cp_scaled(a, h, u, w), w.mT @ ((u @ a) * h[..., None])),
        (kernels.cp_traces(a, b, u, v), ((u @ a) * (v @ b)).sum(-1)),
    ]
    for got, want in calls:
        assert (got - want).abs().max() < 1e-12 * want.abs().max()


def test_threads_change_nothing() -> None:
    n, c = 4000, 20
    a, b, r = torch.randn(n, 4, c), torch.randn(n, 4, c), torch.randn(n, 3)
    u, v, w, h = (torch.randn(8, 4) for _ in range(4))
    h, weight, core = torch.randn(n, 8), torch.randn(n, c), torch.randn(6)
    calls: list[Callable[[], Tensor]] = [
        lambda: kernels.cp_product(a, b, u, v, w),
        lambda: kernels.cp_scaled(a, h, u, w),
        lambda: kernels.cp_traces(a, b, u, v),
        lambda: kernels.aligned_product(a, r, weight, core),
        lambda: torch.cat([t.flatten() for t in kernels.aligned_slopes(a, b, r, weight, core)]),
    ]
    alone = [call() for call in calls]
    torch.set_num_threads(3)
    together = [call() for call in calls]
    assert all(torch.equal(x, y) for x, y in zip(alone, together, strict=True))


def test_channels_of_a_rest_do_not_meet_those_of_the_block_before() -> None:
    """Sums over channels go over whole vectors; what the last block left there must not count."""
    x, g, r = torch.randn(3, 16, 83), torch.randn(3, 16, 83), torch.randn(3, 3)
    w, core = torch.randn(3, 83), torch.randn(44)
    x[:, :, :40] *= 1e6
    got = kernels.aligned_slopes(x, g, r, w, core)
    want = kernels.aligned_slopes.reference(x, g, r, w, core)
    for one, two in zip(got, want, strict=True):
        assert (one - two).abs().max() < 1e-12 * two.abs().max()
    x[0, :, :70] = torch.inf  # and an item that is not finite stays alone
    got = kernels.aligned_slopes(x, g, r, w, core)
    for one, two in zip(got, want, strict=True):
        assert (one[1:] - two[1:]).abs().max() < 1e-12 * two.abs().max()
