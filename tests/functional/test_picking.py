import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tensornet.formats import TensorTrain
from tensornet.functional import Picking, integral, pick

F64 = torch.float64
SHAPE = (4, 5, 3, 4)


def every(shape: tuple[int, ...]) -> Tensor:
    return torch.cartesian_prod(*(torch.arange(n) for n in shape))


def waves(a: Tensor) -> Callable[[Tensor], Tensor]:
    """Exactly of rank two, for every (2, 4) of parameters."""
    return lambda i: (
        torch.exp(i.double() @ a[0] / 6)
        + 0.5 * torch.cos(a[1, 0]) * torch.exp(-i.double() @ a[1] / 5)
    )


def random_train(ranks: tuple[int, ...], shape: tuple[int, ...], dtype: torch.dtype) -> TensorTrain:
    pairs = zip(ranks[:-1], shape, ranks[1:], strict=True)
    return TensorTrain(tuple(torch.randn(a, n, b, dtype=dtype) for a, n, b in pairs))


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_tensor_of_exact_rank_is_exact(dtype: torch.dtype) -> None:
    shape, ranks = (7, 5, 1, 6, 8), (1, 4, 3, 3, 5, 1)
    x = random_train(ranks, shape, dtype)
    found = pick(x.evaluate, shape, tolerance=1e-11)
    assert found.ranks == ranks
    assert found.converged
    train = found(x.evaluate)
    assert train.dtype == dtype
    assert float((train.to_dense() - x.to_dense()).norm() / x.norm()) < 1e-11


def test_the_entries_picked_are_taken() -> None:
    def function(i: Tensor) -> Tensor:
        return 1 / (1 + i.double().square().sum(1)).sqrt()

    found = pick(function, (30,) * 4, tolerance=1e-4)
    train = found(function)
    picked = function(found.indices)
    assert float((train.evaluate(found.indices) - picked).abs().max()) < 1e-13
    assert len(found.indices.unique(dim=0)) == len(found.indices)
    exact = function(every((30,) * 4)).reshape((30,) * 4)
    error = float((train.to_dense() - exact).norm() / exact.norm())
    assert 1e-9 < error < 3e-4
    assert found.error(function, n=5000) == pytest.approx(error, rel=0.3)


def test_sets_are_nested_and_dominant() -> None:
    found = pick(lambda i: 1 / (1 + i.double().sum(1)), (12,) * 4, tolerance=1e-8)
    sets = found.sets
    for k in range(1, 4):
        left = {tuple(row) for row in sets.left[k - 1].tolist()}
        assert {tuple(row[:-1]) for row in sets.left[k].tolist()} <= left
        right = {tuple(row) for row in sets.right[k + 1].tolist()} if k < 3 else {()}
        assert {tuple(row[1:]) for row in sets.right[k].tolist()} <= right
        core = found(lambda i: 1 / (1 + i.double().sum(1))).cores[k - 1]
        assert float(core.abs().max()) <= 1.02
        assert torch.equal(
            core.reshape(-1, core.shape[2])[sets.rows[k - 1]].round(decimals=9).abs(),
            torch.eye(core.shape[2], dtype=F64),
        )


def test_few_entries_of_a_large_tensor() -> None:
    seen = 0

    def function(i: Tensor) -> Tensor:
        nonlocal seen
        seen += len(i)
        return 1 / (1 + i.double().sum(1) / 63)

    found = pick(function, (64,) * 4, tolerance=1e-9)
    train = found(function)
    assert seen <= 0.0015 * 64**4
    points = torch.randint(64, (20_000, 4))
    assert float((train.evaluate(points) - function(points)).abs().max()) < 2e-9


def test_derivatives_of_first_and_second_order() -> None:
    a = torch.tensor([[0.3, 0.7, -0.2], [0.4, -0.6, 0.8]])
    found = pick(waves(a), (3, 4, 3), tolerance=1e-10)
    assert found.ranks == (1, 2, 2, 1)
    start = waves(a)(found.indices).requires_grad_()

    def entries(values: Tensor) -> Tensor:
        return found.train(values).to_dense().flatten()[::7]

    assert torch.autograd.gradcheck(entries, start, rtol=1e-6, atol=1e-8)
    direct = torch.randn(36)
    assert torch.autograd.gradgradcheck(
        lambda v: (found.train(v).to_dense().flatten() @ direct).exp().reshape(1) / 1e3,
        start, rtol=1e-5, atol=1e-7,
    )  # fmt: skip


