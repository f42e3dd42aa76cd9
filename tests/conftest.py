"""Every test: one thread, float64 by default, and a seed of its own, taken from its name."""

import zlib
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def house_rules(request: pytest.FixtureRequest) -> Iterator[None]:
    torch.set_num_threads(1)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(zlib.crc32(request.node.nodeid.encode()))
    yield
    torch.set_default_dtype(before)
