"""How a kernel chooses its implementation, and what it refuses."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tensornet import kernels
from tensornet.kernels import (
    chain,
    chain_step,
    chebyshev_moments,
    chebyshev_rows,
    tucker_points,
    tucker_slopes,
)


def test_use_prefers_and_restores() -> None:
    assert chebyshev_rows.choose("cpu", torch.float64) == "numba_cpu"
    with kernels.use("reference"):
        assert chebyshev_rows.choose("cpu", torch.float64) == "reference"
        with kernels.use("numba_cpu"):
            assert chebyshev_rows.choose("cpu", torch.float64) == "numba_cpu"
        assert chebyshev_rows.choose("cpu", torch.float64) == "reference"
    assert chebyshev_rows.choose("cpu", torch.float64) == "numba_cpu"
    wrong = kernels.use("fortran")
    with pytest.raises(ValueError, match=r"`use\(name=...\)` must be one of .*numba_cpu"), wrong:
        pass


def test_other_dtypes_take_the_reference() -> None:
    assert chain_step.choose("cpu", torch.complex128) == "reference"
    left, core = (
        torch.randn(3, 2, dtype=torch.complex128),
        torch.randn(2, 4, 3).to(torch.complex128),
    )
    index = torch.tensor([3, 0, 3])
    want = torch.stack([left[i] @ core[:, s] for i, s in enumerate(index)])
    assert torch.allclose(chain_step(left, core, index), want, rtol=1e-12)


def test_derivatives_of_complex_tensors() -> None:
    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.complex128, requires_grad=True)

    index = torch.tensor([3, 0, 3])
    tucker = random(2, 3, 2), random(2, 2), random(2, 3), random(2, 2)
    for function, inputs in (
        (tucker_points, tucker),
        (tucker_slopes, tucker),
        (lambda a, b: chain_step(a, b, index), (random(3, 2), random(2, 4, 3))),
        (chebyshev_rows, (random(2), random(4, 2))),
        (lambda x, v: chebyshev_moments(x, v, 4), (random(2), random(2, 2))),
    ):
        assert torch.autograd.gradcheck(function, inputs, rtol=1e-6, atol=1e-8)


def test_table_tells_what_would_run() -> None:
    rows = {tuple(line.split()[:2]): line for line in kernels.table().splitlines()}
    assert len(rows) == 2 * len(kernels.kernels())
    assert "float64 numba_cpu" in rows["tucker_points", "cpu"]
    assert "complex128 reference" in rows["tucker_points", "cpu"]


def test_a_name_is_taken_once() -> None:
    with pytest.raises(RuntimeError, match="kernel `chebyshev_rows` is already defined"):
        kernels.Kernel(chebyshev_rows.reference, "n, m r -> n r")


def test_offers_are_imported_at_their_first_call() -> None:
    code = "import sys, tensornet.kernels; assert not {'numba', 'llvmlite'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_torch_func_sees_through() -> None:
    x, c = torch.rand(3), torch.randn(5, 2)
    jacobian = torch.func.jacrev(chebyshev_rows)(x, c)
    want = torch.autograd.functional.jacobian(lambda y: chebyshev_rows(y, c), x)
    assert torch.allclose(jacobian, want, rtol=1e-12)


def test_views_that_torch_negates_lazily() -> None:
    x = torch.randn(7, dtype=torch.complex128).conj().imag
    c = torch.randn(4, 3)
    assert x.is_neg()
    assert torch.equal(chebyshev_rows(x, c), chebyshev_rows(x.resolve_neg().clone(), c))


def test_threads_agree() -> None:
    x, c = torch.rand(5000) * 2 - 1, torch.randn(40, 19)
    vectors = [torch.randn(3001, r) for r in (7, 5, 9)]
    core, index = torch.randn(7, 11, 9), torch.randint(11, (3001,))
    calls: list[Callable[[], torch.Tensor]] = [
        lambda: chebyshev_rows(x, c),
        lambda: tucker_points(torch.ones(7, 5, 9), *vectors),
        lambda: chain_step(vectors[0], core, index),
        lambda: kernels.chain_moments(vectors[0], vectors[1], index, 11),
    ]
    alone = [call() for call in calls]
    torch.set_num_threads(3)
    together = [call() for call in calls]
    for a, b in zip(alone, together, strict=True):
        assert torch.equal(a, b)


def test_rows_are_chebyshev_polynomials() -> None:
    angle = torch.linspace(0, torch.pi, 101)
    k = torch.arange(12.0)
    rows = chebyshev_rows(angle.cos(), torch.eye(12))
    assert torch.allclose(rows, (angle[:, None] * k).cos(), rtol=0, atol=1e-13)
    c = torch.randn(65, 24)
    want = np.polynomial.chebyshev.chebval(angle.cos().numpy(), c.numpy()).T
    assert torch.allclose(chebyshev_rows(angle.cos(), c), torch.from_numpy(want), atol=1e-12)


@pytest.mark.parametrize("bad", [-1, 4])
def test_an_index_out_of_range_is_refused(bad: int) -> None:
    index = torch.tensor([0, bad, 1])
    with pytest.raises(IndexError, match=r"`chain_step\(index=...\)` must be from 0 to 3"):
        chain_step(torch.ones(3, 2), torch.ones(2, 4, 2), index)
    with kernels.use("reference"), pytest.raises((IndexError, RuntimeError)):
        chain_step(torch.ones(3, 2), torch.ones(2, 4, 2), index)


def test_chain_gives_the_entries_of_a_train() -> None:
    cores = [torch.randn(1, 3, 4), torch.randn(4, 5, 2), torch.randn(2, 4, 1)]
    dense = torch.einsum("aib,bjc,ckd->ijk", *cores)
    index = torch.stack([torch.randint(d, (200,)) for d in dense.shape], 1)
    assert torch.allclose(chain(cores, index), dense[tuple(index.T)], rtol=1e-12)
    with pytest.raises(ValueError, match=r"must have one column per core, 3. Got 2"):
        chain(cores, index[:, :2])
    whole: Any = index.tolist()
    with pytest.raises(TypeError, match=r"`chain\(index=...\)` must be a torch.Tensor. Got list."):
        chain(cores, whole)
    with pytest.raises(ValueError, match=r"must begin and end with rank 1. Got 4 and 1"):
        chain(cores[1:], index[:, 1:])


def test_forward_mode_is_not_dropped() -> None:
    x, c = torch.rand(3), torch.randn(4, 2)
    level = torch.autograd.forward_ad
    with level.dual_level():
        dual = chebyshev_rows(level.make_dual(x, torch.ones(3)), c)
        slope = level.unpack_dual(dual).tangent
    want = torch.autograd.functional.jacobian(lambda y: chebyshev_rows(y, c).sum(0), x)
    assert slope is not None
    assert torch.allclose(slope, want.T, rtol=1e-12)


def test_what_autograd_records_is_what_the_operator_records() -> None:
    x, c, v = (
        torch.rand(5, requires_grad=True),
        torch.randn(4, 3, requires_grad=True),
        torch.ones(5),
    )

    def found(call: Callable[..., torch.Tensor]) -> list[torch.Tensor]:
        (slope,) = torch.autograd.grad(call(x, c).sin().sum(), x, create_graph=True)
        return [slope, *torch.autograd.grad((slope * v).sum(), (x, c))]

    assert type(chebyshev_rows(x, c).grad_fn).__name__ == "chebyshev_rowsBackward"
    for a, b in zip(found(chebyshev_rows), found(chebyshev_rows.operator), strict=True):
        assert torch.equal(a, b)
    with torch.no_grad():
        assert not chebyshev_rows(x, c).requires_grad
    assert chebyshev_rows(x.detach(), c).requires_grad


def test_recorded_calls_under_checkpoints_and_batched_gradients() -> None:
    x, c = torch.rand(3, requires_grad=True), torch.randn(4, 2)
    want = torch.autograd.functional.jacobian(lambda y: chebyshev_rows(y, c), x)
    again = torch.utils.checkpoint.checkpoint(chebyshev_rows, x, c, use_reentrant=False)
    (slope,) = torch.autograd.grad(again.sum(), x)
    assert torch.allclose(slope, want.sum((0, 1)), rtol=1e-12)
    eye = torch.eye(6).view(6, 3, 2)
    (rows,) = torch.autograd.grad(chebyshev_rows(x, c), x, eye, is_grads_batched=True)
    assert torch.allclose(rows.view(3, 2, 3), want, rtol=1e-12)


def test_only_the_gradients_that_are_asked_for_are_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, c = torch.rand(5, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    ran: list[str] = []

    def watch(k: Any) -> None:
        run = k._run

        def noted(*args: Any) -> Any:
            ran.append(k.name)
            return run(*args)

        monkeypatch.setattr(k, "_run", noted)

    rows = chebyshev_rows(2 * x - 1, 3 * c)
    watch(chebyshev_rows)
    watch(chebyshev_moments)
    (by_x,) = torch.autograd.grad(rows.sum(), x, retain_graph=True)
    assert ran == ["chebyshev_rows"]
    (by_c,) = torch.autograd.grad(rows.sum(), c, retain_graph=True)
    assert ran == ["chebyshev_rows", "chebyshev_moments"]
    rows.sum().backward(inputs=[c], retain_graph=True)
    assert ran == ["chebyshev_rows", *["chebyshev_moments"] * 2]
    assert c.grad is not None
    assert torch.equal(c.grad, by_c)
    both = torch.autograd.grad(rows.sum(), (x, c))
    assert torch.equal(both[0], by_x)
    assert torch.equal(both[1], by_c)


def test_inputs_that_change_before_the_backward_pass_are_refused() -> None:
    x, c = torch.rand(3, requires_grad=True), torch.randn(4, 2)
    rows = chebyshev_rows(x, c)
    c += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        rows.sum().backward()


def test_a_wrong_number_of_arguments_is_named() -> None:
    call: Any = chebyshev_rows
    with pytest.raises(TypeError, match="missing a required argument: 'coefficients'"):
        call(torch.rand(3))
    with pytest.raises(TypeError, match="too many positional arguments"):
        call(torch.rand(3), torch.rand(3, 2), 1)


def test_a_flag_is_no_whole_number() -> None:
    x, v = torch.rand(3), torch.rand(3, 2)
    with pytest.raises(TypeError, match=r"`chebyshev_moments\(m=...\)` must be a whole number"):
        chebyshev_moments(x, v, True)
    with pytest.raises(ValueError, match=r"`chebyshev_rows\(coefficients=...\)` must have shape"):
        chebyshev_rows(x, torch.rand(4))


def test_a_gpu_without_a_compiler_is_told_what_to_install() -> None:
    with pytest.warns(RuntimeWarning, match=r'pip install "numba-cuda\[cu1\d\]"'):
        chebyshev_rows.implementation("cuda", torch.float32)
