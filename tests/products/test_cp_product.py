"""The product in CP format: shipped factors, schedules of rank, and the convolution at nodes."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tensornet.products import CPProduct, EdgeProduct, coupling
from tensornet.products.coupling import even_part
from tensornet.products.cp import SCHEDULES, scheduled_rank
from tensornet.products.cp_factors import EXACT_RANKS, exact_rank, factors, write_factors
from tensornet.so3 import spherical_harmonics

EXACT = [(l_max, odd) for odd in (True, False) for l_max in range(6)]


def error(l_max: int, odd: bool, stack: Tensor) -> float:
    target = coupling("clebsch_gordan", l_max)
    target = target if odd else even_part(target)
    made = torch.einsum("ir,jr,kr->ijk", *stack)
    return float((made - target).norm() / target.norm())


@pytest.mark.parametrize(("l_max", "odd"), EXACT)
def test_factors_are_exact_and_tame(l_max: int, odd: bool) -> None:
    value = factors(l_max, odd_paths=odd)
    assert value.rank == exact_rank(l_max, odd_paths=odd)
    assert value.rank < 0.6 * (l_max + 1) ** 4 or l_max == 0
    assert error(l_max, odd, torch.stack(value.factors)) < 1e-12
    # terms that cancel cost digits in float32: none is much larger than the coupling
    largest = torch.stack([f.norm(dim=0) for f in value.factors]).prod(0).max()
    assert largest < 60
    certificate = CPProduct(l_max, odd_paths=odd).certificate()
    assert max(certificate.approximation, certificate.equivariance) < 1e-12


def test_factors_can_be_made_again(tmp_path: Path) -> None:
    files = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    errors = [write_factors(file, degrees=(1, 2)) for file in files]
    assert errors[0] == errors[1]
    assert set(errors[0]) == {"all_1", "even_1", "all_2", "even_2"}
    found, again = (load_file(file) for file in files)
    for key, stack in found.items():
        name, degree = key.split("_")
        assert torch.equal(stack, again[key])
        assert stack.shape == (3, (int(degree) + 1) ** 2, EXACT_RANKS[name == "all"][int(degree)])
        assert error(int(degree), name == "all", stack) < 1e-12
        assert errors[0][key] < 1e-12
    with pytest.raises(ValueError, match=r"degrees=...\)` must be among 1, 2, 3"):
        write_factors(tmp_path / "none.safetensors", degrees=(9,))


def test_schedules_of_the_paper() -> None:
    assert [CPProduct(1, name).rank for name in ("tdn", "linear", "log")] == [7, 7, 8]
    ranks = {name: [scheduled_rank(name, l) for l in range(1, 7)] for name in SCHEDULES}
    assert ranks["tdn"] == [7, 28, 63, 112, 175, 252]
    assert ranks["linear"] == [7, 14, 21, 28, 35, 42]
    assert ranks["log"] == [8, 19, 31, 41, 51, 61]
    assert ranks["full"] == [16, 81, 256, 625, 1296, 2401]
    assert CPProduct(0, "tdn").rank == 1
    for l_max in (1, 2):
        assert CPProduct(l_max, "full").certificate().equivariance < 1e-12
    with pytest.raises(ValueError, match=r"rank=...\)` must be one of tdn, linear, log, full"):
        CPProduct(1, "cubic")


@pytest.mark.parametrize(("l_max", "approximation"), [(1, 0.017), (2, 0.021)])
def test_the_rank_of_the_paper_has_its_price(l_max: int, approximation: float) -> None:
    certificate = CPProduct(l_max, "tdn").certificate()
    assert certificate.approximation == pytest.approx(approximation, rel=0.15)
    assert 0.015 < certificate.equivariance < 0.05


def test_a_tolerance_that_is_not_met() -> None:
    with pytest.raises(RuntimeError, match=r"tolerance=...\)` must be reachable: rank 8"):
        factors(1, tolerance=1e-18)
    for bad in (-1.0, math.nan):
        with pytest.raises(ValueError, match=r"CPProduct\(tolerance=...\)` must be a finite"):
            CPProduct(1, tolerance=bad)


def test_many_channels_and_one_channel_agree() -> None:
    product, x, y = CPProduct(2), torch.randn(3, 2, 9, 5), torch.randn(2, 9, 1)
    want = EdgeProduct(2)(x, y)
    torch.testing.assert_close(product(x, y), want, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(product(x, y.expand(-1, -1, 5)), want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", ["none", "shared"])
def test_convolution_is_the_product_summed_at_receivers(mode: str) -> None:
    product = CPProduct(2, path_weights=mode)
    sender, receiver = torch.randint(4, (9,)), torch.randint(5, (9,))
    leaves = [torch.randn(4, 9, 3), torch.randn(9, 3), torch.randn(9, 3)]
    found = []
    for hoisted in (True, False):
        x, r, w = (t.clone().requires_grad_() for t in leaves)
        y, weight = spherical_harmonics(r, 2), w if mode == "shared" else None
        if hoisted:
            out = product.convolve(x, y, weight, sender, receiver, 5)
        else:
            messages = EdgeProduct(2, mode)(x[sender], y[..., None], weight)
            out = torch.zeros(5, 9, 3).index_add(0, receiver, messages)
        wanted = (x, r, w) if mode == "shared" else (x, r)
        (slope,) = torch.autograd.grad(out.sin().sum(), r, create_graph=True)
        found.append([out, slope, *torch.autograd.grad(slope.sin().sum(), wanted)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


def test_convolution_refuses_what_does_not_fit() -> None:
    x, y, w, at = torch.randn(2, 4, 3), torch.randn(5, 4), torch.randn(5, 3), torch.zeros(5).long()
    shared = CPProduct(1, path_weights="shared")
    with pytest.raises(ValueError, match=r"must have path_weights none or shared. Got 'separable'"):
        CPProduct(1, path_weights="separable").convolve(x, y, w, at, at, 2)
    with pytest.raises(ValueError, match=r"weight=...\)` must fit path_weights='shared'. Got none"):
        shared.convolve(x, y, None, at, at, 2)
    with pytest.raises(ValueError, match=r"y=...\)` must have shape \(e, 4\)"):
        shared.convolve(x, y[:, :3], w, at, at, 2)
    with pytest.raises(IndexError, match=r"sender=...\)` must be from 0 to 1"):
        shared.convolve(x, y, w, at + 7, at, 2)
    assert math.isfinite(float(shared.convolve(x, y, w, at, at, 2).sum()))
