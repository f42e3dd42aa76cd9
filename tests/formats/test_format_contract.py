"""Every format behaves as its dense tensor does."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

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


@pytest.mark.parametrize("kind", REAL)
def test_indices_that_make_no_sense(kind: str) -> None:
    x = REAL[kind](torch.float64)
    name, d, n = type(x).__name__, x.shape[1], x.order
    two, one = torch.tensor([0, 1]), torch.tensor([0])
    cases: list[tuple[Any, type[Exception], str]] = [
        ((0, d), IndexError, f"mode 1, size {d}. Got {d}."),
        ((0,) * (n + 1), IndexError, f"at most {n} indices, one per mode. Got {n + 1}."),
        ((..., 0, ...), IndexError, "one ellipsis at most"),
        ((torch.tensor([0, x.shape[0]]), *[two * 0] * (n - 1)), IndexError, "mode 0"),
        (0.5, TypeError, "Got float."),
        (None, TypeError, "Got NoneType."),
        (True, TypeError, "Got bool."),
        ([0, 1], TypeError, "Got list."),
        ((two, 0), TypeError, "Got int for mode 1."),
        (tuple(i.double() for i in [two] * n), TypeError, "Got Tensor for mode 0."),
        (tuple(i > 0 for i in [two] * n), TypeError, "Got booleans for mode 0."),
        ((two, *[one] * (n - 1)), ValueError, "index tensors of one shape"),
        (slice(1, 1), ValueError, "must leave entries of mode 0"),
        (slice(None, None, -1), ValueError, "must leave entries of mode 0, in their order"),
    ]
    for index, error, message in cases:
        with pytest.raises(error, match=re.escape(f"`{name}[...]` must ")) as told:
            x[index]
        assert message in str(told.value)


@pytest.mark.parametrize("kind", REAL)
def test_index_tensors_of_short_types(kind: str) -> None:
    x = REAL[kind](torch.float64)
    expected = x[tuple(d - 1 for d in x.shape)]
    for dtype in (torch.uint8, torch.int8, torch.int32):
        last = tuple(torch.tensor([[d - 1]], dtype=dtype) for d in x.shape)
        assert x[last].shape == (1, 1)
        torch.testing.assert_close(x[last][0, 0], expected)
    train = TensorTrain((torch.arange(200.0)[None, :, None],))
    assert float(train[torch.tensor([-1], dtype=torch.int8)]) == 199


@pytest.mark.parametrize("kind", sorted(REAL.keys() - FUNCTIONS))
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(kind: str, dtype: torch.dtype) -> None:
    """What needs a decomposition is computed in float32; entries that are small do not overflow."""
    x = REAL[kind](torch.float32).to(dtype)
    exact, tolerance = x.to(torch.float32), 6 * torch.finfo(dtype).eps
    assert float(x.norm()) == pytest.approx(float(exact.norm()), rel=tolerance)
    for rounded in (x.round(), (x + x).round(tolerance=0.05) * 0.5):
        assert rounded.dtype == dtype
        difference = rounded.to(torch.float32) - exact
        assert float(difference.norm() / exact.norm()) < 0.05 + tolerance
    last = tuple(d - 1 for d in x.shape)
    small = float((1e-4 * x)[last])
    assert small == pytest.approx(1e-4 * float(exact[last]), rel=0.1, abs=1e-6)


@pytest.mark.parametrize("kind", REAL)
def test_factors_of_lower_precision_are_exact(kind: str) -> None:
    x = REAL[kind](torch.float64)
    for three in (torch.tensor(3.0, dtype=torch.float32), torch.tensor(3)):
        for got, expected in ((x * three, 3 * x.to_dense()), (x / three, x.to_dense() / 3)):
            torch.testing.assert_close(got.to_dense(), expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(
    "damage", [{"settings": "[]"}, {"complex": '["core_0"]'}, {"complex": '["core_1"]'}]
)
def test_damaged_files_are_refused(damage: dict[str, str], tmp_path: Path) -> None:
    whole = {"tensornet": "format", "version": "1", "kind": "MPS", "settings": "{}"}
    parts = {"core_0": torch.ones(1, 2, 1), "log_scale": torch.zeros(())}
    path = tmp_path / "x.safetensors"
    save_file(parts, path, {**whole, "complex": "[]"})
    assert formats.load(path).shape == (2,)
    save_file(parts, path, {**whole, "complex": "[]", **damage})
    with pytest.raises(ValueError, match="must hold a whole MPS"):
        formats.load(path)


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
