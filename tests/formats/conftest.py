"""TensorLy computes with torch in these tests, and is left as it was found."""

from collections.abc import Iterator

import pytest
import tensorly


@pytest.fixture(autouse=True)
def tensorly_with_torch() -> Iterator[None]:
    before = tensorly.get_backend()
    tensorly.set_backend("pytorch")
    yield
    tensorly.set_backend(before)
