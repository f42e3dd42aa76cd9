"""Kronecker inverses of boxes against dense matrices, and solutions of low rank."""

import math
import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tensornet.formats import CP, TensorTrain, Tucker
from tensornet.linalg import pcg
from tensornet.pde import (
    Domain,
    Grid,
    box_preconditioner,
    dirichlet,
    exponential_sum_inverse,
    poisson,
    solve_low_rank,
)
from tensornet.pde.axis import Axis, line_operator
from tensornet.pde.low_rank import reciprocal

NODE = dirichlet(at="center")
SIDES: dict[str, Any] = {
    "dirichlet": "dirichlet",
    "neumann": "neumann",
    "periodic": "periodic",
    "nodes": NODE,
    "mixed": (("dirichlet", "neumann"), ("neumann", "dirichlet"), (NODE, "neumann")),
    "open top": ("neumann", "periodic", ("neumann", "dirichlet")),
}


def given(kind: type[Any], shape: tuple[int, ...], rank: int) -> Any:
    """A value in one of the formats, not alike along any two axes."""
    a, b, c = (noise(n, rank) + k for k, n in enumerate(shape))
    if kind is CP:
        return CP((a, b, c), noise(rank))
    if kind is Tucker:
        return Tucker(noise(rank, rank, rank), (a, b, c))
    middle = noise(rank, shape[1], rank) + 1
    return TensorTrain((a[None], middle, c.mT[..., None]), torch.tensor(0.3, dtype=torch.float64))


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("shift", [0.0, 2.5])
@pytest.mark.parametrize("sides", SIDES)
def test_against_dense_matrices(sides: str, shift: float) -> None:
    grid = Grid((5, 6, 4), spacing=(0.2, 0.1, 0.3))
    A = poisson(grid, boundary=SIDES[sides], coefficient=1.7, project=True).operator.shifted(shift)
    inverse = exponential_sum_inverse(
        grid, boundary=SIDES[sides], coefficient=1.7, shift=shift, tolerance=1e-9
    )
    want = torch.linalg.pinv(A.to_dense(), hermitian=True, rtol=1e-12)
    scale = float(want.abs().max())
    assert_close(inverse.to_dense(), want, rtol=0, atol=2e-9 * scale)

    rhs = CP((noise(5, 2), noise(6, 2), noise(4, 2)), noise(2))
    u = solve_low_rank(inverse, rhs)
    reached = A.project(rhs.to_dense().flatten()) if inverse.singular else rhs.to_dense().flatten()
    assert_close(u.to_dense().flatten(), want @ reached, rtol=0, atol=2e-8 * scale)
    left = torch.linalg.vector_norm(A(u.to_dense().flatten()) - reached)
    relative = float(left / torch.linalg.vector_norm(reached))
    assert relative < 1e-9
    assert inverse.residual(u, rhs) == pytest.approx(relative, rel=1e-3, abs=1e-13)


