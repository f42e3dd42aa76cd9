"""What tests beside e3nn share."""

from collections.abc import Iterator

import e3nn
import pytest


@pytest.fixture
def interpreted() -> Iterator[None]:
    """e3nn without TorchScript, which takes a second per product."""
    before = e3nn.get_optimization_defaults()
    e3nn.set_optimization_defaults(jit_mode="eager")
    yield
    e3nn.set_optimization_defaults(**before)
