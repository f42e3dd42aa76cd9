"""Sums at receivers: order, threads, bad indices."""

import pytest
import torch

from tensornet.kernels import segment_rows, segment_sum


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("c", [1, 4, 5, 16, 37])
def test_is_the_sum_in_the_order_of_edges_for_any_threads(c: int, dtype: torch.dtype) -> None:
    x, receiver = torch.randn(9001, c, dtype=dtype), torch.randint(53, (9001,))
    receiver[receiver == 3] = 4
    want = torch.zeros(53, c, dtype=dtype)
    for row, v in zip(x, receiver.tolist(), strict=True):
        want[v] += row
    got = segment_sum(x, receiver, 53)
    assert torch.equal(got, want)
    torch.set_num_threads(3)
    assert torch.equal(segment_sum(x.repeat(1, 8), receiver, 53), want.repeat(1, 8))
    assert torch.equal(segment_rows(want.repeat(1, 8), receiver), want.repeat(1, 8)[receiver])


def test_sorted_edges_give_the_same() -> None:
    x, receiver = torch.randn(500, 7), torch.randint(11, (500,))
    order = torch.argsort(receiver, stable=True)
    assert torch.equal(segment_sum(x[order], receiver[order], 11), segment_sum(x, receiver, 11))


@pytest.mark.parametrize("bad", [-1, 5])
@pytest.mark.parametrize("c", [2, 9])
def test_a_receiver_out_of_range_is_refused(bad: int, c: int) -> None:
    receiver = torch.tensor([0, bad, 4])
    with pytest.raises(IndexError, match=r"`segment_sum\(receiver=...\)` must be from 0 to 4"):
        segment_sum(torch.ones(3, c), receiver, 5)
    with pytest.raises(IndexError, match=r"`segment_rows\(receiver=...\)` must be from 0 to 4"):
        segment_rows(torch.ones(5, c), receiver)