def test_gradient_through_picked_entries_is_that_of_the_whole_tensor() -> None:
    a = torch.tensor([[0.3, 0.7, -0.2, 0.5], [0.4, -0.6, 0.8, 0.1]], requires_grad=True)
    found = pick(waves(a.detach()), SHAPE, tolerance=1e-10)
    weights = [torch.rand(n) for n in SHAPE]
    outer = torch.einsum("a,b,c,d->abcd", *weights)
    train, dense = found(waves(a)), waves(a)(every(SHAPE)).reshape(SHAPE)
    for mine, whole in (
        (integral(train, weights), (outer * dense).sum()),
        (train.inner(train), dense.square().sum()),
        (train[2, 3, 1, 2], dense[2, 3, 1, 2]),
    ):
        first = torch.autograd.grad(mine, a, create_graph=True)[0]
        expected = torch.autograd.grad(whole, a, create_graph=True)[0]
        torch.testing.assert_close(first, expected, rtol=1e-9, atol=1e-9)
        second = torch.autograd.grad(first.square().sum(), a, retain_graph=True)[0]
        exact = torch.autograd.grad(expected.square().sum(), a, retain_graph=True)[0]
        torch.testing.assert_close(second, exact, rtol=1e-7, atol=1e-7)


def test_gradient_where_the_rank_is_not_exact() -> None:
    a = torch.tensor(0.7, requires_grad=True)

    def function(i: Tensor) -> Tensor:
        return 1 / (1 + a + i.double().sum(1))

    shape = (12, 10, 11)
    found = pick(function, shape, tolerance=1e-9)
    dense = function(every(shape)).sum()
    (mine,) = torch.autograd.grad(found(function).sum(), a)
    (whole,) = torch.autograd.grad(dense, a)
    assert mine.item() == pytest.approx(whole.item(), rel=1e-7)


def test_backward_touches_picked_entries_only() -> None:
    shape = (9,) * 4
    table = torch.randn(9, 9)
    x = (table @ table.mT).requires_grad_()  # of rank nine, as a table of two modes

    def function(i: Tensor) -> Tensor:
        return x[i[:, 0], i[:, 1]] * (1 + i[:, 2] * i[:, 3] / 9)

    found = pick(function, shape, tolerance=1e-9)
    rows: list[int] = []

    def counted(i: Tensor) -> Tensor:
        rows.append(len(i))
        return function(i)

    found(counted).sum().backward()
    assert rows == [len(found.indices)]
    # On a table of full rank every entry is on a fibre; on the others of the four modes few are.
    assert rows[0] < 0.1 * 9**4
    assert x.grad is not None
    exact = sum(1 + i * j / 9 for i in range(9) for j in range(9))
    torch.testing.assert_close(x.grad, torch.full((9, 9), exact), rtol=1e-8, atol=0)


def test_coordinates_and_integral() -> None:
    nodes = [torch.linspace(0, 1, 21) for _ in range(6)]
    trapezium = torch.full((21,), 1 / 20)
    trapezium[[0, -1]] /= 2
    rate = torch.tensor(0.8, requires_grad=True)

    def function(x: Tensor) -> Tensor:
        return torch.exp(-rate * x.sum(1)) + 0.1 * torch.cos(x).prod(1)

    found = pick(function, nodes, tolerance=1e-10)
    total = integral(found(function), [trapezium] * 6)
    one = (trapezium * torch.exp(-rate * nodes[0])).sum()
    exact = one**6 + 0.1 * (trapezium * torch.cos(nodes[0])).sum() ** 6
    assert total.item() == pytest.approx(exact.item(), rel=1e-9)
    (mine,) = torch.autograd.grad(total, rate)
    (expected,) = torch.autograd.grad(exact, rate)
    assert float(mine) == pytest.approx(float(expected), rel=1e-8)
    assert torch.equal(found.points[0], torch.stack([nodes[0][i] for i in found.indices[0]]))


