"""Lord modules are sums of Kronecker products, start at inverses, and say so in the formats."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from tensornet.formats import CP, TTMatrix
from tensornet.layers import LordBasis, LordModule
from tensornet.pde import Grid, advection_diffusion, kronecker_inverse, poisson
from tensornet.pde.operator import StencilOperator

SHAPES = ((5,), (4, 3), (3, 2, 4))


@pytest.fixture(autouse=True)
def no_gradients(request: pytest.FixtureRequest) -> Iterator[None]:
    with torch.set_grad_enabled("gradients" in request.node.name):
        yield


def laplacian(*shape: int, **settings: object) -> StencilOperator:
    grid = Grid(shape, spacing=[1 / n for n in shape])
    return poisson(grid, project=True, **settings).operator  # type: ignore[arg-type]


def disc(n: int) -> Tensor:
    x, y = Grid((n, n), spacing=1 / n).centers()
    return (x - 0.4).square() + (y - 0.6).square() > 0.05


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("factor_rank", [None, 2])
def test_from_the_definition(shape: tuple[int, ...], factor_rank: int | None) -> None:
    out = tuple(n + 1 for n in shape)
    settings = {"rank": 3, "in_channels": 2, "out_channels": 4, "out_shape": out, "seed": 1}
    module = LordModule(shape, factor_rank=factor_rank, **settings)  # type: ignore[arg-type]
    x = torch.randn(2, 6, 2, *shape)
    letters, others = "ijk"[: len(shape)], "abc"[: len(shape)]
    mats = ",".join(f"r{o}{i}" for o, i in zip(others, letters, strict=True))
    equation = f"or,rn,{mats},xyn{letters}->xyo{others}"
    want = torch.einsum(equation, module.mix_out, module.mix_in, *module.matrices(), x)
    assert torch.allclose(module(x), want, atol=1e-12)
    assert module(x[:, :0]).shape == (2, 0, 4, *out)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("residual", [False, True])
def test_formats_there_and_back(shape: tuple[int, ...], residual: bool) -> None:
    module = LordModule(shape, 3, residual=residual, seed=2)
    x = torch.randn(7, 1, *shape)
    want = module(x).flatten(1)
    assert torch.allclose(x.flatten(1) @ module.to_matrix().mT, want, atol=1e-12)
    assert module.to_cp().rank == 3 + residual
    for again in (
        LordModule.from_cp(module.to_cp(), shape),
        LordModule.from_tt_matrix(module.to_tt_matrix()),
    ):
        assert torch.allclose(again(x).flatten(1), want, atol=1e-12)


def test_any_train_matrix_is_one() -> None:
    cores = [torch.randn(1, 3, 2, 2), torch.randn(2, 2, 4, 3), torch.randn(3, 5, 3, 1)]
    matrix = TTMatrix(tuple(cores), torch.tensor(0.3))
    module = LordModule.from_tt_matrix(matrix)
    x = torch.randn(2, 4, 3)
    assert module.rank == 6
    assert torch.allclose(module(x[None])[0].flatten(), matrix.to_matrix() @ x.flatten())


def test_kronecker_sum_is_one() -> None:
    A = laplacian(4, 5)
    lines = [torch.linalg.eigvalsh(laplacian(n).to_dense()) for n in (4, 5)]
    assert lines[0][0] > 0
    sums = TTMatrix.kronecker_sum([laplacian(4).to_dense(), laplacian(5).to_dense()])
    assert torch.allclose(LordModule.from_tt_matrix(sums).to_matrix(), A.to_dense())


@pytest.mark.parametrize("loss", ["error", "energy", "residual"])
@pytest.mark.parametrize("shape", [(9,), (12, 10), (4, 3, 5)], ids=str)
def test_reported_loss_is_measured(shape: tuple[int, ...], loss: str) -> None:
    A = laplacian(*shape)
    found = kronecker_inverse(A, 3, loss=loss)
    M = LordModule.from_cp(found.value, shape).to_matrix()
    dense = A.to_dense()
    values, vectors = torch.linalg.eigh(dense)
    root = {"error": 0.0, "energy": 0.5, "residual": 1.0}[loss]
    left = (vectors * values**root) @ vectors.mT
    inverse = torch.linalg.inv(dense)
    measured = float((left @ (M - inverse)).norm() / (left @ inverse).norm())
    assert found.relative_error == pytest.approx(measured, rel=1e-6, abs=1e-12)
    assert measured < (1e-12 if len(shape) == 1 else 0.05)
    if len(shape) == 2:  # each loss is lowest where it is minimised
        for word in ("error", "energy", "residual"):
            other = LordModule.from_operator(A, 3, loss=word).to_matrix()
            reached = float((left @ (other - inverse)).norm() / (left @ inverse).norm())
            assert reached >= measured * (1 - 1e-6)


def test_rank_eight_solves() -> None:
    errors = [kronecker_inverse(laplacian(32, 32), r).relative_error for r in (1, 2, 4, 8)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-5
    assert errors[0] > 0.1


def test_optimal_in_two_dimensions() -> None:
    A = laplacian(8, 7)
    inverse = torch.linalg.inv(A.to_dense()).reshape(8, 7, 8, 7)
    S = torch.linalg.svdvals(inverse.permute(0, 2, 1, 3).reshape(64, 49))
    for rank in (1, 3):
        best = float(S[rank:].norm() / S.norm())
        assert kronecker_inverse(A, rank).relative_error == pytest.approx(best, rel=1e-6)


def test_least_squares_from_a_random_start() -> None:
    A = laplacian(32, 32)
    for loss in ("error", "residual"):
        found = kronecker_inverse(A, 4, loss=loss, start="random")
        best = kronecker_inverse(A, 4, loss=loss)
        assert found.relative_error < 1.01 * best.relative_error
        assert 1 < found.n_iterations < 300


def test_mask_and_coefficient() -> None:
    x, y = Grid((12, 12), spacing=1 / 12).centers()
    A = laplacian(12, 12, coefficient=1 + x + y * y)
    errors = [kronecker_inverse(A, r).relative_error for r in (2, 6, 144)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-7
    masked = laplacian(12, 12, mask=disc(12), boundary="neumann")
    found = kronecker_inverse(masked, 144)
    b = torch.randn(masked.shape[0])
    b = b - b.mean()
    module = LordModule.from_cp(found.value, (12, 12))
    u = module(masked.domain.embed(b)[None])[0]
    assert torch.allclose(masked(masked.domain.restrict(u)), b, atol=1e-6)
    assert u[~disc(12)].abs().max() < 1e-7
    in_3d = laplacian(3, 2, 3, coefficient=1 + torch.rand(3, 2, 3))
    found = kronecker_inverse(in_3d, 5)
    M = LordModule.from_cp(found.value, (3, 2, 3)).to_matrix()
    inverse = torch.linalg.inv(in_3d.to_dense())
    measured = float((M - inverse).norm() / inverse.norm())
    assert found.relative_error == pytest.approx(measured, rel=1e-6)
    assert measured < 0.1


def test_closed_box_leaves_the_constant_out() -> None:
    A = laplacian(9, 8, boundary="neumann")
    module = LordModule.from_operator(A, 72)
    b = torch.randn(72)
    u = module((b + 3).reshape(1, 9, 8)).flatten()
    assert torch.allclose(A(u), b - b.mean(), atol=1e-9)


@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic"])
def test_basis_at_its_start_is_the_inverse(boundary: str) -> None:
    A = laplacian(6, 5, 4, boundary=boundary)
    b = A(torch.randn(3, 120))
    basis = LordBasis.from_operator(A, channels=2)
    u = basis(b.reshape(3, 1, 6, 5, 4).expand(3, 2, 6, 5, 4))
    assert torch.allclose(A(u[:, 1].flatten(1)), b, atol=1e-9)
    root = LordBasis.from_operator(A, power=0.5)
    twice = root(root(b.reshape(3, 1, 6, 5, 4)))
    assert torch.allclose(twice[:, 0], u[:, 0], atol=1e-9)


def test_basis_is_definite_and_of_low_rank() -> None:
    basis = LordBasis((5, 4), seed=0)
    with torch.no_grad():
        basis.log_core.normal_()
        basis.bases[0].normal_()
    M = basis(torch.eye(20).reshape(20, 1, 5, 4)).flatten(1)
    assert torch.allclose(M, M.mT)
    assert torch.linalg.eigvalsh(M).min() > 0
    assert torch.allclose(basis.to_lord(4).to_matrix(), M, atol=1e-6)
    box = LordBasis.from_operator(laplacian(16, 16))
    x = torch.randn(1, 16, 16)
    assert torch.allclose(box.to_lord(8)(x), box(x), rtol=1e-4, atol=1e-5)
    line = LordBasis.from_operator(laplacian(7))
    assert torch.allclose(line.to_lord(1).to_matrix(), torch.linalg.inv(laplacian(7).to_dense()))


@pytest.mark.parametrize("order", ["inside", "after"])
def test_activation_norm_residual(order: str) -> None:
    settings = {"in_channels": 2, "out_channels": 2, "activation": "tanh", "order": order}
    module = LordModule((3, 4), 5, norm=True, residual=True, seed=0, **settings)  # type: ignore[arg-type]
    x = torch.randn(6, 2, 3, 4)
    size = x.square().mean((1, 2, 3), keepdim=True).sqrt()
    A, B = module.matrices()
    y = torch.einsum("ri,raj,rbk,nijk->nrab", module.mix_in, A, B, x / size)
    if order == "inside":
        y = torch.einsum("or,nrab->noab", module.mix_out, y.tanh())
    else:
        y = torch.einsum("or,nrab->noab", module.mix_out, y).tanh()
    assert torch.allclose(module(x), x + y)
    assert module(torch.zeros_like(x)).abs().max() == 0
    with pytest.raises(ValueError, match="linear module"):
        module.to_cp()


@pytest.mark.parametrize("kind", ["module", "basis"])
def test_gradients(kind: str) -> None:
    made = LordModule((3, 2), 2, activation="tanh", norm=True, seed=0)
    module = made if kind == "module" else LordBasis((3, 2), seed=0)
    names = [name for name, _ in module.named_parameters()]
    values = [p.detach().clone().requires_grad_() for p in module.parameters()]
    x = torch.randn(2, 1, 3, 2, requires_grad=True)

    def call(x: Tensor, *values: Tensor) -> Tensor:
        named = dict(zip(names, values, strict=True))
        out: Tensor = functional_call(module, named, (x,))
        return out

    assert torch.autograd.gradcheck(call, (x, *values), rtol=1e-6, atol=1e-8)


def test_parameters_are_few() -> None:
    module = LordModule((64, 64), 8)
    assert sum(p.numel() for p in module.parameters()) == 8 * 2 * 64**2 + 16
    assert math.prod((64, 64)) ** 2 / 65_552 > 250


def test_refusals() -> None:
    with pytest.raises(ValueError, match="one to three axes"):
        LordModule((2, 2, 2, 2), 1)
    with pytest.raises(ValueError, match="activation"):
        LordModule((2,), 1, activation="sine")
    with pytest.raises(ValueError, match="residual"):
        LordModule((2,), 1, residual=True, out_channels=2)
    with pytest.raises(ValueError, match=r"\(\.\.\., 1, 4, 4\)"):
        LordModule((4, 4), 2)(torch.ones(4, 4))
    with pytest.raises(ValueError, match=r"Got \(1, 4, 5\)"):
        LordBasis((4, 4))(torch.ones(1, 4, 5))
    with pytest.raises(ValueError, match=r"factor_rank=.* at least 1\. Got 0"):
        LordModule((4, 4), 2, factor_rank=0)
    with pytest.raises(ValueError, match=r"LordBasis.to_lord\(rank=.* at least 1"):
        LordBasis((4,)).to_lord(0)
    for power in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match=r"power=.* must be finite"):
            LordBasis.from_operator(laplacian(4, 4), power=power)
    with pytest.raises(ValueError, match="pairs"):
        LordModule.from_cp(CP((torch.ones(4, 1), torch.ones(9, 1))), (2, 2))
    moving = advection_diffusion(Grid((4, 4), spacing=0.25), (1.0, 2.0)).operator
    with pytest.raises(ValueError, match="symmetric"):
        kronecker_inverse(moving, 2)
    with pytest.raises(ValueError, match="4096"):
        kronecker_inverse(laplacian(65, 65, coefficient=1 + torch.rand(65, 65)), 2)
    with pytest.raises(ValueError, match="analytic start"):
        kronecker_inverse(laplacian(5, 5, coefficient=1 + torch.rand(5, 5)), 2, loss="energy")
    with pytest.raises(TypeError, match="operator of `pde`"):
        LordBasis.from_operator(torch.eye(3))  # type: ignore[arg-type]
