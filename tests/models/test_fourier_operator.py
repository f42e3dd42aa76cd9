"""Fourier neural operators: what holds before any training."""

from typing import Any

import pytest
import torch

from tensornet.models import FourierNeuralOperator


@pytest.mark.parametrize("factorization", [None, "tucker"])
@pytest.mark.parametrize(
    ("n_modes", "grid"), [(6, (12,)), ((4, 4), (8, 6)), ((4, 2, 4), (6, 4, 5))]
)
def test_shapes_translations_and_gradients(factorization: Any, n_modes: Any, grid: Any) -> None:
    model = FourierNeuralOperator(
        n_modes, 2, 3, 4, 2, factorization=factorization, rank=0.5, positional_embedding=None
    )
    x = torch.randn(2, 2, *grid)
    y = model(x)
    assert y.shape == (2, 3, *grid)
    shift, dims = tuple(range(1, len(grid) + 1)), tuple(range(2, len(grid) + 2))
    moved = model(torch.roll(x, shift, dims))
    torch.testing.assert_close(moved, torch.roll(y, shift, dims), rtol=1e-9, atol=1e-11)
    y.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())


def test_grid_of_any_size() -> None:
    """A smooth field is mapped nearly alike on two grids; what is not is left of the activation."""
    model = FourierNeuralOperator((6, 6), 1, 1, 8, 2)

    def field(n: int) -> torch.Tensor:
        t = 2 * torch.pi * torch.arange(n) / n
        return (t.sin()[:, None] * t.cos() + 0.3 * (2 * t).cos())[None, None]

    with torch.no_grad():
        fine, coarse = model(field(64)), model(field(32))
    error = (fine[..., ::2, ::2] - coarse).norm() / coarse.norm()
    assert float(error) < 0.02
    assert float(error) > 0


def test_coordinates_break_translations() -> None:
    model = FourierNeuralOperator(4, 1, 1, 4, 1)
    x = torch.randn(1, 1, 8)
    assert (model(torch.roll(x, 1, 2)) - torch.roll(model(x), 1, 2)).abs().max() > 1e-3


def test_one_overfits() -> None:
    model = FourierNeuralOperator(8, 1, 1, 12, 2, factorization="cp", rank=0.3)
    x = torch.randn(4, 1, 16)
    y = torch.roll(x, 1, 2) ** 2
    start = None
    for _ in range(60):
        loss = (model(x) - y).square().mean()
        start = float(loss.detach()) if start is None else start
        grads = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for parameter, grad in zip(model.parameters(), grads, strict=True):
                parameter.sub_(0.05 * grad)
    assert start is not None
    assert float(loss.detach()) < 0.7 * start


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match=r"must be at least 1\. Got 0"):
        FourierNeuralOperator(4, 1, 1, 4, 0)
    with pytest.raises(ValueError, match=r"must be one of grid\. Got 'sine'"):
        FourierNeuralOperator(4, 1, 1, 4, positional_embedding="sine")
    model = FourierNeuralOperator((4, 4), 1, 1, 4, 1)
    for shape in ((1, 8, 8), (1, 2, 8, 8), (1, 1, 8)):
        with pytest.raises(ValueError, match=r"must have shape \(n, 1, \*grid\) with 2 sizes"):
            model(torch.ones(shape))
