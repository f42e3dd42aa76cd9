"""Every kernel, every offer: agrees with its definition, and so do its derivatives."""

import zlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from tensornet import kernels
from tensornet.testing import TOLERANCE

DTYPES = [torch.float64, torch.float32]
OFFERS = [
    pytest.param(k, name, id=f"{k.name}-{name}") for k in kernels.kernels() for name in k.offers
]
GRID = [
    pytest.param(k, name, case, dtype, id=f"{k.name}-{name}-{case}-{str(dtype)[6:]}")
    for k in kernels.kernels()
    for name in k.offers
    for case in k.cases
    for dtype in DTYPES
]
SMALL = 90  # numbers in the inputs of a case whose derivatives are checked
TINY = 50  # the same in the simulator
LARGE = 2000  # numbers in the inputs of a case that the simulator still runs
CASES = {k.name: list(k.cases) for k in kernels.kernels()}


@pytest.fixture
def forced(request: pytest.FixtureRequest) -> Iterator[None]:
    kernel, name = request.getfixturevalue("kernel"), request.getfixturevalue("offer")
    obstacle = kernel.offers[name].obstacle("cpu", torch.float64)
    if obstacle:
        pytest.skip(f"{name}: {obstacle}")
    with kernels.use(name):
        assert kernel.choose("cpu", torch.float64) == name
        yield


def size(kernel: kernels.Kernel[Any, Any], case: str) -> int:
    inputs = kernel.inputs(case, torch.float64, 0)
    return sum(x.numel() for x in inputs if isinstance(x, Tensor))


def differentiable(kernel: kernels.Kernel[Any, Any], offer: str) -> list[Any]:
    """Inputs of the largest case that is still small, those that can requiring gradients."""
    most = TINY if offer == "numba_cuda" else SMALL
    case = max((c for c in kernel.cases if size(kernel, c) <= most), key=lambda c: size(kernel, c))
    inputs = kernel.inputs(case, torch.float64, zlib.crc32(case.encode()))
    return [x.requires_grad_() if _real(x) else x for x in inputs]


def _real(x: Any) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point()


def several(x: Any) -> tuple[Tensor, ...]:
    return x if isinstance(x, tuple) else (x,)


def same(x: Tensor, want: Tensor) -> None:
    assert x.shape == want.shape
    if x.numel():
        error = ((x.double() - want).abs().max() / want.abs().max().clamp_min(1e-300)).item()
        assert error <= TOLERANCE[x.dtype], f"largest error {error}"


def inputs_of(kernel: kernels.Kernel[Any, Any], case: str, dtype: torch.dtype) -> tuple[Any, ...]:
    return kernel.inputs(case, dtype, zlib.crc32(case.encode()))


