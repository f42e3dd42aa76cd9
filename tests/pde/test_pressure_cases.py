"""Problems for tests of solvers are what they say."""

import pytest
import torch
from torch.testing import assert_close

from tensornet.testing.pressure import around_a_sphere, inclusions, pool, small_problem, white_noise


def test_volumes() -> None:
    ball = 4 * torch.pi / 3 * 0.15**3
    assert float((~around_a_sphere(40)).double().mean()) == pytest.approx(ball, rel=0.02)
    assert float((inclusions(40, 7.0) == 7.0).double().mean()) == pytest.approx(0.14, rel=0.02)
    domain = pool(24)
    assert domain.mask is not None
    assert 0.45 < float(domain.mask.double().mean()) < 0.6
    counts = (~around_a_sphere(40)).sum(), (inclusions(40, 7.0) == 7.0).sum(), domain.mask.sum()
    assert [int(n) for n in counts] == [912, 8940, 7395]  # so that numbers of benchmarks compare


def test_right_sides_are_the_same_every_time() -> None:
    assert_close(small_problem("pool").rhs, small_problem("pool").rhs, rtol=0, atol=0)
    assert abs(float(white_noise(10_000).std()) - 1) < 0.03


def test_unknown_case() -> None:
    with pytest.raises(ValueError, match="small_problem"):
        small_problem("dome")
