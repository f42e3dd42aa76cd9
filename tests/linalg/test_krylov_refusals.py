"""Wrong input and failing operators: sentences, never a wrong field."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from torch import Tensor

from tensornet.linalg import cg, deep_conjugate_direction, fcg, gmres, pcg

ALL = [cg, fcg, gmres, lambda A, b, **k: pcg(A, b, M=lambda r: r, **k)]
ROWS = [[4.0, 1, 0, 0], [1, 4, 1, 0], [0, 1, 4, 1], [0, 0, 1, 4]]
SPD = torch.tensor(ROWS, dtype=torch.float64)


@pytest.mark.parametrize("solver", ALL)
def test_wrong_calls(solver: Any) -> None:
    b = torch.ones(4)
    with pytest.raises(ValueError, match=r"b=...\)` must be finite. Got 1 NaN"):
        solver(SPD, b / torch.tensor([1.0, 1, 1, torch.nan]))
    with pytest.raises(ValueError, match=r"A=...\)` must have shape \(3, 3\), as `b` has 3"):
        solver(SPD, torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"must have shape \(4, 4\).*Got \(4, 3\)"):
        solver(SPD[:, :3], b)
    with pytest.raises(ValueError, match=r"must keep the shape of its input, \(2, 4\)"):
        solver(lambda x: x[..., :2], torch.ones(2, 4))
    with pytest.raises(TypeError, match=r"must keep the dtype of `b`, torch.float64"):
        solver(lambda x: x.float(), b)
    with pytest.raises(TypeError, match=r"must have the dtype torch.float32"):
        solver(SPD, b.float())
    with pytest.raises(TypeError, match=r"must give a torch.Tensor. Got ndarray"):
        solver(lambda x: np.ones(4), b)
    with pytest.raises(TypeError, match=r"must be real, as `b` is"):
        solver(SPD.numpy() * 1j, b)
    with pytest.raises(TypeError, match=r"must be real, as `b` is"):
        solver(SPD * 1j, b)
    with pytest.raises(TypeError, match=r"must be a function on tensors, a matrix or a SciPy"):
        solver(3.0, b)
    with pytest.raises(TypeError, match=r"must be a torch.Tensor. Got list"):
        solver(SPD, [1.0] * 4)
    with pytest.raises(TypeError, match=r"must hold floating or complex numbers"):
        solver(SPD, torch.ones(4, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"must be of float32, float64 or complex"):
        solver(SPD.half(), b.half())
    with pytest.raises(ValueError, match=r"rtol=...\)` must be a finite number"):
        solver(SPD, b, rtol=-1.0)
    with pytest.raises(ValueError, match=r"maxiter=...\)` must be at least 0"):
        solver(SPD, b, maxiter=-1)
    with pytest.raises(ValueError, match=r"x0=...\)` must have the shape \(4,\)"):
        solver(SPD, b, x0=torch.ones(2, 4))
    with pytest.raises(ValueError, match=r"must not be empty"):
        solver(SPD, torch.ones(0, 4))


@pytest.mark.parametrize("solver", ALL)
def test_nothing_to_do(solver: Any) -> None:
    found = solver(SPD, torch.zeros(4), x0=torch.ones(4))
    assert found.converged
    assert found.n_iterations == 0
    assert not found.value.any()
    none = solver(SPD, torch.ones(4), maxiter=0)
    assert not none.converged
    assert none.residuals == (1.0,)
    assert "Relative residual 1.0e+00 after 0 iterations" in none.message
    assert "above rtol 1.0e-05: allow more iterations" in none.message
    start = torch.linalg.solve(SPD, torch.ones(4))
    ready = solver(SPD, torch.ones(4), maxiter=0, x0=start)
    assert ready.converged
    assert torch.equal(ready.value, start)
    assert solver(SPD, np.array([1, 2, 3, 4])).value.dtype == np.float64


@pytest.mark.parametrize("solver", [cg, fcg])
def test_negative_curvature_is_named(solver: Any) -> None:
    found = solver(-SPD, torch.ones(4))
    assert not found.converged
    assert "must be positive definite. Got negative curvature" in found.message
    assert "at iteration 1" in found.message
    mixed = torch.diag(torch.tensor([1.0, 2.0, 3.0, -1.0]))
    b = torch.ones(3, 4)
    b[1, 3] = 0
    found = solver(mixed, b, rtol=1e-12)
    assert found.iterations[1] == 3
    assert found.residual[1] < 1e-12 < found.residual[0]
    assert "1 of 3 systems converged. System 0:" in found.message
    assert "System 2:" in found.message
    assert torch.allclose(found.value[1], torch.tensor([1.0, 0.5, 1 / 3, 0.0]), atol=1e-10)
    assert "is singular" in solver(0 * SPD, torch.ones(4)).message


@pytest.mark.parametrize("solver", [cg, fcg])
def test_asymmetry_is_named(solver: Any) -> None:
    A = SPD.clone()
    A[0, 1] += 1e-5
    found = solver(A, torch.randn(4))
    assert not found.converged
    assert "must be symmetric. Got p·A q" in found.message
    assert found.n_iterations == 1

    class Wind:
        symmetric = False

        def __call__(self, x: Tensor) -> Tensor:
            return x @ A

    with pytest.raises(ValueError, match=r"an operator that says it is not"):
        solver(Wind(), torch.ones(4))


@pytest.mark.parametrize("solver", [cg, fcg])
def test_a_singular_system_without_a_solution_is_named(solver: Any) -> None:
    n = 40
    line = torch.diag(torch.full((n,), 2.0)) - torch.ones(n, n).tril(1).triu(-1) + torch.eye(n)
    line[0, 0] = line[-1, -1] = 1.0
    b = torch.randn(n) + 0.3
    found = solver(line, b)
    assert not found.converged
    assert "is singular" in found.message
    assert "Give the operator a `nullspace`" in found.message
    few = solver(line, b, maxiter=n)
    assert "singular" in few.message
    assert solver(line, b - b.mean()).converged


@pytest.mark.parametrize("solver", [cg, fcg])
def test_a_goal_of_zero_ends_at_rounding(solver: Any) -> None:
    b = torch.randn(2, 4)
    found = solver(SPD, b, rtol=0.0)
    assert not found.converged
    assert "as accurate as float64 gets here" in found.message
    assert found.residuals[-1] < 1e-15
    assert found.n_iterations < 20


def test_a_preconditioner_that_is_not_positive_is_named() -> None:
    b = torch.ones(4)
    found = pcg(SPD, b, M=-torch.eye(4))
    assert not found.converged
    assert "`pcg(M=...)` must be positive definite. Got r·M(r) = -4.0e+00 at it" in found.message
    assert (
        "must be positive definite. Got r·M(r) = nan" in pcg(SPD, b, M=lambda r: r / 0 * 0).message
    )
    tilted = pcg(SPD, torch.randn(4), M=torch.eye(4) + torch.ones(4, 4).triu(1) / 5)
    assert "`pcg(M=...)` is not symmetric or not linear; `fcg` takes such" in tilted.message
    with pytest.raises(ValueError, match=r"`pcg\(M=...\)` must have shape \(4, 4\)"):
        pcg(SPD, b, M=torch.eye(3))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 0.0])
def test_a_network_that_fails_costs_steps_only(bad: float) -> None:
    b = torch.randn(2, 4)
    called = 0

    def sometimes(r: Tensor) -> Tensor:
        nonlocal called
        called += 1
        return r * bad if called % 2 else r

    found = deep_conjugate_direction(SPD, b, sometimes, tolerance=1e-10)
    assert found.converged
    assert "NaN, zero or at right angles to the residual 4 times; the residual" in found.message
    assert torch.allclose(found.value @ SPD, b, atol=1e-8)


def test_a_network_with_one_answer_is_overruled() -> None:
    found = deep_conjugate_direction(SPD, torch.randn(4), lambda r: torch.ones(4), tolerance=1e-9)
    assert found.converged
    assert "was taken instead" in found.message


def test_a_network_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"direction\(direction=...\)` must keep the shape"):
        deep_conjugate_direction(SPD, torch.ones(4), lambda r: r[:2])
    with pytest.raises(ValueError, match=r"n_orthogonal=...\)` must be at least 0"):
        deep_conjugate_direction(SPD, torch.ones(4), lambda r: r, n_orthogonal=-1)


def test_an_operator_that_breaks_on_the_way() -> None:
    calls = 0

    def breaks(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return x @ SPD if calls < 3 else x * torch.nan

    found = cg(breaks, torch.randn(4), rtol=1e-12)
    assert not found.converged
    assert "gave NaN or infinite numbers at iteration 3" in found.message
    assert found.value.isfinite().all()


def test_an_interrupt_leaves_nothing_behind() -> None:
    b, weights = torch.randn(4), torch.ones(4, requires_grad=True)

    def stop(x: Tensor) -> None:
        raise KeyboardInterrupt

    def operator(x: Tensor) -> Tensor:
        return weights * x + x @ SPD

    before = b.clone()
    for solver in (cg, fcg, gmres):
        with pytest.raises(KeyboardInterrupt):
            solver(operator, b, callback=stop)
    assert torch.is_grad_enabled()
    assert torch.equal(b, before)
    assert cg(operator, b).value.requires_grad


def test_what_a_caller_keeps_is_not_written_to() -> None:
    b, x0 = torch.randn(4), torch.randn(4)
    kept: list[Tensor] = []
    before, start = b.clone(), x0.clone()
    buffer = torch.empty(4)

    def reused(x: Tensor) -> Tensor:  # an operator that writes into its last result
        return torch.matmul(SPD, x, out=buffer)

    for solver in (cg, fcg):
        kept.clear()
        with torch.no_grad():
            found = solver(reused, b, x0=x0, callback=kept.append, rtol=1e-12)
        assert found.converged
        assert found.n_iterations <= 4
        assert torch.allclose(SPD @ found.value, b, atol=1e-10)
        assert not torch.equal(kept[0], kept[1])
    assert torch.equal(b, before)
    assert torch.equal(x0, start)


def test_scipy_operators_of_other_dtypes() -> None:
    A = scipy.sparse.linalg.aslinearoperator(SPD.numpy())
    found = cg(A, np.ones(4, dtype=np.float32), rtol=1e-12)  # SciPy computes in the larger, too
    assert found.value.dtype == np.float64
    assert found.converged
    frozen = SPD.numpy().copy()[::-1, ::-1]
    frozen.flags.writeable = False
    assert cg(frozen, np.ones(4)[::-1]).converged
    single = cg(A, torch.ones(4, dtype=torch.float32))
    assert single.value.dtype == torch.float32
