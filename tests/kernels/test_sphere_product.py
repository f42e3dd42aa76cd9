"""Products on the sphere, against the coupling and against harmonics that others compute."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tensornet import kernels
from tensornet.kernels import sphere_overlap, sphere_product
from tensornet.kernels.grid.tables import grid, points
from tensornet.products import coupling
from tensornet.so3 import gauss_legendre_grid, spherical_harmonics


def functions(n: int, l_max: int, channels: int, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(n, (l_max + 1) ** 2, channels, generator=rng)


def nine(x: Tensor, y: Tensor) -> Tensor:
    return sphere_product(x, y, 9)


@pytest.mark.parametrize("l_max", [0, 1, 4, 11])
def test_harmonics_are_those_of_the_house(l_max: int) -> None:
    Y, weights = points(l_max, 2 * l_max)
    directions, want = gauss_legendre_grid(2 * l_max)
    torch.testing.assert_close(torch.from_numpy(weights), want, rtol=1e-13, atol=1e-14)
    harmonics = spherical_harmonics(directions, l_max, normalization="integral")
    # Grids may start at another height: both are sorted by what they hold.
    torch.testing.assert_close(
        torch.from_numpy(Y).T @ (torch.from_numpy(Y) * want[:, None]), torch.eye((l_max + 1) ** 2)
    )
    distance = torch.cdist(torch.from_numpy(Y), harmonics).amin(1)
    assert float(distance.max()) < 1e-6  # rounding of a difference of squares


@pytest.mark.parametrize("offer", ["reference", "numba_cpu"])
@pytest.mark.parametrize("l_max", [1, 2, 5])
@pytest.mark.parametrize(("channels", "other"), [(1, 1), (16, 16), (16, 1), (5, 1), (5, 5)])
def test_is_the_coupling(l_max: int, channels: int, other: int, offer: str) -> None:
    x, y = functions(17, l_max, channels), functions(17, l_max, other, 1)
    G, k = coupling("gaunt", l_max), (l_max + 1) ** 2
    want = torch.einsum("ijk,nic,njc->nkc", G, x, y.expand(-1, -1, channels))
    with kernels.use(offer):
        torch.testing.assert_close(sphere_product(x, y, k), want, rtol=1e-12, atol=1e-12)
        if channels == other:
            summed = sphere_overlap(x, y, k)
            torch.testing.assert_close(summed, want.sum(-1), rtol=1e-12, atol=1e-12)


def test_degrees_of_all_three_differ() -> None:
    G = coupling("gaunt", 5)
    x, y = functions(3, 2, 16), functions(3, 3, 16, 1)
    want = torch.einsum("ijk,nic,njc->nkc", G[:9, :16], x, y)
    torch.testing.assert_close(sphere_product(x, y, 36), want, rtol=1e-12, atol=1e-12)
    # Beyond the sum of the degrees there is nothing, and what is left out is cut off.
    assert float(sphere_product(x, y, 49)[:, 36:].abs().max()) < 1e-13
    torch.testing.assert_close(sphere_product(x, y, 4), want[:, :4], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("offer", ["reference", "numba_cpu"])
def test_derivatives_of_one_function_for_all_channels(offer: str) -> None:
    x = functions(2, 1, 8).requires_grad_()
    y = functions(2, 1, 1, 1).requires_grad_()
    with kernels.use(offer):
        assert torch.autograd.gradcheck(nine, (x, y), rtol=1e-6, atol=1e-8)
        assert torch.autograd.gradgradcheck(nine, (x, y), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("l_max", [20, 31])
def test_high_degrees(l_max: int, dtype: torch.dtype) -> None:
    x, y = functions(2, l_max, 1).to(dtype), functions(2, l_max, 1, 1).to(dtype)
    k = (l_max + 1) ** 2
    with kernels.use("reference"):
        want = sphere_product(x.double(), y.double(), k)
    error = (sphere_product(x, y, k) - want).abs().max() / want.abs().max()
    assert float(error) < {torch.float32: 2e-6, torch.float64: 1e-13}[dtype]


def test_threads_do_not_change_the_result() -> None:
    x, y = functions(700, 4, 16), functions(700, 4, 1, 1)
    one = sphere_product(x, y, 25)
    torch.set_num_threads(3)
    assert torch.equal(sphere_product(x, y, 25), one)


@pytest.mark.parametrize("offer", ["reference", "numba_cpu"])
def test_refuses_what_is_no_function(offer: str) -> None:
    x = functions(2, 1, 4)
    with kernels.use(offer):
        with pytest.raises(ValueError, match=r"must have \(l_max \+ 1\)² components. Got 3."):
            sphere_product(x[:, :3].contiguous(), x, 4)
        with pytest.raises(ValueError, match=r"must have \(l_max \+ 1\)² components. Got 5."):
            sphere_overlap(x, x, 5)
        with pytest.raises(ValueError, match=r"must have 1 channel or the 4 of `x`. Got 2."):
            sphere_product(x, x[..., :2], 4)


def test_the_grid_has_no_point_on_an_axis_of_symmetry() -> None:
    for total in range(31):
        found = grid((total, 0, 0))
        assert found.n_heights % 2 == 0
        assert 2 * found.n_heights > total
        assert 4 * found.n_quads > total


def test_code_is_vectorised() -> None:
    import numba

    from tensornet.kernels.grid import rings, tables

    found = tables.tables((3, 3, 3), True)
    f, v = (np.zeros(n, np.float32) for n in (found.n_heights * 128, found.n_quads * 64))
    fresh = numba.njit(rings.ring.py_func)  # what comes from the cache cannot be looked at
    fresh(0, found.whole, found.numbers, found.n_quads, f, 0, v, 0)
    lines = "".join(fresh.inspect_asm().values()).splitlines()
    multiplied = [line for line in lines if "fmadd" in line or "fmla" in line]
    if not multiplied:
        pytest.skip("assembly: no fused multiply-add on this processor")
    assert len(multiplied) > 20
    assert not [line for line in multiplied if "ss\t" in line or "sd\t" in line]
