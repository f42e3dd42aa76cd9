"""Every format behaves as its dense tensor does."""

from collections.abc import Callable

import pytest
import torch

from tensornet import formats
from tensornet.formats import CP, MPS, ChebyshevTucker, Format, TensorTrain, TTMatrix, Tucker
from tensornet.testing import assert_format_contract

SHAPE = (3, 4, 2)


def random_cp(dtype: torch.dtype, weights: bool = True) -> CP:
    factors = tuple(torch.randn(d, 2, dtype=dtype) for d in SHAPE)
    return CP(factors, torch.randn(2, dtype=dtype) if weights else None)


def random_tucker(dtype: torch.dtype) -> Tucker:
    ranks = (2, 3, 2)
    core = torch.randn(ranks, dtype=dtype)
    pairs = zip(SHAPE, ranks, strict=True)
    return Tucker(core, tuple(torch.randn(d, r, dtype=dtype) for d, r in pairs))


def random_cores(dtype: torch.dtype, *inner: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    ranks = (1, *(2 for _ in inner[1:]), 1)
    return tuple(
        torch.randn(left, *modes, right, dtype=dtype)
        for left, modes, right in zip(ranks, inner, ranks[1:], strict=False)
    )


def random_train(dtype: torch.dtype) -> TensorTrain:
    real = torch.empty(0, dtype=dtype).real.dtype
    return TensorTrain(random_cores(dtype, *((d,) for d in SHAPE)), torch.tensor(0.3, dtype=real))


def random_mps(dtype: torch.dtype) -> MPS:
    return MPS(random_cores(dtype, *((d,) for d in SHAPE)))


def random_matrix(dtype: torch.dtype) -> TTMatrix:
    return TTMatrix(random_cores(dtype, (2, 3), (3, 2), (2, 2)))


def random_function(dtype: torch.dtype) -> ChebyshevTucker:
    tucker = random_tucker(dtype)
    return ChebyshevTucker(tucker.core, tucker.factors, ((-1.0, 2.0),) * len(SHAPE))


REAL = {
    "CP": random_cp,
    "CP, no weights": lambda dtype: random_cp(dtype, weights=False),
    "Tucker": random_tucker,
    "TensorTrain": random_train,
    "TTMatrix": random_matrix,
    "MPS": random_mps,
    "ChebyshevTucker": random_function,
}
FUNCTIONS = {"ChebyshevTucker"}  # their product is that of functions, tested with them
COMPLEX = ["Tucker", "TensorTrain", "TTMatrix", "MPS"]
GAUGED = {"MPS"}  # a change of one core alone leaves the gauge


@pytest.mark.parametrize("kind", REAL)
def test_contract(kind: str) -> None:
    make: Callable[[torch.dtype], Format] = REAL[kind]
    x, y = make(torch.float64), make(torch.float64)
    assert_format_contract(x, y, hadamard=kind not in FUNCTIONS)


@pytest.mark.parametrize("kind", COMPLEX)
def test_contract_with_complex_numbers(kind: str) -> None:
    make: Callable[[torch.dtype], Format] = REAL[kind]
    x, y = make(torch.complex128), make(torch.complex128)
    assert_format_contract(x, y, gradients=False)


@pytest.mark.parametrize("kind", REAL)
def test_contract_in_single_precision(kind: str) -> None:
    make: Callable[[torch.dtype], Format] = REAL[kind]
    x, y = make(torch.float32), make(torch.float32)
    assert_format_contract(
        x, y, gradients=False, round_tolerance=1e-4, hadamard=kind not in FUNCTIONS
    )


def test_values_are_printed_in_one_line() -> None:
    x = TensorTrain((torch.ones(1, 2, 3), torch.ones(3, 4, 1)))
    assert repr(x) == "TensorTrain(shape (2, 4), ranks (1, 3, 1), 19 numbers, float64)"
    for kind, make in REAL.items():
        line = repr(make(torch.float32))
        assert line.startswith(kind.partition(",")[0])
        assert line.endswith("float32)")
        assert "\n" not in line


def test_every_format_is_tested() -> None:
    assert {name.partition(",")[0] for name in REAL} == set(Format.kinds)
    assert {type(make(torch.float64)) for make in REAL.values()} == set(Format.kinds.values())
    assert all(hasattr(formats, name) for name in Format.kinds)
