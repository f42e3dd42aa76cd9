"""The network with derivatives by hand, against the same network made of torch's modules."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tensornet.layers import perceptron as module
from tensornet.layers.perceptron import perceptron

SIZES: list[tuple[int, ...]] = [(5, 3), (4, 3), (4,), (4, 4), (4,), (5, 6)]


def plain(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, last: Tensor) -> Tensor:
    h = nn.functional.silu(x @ w1.mT + b1)
    h = nn.functional.silu(h @ w2.mT + b2)
    return h @ last[1:] + last[0]


FEW: list[tuple[int, ...]] = [(2, 1), (2, 1), (2,), (2, 2), (2,), (3, 1)]


def inputs(sizes: list[tuple[int, ...]] = SIZES) -> list[Tensor]:
    return [torch.randn(size, requires_grad=True) for size in sizes]


def slope(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def call(*args: Tensor) -> Tensor:
        energy = function(*args).pow(2).sum()
        (g,) = torch.autograd.grad(energy, args[0], create_graph=True)
        return g

    return call


def test_values_slopes_and_what_training_takes_of_both() -> None:
    args = inputs()
    found: list[Tensor] = []
    wanted: list[Tensor] = []
    for function, values in ((perceptron, found), (plain, wanted)):
        y, g = function(*args), slope(function)(*args)
        values += [y, g, *torch.autograd.grad(y.square().sum() + (g**2).sum(), args)]
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-11)


def test_derivatives_of_higher_order() -> None:
    args = inputs(FEW)
    assert torch.autograd.gradcheck(perceptron, args, rtol=1e-6, atol=1e-7)
    assert torch.autograd.gradgradcheck(perceptron, args, rtol=1e-6, atol=1e-7)
    assert torch.autograd.gradgradcheck(slope(perceptron), args, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("k", range(6))
def test_each_argument_alone(k: int) -> None:
    args = [x.detach().requires_grad_(i == k) for i, x in enumerate(inputs())]
    (found,) = torch.autograd.grad(perceptron(*args).square().sum(), args[k])
    (wanted,) = torch.autograd.grad(plain(*args).square().sum(), args[k])
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-11)


def test_arguments_that_depend_on_each_other() -> None:
    args = inputs()
    found: list[Tensor] = []
    wanted: list[Tensor] = []
    for function, values in ((perceptron, found), (plain, wanted)):
        mixed = [args[0] * args[3].sum(), *args[1:]]
        (g,) = torch.autograd.grad(function(*mixed).sum(), args[3], create_graph=True)
        values += [g, *torch.autograd.grad(g.square().sum(), args)]
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def test_no_samples() -> None:
    args = [torch.zeros(0, 3, requires_grad=True), *inputs()[1:]]
    assert perceptron(*args).shape == (0, 6)
    g = slope(perceptron)(*args)
    assert all(not t.any() for t in torch.autograd.grad(g.sum(), args))


def test_slopes_in_x_do_no_work_for_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, ...]] = []
    real = module.wanted

    def watched(ctx: Any) -> tuple[bool, ...]:
        seen.append(real(ctx))
        return seen[-1]

    monkeypatch.setattr(module, "wanted", watched)
    x, *weights = inputs()
    y = perceptron(2 * x, *weights).sum()
    torch.autograd.grad(y, x, retain_graph=True)
    y.backward(inputs=weights)
    assert seen == [(True, *[False] * 5), (False, *[True] * 5)]


def test_transforms_see_through() -> None:
    args = [x.detach() for x in inputs()]
    found = torch.func.vmap(torch.func.grad(lambda x: perceptron(x[None], *args[1:]).sum()))(
        args[0]
    )
    x = args[0].requires_grad_()
    (wanted,) = torch.autograd.grad(plain(x, *args[1:]).sum(), x)
    torch.testing.assert_close(found, wanted)
