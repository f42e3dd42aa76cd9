"""Factorised linear layers: the dense matrix is the oracle, of every route and every derivative."""

import copy
import io
import itertools
import math
from typing import Any

import pytest
import torch
from torch import nn

from tensornet.formats import CP, TTMatrix, Tucker
from tensornet.layers import FactorizedLinear
from tensornet.layers.factorized_parts import balanced_shape, largest_ranks, ranks_of

SHAPES: list[tuple[str, tuple[int, ...] | None, tuple[int, ...] | None]] = [
    ("low_rank", None, None),
    ("cp", (2, 3, 4), (5, 6)),
    ("tucker", (4, 6), (5, 3, 2)),
    ("tucker", (24,), (30,)),
    ("tensor_train", (2, 3, 4), (5, 3, 2)),
    ("tensor_train", (24,), (30,)),
]
CASES = pytest.mark.parametrize(("kind", "ins", "outs"), SHAPES)


def make(kind: str, ins: Any, outs: Any, implementation: str = "auto") -> FactorizedLinear:
    return FactorizedLinear(24, 30, kind, 3, implementation, in_shape=ins, out_shape=outs)


def dense(layer: FactorizedLinear, x: torch.Tensor) -> torch.Tensor:
    return nn.functional.linear(x, layer.weight, layer.bias)


