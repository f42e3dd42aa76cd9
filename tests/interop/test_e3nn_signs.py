"""Signs of couplings differ between e3nn 0.4 and 0.6; ours are those a model was made with."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from e3nn import o3
from torch import Tensor

from tensornet.interop.e3nn import TensorProduct, TensorProductConv, coupling

PATHS = [(0, 0, 0, "uvu", True), (0, 0, 1, "uvu", True)]
ARGS = "2x1o", "2o", "2x1e+2x2e", PATHS  # the second is of odd l1 + l2 + l3


@pytest.fixture
def other_signs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An e3nn with other signs where the sum of degrees is odd."""
    usual = o3.wigner_3j

    def changed(one: int, two: int, three: int, dtype: Any = None) -> Tensor:
        if max(one, two, three) > 11:
            raise NotImplementedError
        block: Tensor = usual(one, two, three, dtype=dtype)
        odd = (one + two + three) % 2 == 1
        return -block if odd else block

    monkeypatch.setattr(o3, "wigner_3j", changed)
    coupling.terms.cache_clear()
    yield
    coupling.terms.cache_clear()


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(4, 6), torch.randn(4, 5), torch.randn(4, 4)


def turned(out: Tensor) -> Tensor:
    """The odd path with the other sign."""
    return torch.cat([out[:, :6], -out[:, 6:]], 1)


def test_signs_are_those_of_the_e3nn_that_is_there(other_signs: None) -> None:
    theirs = o3.TensorProduct(*ARGS, shared_weights=False)  # made with functions of its own
    ours = TensorProduct(*ARGS, shared_weights=False)
    given = inputs()
    assert torch.allclose(ours(*given), turned(theirs(*given)), rtol=1e-12, atol=1e-12)
    assert len(coupling.terms(12, 1, 12)[0]) > 0


def test_signs_that_were_stored_stay() -> None:
    theirs = o3.TensorProduct(*ARGS, shared_weights=False)
    given = inputs()
    usual = theirs(*given)
    state = theirs.state_dict()
    key = next(key for key in state if key.endswith("_w3j_1_2_2"))
    state = {**state, key: -state[key]}
    fresh = TensorProduct(*ARGS, shared_weights=False)
    assert torch.allclose(fresh(*given), usual, rtol=1e-12, atol=1e-12)
    theirs.load_state_dict(state)
    expected = theirs(*given)
    assert torch.allclose(expected, turned(usual), rtol=1e-12, atol=1e-12)
    fresh.load_state_dict(state)
    copies = [fresh, TensorProduct.from_product(theirs), TensorProduct.from_product(fresh)]
    for made in copies:
        assert made.flipped == {(1, 2, 2)}
        assert torch.allclose(made(*given), expected, rtol=1e-12, atol=1e-12)
    conv = TensorProductConv.from_product(theirs)
    out = conv(*given, torch.arange(4).expand(2, 4))
    assert torch.allclose(out, expected, rtol=1e-12, atol=1e-12)
