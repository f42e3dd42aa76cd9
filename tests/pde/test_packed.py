"""The stencil on the cells of a mask against the stencil on fields and the sparse matrix."""

from typing import Any

import pytest
import torch
from torch.testing import assert_close

from tensornet import kernels
from tensornet.pde import Domain, Grid, dirichlet, poisson
from tensornet.pde.packed import pieces

MIXED: Any = (("neumann", "dirichlet"), "periodic", (dirichlet(at="center"), "neumann"))
SHAPES = [(40,), (7, 33), (5, 6, 40), (3, 3, 3), (4, 3, 90)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("share", [0.95, 0.5])
@pytest.mark.parametrize("around", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_as_on_fields(
    shape: tuple[int, ...], around: bool, share: float, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(4)
    mask = torch.rand(*shape, generator=generator) < share
    mask[(1,) * len(shape)] = False
    boundary = "periodic" if around else MIXED[: len(shape)]
    spacing = (0.5, 0.3, 0.2)[: len(shape)]
    domain = Domain(Grid(shape, spacing=spacing), mask=mask, boundary=boundary, wall="dirichlet")
    A = poisson(domain, coefficient=1.7, dtype=dtype, project=True).operator
    assert A._packed is not None
    x = torch.randn(3, domain.n, generator=generator, dtype=torch.float64).to(dtype)
    y = A(x)
    with kernels.use("reference"):
        on_fields = A(x)
    tolerance = 1e-13 if dtype == torch.float64 else 1e-5
    scale = float(on_fields.abs().max())
    assert_close(y, on_fields, rtol=0, atol=tolerance * scale)
    sparse = torch.from_numpy(A.to_scipy_sparse() @ x.numpy().T).mT
    assert_close(y, sparse, rtol=0, atol=tolerance * scale)
    table, _ = pieces(domain, A.weights)
    assert int(table[:, 1].sum()) == domain.n
    assert A(x[:0]).shape == (0, domain.n)


def test_derivatives_and_threads() -> None:
    mask = torch.ones(20, 30, 40, dtype=torch.bool)
    mask[4:9, 3:20, 10:30] = False
    A = poisson(Grid((20, 30, 40), spacing=0.1), mask=mask).operator
    x = torch.randn(2, A.shape[0], requires_grad=True)
    (slope,) = torch.autograd.grad(A(x).square().sum(), x, create_graph=True)
    assert_close(slope, 2 * A(A(x)))
    (curve,) = torch.autograd.grad((slope * x.detach()).sum(), x)
    assert_close(curve, 2 * A(A(x.detach())))
    alone, threads = A(x.detach()), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        many = A(x.detach().expand(10, 2, -1).reshape(20, -1))
        assert torch.equal(many[6:8], alone)
    finally:
        torch.set_num_threads(threads)


def test_derivatives_in_the_operator_take_the_field() -> None:
    mask = torch.ones(4, 5, dtype=torch.bool)
    mask[1, 2] = False
    A = poisson(Grid((4, 5), spacing=0.1), mask=mask, coefficient=torch.ones(4, 5)).operator
    assert A._packed is None