@pytest.mark.parametrize("dim", [1, 2])
def test_fewer_axes(dim: int) -> None:
    grid = Grid((12, 9)[:dim], spacing=0.1)
    A = poisson(grid).operator
    inverse = exponential_sum_inverse(grid, tolerance=1e-10)
    assert_close(inverse(A(noise(3, A.shape[0]))), noise(3, A.shape[0]), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("tolerance", [1e-1, 1e-3, 1e-6, 1e-9, 1e-12])
@pytest.mark.parametrize("ratio", [1.0, 3.0, 1e3, 1e6])
def test_reciprocal(ratio: float, tolerance: float) -> None:
    found = reciprocal(ratio, tolerance)
    x = torch.logspace(0, torch.tensor(ratio).log10().item(), 5003, dtype=torch.float64)
    t, w = torch.from_numpy(found.exponents), torch.from_numpy(found.weights)
    error = float((x * (torch.exp(-x[:, None] * t) @ w) - 1).abs().max())
    assert error <= 1.02 * tolerance + 1e-14
    assert bool((w > 0).all())
    assert len(w) <= 70


@pytest.mark.parametrize("kind", [CP, Tucker, TensorTrain])
@pytest.mark.parametrize("sides", ["dirichlet", "neumann"])
def test_large_box(kind: type[Any], sides: str) -> None:
    n = 1024
    grid = Grid((n, n, n), spacing=1 / n)
    inverse = exponential_sum_inverse(grid, boundary=sides, tolerance=5e-8)
    assert inverse.rank <= 41
    rhs = given(kind, (n, n, n), 1 if kind is TensorTrain else 2)
    u = solve_low_rank(inverse, rhs)
    assert type(u) is kind
    assert 1e-10 < inverse.residual(u, rhs) < 1e-7
    assert inverse.residual(1.001 * u, rhs) == pytest.approx(1e-3, rel=1e-3)


def test_residual_of_a_right_side_of_zeros() -> None:
    inverse = exponential_sum_inverse(Grid((5, 6, 4), spacing=0.1))
    u = given(CP, (5, 6, 4), 1)
    assert inverse.residual(u, 0.0 * u) == math.inf
    assert inverse.residual(0.0 * u, 0.0 * u) == 0


@pytest.mark.parametrize("kind", [Tucker, TensorTrain])
@pytest.mark.parametrize("sides", SIDES)
def test_other_formats(kind: type[Any], sides: str) -> None:
    grid = Grid((5, 6, 4), spacing=(0.2, 0.1, 0.3))
    options: Any = {"boundary": SIDES[sides], "coefficient": 1.7}
    A = poisson(grid, project=True, **options).operator.shifted(0.5 * (sides == "nodes"))
    inverse = exponential_sum_inverse(grid, shift=A.shift, tolerance=1e-9, **options)
    rhs = given(kind, (5, 6, 4), 3)
    u = solve_low_rank(inverse, rhs)
    reached = A.project(rhs.to_dense().flatten())
    left = torch.linalg.vector_norm(A(u.to_dense().flatten()) - reached)
    relative = float(left / torch.linalg.vector_norm(reached))
    assert relative < 2e-9
    assert inverse.residual(u, rhs) == pytest.approx(relative, rel=1e-3, abs=1e-13)
    assert_close(A.project(u.to_dense().flatten()), u.to_dense().flatten(), rtol=0, atol=1e-9)
    off = A(1.1 * u.to_dense().flatten()) - reached
    wrong = float(torch.linalg.vector_norm(off) / torch.linalg.vector_norm(reached))
    assert inverse.residual(1.1 * u, rhs) == pytest.approx(wrong, rel=1e-9)


@pytest.mark.parametrize("sides", ["dirichlet", "neumann", "nodes", "mixed"])
def test_transforms_are_the_matrices(sides: str, monkeypatch: pytest.MonkeyPatch) -> None:
    domain = Domain(Grid((9, 12, 10), spacing=(0.2, 0.1, 0.3)), boundary=SIDES[sides])
    for k, (n, both) in enumerate(zip(domain.grid.shape, domain.sides, strict=True)):
        axis = Axis("test", n, *both, 0.5)
        V, x = axis.vectors(torch.float64), noise(9, 12, 10).requires_grad_()
        assert_close(V.mT @ line_operator(n, *both) @ V * 4, torch.diag(axis.values))
        plain = axis.analysed(x, k), axis.made(x, k)
        with monkeypatch.context() as patch:
            patch.setattr(sys.modules["tensornet.pde.axis"], "_FAST", {1: 0, 2: 0, 4: 0})
            fast = axis.analysed(x, k), axis.made(x, k)
            for one, other in zip(plain, fast, strict=True):
                assert_close(one, other, rtol=1e-12, atol=1e-12)
            if axis._transform is not None:
                (slope,) = torch.autograd.grad(fast[1].square().sum(), x)
                assert_close(slope, 2 * x)
            assert_close(axis.made(axis.analysed(x.float(), k), k), x.float(), rtol=0, atol=1e-5)


def test_preconditioner() -> None:
    n = 16
    grid = Grid((n, n, n), spacing=1 / n)
    x, y, z = grid.centers()
    mask = (x - 0.5) ** 2 + (y - 0.5) ** 2 + (z - 0.5) ** 2 > 0.15**2
    domain = Domain(grid, mask=mask, boundary=("neumann", "neumann", ("neumann", "dirichlet")))
    p = poisson(domain, source=noise(n, n, n))
    steps = [
        pcg(p.operator, p.rhs, M=M, rtol=1e-6).n_iterations
        for M in (box_preconditioner(p.operator), exponential_sum_inverse(domain, tolerance=1e-2))
    ]
    assert steps[0] <= 10
    assert abs(steps[0] - steps[1]) <= 1


def test_refusals() -> None:
    grid = Grid((5, 6), spacing=0.1)
    inverse = exponential_sum_inverse(grid)
    for options in ({"tolerance": 0.0}, {"coefficient": -1.0}, {"shift": float("nan")}):
        with pytest.raises(ValueError, match="exponential_sum_inverse"):
            exponential_sum_inverse(grid, **options)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="grid or domain"):
        exponential_sum_inverse((5, 6))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="coefficient"):
        exponential_sum_inverse(grid, coefficient=torch.ones(5, 6))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="4096"):
        exponential_sum_inverse(Grid(5000, spacing=0.1), boundary="periodic")
    with pytest.raises(TypeError, match="CP, Tucker or TensorTrain"):
        solve_low_rank(inverse, torch.ones(5, 6))  # type: ignore[type-var]
    with pytest.raises(TypeError, match="exponential_sum_inverse"):
        solve_low_rank(None, CP((noise(5, 1), noise(6, 1))))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shape"):
        solve_low_rank(inverse, CP((noise(6, 1), noise(6, 1))))
    with pytest.raises(TypeError, match="float64"):
        solve_low_rank(inverse, CP((noise(5, 1).float(), noise(6, 1).float())))
    with pytest.raises(ValueError, match="finite"):
        solve_low_rank(inverse, CP((noise(5, 1) / 0, noise(6, 1))))
    mask = torch.ones(5, 6, dtype=torch.bool)
    mask[2, 2] = False
    with pytest.raises(ValueError, match="without a mask"):
        solve_low_rank(exponential_sum_inverse(grid, mask=mask), CP((noise(5, 1), noise(6, 1))))
