"""Products whose instructions follow from irreps, beside e3nn's."""

from typing import Any

import pytest
import torch
from e3nn import o3
from torch import Tensor

from tensornet.interop import e3nn as ours

pytestmark = pytest.mark.usefixtures("interpreted")


def agree(name: str, *args: Any, **kwargs: Any) -> Any:
    """Same irreps, paths, factors, weights and results; gives ours."""
    theirs, mine = getattr(o3, name)(*args, **kwargs), getattr(ours, name)(*args, **kwargs)
    mine.load_state_dict(theirs.state_dict())
    assert repr(mine) == repr(theirs)
    for side in ("irreps_in1", "irreps_in2", "irreps_out"):
        assert getattr(mine, side) == getattr(theirs, side)
    for a, b in zip(theirs.instructions, mine.instructions, strict=True):
        assert tuple(a)[:5] == tuple(b)[:5]
        assert a.path_weight == pytest.approx(b.path_weight, rel=1e-14)
    inputs = [torch.randn(4, theirs.irreps_in1.dim), torch.randn(4, theirs.irreps_in2.dim)]
    inputs = inputs[:1] if name == "TensorSquare" else inputs
    expected: Tensor = theirs(*inputs).detach()
    assert float((mine(*inputs).detach() - expected).abs().max()) < 1e-13 * float(
        expected.abs().max()
    )
    return mine


NORMALIZATIONS = ("component", "norm", "none", None)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_fully_connected(normalization: str | None) -> None:
    args = "4x0e+3x1o+2x2e", "2x0e+5x1o", "3x0e+2x1o+4x1e"
    agree("FullyConnectedTensorProduct", *args, normalization)
    agree("FullyConnectedTensorProduct", *args, normalization, "path", shared_weights=True)
    agree("FullyConnectedTensorProduct", "32x0e+16x1o", "0e", "8x0e+8x1o", normalization)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_elementwise(normalization: str | None) -> None:
    kwargs = {"irrep_normalization": normalization}
    agree("ElementwiseTensorProduct", "5x1o+5x1e+2x0e", "3x1e+9x2e", **kwargs)
    agree("ElementwiseTensorProduct", "5x1o+5x1e", "10x1e", ["0e", o3.Irrep("0o")], **kwargs)
    agree("ElementwiseTensorProduct", "2x1o+3x1o", "5x0e", **kwargs)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_full(normalization: str | None) -> None:
    kwargs = {"irrep_normalization": normalization}
    agree("FullTensorProduct", "4x0e+3x1o+2x2e", "2x0e+5x1o", **kwargs)
    agree("FullTensorProduct", "4x0e+3x1o+2x2e", "2x0e+5x1o", ["1o", "2o"], **kwargs)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_square(normalization: str | None) -> None:
    kwargs = {"irrep_normalization": normalization}
    agree("TensorSquare", "4x0e+3x1o+2x2e+1e", **kwargs)
    agree("TensorSquare", "4x0e+3x1o+2x2e", filter_ir_out=["0e", "1o"], **kwargs)
    square = agree("TensorSquare", "4x0e+3x1o+2x2e+1e", "5x0e+2x1o+3x2e", **kwargs)
    assert isinstance(square.weight, torch.nn.Parameter)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"irreps_in2=.* as many irreps as `irreps_in1`, 2"):
        ours.ElementwiseTensorProduct("2x1o", "3x1o")
    with pytest.raises(ValueError, match=r"FullTensorProduct\(filter_ir_out=.* Got \['z'\]"):
        ours.FullTensorProduct("1o", "1o", ["z"])
    with pytest.raises(ValueError, match=r"filter_ir_out=.* none where `irreps_out` is given"):
        ours.TensorSquare("1o", "0e", filter_ir_out=["0e"])
    with pytest.raises(AssertionError, match=r"irrep_normalization=.* Got 'element'"):
        ours.TensorSquare("1o", irrep_normalization="element")
    with pytest.raises(TypeError, match="unexpected keyword"):
        ours.FullTensorProduct("1o", "1o", mode="uvw")