@CASES
@pytest.mark.parametrize("batch", [(), (1,), (7,), (2, 3), (0,), (2, 0)])
def test_every_route_is_the_dense_layer(kind: str, ins: Any, outs: Any, batch: Any) -> None:
    layer = make(kind, ins, outs)
    value = layer.tensor()
    assert isinstance(value, CP | Tucker | TTMatrix)
    weight = value.to_dense().reshape(30, 24)
    x = torch.randn(*batch, 24)
    expected = nn.functional.linear(x, weight, layer.bias)
    torch.testing.assert_close(layer.weight, weight, rtol=1e-12, atol=1e-14)
    for route in layer._routes:
        found = route.apply(x, route.fold(layer.parts()), layer.bias)
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(layer(x), expected, rtol=1e-11, atol=1e-12)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(layer(x), expected, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(layer.to_linear()(x), expected, rtol=1e-11, atol=1e-12)


def test_the_matrix_of_a_train_is_written_out() -> None:
    layer = FactorizedLinear(6, 4, "tt", 2, in_shape=(2, 3), out_shape=(2, 2))
    a, b = (part.detach() for part in layer.parts())
    for (i, j), (k, l) in itertools.product(
        itertools.product(range(2), range(2)), itertools.product(range(2), range(3))
    ):
        entry = sum(float(a[0, i, k, r] * b[r, j, l, 0]) for r in range(2))
        found = float(layer.weight[2 * i + j, 3 * k + l].detach())
        assert found == pytest.approx(entry, rel=1e-12)


@CASES
def test_derivatives_of_both_orders(kind: str, ins: Any, outs: Any) -> None:
    sizes: Any = {None: None, (2, 3, 4): (2, 1, 2), (4, 6): (2, 2), (24,): (4,)}[ins]
    layer = FactorizedLinear(
        4, 4, kind, 1 if kind == "tucker" else 2, in_shape=sizes, out_shape=sizes
    )
    x = torch.randn(2, 4, requires_grad=True)
    parts = [p.detach().clone().requires_grad_() for p in layer.parts()]
    for route in layer._routes:

        def run(x: torch.Tensor, *parts: torch.Tensor, route: Any = route) -> torch.Tensor:
            found: torch.Tensor = route.apply(x, route.fold(parts), None)
            return found

        assert torch.autograd.gradcheck(run, (x, *parts), rtol=1e-6, atol=1e-8)
        assert torch.autograd.gradgradcheck(run, (x, *parts), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", ["low_rank", "cp", "tucker", "tensor_train"])
@pytest.mark.parametrize("implementation", ["auto", "factorized", "reconstructed"])
def test_training_is_that_of_the_dense_matrix(kind: str, implementation: str) -> None:
    layer = FactorizedLinear(24, 30, kind, 2, implementation)
    weight = layer.weight.detach().requires_grad_()
    x = torch.randn(5, 24)
    loss = layer(x).tanh().sum()
    expected = nn.functional.linear(x, weight, layer.bias).tanh().sum()
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-10)
    (g,) = torch.autograd.grad(expected, weight)
    wanted = torch.autograd.grad(layer.weight, layer.parts(), g)
    found = torch.autograd.grad(loss, layer.parts())
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("implementation", ["auto", "factorized", "reconstructed"])
def test_what_is_kept_follows_the_weights(implementation: str) -> None:
    """Whatever changes a part, the next call sees it; nothing else forms the matrix again."""
    layer = FactorizedLinear(24, 30, "cp", 3, implementation).eval()
    x = torch.randn(4, 24)

    def right() -> None:
        with torch.no_grad():
            torch.testing.assert_close(layer(x), dense(layer, x), rtol=1e-12, atol=0)

    right()
    kept = layer._kept
    right()
    assert layer._kept is kept
    with torch.no_grad():
        layer.parts()[0].mul_(2)
    right()
    with torch.inference_mode():
        layer(x)
    assert layer.bias is not None
    layer.bias.data.add_(1.0)
    right()
    layer(x).sum().backward()
    with torch.no_grad():  # as a fused optimiser does
        torch._foreach_add_(layer.parts(), [p.grad for p in layer.parts() if p.grad is not None])
    right()
    layer.load_state_dict(FactorizedLinear(24, 30, "cp", 3).state_dict())
    right()
    for part in layer.parts():
        part.data = torch.randn_like(part)  # as torch.nn.utils.vector_to_parameters does
    right()
    layer.requires_grad_(False)
    y = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(layer(y).sum(), y)
    torch.testing.assert_close(g, layer.weight.sum(0).expand(4, 24), rtol=1e-11, atol=1e-13)
    layer.parts()[1].mul_(3)
    right()
    layer.factor_0 = nn.Parameter(torch.randn_like(layer.parts()[0]))
    right()
    layer.train()
    layer.eval()
    assert not layer._kept


def test_copies_keep_nothing() -> None:
    layer = FactorizedLinear(6, 4, "tucker", 2).eval()
    x = torch.randn(3, 6)
    with torch.no_grad():
        layer(x)
        twin = copy.deepcopy(layer)
        assert not twin._kept
        for part in twin.parts():
            part.mul_(0.5)
        torch.testing.assert_close(twin(x), dense(twin, x))
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    torch.testing.assert_close(again(x), layer(x), rtol=1e-12, atol=0)


def test_autocast_leaves_nothing_behind() -> None:
    layer = FactorizedLinear(24, 30, "cp", 3).float().eval()
    x = torch.randn(4, 24, dtype=torch.float32)
    expected = layer(x).detach()
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                low = layer(x)
            assert low.dtype == torch.bfloat16
            torch.testing.assert_close(low.float(), expected, rtol=0.1, atol=0.1)
            torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_gradients_after_inference_mode() -> None:
    """What was formed in inference mode may be used where gradients of the input are wanted."""
    layer = FactorizedLinear(24, 30, "low_rank", 3).requires_grad_(False)
    with torch.inference_mode():
        layer(torch.ones(1, 24))
    x = torch.ones(1, 24, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad[0], layer.weight.sum(0))


def test_functional_transforms() -> None:
    layer = FactorizedLinear(6, 4, "cp", 2).eval()
    x = torch.randn(5, 6)
    other = {k: torch.randn_like(v) for k, v in layer.named_parameters()}
    with torch.no_grad():
        before = layer(x)
        stacked = {k: torch.stack([v.detach(), other[k]]) for k, v in layer.named_parameters()}
        both = torch.func.vmap(lambda p: torch.func.functional_call(layer, p, (x,)))(stacked)
        torch.testing.assert_close(both[0], before)
        torch.testing.assert_close(both[1], torch.func.functional_call(layer, other, (x,)))
        assert (both[1] - before).abs().max() > 0.1
        torch.testing.assert_close(layer(x), before)
    tangent = torch.func.jvp(
        lambda p: torch.func.functional_call(layer, p, (x,)),
        ({k: v.detach() for k, v in layer.named_parameters()},), (other,),
    )[1]  # fmt: skip
    h = 1e-6
    moved = {k: v.detach() + h * other[k] for k, v in layer.named_parameters()}
    difference = (torch.func.functional_call(layer, moved, (x,)) - before) / h
    torch.testing.assert_close(tangent, difference, rtol=1e-4, atol=1e-4)


def test_state_dict_and_dtype() -> None:
    layer = FactorizedLinear(8, 12, "tucker", 2, in_shape=(2, 4), out_shape=(3, 4))
    assert list(layer.state_dict()) == ["core", *(f"factor_{k}" for k in range(4)), "bias"]
    x = torch.randn(3, 8)
    expected = layer(x)
    assert layer.float()(x.float()).dtype == torch.float32
    torch.testing.assert_close(layer(x.float()).double(), expected, rtol=1e-5, atol=1e-6)
    assert "bias" not in FactorizedLinear(8, 8, "cp", 2, bias=False).state_dict()
    with torch.no_grad():
        plain = FactorizedLinear(8, 8, "cp", 2, bias=False)
        torch.testing.assert_close(plain(x), x @ plain.weight.T)
        plain(x)
        assert plain._kept


@pytest.mark.parametrize("kind", ["low_rank", "tucker", "tensor_train"])
def test_compression_of_a_matrix_of_known_rank(kind: str) -> None:
    """A matrix made of factors is found again; a lower rank tells its error."""
    source = FactorizedLinear(24, 30, kind, 3)
    dense = source.to_linear()
    exact = FactorizedLinear.from_linear(dense, kind, tolerance=1e-10)
    assert exact.ranks == source.ranks
    assert exact.relative_error is not None
    assert exact.relative_error < 1e-10
    torch.testing.assert_close(exact.weight, dense.weight, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(exact.bias, dense.bias)
    low = FactorizedLinear.from_linear(dense, kind, rank=1)
    with torch.no_grad():
        error = float((low.weight - dense.weight).norm() / dense.weight.norm())
    assert low.relative_error == pytest.approx(error, rel=1e-12)
    assert 0.01 < error < 1
    half = FactorizedLinear.from_linear(nn.Linear(24, 30), kind, tolerance=0.5)
    assert half.relative_error is not None
    assert 0.2 < half.relative_error <= 0.5


def test_truncated_singular_values_are_the_best() -> None:
    dense = nn.Linear(20, 30, bias=False)
    values = torch.linalg.svdvals(dense.weight.detach())
    found = FactorizedLinear.from_linear(dense, rank=7)
    assert found.relative_error == pytest.approx(float(values[7:].norm() / values.norm()), rel=1e-9)
    assert found.to_linear().bias is None


def test_compression_by_cp() -> None:
    dense = FactorizedLinear(24, 30, "cp", 3).to_linear()
    found = FactorizedLinear.from_linear(dense, "cp", rank=3)
    assert found.relative_error is not None
    assert found.relative_error < 1e-6
    torch.testing.assert_close(found.weight, dense.weight, rtol=1e-4, atol=1e-6)


def test_zero_weights() -> None:
    dense = nn.Linear(8, 8)
    nn.init.zeros_(dense.weight)
    for kind in ("low_rank", "cp", "tucker", "tensor_train"):
        found = FactorizedLinear.from_linear(dense, kind, rank=2)
        assert found.relative_error == 0
        torch.testing.assert_close(found(torch.ones(1, 8))[0], dense.bias)


@pytest.mark.parametrize("kind", ["low_rank", "cp", "tucker", "tensor_train"])
def test_start_has_the_size_of_a_dense_layer(kind: str) -> None:
    found = [FactorizedLinear(64, 64, kind, 4, bias=False).weight.detach().var() for _ in range(60)]
    assert float(torch.stack(found).mean()) == pytest.approx(1 / (3 * 64), rel=0.35)


@pytest.mark.parametrize("kind", ["low_rank", "cp", "tucker", "tensor_train"])
@pytest.mark.parametrize("share", [0.05, 0.3])
def test_ranks_by_share(kind: str, share: float) -> None:
    layer = FactorizedLinear(128, 96, kind, share)
    assert 1 / layer.compression == pytest.approx(share, rel=0.35)
    assert layer.n_parameters == sum(p.numel() for p in layer.parts())


def test_ranks() -> None:
    assert (
        ranks_of("f", "tucker", (4, 5, 6), 100) == largest_ranks("tucker", (4, 5, 6)) == (4, 5, 6)
    )
    assert ranks_of("f", "tucker", (2, 2, 9), 100) == (2, 2, 4)
    assert ranks_of("f", "tensor_train", (4, 5, 6), (2, 3)) == (2, 3)
    assert ranks_of("f", "tensor_train", (7,), 0.5) == ()
    for n, order in ((97, 3), (64, 2), (1, 3), (360, 3)):
        assert math.prod(balanced_shape(n, order)) == n
    assert balanced_shape(97, 3) == (1, 1, 97)


def test_choice_by_cost() -> None:
    """Few multiplications are taken where they matter, the dense matrix where it is cheaper."""
    low = FactorizedLinear(1024, 1024, "low_rank", 16, dtype=torch.float32)
    full = FactorizedLinear(1024, 1024, "low_rank", 1024, dtype=torch.float32)
    for n in (1, 64, 4096):
        assert len(low.route(n, training=False).steps) == 2
        assert low.route(n).n_multiplications(n) == 2 * 1024 * 16 * n
        assert len(full.route(n, training=False).steps) == 1
    assert len(FactorizedLinear(1024, 1024, "low_rank", 16, "reconstructed").route(1).steps) == 1
    assert len(FactorizedLinear(8, 8, "low_rank", 8, "factorized").route(1).steps) == 2
    tiny = FactorizedLinear(8, 8, "tt", 2)
    assert len(tiny.route(1, training=False).steps) == 1


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ({"factorization": "svd"}, ValueError, "must be one of cp, tucker, tensor_train, low_rank"),
        ({"factorization": 3}, TypeError, "must be a string. Got 3"),
        ({"implementation": "fast"}, ValueError, "must be one of auto, factorized, reconstructed"),
        ({"rank": 0}, ValueError, "rank=...)` must be at least 1. Got 0"),
        ({"rank": -0.5}, ValueError, "must be above zero where it is a share"),
        ({"rank": float("nan")}, ValueError, "must be above zero where it is a share"),
        ({"rank": True}, TypeError, "must be a whole number, a share"),
        ({"rank": "same"}, TypeError, "must be a whole number, a share"),
        ({"rank": (3, 3)}, ValueError, "must hold 1 whole numbers"),
        ({"rank": (10**6,)}, ValueError, "must hold 1 whole numbers from 1 to"),
        ({"in_shape": (4, 5)}, ValueError, "must have the product 24, as in_features"),
        ({"out_shape": (4, -5)}, ValueError, "whole numbers above zero"),
        ({"in_shape": ()}, ValueError, "must hold 1 to 10 whole numbers"),
        ({"in_features": 0}, ValueError, "must be at least 1"),
        ({"factorization": "low_rank", "in_shape": (4, 6)}, ValueError, "`cp` takes several"),
        ({"factorization": "tt", "in_shape": (4, 6)}, ValueError, "as many sizes as `out_shape`"),
    ],
)
def test_wrong_arguments(words: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        FactorizedLinear(**{"in_features": 24, "out_features": 30, **words})
    assert message in str(caught.value)


def test_wrong_inputs() -> None:
    layer = FactorizedLinear(24, 30)
    with pytest.raises(ValueError, match=r"must have shape \(\.\.\., 24\). Got \(3, 25\)"):
        layer(torch.ones(3, 25))
    with pytest.raises(ValueError, match=r"Got \(\)"):
        layer(torch.tensor(1.0))
    for dtype in (torch.float32, torch.int64):
        with pytest.raises(TypeError, match=r"must have the layer's dtype torch.float64. Got"):
            layer(torch.ones(3, 24, dtype=dtype))
        with pytest.raises(TypeError, match=r"must have the layer's dtype torch.float64. Got"):
            FactorizedLinear(24, 30, "tt", 2, "factorized")(torch.ones(3, 24, dtype=dtype))
    with pytest.raises(TypeError, match=r"must be real and floating. Got torch.complex64"):
        FactorizedLinear(24, 30, dtype=torch.complex64)
    with pytest.raises(TypeError, match=r"must be a torch.nn.Linear"):
        FactorizedLinear.from_linear(torch.ones(3, 3), rank=2)  # type: ignore[arg-type]
    dense = nn.Linear(24, 30)
    for words in ({}, {"rank": 2, "tolerance": 0.1}):
        with pytest.raises(ValueError, match="must have one of both"):
            FactorizedLinear.from_linear(dense, **words)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must not be given for cp"):
        FactorizedLinear.from_linear(dense, "cp", tolerance=0.1)
    with pytest.raises(ValueError, match="at least zero"):
        FactorizedLinear.from_linear(dense, tolerance=-1.0)
    nn.init.constant_(dense.weight, math.nan)
    for kind in ("low_rank", "cp", "tucker", "tensor_train"):
        with pytest.raises(ValueError, match="finite"):
            FactorizedLinear.from_linear(dense, kind, rank=2)


@pytest.mark.parametrize(
    ("kind", "theirs"), [("cp", "CP"), ("tucker", "Tucker"), ("tensor_train", "BlockTT")]
)
@pytest.mark.filterwarnings("ignore")
def test_as_tensorly_torch(kind: str, theirs: str) -> None:
    tltorch = pytest.importorskip("tltorch")
    layer = FactorizedLinear(24, 30, kind, 3, in_shape=(2, 3, 4), out_shape=(5, 3, 2))
    peer = tltorch.FactorizedLinear((2, 3, 4), (5, 3, 2), factorization=theirs, rank=1)
    parts = [nn.Parameter(part.detach().clone()) for part in layer.parts()]
    if kind == "tucker":
        peer.weight.core, parts = parts[0], parts[1:]
    if kind == "cp":
        peer.weight.weights = nn.Parameter(torch.ones(3))
    for k, part in enumerate(parts):
        peer.weight.factors[k] = part
    peer.bias = layer.bias
    x = torch.randn(4, 24)
    torch.testing.assert_close(layer(x), peer(x), rtol=1e-10, atol=1e-12)