def test_float32_stays_float32() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).float()
    nodes = [torch.linspace(0, 1, 8, dtype=torch.float32)] * 4

    def function(x: Tensor) -> Tensor:
        out: Tensor = net(x)[:, 0]
        return out.exp()

    found = pick(function, nodes, tolerance=1e-4)
    train = found(function)
    assert train.dtype == torch.float32
    assert found.error(function) < 3e-4
    train.norm().backward()
    for part in net.parameters():
        assert part.grad is not None
        assert bool(part.grad.isfinite().all())


def test_error_says_when_to_pick_again() -> None:
    def function(rate: float) -> Callable[[Tensor], Tensor]:
        return lambda i: 1 / (1 + i.double().square().sum(1) / 100) ** rate

    found = pick(function(1.0), (20,) * 4, tolerance=1e-6)
    assert found.error(function(1.0)) < 3e-6
    assert found.error(function(4.0)) > 10 * found.error(function(1.0))
    again = pick(function(4.0), (20,) * 4, tolerance=1e-6)
    assert again.error(function(4.0)) < 3e-6


def test_one_and_two_modes() -> None:
    one = pick(lambda i: (i[:, 0] + 1).double(), (4,))
    assert one.ranks == (1, 1)
    assert one(lambda i: (i[:, 0] + 1).double()).to_dense().tolist() == [1, 2, 3, 4]
    matrix = torch.randn(30, 3) @ torch.randn(3, 40)
    two = pick(lambda i: matrix[i[:, 0], i[:, 1]], (30, 40), tolerance=1e-11)
    dense = two(lambda i: matrix[i[:, 0], i[:, 1]]).to_dense()
    torch.testing.assert_close(dense, matrix, rtol=1e-10, atol=1e-10)
    assert len(two.indices) == 3 * 30 + 3 * 40 - 9


def smooth(i: Tensor) -> Tensor:
    return 1 / (1 + i.double().sum(1))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: pick(smooth, ()), ValueError, "at least one mode"),
        (lambda: pick(smooth, (3, 0)), ValueError, r"axes\[1\].*at least 1"),
        (lambda: pick(smooth, (3, torch.ones(2))), TypeError, "Got both"),
        (lambda: pick(smooth, (torch.ones(2), torch.ones(2, 2))), ValueError, r"axes\[1\]"),
        (lambda: pick(lambda i: i, (9, 9)), ValueError, r"shape \(2,\).*Got \(2, 2\)"),
        (lambda: pick(lambda i: i.sum(1), (9, 9)), TypeError, "int64"),
        (lambda: pick(lambda i: 3.0, (9, 9)), TypeError, "Got float"),
        (lambda: pick(lambda i: 0 * smooth(i), (30,) * 4), ValueError, "zero everywhere"),
        (lambda: pick(lambda i: smooth(i) * math.nan, (9, 9)), ValueError, "finite"),
        (lambda: pick(smooth, (9, 9), tolerance=-1.0), ValueError, "tolerance"),
    ],
)
def test_bad_input(call: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_bad_values() -> None:
    found = pick(smooth, (9,) * 3)
    values = smooth(found.indices)
    with pytest.raises(ValueError, match="one per picked entry"):
        found.train(values[1:])
    with pytest.raises(TypeError, match="floating"):
        found.train(values.long())
    with pytest.raises(ValueError, match="1 NaN or infinite"):
        found.train(torch.where(torch.arange(len(values)) == 3, math.nan, values))
    with pytest.raises(ValueError, match="Pick again"):
        found.train(torch.ones_like(values))
    with pytest.raises(ValueError, match=r"Got \d+ NaN .* at index"):
        found(lambda i: torch.where(i[:, 0] == 4, math.nan, smooth(i)))
    train = found(smooth)
    with pytest.raises(ValueError, match="3 vectors"):
        integral(train, [torch.ones(9)])
    with pytest.raises(ValueError, match=r"weights\[2\].*\(9,\)"):
        integral(train, [torch.ones(9), torch.ones(9), torch.ones(8)])
    with pytest.raises(TypeError, match=r"train=...\)` must be a `TensorTrain`. Got str"):
        integral("train", [torch.ones(9)])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be real"):
        integral(train, [torch.ones(9, dtype=torch.complex128)] * 3)
    assert isinstance(found, Picking)
