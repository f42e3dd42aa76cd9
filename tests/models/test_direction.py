"""Networks of directions: laws of the linear one, its loops, what it follows, what it refuses."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from scipy.sparse.linalg import cg as scipy_cg
from torch import Tensor
from torch.testing import assert_close

from tensornet.linalg import cg, deep_conjugate_direction, pcg
from tensornet.models import DirectionNet, ModelFileError, direction
from tensornet.models.direction import stencil_kind
from tensornet.models.direction_linear import Direction
from tensornet.pde import (
    Grid,
    Problem,
    advection_diffusion,
    multigrid,
    poisson,
    theta_step,
)
from tensornet.testing.pressure import (
    OPEN_TOP,
    PROBLEMS,
    pool_problem,
    small_problem,
    sphere_problem,
    white_noise,
)


def small(case: str) -> Problem:
    """One of many shapes and boundaries, small enough for dense matrices."""
    if case == "heat step":
        step = theta_step(sphere_problem(8), 0.01).implicit
        return Problem(step, white_noise(step.shape[0]))
    return small_problem(case)


CASES = [
    *("line", "odd rings", "even rings", "ring and walls", "flat cells", "two parts"),
    *("heat step", "coefficient", "pool", "sphere"),
]


def wild(dim: int, *, steps: int = 1, seed: int = 0, amount: float = 0.5) -> DirectionNet:
    """A network whose weights make no sense."""
    net, generator = DirectionNet(dim=dim, grids=2, steps=steps), torch.Generator()
    generator.manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(amount * torch.randn(p.shape, generator=generator))
    return net


def bound(net: DirectionNet, problem: Problem, **options: Any) -> Direction:
    found = net.bind(problem.operator, **{"precision": torch.float64, **options})
    assert isinstance(found, Direction)
    return found


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_symmetric_positive_definite_with_any_weights(case: str, steps: int) -> None:
    problem = small(case)
    M = bound(wild(problem.operator.domain.grid.dim, steps=steps), problem)
    assert len(M.shapes) > 1
    matrix = M.to_dense()
    assert_close(matrix, matrix.mT, rtol=0, atol=1e-12 * float(matrix.abs().max()))
    assert float(torch.linalg.eigvalsh(matrix)[0]) > 0
    x, y = white_noise(2, len(problem.rhs))
    assert_close(M(x) @ y, x @ M(y), rtol=1e-10, atol=0)
    assert float(x @ M(x)) > 0


@pytest.mark.parametrize("case", CASES)
def test_loops_agree_with_torch(case: str) -> None:
    problem = small(case)
    A, x = problem.operator, white_noise(2, len(problem.rhs))
    net = wild(A.domain.grid.dim, steps=2, amount=0.1)
    double = wild(A.domain.grid.dim, steps=2, amount=0.1).double()
    want = double.propose(A, x, double.grids_of(A)).detach()
    found = bound(net, problem)
    assert (found._sweeps is None) == (case == "odd rings")
    assert_close(found(x), want, rtol=0, atol=1e-13 * float(want.abs().max()))
    single = net.bind(A)(x)
    assert_close(single, want, rtol=0, atol=1e-5 * float(want.abs().max()))
    assert not torch.equal(single, want)


def test_derivatives() -> None:
    problem = small("sphere")
    A, x = problem.operator, problem.rhs.clone().requires_grad_()
    M, g = bound(wild(3), problem), white_noise(len(problem.rhs), seed=1)
    assert_close(torch.autograd.grad(M(x) @ g, x)[0], M(g), rtol=0, atol=0)
    net = wild(3, amount=0.05).double()
    grids, row = net.grids_of(A), problem.rhs[None]

    def value() -> Tensor:
        return net.propose(A, row, grids)[0] @ g

    names = dict(net.named_parameters())
    gradients = torch.autograd.grad(value(), list(names.values()))
    for (name, p), gradient in zip(names.items(), gradients, strict=True):
        at = (0,) * p.ndim
        with torch.no_grad():
            ends = []
            for step in (1e-5, -2e-5):
                p[at] += step
                ends.append(float(value()))
            p[at] += 1e-5
        slope = (ends[0] - ends[1]) / 2e-5
        assert float(gradient[at]) == pytest.approx(slope, rel=1e-5, abs=1e-9), name


@pytest.mark.parametrize("make", PROBLEMS.values(), ids=PROBLEMS)
def test_untrained_iterations_do_not_grow(make: Callable[[int], Problem]) -> None:
    counts = []
    for n in (8, 16, 32):
        p = make(n)
        M = DirectionNet().bind(p.operator)
        found = deep_conjugate_direction(p.operator, p.rhs, M)
        assert found.converged
        counts.append(found.n_iterations)
    assert max(counts) <= 13
    assert cg(p.operator, p.rhs, rtol=1e-4).n_iterations > 5 * counts[-1]


def test_same_solution_as_multigrid() -> None:
    p = sphere_problem(16)
    M = DirectionNet().bind(p.operator)
    assert isinstance(M, Direction)
    found = pcg(p.operator, p.rhs, M=M, rtol=1e-10)
    want = pcg(p.operator, p.rhs, M=multigrid(p.operator), rtol=1e-10)
    assert_close(found.value, want.value, rtol=0, atol=1e-8 * float(want.value.abs().max()))
    assert found.converged
    x, info = scipy_cg(p.operator.to_scipy_sparse(), p.rhs.numpy(), rtol=1e-10, M=M.to_scipy())
    assert info == 0
    assert_close(torch.from_numpy(x), found.value, rtol=0, atol=1e-8 * float(found.value.max()))
    assert M.n_bytes > 4 * len(p.rhs)


def test_batches() -> None:
    p = sphere_problem(8)
    M, rows = bound(wild(3), p), white_noise(3, len(p.rhs))
    assert_close(M(rows), torch.stack([M(row) for row in rows]), rtol=0, atol=0)
    assert M(rows[:0]).shape == (0, len(rows[0]))


@pytest.mark.parametrize("case", ["sphere", "odd rings"])
def test_any_magnitude(case: str) -> None:
    p = small(case)
    A = p.operator
    net = wild(A.domain.grid.dim, amount=0.1)
    want = net.bind(A)(p.rhs + 1)
    for size in (1e-250, 1e250):
        assert_close(net.bind(A)((p.rhs + 1) * size) / size, want, rtol=1e-5, atol=1e-9)
        assert_close(net.bind(A.shifted(0.0, size))(p.rhs + 1) * size, want, rtol=1e-5, atol=1e-9)
    assert not bool(net.bind(A)(0 * p.rhs).any())


def test_threads_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    from tensornet.models import direction_sweeps

    p = sphere_problem(16)
    M = bound(wild(3), p)
    want = M(p.rhs)
    monkeypatch.setattr(direction_sweeps, "_GRAIN", 300)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert_close(M(p.rhs), want, rtol=0, atol=0)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("dim", [2, 3])
def test_network_of_the_paper(dim: int) -> None:
    p = poisson(Grid((9,) * dim, spacing=0.1), source=white_noise(*(9,) * dim))
    net = DirectionNet(dim=dim, mode="relu", channels=4)
    M = net.bind(p.operator)
    assert not torch.equal(M(2 * p.rhs.float()), 2 * M(p.rhs.float()))
    shift = torch.nn.functional.normalize(white_noise(2, len(p.rhs))).float()
    assert_close(M(shift)[1], M(shift[1]), rtol=1e-4, atol=1e-6)
    exact = torch.linalg.solve(p.operator.to_dense(), p.rhs)
    energies = []
    for n in range(1, 5):
        found = deep_conjugate_direction(p.operator, p.rhs, M, max_iterations=n)
        gap = found.value - exact
        energies.append(float(gap @ p.operator(gap)))
    assert energies == sorted(energies, reverse=True)  # untrained, but never the wrong way


def test_sizes_of_the_paper() -> None:
    for size, count in ((64, 97_457), (128, 152_881)):
        net = DirectionNet(mode="relu", size=size)
        assert sum(p.numel() for p in net.parameters()) == count
    assert sum(p.numel() for p in DirectionNet(mode="relu", dim=2).parameters()) < 40_000
    assert sum(p.numel() for p in DirectionNet().parameters()) < 100


@pytest.mark.parametrize("mode", ["linear", "relu"])
def test_files(mode: str, tmp_path: Path) -> None:
    net, p = DirectionNet(mode=mode, channels=2), sphere_problem(8)
    net.note_training([p.operator])
    net.provenance = {"seed": 3}
    net.save(tmp_path / "net.safetensors")
    again = DirectionNet.load(tmp_path / "net.safetensors")
    assert again.config == net.config
    assert again.trained_for == net.trained_for
    assert again.provenance == {"seed": 3}
    r = p.rhs.float() if mode == "relu" else p.rhs
    assert_close(again.bind(p.operator)(r), net.bind(p.operator)(r), rtol=0, atol=0)


def test_broken_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.safetensors"
    with pytest.raises(FileNotFoundError, match="no file"):
        DirectionNet.load(path)
    net = DirectionNet()
    net.save(path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ModelFileError, match="must be a whole DirectionNet file"):
        DirectionNet.load(path)
    save_file({"w": torch.ones(2)}, path)
    with pytest.raises(ModelFileError, match="of another program"):
        DirectionNet.load(path)
    monkeypatch.setattr(direction, "CONTAINER", replace(direction.CONTAINER, version=2))
    net.save(path)
    monkeypatch.undo()
    with pytest.raises(ModelFileError, match="Update tensornet"):
        DirectionNet.load(path)
    with torch.no_grad():
        next(net.parameters()).view(-1)[0] = float("nan")
    net.save(path)
    with pytest.raises(ModelFileError, match="finite"):
        DirectionNet.load(path)


def test_kinds() -> None:
    kind = stencil_kind(pool_problem(8).operator)
    assert kind["boundaries"] == ["dirichlet at centres", "neumann"]
    assert kind["coefficient"] == ["constant"]
    assert kind["reaction"] == [False]
    assert stencil_kind(small("heat step").operator)["reaction"] == [True]
    assert stencil_kind(small("flat cells").operator)["spacing"] == [[1.0, 5.0, 1.2]]
    assert stencil_kind(small("coefficient").operator)["coefficient"] == ["varying"]


def test_refusals() -> None:
    net = DirectionNet()
    net.note_training([sphere_problem(8).operator])
    net.bind(sphere_problem(10).operator)
    for case, said in (("pool", "dirichlet at centres"), ("heat step", "reaction")):
        with pytest.raises(ValueError, match=f"trained on: .*{said}"):
            net.bind(small(case).operator)
        net.bind(small(case).operator, unseen=True)
    net.note_training([small("pool").operator])
    net.bind(small("pool").operator)
    flat = poisson(Grid((8, 8, 8), spacing=(0.1, 0.1, 0.2)), boundary=OPEN_TOP)
    with pytest.raises(ValueError, match="spacing"):
        net.bind(flat.operator)


def test_refusals_of_what_is_no_operator_for_it() -> None:
    net, A = DirectionNet(), sphere_problem(8).operator
    with pytest.raises(TypeError, match="operator of `pde`"):
        net.bind(A.to_scipy_sparse())
    with pytest.raises(ValueError, match="3 axes"):
        net.bind(small("line").operator)
    with pytest.raises(TypeError, match="precision"):
        net.bind(A, precision=torch.float16)
    with pytest.raises(ValueError, match="weights and ties"):
        net.bind(A.shifted(-1.0))
    flow = advection_diffusion(Grid((8, 8, 8), spacing=0.1), velocity=(1.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="symmetric"):
        net.bind(flow.operator)
    with pytest.raises(ValueError, match="shape"):
        net.bind(A)(torch.ones(3, dtype=torch.float64))
    for words, said in (
        ({"mode": "gelu"}, "mode"), ({"dim": 4}, "dim"), ({"size": 65}, "size"),
        ({"grids": 0}, "grids"), ({"mode": "relu", "dim": 1}, "dim"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            DirectionNet(**words)