def definition(kernel: kernels.Kernel[Any, Any], inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
    return several(kernel.reference(*(x.double() if _real(x) else x for x in inputs)))


@pytest.mark.parametrize("name", sorted(CASES))
def test_has_cases(name: str) -> None:
    assert len(CASES[name]) >= 3


@pytest.mark.parametrize(("kernel", "offer", "case", "dtype"), GRID)
def test_agrees_with_the_definition(
    kernel: kernels.Kernel[Any, Any], offer: str, case: str, dtype: torch.dtype, forced: None
) -> None:
    if offer == "numba_cuda" and size(kernel, case) > LARGE:
        pytest.skip(f"numba_cuda: `{case}` is too large for the simulator")
    inputs = inputs_of(kernel, case, dtype)
    before = [x.clone() if isinstance(x, Tensor) else x for x in inputs]
    for result, want in zip(several(kernel(*inputs)), definition(kernel, inputs), strict=True):
        assert result.dtype == dtype
        assert result.is_contiguous()
        same(result, want)
    for x, old in zip(inputs, before, strict=True):
        assert not isinstance(x, Tensor) or torch.equal(x, old)


@pytest.mark.parametrize(("kernel", "offer"), OFFERS)
def test_takes_tensors_with_gaps(
    kernel: kernels.Kernel[Any, Any], offer: str, forced: None
) -> None:
    inputs = differentiable(kernel, offer)

    def spread_out(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        gap = torch.nan if _real(x) else -7
        wide = torch.full((*x.shape, 2), gap, dtype=x.dtype)
        wide[..., 0] = x.detach()
        return wide[..., 0]

    loose = [spread_out(x) for x in inputs]
    assert all(not x.is_contiguous() for x in loose if isinstance(x, Tensor))
    results = zip(several(kernel(*loose)), several(kernel(*inputs)), strict=True)
    assert all(torch.equal(x, want) for x, want in results)


@pytest.mark.parametrize(("kernel", "offer"), OFFERS)
def test_has_the_derivatives_of_the_definition(
    kernel: kernels.Kernel[Any, Any], offer: str, forced: None
) -> None:
    inputs = differentiable(kernel, offer)
    assert torch.autograd.gradcheck(kernel, inputs, rtol=1e-6, atol=1e-8)
    if offer != "numba_cuda":
        assert torch.autograd.gradgradcheck(kernel, inputs, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kernel", [pytest.param(k, id=k.name) for k in kernels.kernels()])
def test_is_a_sound_operator_that_compiles_whole(kernel: kernels.Kernel[Any, Any]) -> None:
    inputs = differentiable(kernel, "reference")
    torch.library.opcheck(kernel.operator, tuple(inputs))

    def twice(*args: Any) -> list[Tensor]:
        return [x * 2 for x in several(kernel(*args))]

    torch.compiler.reset()  # one function for all kernels would reach the limit of recompilations
    compiled = torch.compile(twice, fullgraph=True, backend="aot_eager")
    leaves = [x for x in inputs if _real(x)]
    for name in ("reference", "numba_cpu"):
        with kernels.use(name):
            results, wanted = compiled(*inputs), twice(*inputs)
            sums = [
                torch.stack([x.sin().sum() for x in found]).sum() for found in (results, wanted)
            ]
            slopes = [torch.autograd.grad(total, leaves) for total in sums]
            pairs = zip([*results, *slopes[0]], [*wanted, *slopes[1]], strict=True)
            for x, want in pairs:
                same(x, want)


@pytest.mark.parametrize("kernel", [pytest.param(k, id=k.name) for k in kernels.kernels()])
def test_refuses_what_does_not_fit(kernel: kernels.Kernel[Any, Any]) -> None:
    inputs = list(differentiable(kernel, "reference"))
    for k, x in enumerate(inputs):
        if _real(x):
            wrong = [*inputs[:k], x.float(), *inputs[k + 1 :]]
            if k:
                with pytest.raises(TypeError, match=r"must have the dtype torch.float64 of"):
                    kernel(*wrong)
            with pytest.raises(ValueError, match=r"must have shape"):
                kernel(*inputs[:k], x[..., None], *inputs[k + 1 :])
        elif isinstance(x, Tensor):
            with pytest.raises(TypeError, match=r"must hold torch.int64. Got torch.float64"):
                kernel(*inputs[:k], x.double(), *inputs[k + 1 :])
        else:
            with pytest.raises(ValueError, match=r"must be at least 0. Got -1"):
                kernel(*inputs[:k], -1, *inputs[k + 1 :])
    with pytest.raises(TypeError, match=r"must hold floating or complex numbers. Got torch.int64"):
        kernel(*(x.long() if _real(x) else x for x in inputs))


@pytest.mark.parametrize("kernel", [pytest.param(k, id=k.name) for k in kernels.kernels()])
def test_a_kernel_wrong_by_a_thousandth_is_caught(kernel: kernels.Kernel[Any, Any]) -> None:
    inputs = differentiable(kernel, "reference")
    for x, want in zip(several(kernel(*inputs)), definition(kernel, tuple(inputs)), strict=True):
        with pytest.raises(AssertionError, match="largest error"):
            same(x * 1.001, want)
