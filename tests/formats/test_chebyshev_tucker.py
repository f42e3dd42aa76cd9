"""Functions in Chebyshev-Tucker form against numpy's Chebyshev series, and the laws of calculus."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tensornet.formats import ChebyshevTucker, load
from tensornet.testing import assert_format_contract

BOX = ((-1.0, 2.0), (0.5, 1.0), (3.0, 7.0))


def function(
    shape: tuple[int, ...] = (5, 4, 6), ranks: tuple[int, ...] = (2, 3, 2)
) -> ChebyshevTucker:
    coefficients = tuple(torch.randn(m, r) for m, r in zip(shape, ranks, strict=True))
    return ChebyshevTucker(torch.randn(ranks), coefficients, BOX[: len(shape)])


def random_points(n: int, d: int = 3) -> Tensor:
    box = torch.tensor(BOX[:d])
    return box[:, 0] + (box[:, 1] - box[:, 0]) * torch.rand(n, d)


def oracle(f: ChebyshevTucker, x: Tensor) -> Tensor:
    ends = torch.tensor(f.box)
    t = ((2 * x - ends[:, 0] - ends[:, 1]) / (ends[:, 1] - ends[:, 0])).numpy()
    c = f.to_dense().numpy()
    if f.order == 1:
        return torch.tensor(np.polynomial.chebyshev.chebval(t[:, 0], c))
    if f.order == 2:
        return torch.tensor(np.polynomial.chebyshev.chebval2d(t[:, 0], t[:, 1], c))
    return torch.tensor(np.polynomial.chebyshev.chebval3d(t[:, 0], t[:, 1], t[:, 2], c))


def test_contract_of_formats() -> None:
    assert_format_contract(function(), function(ranks=(1, 2, 3)), hadamard=False)


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 7, 1000])
def test_value_is_that_of_numpy(d: int, n: int) -> None:
    f = function((5, 4, 6)[:d], (2, 3, 2)[:d])
    x = random_points(n, d)
    torch.testing.assert_close(f.value(x), oracle(f, x), rtol=1e-12, atol=1e-12)


def test_no_points_give_no_values() -> None:
    assert function().value(torch.empty(0, 3)).shape == (0,)
    assert function().gradient(torch.empty(0, 3)).shape == (0, 3)


def test_values_at_the_corners_of_the_box() -> None:
    f = function()
    x = torch.cartesian_prod(*torch.tensor(BOX))
    torch.testing.assert_close(f.value(x), oracle(f, x), rtol=1e-12, atol=1e-12)


def test_gradient_and_hessian_are_those_of_autograd() -> None:
    f, x = function(), random_points(6).requires_grad_()
    (gradient,) = torch.autograd.grad(f.value(x).sum(), x, create_graph=True)
    torch.testing.assert_close(f.gradient(x), gradient, rtol=1e-11, atol=1e-11)
    rows = [torch.autograd.grad(gradient[:, k].sum(), x, retain_graph=True)[0] for k in range(3)]
    torch.testing.assert_close(f.hessian(x), torch.stack(rows, 1), rtol=1e-11, atol=1e-11)


def test_gradient_is_that_of_differences() -> None:
    f, x, h = function(), 0.999 * random_points(20) + 0.001 * random_points(1).mean(0), 1e-4
    x = torch.tensor(BOX).mean(1) + 0.99 * (x - torch.tensor(BOX).mean(1))
    for k in range(3):
        step = torch.zeros(3)
        step[k] = h
        four = [f.value(x + s * step) for s in (-2, -1, 1, 2)]
        slope = (four[0] - 8 * four[1] + 8 * four[2] - four[3]) / (12 * h)
        torch.testing.assert_close(f.gradient(x)[:, k], slope, rtol=1e-8, atol=1e-7)
        torch.testing.assert_close(f.differentiate(k).value(x), f.gradient(x)[:, k])


def test_derivatives_in_points_and_coefficients() -> None:
    f, x = function((4, 3, 3), (2, 1, 2)), random_points(3)
    x = torch.tensor(BOX).mean(1) + 0.9 * (x - torch.tensor(BOX).mean(1))

    def value(x: Tensor, *parts: Tensor) -> Tensor:
        return ChebyshevTucker(parts[0], parts[1:], BOX).value(x)

    def gradient(x: Tensor, *parts: Tensor) -> Tensor:
        return ChebyshevTucker(parts[0], parts[1:], BOX).gradient(x)

    args = tuple(a.clone().requires_grad_() for a in (x, f.core, *f.coefficients))
    assert torch.autograd.gradcheck(value, args, rtol=1e-6, atol=1e-8)
    assert torch.autograd.gradcheck(gradient, args, rtol=1e-6, atol=1e-8)
    assert torch.autograd.gradgradcheck(value, args, rtol=1e-6, atol=1e-8)


def test_integral_is_that_of_gauss() -> None:
    f = function()
    nodes, weights = (torch.tensor(a) for a in np.polynomial.legendre.leggauss(6))
    axes = [0.5 * (a + b) + 0.5 * (b - a) * nodes for a, b in BOX]
    sides = [0.5 * (b - a) * weights for a, b in BOX]
    grid = f.on_grid(axes).to_dense()
    torch.testing.assert_close(
        f.integral(), torch.einsum("ijk,i,j,k->", grid, *sides), rtol=1e-12, atol=1e-12
    )
    partly = f.integral([0, -1])
    assert partly.box == BOX[1:2]
    expected = torch.einsum("ijk,i,k->j", grid, sides[0], sides[2])
    torch.testing.assert_close(partly.value(axes[1][:, None]), expected, rtol=1e-12, atol=1e-12)


def test_integral_of_a_derivative_is_the_difference_of_the_ends() -> None:
    f, x = function(), random_points(5)
    inner = f.differentiate(1).integral(1)
    low, high = x.clone(), x.clone()
    low[:, 1], high[:, 1] = BOX[1]
    expected = f.value(high) - f.value(low)
    torch.testing.assert_close(inner.value(x[:, [0, 2]]), expected, rtol=1e-12, atol=1e-12)


def test_product_is_that_of_functions() -> None:
    f, g, x = function(), function((3, 6, 2), (1, 2, 2)), random_points(30)
    product = f * g
    assert product.shape == (7, 9, 7)
    torch.testing.assert_close(product.value(x), f.value(x) * g.value(x), rtol=1e-11, atol=1e-11)


def test_sums_of_different_degrees() -> None:
    f, g, x = function(), function((3, 6, 2), (1, 2, 2)), random_points(30)
    with pytest.raises(ValueError, match="one shape"):
        f + function((3, 6), (1, 2))
    total = f - 2 * g
    assert total.shape == (5, 6, 6)
    torch.testing.assert_close(total.value(x), f.value(x) - 2 * g.value(x), rtol=1e-11, atol=1e-11)
    with pytest.raises(ValueError, match=r"at least \(5, 4, 6\)"):
        f.padded((4, 4, 6))


def test_restriction_is_the_same_function() -> None:
    f = function()
    box = ((-1.0, 0.0), (0.6, 0.7), (3.5, 7.0))
    ends = torch.tensor(box)
    x = ends[:, 0] + (ends[:, 1] - ends[:, 0]) * torch.rand(40, 3)
    g = f.restrict(ends)
    assert g.box == box
    torch.testing.assert_close(g.value(x), f.value(x), rtol=1e-11, atol=1e-11)
    with pytest.raises(ValueError, match="inside of"):
        f.restrict(((-1.5, 0.0), (0.6, 0.7), (3.5, 7.0)))
    with pytest.raises(ValueError, match="on one box"):
        f + g


def test_grid_is_made_of_values() -> None:
    f = function()
    axes = [random_points(n)[:, k] for k, n in enumerate((4, 5, 6))]
    grid = f.on_grid(axes)
    assert grid.ranks == f.ranks
    expected = f.value(torch.cartesian_prod(*axes)).reshape(4, 5, 6)
    torch.testing.assert_close(grid.to_dense(), expected, rtol=1e-12, atol=1e-12)


def chebyshev_norm(f: ChebyshevTucker) -> float:
    """L2 norm with the Chebyshev weight, by Gauss-Chebyshev quadrature: all nodes weigh alike."""
    n = max(f.shape) + 1
    nodes = torch.cos(torch.pi * (2 * torch.arange(n) + 1) / (2 * n))
    axes = [0.5 * (a + b) + 0.5 * (b - a) * nodes for a, b in f.box]
    return float(f.on_grid(axes).to_dense().square().mean().sqrt())


@pytest.mark.parametrize("tolerance", [0.3, 0.1, 1e-2])
def test_tolerance_of_rounding_is_a_norm_of_functions(tolerance: float) -> None:
    f = function((9, 9, 9), (9, 9, 9))
    scales = 0.4 ** torch.arange(9)
    f = ChebyshevTucker(torch.einsum("abc,a,b,c->abc", f.core, *3 * [scales]), f.coefficients, BOX)
    g = f.round(tolerance=tolerance)
    error = chebyshev_norm(f - g) / chebyshev_norm(f)
    assert max(g.ranks) < 9
    assert error <= tolerance
    assert error > 0.02 * tolerance
    assert max(f.round(tolerance=0.0, max_rank=2).ranks) == 2


def test_file_keeps_the_box(tmp_path: Path) -> None:
    f = ChebyshevTucker(torch.ones(1), (torch.ones(2, 1),), ((0.1, 0.7),))
    f.save(tmp_path / "f.safetensors")
    again = load(tmp_path / "f.safetensors")
    assert isinstance(again, ChebyshevTucker)
    assert again.box == ((0.1, 0.7),)


def test_points_outside_are_counted() -> None:
    f, x = function(), random_points(9)
    x[2, 0], x[5, 1], x[6, 2] = -1.1, 1.1, float("nan")
    with pytest.raises(ValueError, match=r"must lie in the box \(\(-1.0, 2.0\).*Got 3 of 9"):
        f.value(x)
    with pytest.raises(ValueError, match=r"axes\[1\]=...\)` must lie in the box .* Got 1 of 2"):
        f.on_grid([x[:1, 0], torch.tensor([0.5, 2.0]), x[:1, 2]])


def test_bad_input() -> None:
    f = function()
    with pytest.raises(TypeError, match="dtype"):
        f.value(random_points(2).float())
    with pytest.raises(ValueError, match=r"shape \(n, 3\)"):
        f.value(random_points(2)[:, :2])
    with pytest.raises(ValueError, match="lower ends below upper ends"):
        ChebyshevTucker(f.core, f.coefficients, ((0, 1), (1, 0), (0, 1)))
    with pytest.raises(ValueError, match="one axis per side"):
        ChebyshevTucker(f.core, f.coefficients, BOX[:2])
    with pytest.raises(ValueError, match=r"shape \(m1, 3\)"):
        ChebyshevTucker(f.core, (f.coefficients[0],) * 3, BOX)
    with pytest.raises(ValueError, match="not be empty"):
        ChebyshevTucker(torch.ones(1), (torch.ones(0, 1),), BOX[:1])
    with pytest.raises(TypeError, match="must be real"):
        ChebyshevTucker(f.core + 0j, tuple(c + 0j for c in f.coefficients), BOX)
    with pytest.raises(TypeError, match="real number"):
        f * 1j
    with pytest.raises(ValueError, match="variable of 3"):
        f.differentiate(3)
    with pytest.raises(ValueError, match=r"integral\(modes=...\)` must be a variable of 3. Got 5"):
        f.integral(5)
    with pytest.raises(ValueError, match="name each once"):
        f.integral([0, -3])
